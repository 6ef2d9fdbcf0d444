"""The commands that concern no study: `bench`, `check` and `theory`."""

from __future__ import annotations

import shlex
import sys
import warnings
from pathlib import Path
from typing import Annotated

import typer

from relaxbench.cli import checks, options
from relaxbench.cli.console import console
from relaxbench.cli.options import DataDir, Device, ReportDir
from relaxbench.errors import UserError


def bench(
    only: Annotated[
        list[str] | None,
        typer.Option(
            metavar="PART",
            help=r"Measure this part only: population, contenders, compiled, busy, residual, alone, trials, steps, "
            r"allcnn, memory, ledger or plan; may be repeated.  "
            r"\[default: all]",
        ),
    ] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="Measure briefly: a minute, and less precise numbers.")
    ] = False,
    compiled: Annotated[
        bool,
        typer.Option("--compile", help="Also measure compiled training steps (on the CPU this needs a C++ compiler)."),
    ] = False,
    device: Device = "auto",
    json: options.JsonFile = None,
    report: ReportDir = Path("reports"),
    no_report: Annotated[bool, typer.Option("--no-report", help="Write no page.")] = False,
) -> None:
    """Measure speed, memory and counted cost on this machine, as ratios; print them and write a page (minutes)."""
    if not no_report:
        checks.check_folder("--report", report)
    if json is not None:
        checks.check_file("--json", json)
    from relaxbench.bench.run import BenchOptions, run

    page = None if no_report else report / "bench.html"
    command = shlex.join(["python", "-m", "relaxbench", *sys.argv[1:]])
    request = BenchOptions(device, only or (), quick, compiled, json, page, command)
    with console.status("") as status:

        def report_progress(what: str) -> None:
            if console.is_terminal:
                status.update(f"Measuring {what}")
            else:
                console.print(f"measuring {what}", style="dim", markup=False, soft_wrap=True)

        for part in run(request, report_progress):
            console.print(part)
    for file in filter(None, (json, page)):
        console.print(f"\n{'Page' if file == page else 'Figures'}: {file}", soft_wrap=True, highlight=False)


def check(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="NAME", help="Methods, problems, or a .py file that defines them.")
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="Check everything that `list` shows.")] = False,
    data_dir: DataDir = None,
) -> None:
    """Check methods and problems: shapes, invariance, determinism, NaN, counted cost and memory."""
    if everything and names:
        raise UserError(f"--all checks {names[0]!r} as well: give names or --all, not both")
    if not everything and not names:
        raise UserError("expected names of methods or problems, or --all (python -m relaxbench list shows the names)")
    checks.use_data(data_dir)
    from relaxbench.testing.runner import run_checks
    from relaxbench.testing.subjects import everything as all_subjects
    from relaxbench.testing.subjects import subjects

    chosen = all_subjects() if everything else [subject for name in names or [] for subject in subjects(name)]
    failed = 0
    for subject in chosen:
        if subject.broken:
            failed += 1
            line = f"✗ {subject.kind} {subject.name}: {subject.broken}"
            console.print(line, style="red", markup=False, soft_wrap=True)
            continue
        if subject.missing:
            console.print(f"– {subject.kind} {subject.name}: not checked, {subject.missing}", style="yellow")
            continue
        with console.status(f"{subject.kind} {subject.name}"), warnings.catch_warnings():
            # PyTorch's hint on speed, for developers, where it loops over an operation such as attention
            warnings.filterwarnings("ignore", "There is a performance drop", UserWarning)
            outcomes = list(run_checks(subject.suite))
        failures = [outcome for outcome in outcomes if outcome.failed]
        skipped = [outcome for outcome in outcomes if outcome.skipped]
        failed += bool(failures)
        passed = f"{len(outcomes) - len(failures) - len(skipped)} of {len(outcomes)} checks passed"
        if skipped:
            passed += f", {len(skipped)} skipped"
        mark = "[red]✗[/]" if failures else "[green]✓[/]"
        console.print(f"{mark} {subject.kind} [bold]{subject.name}[/]: {passed}")
        if subject.caution:
            console.print(f"  {subject.caution}", markup=False, highlight=False)
        for outcome in [*failures, *skipped] if len(chosen) > 1 else outcomes:
            mark, style = {"passed": ("✓", "dim"), "failed": ("✗", "red"), "skipped": ("–", "yellow")}[outcome.outcome]
            console.print(f"  {mark} {outcome.name}", style=style)
            if outcome.reason:
                reason = f"skipped: {outcome.reason}" if outcome.skipped else outcome.reason
                console.print(f"      {reason}", markup=False)
    if failed:
        raise typer.Exit(1)


MOST_PARTICLES = 10_000_000
"""They are held in memory; four times as many halve the error bars."""


def theory(
    landscape: Annotated[
        list[str] | None,
        typer.Option("--landscape", help=r"Use this landscape only; may be repeated.  \[default: all]"),
    ] = None,
    particles: Annotated[int, typer.Option(help="Particles with control, and as many without.")] = 100_000,
    seed: Annotated[int, typer.Option(help="Random seed.")] = 0,
    device: Device = "auto",
    report: ReportDir = Path("reports"),
) -> None:
    """Test the theorem on controlled SGD with particles; print it with error bars, and write a page with figures."""
    from relaxbench.theory.page import sentence, write_page
    from relaxbench.theory.scenes import SCENES, scene

    if not 2 <= particles <= MOST_PARTICLES:
        raise UserError(
            f"--particles {particles}: expected at least 2, 100,000 for four digits, and at most {MOST_PARTICLES:,}"
        )
    checks.check_seed(seed)
    scenes = [scene(name) for name in dict.fromkeys(landscape or SCENES)]
    checks.check_folder("--report", report)
    from relaxbench.theory.expectation import expect
    from relaxbench.training.devices import torch_device

    place, results = torch_device(device), []
    for landscape_scene in scenes:
        with console.status(
            f"{landscape_scene.name}: {particles:,} particles, {landscape_scene.steps} steps, with and without control"
        ):
            results.append(expect(landscape_scene, particles, seed, place))
        console.print(landscape_scene.name, style="bold")
        console.print(sentence(results[-1]) + "\n")
    with console.status("Drawing the landscapes"):
        page = write_page(results, report)
    console.print(
        "The control is not the implemented Entropy-SGD: it knows the whole landscape. See the page.", style="dim"
    )
    console.print(f"\nPage: {page}", soft_wrap=True, highlight=False)
