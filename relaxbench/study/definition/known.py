"""The tables ``[[known]]`` of a study file: settings that every block of a method tries before all others."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, model_serializer
from sqlalchemy import Connection, select

from relaxbench.errors import UserError, unknown
from relaxbench.problems import Problem
from relaxbench.space import Choice, Hyperparameter, Int, Space, Value
from relaxbench.store.facts import KnownFacts, LenderFacts, Manifest, ProblemFacts, search_of
from relaxbench.store.schema import Study
from relaxbench.study.definition.ranges import Number
from relaxbench.util.text import counted

if TYPE_CHECKING:
    from relaxbench.study.definition.spec import StudySpec

KEYS = ("method", "params", "from")
"""The keys of a table."""
WITHOUT_DATA = ("", "none")
"""Fingerprints of problems that have no data, such as landscapes: equal ones say nothing."""


class Known(BaseModel):
    """Settings of a method that are known before the study.

    Attributes:
        method: its label.
        params: a value of every hyperparameter that is searched; of one that is fixed, at most its own value.
        origin: where they come from, written as ``from``: the name of a study of this database, or free text.
    """

    model_config = ConfigDict(extra="forbid")
    method: str
    params: dict[str, Number | str]
    origin: Annotated[str, Field(alias="from", max_length=200)] = ""

    @model_serializer
    def _plain(self) -> dict[str, Any]:
        return {"method": self.method, "params": self.params, "from": self.origin}


def known_of(spec: StudySpec, label: str) -> list[KnownFacts]:
    """The known settings of a method, in the order of the study file."""
    space = spec.hyperparameters(label)
    own = [each for each in spec.known or [] if each.method == label]
    return [{"params": _values(each.params, space), "origin": each.origin} for each in own]


def _values(params: dict[str, float | str], space: Space) -> dict[str, Value]:
    """Whole numbers for integers: a study file may say 5.0."""
    return {
        name: int(value) if isinstance(space.get(name), Int) and isinstance(value, float) else value
        for name, value in params.items()
    }


def check_known(spec: StudySpec, labels: Iterable[str]) -> None:
    """Check that known settings belong to tuned methods, differ, and fit into a block.

    Args:
        spec: the study.
        labels: the methods that there are.

    Raises:
        UserError: naming what is wrong.
    """
    everything, tables = set(labels), spec.known or []
    for place, known in enumerate(tables):
        label = known.method
        if label not in everything:
            raise unknown(f"method in entry {place + 1} of known:", label, everything)
        if spec.arm_of(label) == "published":
            raise UserError(
                f"entry {place + 1} of known: method {label!r} is run as published, without a search that could begin "
                "with known settings: leave them out"
            )
        if known in tables[:place]:
            raise UserError(f"entry {place + 1} of known: the same settings of {label!r} stand there before: once only")
        if not (known.origin.isprintable() and known.origin == known.origin.strip()):
            raise UserError(
                f"entry {place + 1} of known: from = {known.origin!r}: expected printable characters, without blanks "
                "at the ends"
            )
        count = sum(each.method == label for each in tables)
        if count > spec.trials:
            raise UserError(
                f"known: {label!r} has {counted(count, 'known setting')}, and a block has "
                f"{counted(spec.trials, 'trial')}: leave some out, or raise `trials`"
            )


def check_known_on(spec: StudySpec, problem: Problem) -> None:
    """Check that known settings name every hyperparameter that is searched on a problem, within its range.

    Raises:
        UserError: naming the first one that is wrong.
    """
    for place, known in enumerate(spec.known or []):
        if known.method not in spec.methods:
            continue
        where = f"entry {place + 1} of known ({known.method} on {problem.name})"
        space, fixed = spec.space_of(known.method, problem), spec.fixed_of(known.method, problem)
        for name, value in known.params.items():
            if name in fixed and value != fixed[name]:
                raise UserError(
                    f"{where}: {name} = {value!r}, but it is not searched: it is fixed at {fixed[name]!r}: leave it out"
                )
            if name in fixed:
                continue  # as `best` prints it
            if name not in space:
                raise unknown(f"hyperparameter in {where}:", name, {*space, *fixed})
            wanted = _expected(space[name], value)
            if wanted:
                raise UserError(f"{where}: {name} = {value!r}: expected {wanted}, as it is searched")
        missing = [name for name in space if name not in known.params]
        if missing:
            raise UserError(f"{where}: {missing[0]} is missing: state every hyperparameter that is searched")


def _expected(declared: Hyperparameter, value: float | str) -> str:
    """The values of a searched hyperparameter in words; empty if the given value is one of them."""
    if isinstance(declared, Choice):
        return "" if value in declared.options else f"one of {', '.join(declared.options)}"
    inside = not isinstance(value, str) and declared.low <= value <= declared.high
    if isinstance(declared, Int):
        steps = f" in steps of {declared.step}" if declared.step > 1 else ""
        fits = inside and (float(value) - declared.low) % declared.step == 0
        return "" if fits else f"a whole number from {declared.low} to {declared.high}{steps}"
    return "" if inside else f"a number from {declared.low:g} to {declared.high:g}"


def keep_origins(
    connection: Connection, manifest: Manifest, spec: StudySpec, told: Mapping[str, LenderFacts] | None = None
) -> None:
    """Keep which problems of this study the studies had that known settings come from.

    An origin that is no study of this database is not kept, unless it is told: nothing is known of it.

    Args:
        connection: to the database.
        manifest: of this study; changed in place.
        spec: of this study.
        told: what `borrowed.borrow` has found out, by origin.
    """
    told = told or {}
    kept = {**manifest.get("known_from", {}), **{origin: each["shared"] for origin, each in told.items()}}
    sizes = {**manifest.get("known_search", {}), **{origin: each["search"] for origin, each in told.items()}}
    names = {known.origin for known in spec.known or []} - {"", spec.name, *told}
    query = select(Study.name, Study.spec, Study.manifest).where(Study.name.in_(names))
    for row in connection.execute(query).all() if names else []:
        theirs = row.manifest.get("problems", {})
        shared = [name for name, about in manifest["problems"].items() if _is_among(name, about, theirs)]
        kept[row.name] = sorted({*kept.get(row.name, []), *shared})
        sizes.setdefault(row.name, search_of(row.spec))
    if kept:
        manifest["known_from"], manifest["known_search"] = kept, sizes


def _is_among(name: str, about: ProblemFacts, theirs: dict[str, ProblemFacts]) -> bool:
    """Whether a problem, at whatever budget, or another one with its data, is among those of another study."""
    data = about["fingerprint"] not in WITHOUT_DATA
    return any(
        about["base"] == each.get("base", other) or (data and about["fingerprint"] == each["fingerprint"])
        for other, each in theirs.items()
    )
