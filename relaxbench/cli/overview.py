"""What the commands print: tables of problems and methods, plans, the state of a study, a constructor to paste."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from rich.console import Group
from rich.padding import Padding
from rich.table import Table
from rich.text import Text
from sqlalchemy import Engine as Database
from sqlalchemy import select

from relaxbench.analysis.frames import StudyFrames, load_study, progress
from relaxbench.analysis.sentences import sentence
from relaxbench.analysis.verdicts import verdicts
from relaxbench.errors import UserError, unknown
from relaxbench.util.text import counted, duration


def verdict_lines(frames: StudyFrames) -> list[Text]:
    """One honest sentence a method, the baseline's first."""
    rows = verdicts(frames).to_dict("records")
    if not rows:
        return [Text("The study has no results yet.")]
    rows.sort(key=lambda row: (frames.problems.index(row["problem"]), row["role"] != "baseline"))
    return [Text(sentence(row)) for row in rows]


def list_tables() -> list[Any]:
    """Problems and methods, with what they need and what is searched."""
    from relaxbench.optim.registry import rule_class, rule_names
    from relaxbench.problems import problem, problem_names
    from relaxbench.problems.data.published import data_dir

    lines: list[Any] = [Text("Problems", style="bold")]
    names = problem_names()
    for name in names:
        if name.endswith("-small") and name.removesuffix("-small") in names:
            continue  # told with the large one
        try:
            p = problem(name)
        except UserError as error:  # of another package: the rest is still worth a list
            lines.append(_entry(name, "does not work", str(error)))
            continue
        target = f"gradients until the loss is ≤ {p.tolerance:g}" if p.tolerance is not None else p.metric
        published = f"; published: {p.published}" if p.published else ""
        try:
            size = counted(p.size, "parameter")
        except UserError:  # it depends on the number of classes or characters
            size = "parameters unknown until its data are here"
        facts = [f"{size}; {_budget(p)}; judged by {target}{published}"]
        if f"{name}-small" in names:
            facts.append(f"{name}-small: {_budget(problem(f'{name}-small'))}")
        lines.append(_entry(name, p.title, *facts, f"data: {p.data}"))
    lines.append(
        Text(
            f"Data lie in {data_dir()} (--data-dir, RELAXBENCH_DATA); study --download fetches what torchvision knows. "
            "Networks take other data after a colon: lenet:fashion-mnist, allcnn-bn:FOLDER, char-lstm:FILE.txt.",
            style="dim",
        )
    )
    lines.append(Text("\nMethods", style="bold"))
    for name in rule_names():
        try:
            rule = rule_class(name)
        except UserError as error:
            lines.append(_entry(name, "does not work", str(error)))
            continue
        searched = f"searched: {', '.join(rule.space)}"
        lines.append(_entry(name, rule.title, searched, f"memory: {rule.copies} copies of the parameters", rule.source))
    return lines


def _budget(problem: Any) -> str:
    """Of one trial."""
    return f"{problem.budget:,} gradients a trial" + (f" of {problem.batch_size}" if problem.batch_size > 1 else "")


def _entry(name: str, title: str, *facts: str) -> Padding:
    """A name, what it is, and facts below it, indented; readable at any width."""
    head = Text.assemble((name, "bold cyan"), "  ", title)
    return Padding(Group(head, *(Padding(Text(fact, style="dim"), (0, 0, 0, 4)) for fact in facts)), (0, 0, 0, 2))


def plan_tables(
    spec: Any, storage: str, device: str, population: int | None, std: float | None, download: bool = False
) -> list[Any]:
    """A study's gradients, its time on this machine, and what it could detect."""
    from relaxbench.analysis.paired import MIN_BLOCKS, detectable_effect
    from relaxbench.optim.hyper import defaults
    from relaxbench.study.coordination.tpe import GENERATION
    from relaxbench.study.definition.prepare import prepare
    from relaxbench.training import engine as engines
    from relaxbench.training.devices import torch_device
    from relaxbench.training.oracle import Oracle

    place = torch_device(device)
    blocks = spec.blocks * spec.repetitions
    table = Table(title=f"Study {spec.name}", title_justify="left", box=None, pad_edge=False, header_style="dim")
    for column in ("problem", "method", "trials", "gradients", "gradients/s", "time"):
        table.add_column(column, justify="left" if column in ("problem", "method") else "right")
    notes, seconds, gradients = [], 0.0, 0
    for p in prepare(spec, device, download):
        engine, budget = engines.choose(p, place, population, spec.precision), spec.budget_of(p)
        why = f" ({engine.note})" if engine.note else ""
        notes.append(f"{p.name}: {engine.path} path, K = {engine.population} on {place}{why}")
        for label in spec.methods:
            rule, params = spec.make_rule(label), {**defaults(spec.rule_of(label).space), **spec.fixed_of(label, p)}
            fast = engines.throughput(Oracle(p, engine.path, spec.precision), rule, engine.population, place, **params)
            few_slots = min(GENERATION, engine.population)
            slow = engines.throughput(Oracle(p, engine.path, spec.precision), rule, few_slots, place, **params)
            many, few = blocks * (spec.trials + 1) + spec.recommend, spec.exploit
            spent = budget * (many / fast + few / slow)
            seconds, gradients = seconds + spent, gradients + budget * (many + few)
            numbers = (f"{many + few:,}", f"{budget * (many + few):,}", f"{fast:,.0f}", duration(spent))
            table.add_row(p.name, label, *numbers)
    table.add_section()
    table.add_row("total", "", "", f"{gradients:,}", "", duration(seconds), style="bold")
    notes.append("Times are for training alone, measured just now; measuring and starting come on top.")
    if spec.blocks < MIN_BLOCKS:
        power = [
            Text(
                f"A verdict needs at least {MIN_BLOCKS} blocks: "
                f"with {spec.blocks} the report describes, and claims nothing."
            )
        ]
    else:
        power = _detectable(spec, storage, std, detectable_effect(spec.blocks))
    return [table, *(Text(note, style="dim") for note in notes), *power]


def show_tables(frames: StudyFrames) -> list[Any]:
    """How far a study is, and its verdicts so far."""
    counts = progress(frames)
    table = Table(title=f"Study {frames.name}", title_justify="left", box=None, pad_edge=False, header_style="dim")
    phases = list(dict.fromkeys(counts["phase"])) if len(counts) else []
    for column in ("problem", "method", *phases):
        table.add_column(column, justify="right" if column in phases else "left")
    for (problem, method), rows in counts.groupby(["problem", "method"], sort=False):
        done = {row.phase: f"{row.done}/{row.planned}" for row in rows.itertuples()}
        table.add_row(str(problem), str(method), *(done.get(phase, "") for phase in phases))
    engines = [
        f"{name}: {engine['path']} path, K = {engine['population']}, {engine['precision']} on {engine['device']}; "
        f"a trial's gradients are the same in any slot: {engine['invariance']}"
        for name, engine in frames.manifest.get("engines", {}).items()
    ]
    return [table, *(Text(line, style="dim") for line in engines), Text(), *verdict_lines(frames)]


def best_constructor(database: Database, study: str, method: str, problem: str | None, weights: Path | None) -> str:
    """The best settings of a method as code; optionally its best run's weights in a file.

    Raises:
        UserError: if the study, method or problem does not exist, or nothing of it is done.
    """
    from relaxbench.optim.drop_in.base import closures
    from relaxbench.optim.drop_in.classes import DROP_INS
    from relaxbench.optim.registry import rule_class

    frames = load_study(database, study)
    if method not in frames.methods:
        raise unknown(f"method in study {study!r}:", method, frames.methods)
    if problem is None and len(frames.problems) > 1:
        raise UserError(f"study {study!r} has several problems: give one of {', '.join(frames.problems)} as --problem")
    name = problem or frames.problems[0]
    if name not in frames.problems:
        raise unknown(f"problem in study {study!r}:", name, frames.problems)
    trials = frames.trials
    mine = trials[(trials["problem"] == name) & (trials["method"] == method) & (trials["status"] == "done")]
    found = mine[mine["phase"].isin(["explore", "exploit"])]
    if not len(found):
        raise UserError(
            f"study {study!r} has no finished trial of {method!r} yet: run it with python -m relaxbench study"
        )
    winner = found.sort_values(["value", "id"]).iloc[0]
    runs = mine[(mine["phase"] == "recommend") & (mine["parent"] == winner["id"])]
    about = frames.manifest["problems"][name]
    name_of_rule = frames.manifest["methods"][method]["rule"]
    rule = rule_class(name_of_rule)
    built_in = name_of_rule in DROP_INS
    cls = DROP_INS[name_of_rule].__name__ if built_in else f'drop_in("{name_of_rule}")'
    newton = rule.curvature
    held = "model" if newton else "model.parameters()"
    options = frames.manifest["methods"][method]["options"]
    calls = closures(rule(**options))
    steps = int(about["budget"] / rule(**options).price / max(1, calls))
    lines = [
        f"# {rule.title} on {name}: validation loss {winner['value']:.4g} when it was found (trial {winner['id']})"
    ]
    if len(runs):
        found_on = f"{runs['test_metric'].mean():.2f} ± {runs['test_metric'].std(ddof=1):.2f} {about['unit']}"
        lines.append(f"# on {len(runs)} fresh seeds: {about['metric']} {found_on}".rstrip())
    lines += [
        f"from relaxbench.optim import {cls if built_in else 'drop_in'}",
        "",
        f"optimizer = {cls}(",
        f"    {held},",
    ]
    lines.append(f"    total_steps={steps},  # calls of step(); the schedules run over these")
    lines += [f"    {key}={_literal(value)}," for key, value in {**options, **winner["params"]}.items()]
    lines.append(")")
    if newton:
        lines.append("# in the loop: loss = optimizer.step(lambda: model(x), lambda outputs: criterion(outputs, y))")
    elif calls:
        lines.append("# in the loop: optimizer.step(closure), see help(optimizer.step)")
    if weights is not None:
        lines.append(f"# weights of the best run: {_save_weights(database, frames, runs, name, weights)}")
    return "\n".join(lines)


def _detectable(spec: Any, storage: str, std: float | None, effect: float) -> list[Text]:
    """What R blocks can detect: from a given spread, from an earlier study, or in units of the spread."""
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


def _earlier_spreads(spec: Any, storage: str) -> dict[str, tuple[float, str]]:
    """Median standard deviation of block differences from the baseline, a problem, in the study of this name."""
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
                unit = frames.manifest["problems"][name]["unit"]
                found[name] = float(spread), "points" if unit == "%" else unit
    return found


def _save_weights(database: Database, frames: StudyFrames, runs: pd.DataFrame, problem: str, file: Path) -> str:
    """Write the stored weights as a state dict (or, for a problem file of one's own, as the flat vector)."""
    import torch

    from relaxbench.problems import PROBLEMS
    from relaxbench.problems import problem as make
    from relaxbench.store.schema import Weights

    with database.connect() as connection:
        data = connection.scalar(select(Weights.data).where(Weights.trial_id.in_([int(i) for i in runs["id"]])))
    if data is None:
        raise UserError(f"study {frames.name!r} keeps no weights for this method yet: finish it first")
    flat = torch.from_numpy(np.frombuffer(data, dtype=np.float32).copy())
    stored = make(problem).unflatten(flat) if problem in PROBLEMS else {"flat": flat}
    buffer = io.BytesIO()
    torch.save({name: value.clone() for name, value in stored.items()}, buffer)
    try:
        file.write_bytes(buffer.getvalue())
    except OSError as error:
        raise UserError(f"weights cannot be written to {str(file)!r}: {error.strerror}") from None
    return str(file)


def _literal(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) and value != int(value) else repr(value)
