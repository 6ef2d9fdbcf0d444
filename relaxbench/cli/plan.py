"""`plan`: the gradients and hours of a study, and the smallest difference that it can detect."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from relaxbench.cli import checks, options
from relaxbench.cli.console import console
from relaxbench.cli.options import (
    STORAGE,
    Blocks,
    Budget,
    DataDir,
    Device,
    Download,
    File,
    Methods,
    Name,
    Population,
    Problems,
    Seed,
    Storage,
    Trials,
)
from relaxbench.cli.spec import Overrides, read_spec
from relaxbench.errors import UserError
from relaxbench.util.text import duration

if TYPE_CHECKING:
    from relaxbench.study.definition.spec import StudySpec


def plan(
    file: File = None,
    storage: Storage = STORAGE,
    name: Name = None,
    blocks: Blocks = None,
    trials: Trials = None,
    budget: Budget = None,
    method: Methods = None,
    problem: Problems = None,
    population: Population = None,
    device: Device = "auto",
    seed: Seed = None,
    data_dir: DataDir = None,
    download: Download = False,
    std: Annotated[
        float | None, typer.Option(help="Standard deviation of the difference between blocks, in the metric's unit.")
    ] = None,
) -> None:
    """Estimate a study before it runs: gradients, time on this machine, and the smallest detectable difference."""
    if std is not None and not (0 < std < math.inf):
        raise UserError(f"--std {std:g}: expected a positive number")
    spec, _ = read_spec(file, Overrides(name, blocks, trials, budget, method, problem, seed))
    checks.check_counts(population, options.RETRIES)
    checks.use_data(data_dir, download)
    for part in plan_tables(spec, storage, device, population, std, download):
        console.print(part)


def plan_tables(
    spec: StudySpec, storage: str, device: str, population: int | None, std: float | None, download: bool = False
) -> list[RenderableType]:
    """Return the tables of `plan`: gradients, time on this machine, and the smallest detectable difference."""
    from relaxbench.analysis.paired import MIN_BLOCKS, detectable_effect
    from relaxbench.study.coordination.tpe import GENERATION
    from relaxbench.study.definition.prepare import prepare
    from relaxbench.study.definition.spaces import typical
    from relaxbench.training import engine as engines
    from relaxbench.training.devices import torch_device
    from relaxbench.training.oracle import Oracle

    place = torch_device(device)
    blocks = spec.blocks * spec.repetitions
    table = Table(title=f"Study {spec.name}", title_justify="left", box=None, pad_edge=False, header_style="dim")
    for column in ("problem", "method", "trials", "gradients", "gradients/s", "time"):
        table.add_column(column, justify="left" if column in ("problem", "method") else "right")
    notes, seconds, gradients = [], 0.0, 0
    for p in prepare(spec, download):
        engine, budget = engines.choose_engine(p, place, population, spec.precision), spec.budget_of(p)
        why = f" ({engine.note})" if engine.note else ""
        notes.append(f"{p.name}: {engine.path} path, K = {engine.population} on {place}{why}")
        for label in spec.methods:
            rule = spec.make_rule(label)
            params: dict[str, Any] = typical(spec.search_of(label), p)
            oracle = Oracle(p, engine.path, spec.precision)
            fast = engines.throughput(oracle, rule, engine.population, place, **params)
            few_slots = min(GENERATION, engine.population)
            slow = engines.throughput(oracle, rule, few_slots, place, **params)
            many, few = blocks * (spec.trials + 1) + spec.recommend, spec.exploit
            spent = budget * (many / fast + few / slow)
            seconds, gradients = seconds + spent, gradients + budget * (many + few)
            numbers = (f"{many + few:,}", f"{budget * (many + few):,}", f"{fast:,.0f}", duration(spent))
            table.add_row(p.name, label, *numbers)
    table.add_section()
    table.add_row("total", "", "", f"{gradients:,}", "", duration(seconds), style="bold")
    notes.append("Times are for training alone, measured now; evaluation and start-up come on top.")
    if spec.blocks < MIN_BLOCKS:
        power = [
            Text(
                f"A verdict needs at least {MIN_BLOCKS} blocks: "
                f"with {spec.blocks} the report describes the results, and gives no verdict."
            )
        ]
    else:
        power = _detectable(spec, storage, std, detectable_effect(spec.blocks))
    return [table, *(Text(note, style="dim") for note in notes), *power]


def _detectable(spec: StudySpec, storage: str, std: float | None, effect: float) -> list[Text]:
    """State the difference that R blocks can detect: from ``--std``, an earlier study, or in units of the spread."""
    start = f"{spec.blocks} blocks detect (80 % power, 5 % level) a difference of"
    if std is not None:
        return [Text(f"{start} {effect * std:.3g} in the metric's unit, for the given spread of {std:g}.")]
    spreads = _earlier_spreads(spec, storage)
    if spreads:
        return [
            Text(f"{start} {effect * spread:.3g} {unit} on {name}, for the spread of {spread:.3g} found earlier.")
            for name, (spread, unit) in spreads.items()
        ]
    return [
        Text(
            f"{start} {effect:.2f} standard deviations of a method's difference from SGD between blocks. "
            "Give one with --std, or plan again after a first study: its spread will be used."
        )
    ]


def _earlier_spreads(spec: StudySpec, storage: str) -> dict[str, tuple[float, str]]:
    """Return, per problem of the stored study of this name, the median spread between blocks and its unit."""
    import pandas as pd

    from relaxbench.analysis.frames import load_study
    from relaxbench.store.database import open_database

    try:
        frames = load_study(open_database(storage, create=False, read_only=True), spec.name)
    except UserError:
        return {}
    found = {}
    for name in frames.problems:
        mine = frames.blocks[frames.blocks["problem"] == name]
        results = mine.pivot(index="block", columns="method", values="test_metric")
        if spec.baseline in results and len(results) >= 6:
            spread = results.drop(columns=spec.baseline).sub(results[spec.baseline], axis=0).std(ddof=1).median()
            if pd.notna(spread):
                unit = frames.problem(name)["unit"]
                found[name] = float(spread), "points" if unit == "%" else unit
    return found
