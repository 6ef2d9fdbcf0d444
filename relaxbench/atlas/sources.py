"""Read what the atlas is made of: databases of studies, exports, and plans of studies that were not run."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from sqlalchemy import select

from relaxbench.analysis.findings import Findings
from relaxbench.analysis.frames import StudyFrames, load_study
from relaxbench.atlas.cells import Cell, Row, cells_of, rows_of
from relaxbench.errors import UserError
from relaxbench.store.facts import public
from relaxbench.store.schema import Study
from relaxbench.store.urls import parse_url, show_url, split_study

DATABASES = (".db", ".sqlite", ".sqlite3")
"""Endings of databases in a folder."""

PLANS = ".json"
"""Ending of the answers of ``plan --json`` in a folder."""


@dataclass(frozen=True)
class Entry:
    """One study of the atlas, or one that is only planned.

    Attributes:
        label: unique in the atlas. name: the study's own. place: where it was read, without a password.
        rows, cells: its problems, and its methods on them.
        seed, description, looks, trials: as declared.
        done, planned: numbers of trials. missing: what an unfinished study lacks, one sentence each.
        headlines: problem → the shortest true answer. cautions: warnings, one sentence each.
        gradients: of all trials together.
        version, cpu, commit: of the program and the machine.
        facts: the study as it ran, and its circumstances: specification and manifest.
        key, origin: of the manifest: of this study, and of the one that it was copied from.
        hours: planned, up to the first look and up to the last one; None for a study that was run.
    """

    label: str
    name: str
    place: str
    rows: Sequence[Row]
    cells: Sequence[Cell]
    seed: int | None = None
    description: str = ""
    looks: Sequence[int] = ()
    trials: int = 0
    done: int = 0
    planned: int = 0
    missing: Sequence[str] = ()
    headlines: dict[str, str] = field(default_factory=dict)
    cautions: Sequence[str] = ()
    gradients: float = 0.0
    version: str = ""
    cpu: str = ""
    commit: str = ""
    key: str = ""
    origin: str = ""
    facts: dict[str, object] = field(default_factory=dict)
    hours: tuple[float, float] | None = None

    @property
    def run(self) -> bool:
        """Whether it was run, at least in part."""
        return self.hours is None


def gather(places: Sequence[str]) -> tuple[list[Entry], list[str]]:
    """Read all studies and plans.

    Args:
        places: folders, whose databases and plans are read; databases (files or URLs), all of whose studies are read;
            ``DATABASE#STUDY``, one study; ``.json`` files of ``plan --json``.

    Returns:
        The entries, the studies first and then the plans of studies that are not among them; and one line for
        everything that was left out.

    Raises:
        UserError: for a place that holds nothing for the atlas, or if there is no study at all.
    """
    entries: dict[tuple[str, str], Entry] = {}
    plans: list[Entry] = []
    left_out: list[str] = []
    for place, lenient in _files(places):
        try:
            found = [_plan(Path(place))] if place.endswith(PLANS) else list(_studies(place, left_out))
        except UserError as error:
            if not lenient:
                raise UserError(str(error)) from None  # it names no option: a place is an argument
            left_out.append(f"{Path(place).name}: {error}")
            continue
        for entry in found:
            if not entry.run:
                plans.append(entry)
            elif copied := next((each for each in entries.values() if _same(each, entry)), None):
                if copied.place != entry.place:
                    left_out.append(f"{entry.name} in {entry.place}: a copy of the study in {copied.place}")
            else:
                entries[entry.place, entry.name] = entry
    if not entries:
        reasons = f" ({left_out[0]})" if left_out else ""
        raise UserError(
            f"no study with a baseline in {', '.join(map(repr, places))}{reasons}: give databases or exports of "
            "studies, or folders that hold them"
        )
    studies = _labelled(list(entries.values()))
    names = {entry.name for entry in studies}
    wanted = {plan.name: plan for plan in plans if plan.name not in names}
    return [*studies, *wanted.values()], left_out


def _files(places: Sequence[str]) -> Iterator[tuple[str, bool]]:
    """Every file or URL, and whether it is passed over, with a line, if it is nothing for the atlas."""
    for place in places:
        if not place.strip():
            raise UserError(f"study {place!r} names no file: give a database, or leave it out for the usual one")
        path = Path(place)
        if path.is_dir():
            inside = [each for each in path.iterdir() if each.suffix in (*DATABASES, PLANS) and each.is_file()]
            if not inside:
                raise UserError(
                    f"folder {place!r} holds no study: expected databases or exports ({', '.join(DATABASES)}); write "
                    "one with python -m relaxbench export"
                )
            inside.sort(key=lambda each: (each.stem, each.suffix))  # digits.db before digits-1.db, which repeats it
            yield from ((str(each), True) for each in inside)
        elif path.suffix == ".toml":
            raise UserError(
                f"{place!r} is a study file, which has no results: give the database of the study, or its cost, "
                f"saved by python -m relaxbench plan {place} --json > {path.stem}.json"
            )
        elif "://" not in place and not Path(split_study(place)[0]).exists():
            raise UserError(
                f"{place!r} does not exist: give a folder, a database or an export of studies, or what plan --json "
                "prints, in a file"
            )
        else:
            yield place, False


def _studies(place: str, left_out: list[str]) -> Iterator[Entry]:
    from relaxbench.store.database import open_database

    storage, name = split_study(place)
    engine = open_database(storage, create=False, read_only=True)
    try:
        shown = show_url(parse_url(storage)) if "://" in storage else storage
        with engine.connect() as connection:
            names = [row.name for row in connection.execute(select(Study.name).order_by(Study.id))]
        for each in names if name is None else [name]:
            frames = load_study(engine, each)
            reason = _unfit(frames)
            if reason and name is not None:
                raise UserError(f"study {each!r} {reason}: leave it out")
            if reason:
                left_out.append(f"{each} in {shown}: it {reason}")
            else:
                yield _entry(frames, shown)
    finally:
        engine.dispose()


def _unfit(frames: StudyFrames) -> str:
    """Why a study has no place in the atlas; empty if it has one."""
    if frames.repetitions > 1:
        return "repeats one comparison to count verdicts (A/A)"
    if frames.baseline is None:
        return "has no baseline"
    return ""


def _entry(frames: StudyFrames, place: str) -> Entry:
    findings = Findings.of(frames)
    manifest = frames.manifest
    origin = manifest.get("copied_from")
    return Entry(
        label=frames.name,
        name=frames.name,
        place=place,
        rows=rows_of(findings, frames.name),
        cells=cells_of(findings, frames.name),
        seed=frames.spec.get("seed"),
        description=frames.spec.get("description", ""),
        looks=frames.looks,
        trials=int(frames.spec.get("trials") or 1),
        done=int(findings.progress["done"].sum()),
        planned=int(findings.progress["planned"].sum()),
        missing=findings.missing,
        headlines=dict(findings.headlines),
        cautions=findings.cautions,
        gradients=float(frames.trials["gradients"].sum()),
        version=manifest.get("version", ""),
        cpu=manifest.get("cpu", ""),
        commit=manifest.get("git_commit") or "",
        facts={"study": frames.name, "specification": dict(frames.spec), "manifest": public(manifest)},
        key=manifest.get("key", ""),
        origin=(origin.get("key") or "") if origin else "",
    )


def _same(one: Entry, other: Entry) -> bool:
    """Whether both are one study: the same, or copies of the same."""
    if (one.place, one.name) == (other.place, other.name):
        return True
    keys = ({each.key, each.origin} - {""} for each in (one, other))
    return bool(set.intersection(*keys))


def _labelled(entries: list[Entry]) -> list[Entry]:
    """The entries with different labels: a name that two studies have is followed by the place."""
    labels = [
        f"{entry.name} in {Path(entry.place).name}"
        if [each.name for each in entries].count(entry.name) > 1
        else entry.name
        for entry in entries
    ]
    labels = [
        label if labels.count(label) == 1 else f"{entry.name} in {entry.place}"
        for label, entry in zip(labels, entries, strict=True)
    ]
    return [_relabelled(entry, label) for entry, label in zip(entries, labels, strict=True)]


def _relabelled(entry: Entry, label: str) -> Entry:
    return replace(
        entry,
        label=label,
        rows=[replace(row, study=label) for row in entry.rows],
        cells=[replace(cell, study=label) for cell in entry.cells],
    )


def _plan(path: Path) -> Entry:
    """Read the answer of ``plan --json``.

    Raises:
        UserError: it is not such an answer.
    """
    try:
        plan: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        name, looks = str(plan["study"]), [int(look) for look in plan["looks"]]
        hours = plan["first"]["seconds"] / 3600, plan["last"]["seconds"] / 3600
        cells = [_planned(name, row) for row in plan["methods"]]
    except (ValueError, TypeError, KeyError, OSError) as error:
        raise UserError(
            f"{str(path)!r} is no plan of a study ({type(error).__name__}): write one with python -m relaxbench plan "
            "FILE --json, or leave it out"
        ) from None
    problems = dict.fromkeys((cell.problem, cell.base, cell.budget) for cell in cells)
    rows = [Row(name, problem, base, base, budget=budget) for problem, base, budget in problems]
    return Entry(name, name, str(path), rows, cells, looks=looks, hours=hours)


def _planned(study: str, row: dict[str, Any]) -> Cell:
    problem, method = str(row["problem"]), str(row["method"])
    base, _, rung = problem.rpartition("@")
    return Cell(
        study=study,
        problem=problem,
        base=base if base and rung.isdigit() else problem,
        budget=float(row["budget"]),
        method=method,
        title=method,
        runs=int(row["first"]["runs"]),
        hours=row["first"]["seconds"] / 3600,
        hours_last=row["last"]["seconds"] / 3600,
    )
