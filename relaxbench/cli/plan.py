"""`plan`: what a study costs at its first look and at all of them, and what to expect until its verdicts are known."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from relaxbench.cli import checks, options
from relaxbench.cli.as_json import AsJson, print_json
from relaxbench.cli.console import console
from relaxbench.cli.options import (
    STORAGE,
    Budget,
    DataDir,
    Device,
    Download,
    File,
    Looks,
    Methods,
    MoreBlocks,
    Name,
    Population,
    Problems,
    Seed,
    Storage,
    TrainingPath,
    Trials,
)
from relaxbench.cli.pace import PARTS, Pace, paces_of
from relaxbench.cli.spec import Overrides, prepare_spec, read_spec
from relaxbench.errors import UserError
from relaxbench.util.text import duration, listed, percent

if TYPE_CHECKING:
    from sqlalchemy import Engine as Database

    from relaxbench.analysis.planning import Spreads
    from relaxbench.problems import Problem
    from relaxbench.store.facts import SpecFacts
    from relaxbench.study.definition.spec import StudySpec
    from relaxbench.training.engine import Wish

WITHIN = 1.5
"""Target: neither the planned nor the taken time is more than this many times the other."""
RATIOS = (1.0, 1.25)
"""True ratios to the baseline for which blocks to a decision are expected: equivalent, and a quarter worse."""


def plan(
    file: File = None,
    storage: Storage = STORAGE,
    name: Name = None,
    looks: Looks = None,
    more_blocks: MoreBlocks = None,
    trials: Trials = None,
    budget: Budget = None,
    method: Methods = None,
    problem: Problems = None,
    population: Population = None,
    path: TrainingPath = "auto",
    device: Device = "auto",
    seed: Seed = None,
    data_dir: DataDir = None,
    download: Download = False,
    skip_unfit: options.SkipUnfit = False,
    no_exploit: options.NoExploit = False,
    no_recommend: options.NoRecommend = False,
    no_flatness: options.NoFlatness = False,
    spread: Annotated[
        float | None,
        typer.Option(help="Standard deviation of the log metric between blocks.  \\[default: an earlier study's]"),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Estimate a study before it runs: gradients, time on this machine, and what to expect until it is decided."""
    if spread is not None and not 1e-6 <= spread <= 100:
        raise UserError(f"--spread {spread:g}: expected a positive number, such as 0.3, at least 1e-06 and at most 100")
    checks.check_storage(storage)
    given = Overrides(name, looks, more_blocks, trials, budget, method, problem, seed)
    given = given.without(no_exploit, no_recommend, no_flatness)
    spec, _ = read_spec(file, given)
    checks.check_counts(population, options.RETRIES)
    checks.use_data(data_dir, download)
    from relaxbench.store.urls import is_server
    from relaxbench.study.definition.paths import parse_path, refuse_problems
    from relaxbench.training.devices import torch_device

    wish = parse_path(path)
    place = torch_device(device)
    spec, problems, unfit = prepare_spec(spec, file, given, download, skip_unfit)
    refuse_problems(spec, problems, place, wish)
    if as_json:
        from relaxbench.cli.plan_answer import plan_answer

        print_json(plan_answer(spec, problems, place, population, wish, unfit, is_server(storage)))
        return
    for line in unfit:
        console.print(line, markup=False, highlight=False)
    for part in plan_tables(spec, problems, storage, place, population, spread, wish):
        console.print(part)


def plan_tables(
    spec: StudySpec,
    problems: list[Problem],
    storage: str,
    place: Any,
    population: int | None,
    spread: float | None,
    wish: Wish = "auto",
) -> list[RenderableType]:
    """Return the tables of `plan`: gradients and time on this machine, and what to expect until all is decided."""
    from relaxbench.analysis.publications import origins
    from relaxbench.store.facts import SpecFacts, planned_looks
    from relaxbench.store.urls import is_server
    from relaxbench.study.definition.facts import describe_method
    from relaxbench.study.definition.opening import stored_form

    stored = cast(SpecFacts, stored_form(spec, problems))
    looks = planned_looks(stored, {})
    paces, start, notes = paces_of(spec, stored, problems, place, population, wish, is_server(storage))
    table = Table(title=f"Study {spec.name}", title_justify="left", box=None, pad_edge=False, header_style="dim")
    ends = list(dict.fromkeys((looks[0], looks[-1])))
    for column in ("problem", "method"):
        table.add_column(column, overflow="fold")
    for column in (*(column for blocks in ends for column in (f"{blocks} blocks", "time")), "gradients"):
        table.add_column(column, justify="right", no_wrap=True)
    for pace in paces:
        table.add_row(pace.problem, pace.method, *_cost([pace], ends))
    begin = sum(start.values())
    table.add_row("start", "", *("", duration(begin)) * len(ends), style="dim")
    table.add_section()
    table.add_row("total", "", *_cost(paces, ends, begin), style="bold")
    if len(looks) > 1:
        notes.append(
            f"Numbers of runs at the first look ({looks[0]} blocks), and at worst, if every method is undecided until "
            f"the last one ({looks[-1]} blocks)."
        )
    notes.append(
        "Times are measured now, with what else this machine does. Expect "
        f"{_range(begin + sum(pace.seconds(looks[0]) for pace in paces))} until the first look."
    )
    notes += origins({label: describe_method(label, spec, problems) for label in spec.methods}, stored["problems"])
    known = _spreads(stored, spec, problems, spread, storage)
    about = [Text(note, style="dim") for note in notes]
    return [table, *about, Text(), _parts(paces, ends, start), Text(), *_expected(stored, problems, paces, known)]


def _parts(paces: Sequence[Pace], ends: Sequence[int], start: Mapping[str, float]) -> Table:
    """Return what the time is spent on, at some numbers of blocks."""
    table = Table(title="What takes the time", title_justify="left", box=None, pad_edge=False, header_style="dim")
    table.add_column("part")
    for blocks in ends:
        table.add_column(f"{blocks} blocks", justify="right", no_wrap=True)
    for part, seconds in start.items():
        table.add_row(f"start: {part}", *[duration(seconds)] * len(ends))
    for part in PARTS:
        table.add_row(part, *(duration(sum(pace.parts(blocks)[part] for pace in paces)) for blocks in ends))
    return table


def _range(seconds: float) -> str:
    """Return the shortest and the longest time that a plan stands for."""
    return f"{duration(seconds / WITHIN)} to {duration(seconds * WITHIN)}"


def _cost(paces: Sequence[Pace], ends: Sequence[int], start: float = 0.0) -> list[str]:
    """Return runs and time of methods at some numbers of blocks, and the gradients at the last one, as text."""
    runs = [f"{sum(p.runs(blocks) for p in paces):,.0f}" for blocks in ends]
    times = [duration(start + sum(p.seconds(blocks) for p in paces)) for blocks in ends]
    gradients = sum(p.budget * p.runs(ends[-1]) for p in paces)
    return [*(cell for pair in zip(runs, times, strict=True) for cell in pair), _large(gradients)]


def _large(number: float) -> str:
    """Return a number in few characters: 781,200; 2.80 M; 12.3 G."""
    for size, unit in ((1e9, "G"), (1e6, "M")):
        if number >= size:
            return f"{number / size:.3g} {unit}"
    return f"{number:,.0f}"


def _expected(
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
    table = Table(title="Expected until decided", title_justify="left", box=None, pad_edge=False, header_style="dim")
    for column in ("problem", "true ratio", "decided", "blocks per method", "runs", "time"):
        table.add_column(column, justify="left" if column == "problem" else "right")
    notes: dict[str, list[str]] = {}
    for p in problems:
        if p.name not in known:
            unknown = "no spread is known; plan again after a first study, or give one with --spread"
            notes.setdefault(unknown, []).append(p.name)
            continue
        spreads, origin = known[p.name]
        margin = parse_margin(p.margin if stored["margin"] is None else stored["margin"])
        mine = [pace for pace in paces if pace.problem == p.name]
        for ratio in RATIOS:
            found = expect(ratio, spreads, looks, family, margin)
            blocks = {**dict(zip(others, found.blocks, strict=True)), stored["baseline"]: found.reference_blocks}
            runs, seconds = (sum(f(p, blocks[p.method]) for p in mine) for f in (Pace.runs, Pace.seconds))
            mean = sum(found.blocks) / len(found.blocks)
            cells = (percent(found.decided), f"{mean:.0f}", f"{runs:,.0f}", duration(seconds))
            table.add_row(p.name, f"{ratio:g}", *cells)
        notes.setdefault(origin, []).append(p.name)
        if margin is not None and margin.kind == "points" and spreads.level is None:
            unit = (
                "the margin is in the metric's unit, so how many are equivalent is known after a first study, or with "
            )
            notes.setdefault(unit + 'a ratio as margin, such as "10 %"', []).append(p.name)
    return [table, *(Text(f"{listed(names)}: {note}.", style="dim") for note, names in notes.items())]


def _spreads(
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
