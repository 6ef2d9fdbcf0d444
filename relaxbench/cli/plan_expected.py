"""What `plan` expects until all comparisons of a study are decided: blocks, runs and time."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING

from rich.console import RenderableType
from rich.text import Text

from relaxbench.cli.grouped_table import GroupedTable
from relaxbench.cli.pace import Pace
from relaxbench.errors import UserError
from relaxbench.util.text import duration, listed, percent

if TYPE_CHECKING:
    from sqlalchemy import Engine as Database

    from relaxbench.analysis.planning import Expectation, Spreads
    from relaxbench.problems import Problem
    from relaxbench.store.facts import SpecFacts
    from relaxbench.study.definition.spec import StudySpec

RATIOS = (1.0, 1.25)
"""True ratios to the baseline for which blocks to a decision are expected: equivalent, and a quarter worse."""


def expected(
    stored: SpecFacts, problems: Sequence[Problem], paces: Sequence[Pace], known: dict[str, tuple[Spreads, str]]
) -> list[RenderableType]:
    """State the runs and the time until the comparisons are decided, for every true ratio of `RATIOS`."""
    from relaxbench.analysis.arms import family_of
    from relaxbench.analysis.equivalence import parse_margin
    from relaxbench.analysis.planning import expect
    from relaxbench.store.facts import looks_of

    others = [method for method in stored["methods"] if method != stored["baseline"]]
    if not others:
        return [Text("There is nothing to compare: the study has one method.")]
    if not known:
        return [
            Text(
                "For the runs to a decision, give the spread of the log metric between blocks (--spread 0.3), or plan "
                "again after a first study: its spread will be used."
            )
        ]
    family, looks = family_of(stored), looks_of(stored)
    listing = GroupedTable("Expected until decided", "true ratio", ("decided", "blocks per method", "runs", "time"))
    notes: dict[str, list[str]] = {}
    for p in problems:
        if p.name not in known:
            unknown = "no spread is known; plan again after a first study, or give one with --spread"
            notes.setdefault(unknown, []).append(p.name)
            continue
        spreads, origin = known[p.name]
        margin = parse_margin(p.margin if stored["margin"] is None else stored["margin"])
        mine = [pace for pace in paces if pace.problem == p.name]
        lines: dict[str, tuple[str, ...]] = {}
        for ratio in RATIOS:
            blocks, decided = _blocks(
                stored, others, spreads, partial(expect, ratio, looks=looks, family=family, margin=margin)
            )
            runs, seconds = (sum(f(p, blocks[p.method]) for p in mine) for f in (Pace.runs, Pace.seconds))
            mean = sum(blocks[method] for method in others) / len(others)
            lines[f"{ratio:g}"] = (percent(decided), f"{mean:.0f}", f"{runs:,.0f}", duration(seconds))
        listing.add(p.name, lines)
        notes.setdefault(origin, []).append(p.name)
        if margin is not None and margin.kind == "points" and spreads.level is None:
            unit = (
                "the margin is in the metric's unit, so how many are equivalent is known after a first study, or with "
            )
            notes.setdefault(unit + 'a ratio as margin, such as "10 %"', []).append(p.name)
    return [listing.table, *(Text(f"{listed(names)}: {note}.", style="dim") for note, names in notes.items())]


def _blocks(
    stored: SpecFacts, others: Sequence[str], spreads: Spreads, expect: Callable[[Spreads], Expectation]
) -> tuple[dict[str, float], float]:
    """Return the expected blocks of every method, and the share of the comparisons that a look decides.

    Methods that are compared with the same one are expected together; that one goes on while any of them does.

    Args:
        stored: the study.
        others: the methods beside the baseline.
        spreads: of the baseline and of these.
        expect: `analysis.planning.expect`, of the spreads of one group.
    """
    from relaxbench.analysis.planning import Spreads
    from relaxbench.store.facts import opponent_of

    spread = {stored["baseline"]: spreads.reference, **dict(zip(others, spreads.methods, strict=True))}
    groups: dict[str, list[str]] = {}
    for method in others:
        groups.setdefault(str(opponent_of(stored, method)), []).append(method)
    blocks, decided = dict.fromkeys(spread, 0.0), 0.0
    for opponent, group in groups.items():
        found = expect(Spreads(spread[opponent], tuple(spread[method] for method in group), spreads.level))
        for method, count in ((opponent, found.reference_blocks), *zip(group, found.blocks, strict=True)):
            blocks[method] = max(blocks[method], count)
        decided += found.decided * len(group) / len(others)
    return blocks, decided


def spreads_of(
    stored: SpecFacts, spec: StudySpec, problems: Sequence[Problem], spread: float | None, storage: str
) -> dict[str, tuple[Spreads, str]]:
    """Return the spreads on every problem, and where they come from: ``--spread``, or a study of the database."""
    from relaxbench.analysis.planning import Spreads
    from relaxbench.store.database import open_database
    from relaxbench.store.soundness import check_stored

    others = [method for method in spec.methods if method != spec.baseline]
    if spread is not None:
        stated = Spreads(spread, (spread,) * len(others)), f"for the stated spread of {spread:g} between blocks"
        return {p.name: stated for p in problems}
    try:
        database = open_database(storage, create=False, read_only=True)
    except UserError:
        return {}
    check_stored(database)
    found = {p.name: _earlier(database, spec, p.name, others) for p in problems}
    database.dispose()
    return {name: known for name, known in found.items() if known is not None}


def _earlier(database: Database, spec: StudySpec, problem: str, others: Sequence[str]) -> tuple[Spreads, str] | None:
    """Return the spreads that a study of the database found on a problem: of the same name, or else the latest."""
    from sqlalchemy import select

    from relaxbench.analysis.planning import Spreads
    from relaxbench.store.facts import protocol
    from relaxbench.store.schema import Study
    from relaxbench.store.transactions import read
    from relaxbench.study.coordination.looks import Monitor

    query = select(Study.id, Study.name, Study.spec, Study.manifest)
    rows = read(database, lambda connection: connection.execute(query).all())
    for row in sorted(rows, key=lambda row: (row.name == spec.name, row.id), reverse=True):
        if protocol(row.spec) != 2 or problem not in row.spec["problems"] or spec.baseline not in row.spec["methods"]:
            continue
        arms = Monitor.of(database, row.id, problem, row.spec, row.manifest).arms(0)
        latest = {method: [arm for arm in looks if arm is not None][-1:] for method, looks in arms.items()}
        spread = {m: math.sqrt(float(arm.variance) * arm.blocks) for m, [*some] in latest.items() for arm in some}
        spread = {method: value for method, value in spread.items() if math.isfinite(value)}
        if spec.baseline not in spread:
            continue
        usual = sorted(spread.values())[len(spread) // 2]
        level = math.exp(float(latest[spec.baseline][0].estimate))
        known = Spreads(spread[spec.baseline], tuple(spread.get(method, usual) for method in others), level)
        return known, f"for the spreads between blocks that study {row.name!r} found, {usual:.2g} in the middle"
    return None
