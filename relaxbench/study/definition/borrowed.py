"""`study --known`: the best settings of another study begin every block of the same methods."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sqlalchemy import Engine as Database
from sqlalchemy import Row, select

from relaxbench.errors import UserError, unknown
from relaxbench.problems import Problem
from relaxbench.space import Value
from relaxbench.store.database import open_database
from relaxbench.store.facts import LenderFacts, method_facts, problem_facts, protocol, search_of
from relaxbench.store.schema import Study
from relaxbench.store.soundness import check_stored
from relaxbench.store.studies import find_study
from relaxbench.store.transactions import read
from relaxbench.store.urls import parse_url, place_of, show_url
from relaxbench.study.coordination.plan import plans
from relaxbench.study.definition.known import WITHOUT_DATA, Known, check_known, check_known_on
from relaxbench.study.definition.ladder import base_name
from relaxbench.study.definition.spec import StudySpec
from relaxbench.util.text import listed


@dataclass(frozen=True)
class Borrowed:
    """A study with the best settings of another one.

    Attributes:
        spec: the study; the settings follow those of its own ``[[known]]`` tables.
        lenders: the other study, as the tables name it → what is known of it. Empty where the stored study has the
            settings already: what their origin means is in its manifest.
    """

    spec: StudySpec
    lenders: Mapping[str, LenderFacts] = field(default_factory=dict)


def borrow(spec: StudySpec, problems: Sequence[Problem], source: str, storage: str) -> Borrowed:
    """Take the best settings that another study found for every method that this one tunes.

    Where the study is in the storage already with settings of that origin, it keeps them: it goes on as it began, even
    if the other study has found better ones since.

    Args:
        spec: the study.
        problems: its problems, each at every budget of its ladder.
        source: the other study, see `store.urls.place_of`.
        storage: the database of this study, and of another one that is given by its name alone.

    Raises:
        UserError: if there is no such study, its search is not finished, it is of other problems or lacks a method, or
            its settings lie outside of what is searched here.
    """
    _check_source(source)
    place, name = place_of(source, storage)
    url = parse_url(place)
    if place == storage and url.get_backend_name() == "sqlite" and not Path(str(url.database)).exists():
        raise UserError(
            f"storage {show_url(url)!r} does not exist yet, so it has no study {source!r} whose settings could be "
            f"taken: name the database of that study too, as FILE.db#{source}",
            "storage",
            "known",
        )
    try:
        return _borrow(spec, problems, place, name, storage)
    except UserError as error:
        raise UserError(f"known settings from {source!r}: {error}", "known") from None


def _check_source(source: str) -> None:
    """Check that a text may name a study.

    Raises:
        UserError: if it is empty, a folder or a study file, or names no database before the #.
    """
    wanted = "name a study of the storage, or FILE.db#STUDY"
    wrong = ""
    if not source.strip():
        wrong = "it names no study"
    elif source.startswith("#"):
        wrong = "there is no database before #"
    elif source.endswith(".toml"):
        wrong = "a study file has no results"
        wanted = "name its study instead, or FILE.db#STUDY of another database"
    elif not source.endswith(".db") and (source in (".", "..") or "/" in source) and Path(source).is_dir():
        wrong = "it is a folder"
    if wrong:
        raise UserError(f"known settings from {source!r}: {wrong}: {wanted}", "known")


def _borrow(spec: StudySpec, problems: Sequence[Problem], place: str, name: str | None, storage: str) -> Borrowed:
    database = open_database(place, create=False, read_only=True)
    try:
        id_, name = find_study(database, name)
        here = parse_url(place) == parse_url(storage)
        if here and name == spec.name:
            raise UserError("that is this study itself: name another one")
        origin = name if here else f"{name} in {show_url(database.url)}"[-200:]
        kept = _kept(storage, spec.name, origin)
        if kept:
            return Borrowed(_with(spec, kept))
        lender = _Lender.of(database, id_, name)
        found, shared = lender.settings(spec, problems)
    finally:
        database.dispose()
    known = [Known.model_validate({"method": m, "params": params, "from": origin}) for m, params in found]
    stated = [(each.method, each.params) for each in spec.known or []]
    borrowed = _with(spec, [each for each in known if (each.method, each.params) not in stated])
    check_known(borrowed, borrowed.methods)
    for problem in problems:
        check_known_on(borrowed, problem)
    return Borrowed(borrowed, {origin: {"shared": shared, "search": search_of(lender.row.spec)}})


def _with(spec: StudySpec, known: Sequence[Known]) -> StudySpec:
    return spec.model_copy(update={"known": [*(spec.known or []), *known] or None})


def _kept(storage: str, name: str, origin: str) -> list[Known]:
    """The known settings of an origin with which the stored study began; empty if there is none."""
    try:
        database = open_database(storage, create=False, read_only=True)
    except UserError:  # none yet, or one that is refused when it is opened for writing
        return []
    try:
        query = select(Study.spec).where(Study.name == name)
        stored = read(database, lambda connection: connection.scalar(query))
    finally:
        database.dispose()
    tables = (stored or {}).get("known") or []
    return [Known.model_validate(table) for table in tables if table["from"] == origin]


@dataclass(frozen=True)
class _Lender:
    """The other study."""

    database: Database
    id: int
    name: str
    row: Row[Any]

    @classmethod
    def of(cls, database: Database, id_: int, name: str) -> _Lender:
        check_stored(database, name)
        query = select(Study.spec, Study.manifest).where(Study.id == id_)
        row = read(database, lambda connection: connection.execute(query).one())
        if protocol(row.spec) != 2:
            raise UserError(
                f"study {name!r} was planned by an earlier protocol, without looks: write what "
                "python -m relaxbench best prints into tables [[known]]"
            )
        return cls(database, id_, name, row)

    def settings(
        self, spec: StudySpec, problems: Sequence[Problem]
    ) -> tuple[list[tuple[str, dict[str, Value]]], list[str]]:
        """The best settings by method, none twice; the problems whose data the other study had."""
        partners = {problem.name: self._partner(spec, problem) for problem in problems}
        found: list[tuple[str, dict[str, Value]]] = []
        for label in spec.methods:
            if spec.arm_of(label) == "tuned":
                self._check_method(spec, label)
                best = [self._best(partner, label) for partner in partners.values()]
                found += [(label, params) for n, params in enumerate(best) if params not in best[:n]]
        shared = [problem.name for problem in problems if self._has_data_of(problem, partners[problem.name])]
        return found, shared

    def _partner(self, spec: StudySpec, problem: Problem) -> str:
        """The other study's problem of the same name, at the nearest budget."""
        base = base_name(problem) if spec.budgets else problem.name
        theirs = {name: problem_facts(self.row.manifest, name) for name in self.row.spec["problems"]}
        same = {name: about for name, about in theirs.items() if about["base"] == base}
        if not same:
            bases = list(dict.fromkeys(about["base"] for about in theirs.values()))
            raise UserError(
                f"study {self.name!r} is on {listed(bases)}, not on {base}: settings are taken "
                "from a study on the same problems"
            )
        budget = spec.budget_of(problem)
        nearest: str = min(same, key=lambda name: abs((same[name]["budget"] or 0) - budget))
        return nearest

    def _check_method(self, spec: StudySpec, label: str) -> None:
        """Check that the other study has tuned this method: settings for some methods only would favour them."""
        methods = self.row.spec["methods"]
        if label not in methods:
            raise UserError(
                f"{unknown(f'method in study {self.name!r}:', label, methods)}; it is tuned "
                "here, and must be there too, so that no other method has an advantage over it"
            )
        about, rule = method_facts(self.row.manifest, label), spec.rule_of(label).name
        if about["rule"] != rule:
            raise UserError(
                f"method {label!r} of study {self.name!r} is the rule {about['rule']!r}, not "
                f"{rule!r}: give one of them another name"
            )
        if about["arm"] == "published":
            raise UserError(
                f"study {self.name!r} runs {label!r} as published, without a search: name a study that tunes it"
            )

    def _best(self, problem: str, label: str) -> dict[str, Value]:
        """The settings that `best` prints for a method, once its search is over."""
        (plan,) = plans(self.database, self.id, [problem], [label])
        winner = plan.winner_of_complete_search()
        if winner is None:
            raise UserError(
                f"study {self.name!r} has not finished the search of {label!r} on {problem}: finish it first"
            )
        return dict(winner.params)

    def _has_data_of(self, problem: Problem, partner: str) -> bool:
        """Whether the other study's problem of the same name has the same data, so that its test set is this one."""
        own, theirs = problem.fingerprint(), problem_facts(self.row.manifest, partner)["fingerprint"]
        return own == theirs or own in WITHOUT_DATA or theirs in WITHOUT_DATA
