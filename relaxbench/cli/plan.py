"""`plan`: what a study costs at its first look and at all of them, and what to expect until its verdicts are known."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from relaxbench.cli import checks, options
from relaxbench.cli.as_json import AsJson, print_json
from relaxbench.cli.console import console, working
from relaxbench.cli.grouped_table import GroupedTable
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
from relaxbench.cli.plan_expected import expected, spreads_of
from relaxbench.cli.spec import Overrides, prepare_spec, read_spec
from relaxbench.errors import UserError
from relaxbench.util.text import duration, listed, percent

if TYPE_CHECKING:
    from relaxbench.problems import Problem
    from relaxbench.store.facts import MethodFacts
    from relaxbench.study.definition.spec import StudySpec
    from relaxbench.training.engine import Wish

WITHIN = 1.5
"""Target: neither the planned nor the taken time is more than this many times the other."""


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
    from relaxbench.study.definition.files import find
    from relaxbench.study.definition.paths import parse_path, refuse_problems
    from relaxbench.study.definition.unsearched import unsearched
    from relaxbench.training.devices import torch_device

    wish = parse_path(path)
    place = torch_device(device)
    spec, problems, unfit = prepare_spec(spec, str(find(file)), given.names, download, skip_unfit)
    refuse_problems(spec, problems, place, wish)
    told = [*unfit, *unsearched(spec, problems)]
    working("Measuring the speed of every method on this machine")
    if as_json:
        from relaxbench.cli.plan_answer import plan_answer

        print_json(plan_answer(spec, problems, place, population, wish, told, is_server(storage)))
        return
    for line in told:
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
    ends = list(dict.fromkeys((looks[0], looks[-1])))
    columns = (*(column for blocks in ends for column in (f"{blocks} blocks", "time")), "gradients")
    listing = GroupedTable(f"Study {spec.name}", "method", columns)
    for problem in dict.fromkeys(pace.problem for pace in paces):
        mine = [pace for pace in paces if pace.problem == problem]
        whole = _cost(mine, ends) if len(mine) < len(paces) else ()
        listing.add(problem, {pace.method: _cost([pace], ends) for pace in mine}, whole)
    begin, table = sum(start.values()), listing.table
    table.add_row("start", *("", duration(begin)) * len(ends), style="dim")
    table.add_section()
    table.add_row("total", *_cost(paces, ends, begin), style="bold")
    if len(looks) > 1:
        notes.append(
            f"Numbers of runs at the first look ({looks[0]} blocks), and at worst, if every method is undecided until "
            f"the last one ({looks[-1]} blocks)."
        )
    notes.append(
        "Times are measured now, with what else this machine does. Expect "
        f"{_range(begin + sum(pace.seconds(looks[0]) for pace in paces))} until the first look."
    )
    methods = {label: describe_method(label, spec, problems) for label in spec.methods}
    notes += [*_not_counted(methods), *origins(methods, stored["problems"])]
    known = spreads_of(stored, spec, problems, spread, storage)
    about = [Text(note, style="dim") for note in notes]
    return [table, *about, Text(), _parts(paces, ends, start), Text(), *expected(stored, problems, paces, known)]


def _not_counted(methods: Mapping[str, MethodFacts]) -> list[str]:
    """Say what a pruner adds: how many trials it stops is not known before, so no number of runs contains it."""
    shares: dict[float, list[str]] = {}
    for label, facts in methods.items():
        search = facts["search"]
        if facts["arm"] == "tuned" and "pruner" in search and search["pruner"]["spot_checks"]:
            shares.setdefault(search["pruner"]["spot_checks"], []).append(label)
    return [
        f"Not counted: spot checks, which run {percent(share)} of the trials that the pruner stops to their end "
        f"({listed(labels)})."
        for share, labels in shares.items()
    ]


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
