"""The commands that are not about one study: speed, checks, theory, and tables of the papers."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

from relaxbench.cli import checks, options
from relaxbench.cli.console import console
from relaxbench.cli.options import DataDir, Device, ReportDir
from relaxbench.errors import UserError, unknown


def bench(
    only: Annotated[
        list[str] | None,
        typer.Option(
            metavar="PART",
            help=r"population, trials, steps, allcnn, memory or ledger; may be repeated.  \[default: all]",
        ),
    ] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="Little of everything: a minute, and figures that move.")
    ] = False,
    compiled: Annotated[
        bool, typer.Option("--compile", help="Also compiled training steps (needs a C++ compiler on the CPU).")
    ] = False,
    device: Device = "auto",
    json: options.JsonFile = None,
    report: ReportDir = Path("reports"),
    no_report: Annotated[bool, typer.Option("--no-report", help="Write no page.")] = False,
) -> None:
    """Speed, memory and bills on this machine, as ratios measured side by side: printed, and as a page (minutes)."""
    if not no_report:
        checks.check_folder("--report", report)
    from relaxbench.bench.run import Options, run

    page = None if no_report else report / "bench.html"
    command = shlex.join(["python", "-m", "relaxbench", *sys.argv[1:]])
    asked = Options(device, only or (), quick, compiled, json, page, command)
    with console.status("") as status:

        def tell(what: str) -> None:
            if console.is_terminal:
                status.update(f"Measuring {what}")
            else:
                console.print(f"measuring {what}", style="dim", markup=False, soft_wrap=True)

        for part in run(asked, tell):
            console.print(part)
    for file in filter(None, (json, page)):
        console.print(f"\n{'Page' if file == page else 'Figures'}: {file}", soft_wrap=True, highlight=False)


def check(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="NAME", help="Methods or problems, or a .py file that holds them.")
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="All that `list` shows.")] = False,
    data_dir: DataDir = None,
) -> None:
    """Does a method or a problem keep the rules: shapes, invariance, determinism, NaN, honest bills, memory?"""
    if everything and names:
        raise UserError(f"--all checks {names[0]!r} as well: give names or --all, not both")
    if not everything and not names:
        raise UserError("expected names of methods or problems, or --all (python -m relaxbench list shows the names)")
    checks.use_data(data_dir)
    from relaxbench.testing.runner import run
    from relaxbench.testing.subjects import everything as all_subjects
    from relaxbench.testing.subjects import subjects

    chosen = all_subjects() if everything else [each for name in names or [] for each in subjects(name)]
    failed = 0
    for subject in chosen:
        if subject.missing:
            console.print(f"– {subject.kind} {subject.name}: not checked, {subject.missing}", style="yellow")
            continue
        with console.status(f"{subject.kind} {subject.name}"):
            found = list(run(subject.suite))
        bad = [each for each in found if not each.passed]
        failed += bool(bad)
        passed = f"{len(found) - len(bad)} of {len(found)} checks passed"
        console.print(
            f"[{'red' if bad else 'green'}]{'✗' if bad else '✓'}[/] {subject.kind} [bold]{subject.name}[/]: {passed}"
        )
        for each in bad if len(chosen) > 1 else found:
            console.print(f"  {'✓' if each.passed else '✗'} {each.name}", style="dim" if each.passed else "red")
            if each.reason:
                console.print(f"      {each.reason}", markup=False)
    if failed:
        raise typer.Exit(1)


def theory(
    landscape: Annotated[
        list[str] | None, typer.Option("--landscape", help=r"One of them; may be repeated.  \[default: all]")
    ] = None,
    particles: Annotated[int, typer.Option(help="Particles of each kind.")] = 100_000,
    seed: Annotated[int, typer.Option(help="Of their noise.")] = 0,
    device: Device = "auto",
    report: ReportDir = Path("reports"),
) -> None:
    """Smoothed landscapes, densities, and the theorem on controlled SGD with its error bars: printed, and as a page."""
    from relaxbench.theory.page import sentence, write_page
    from relaxbench.theory.scenes import SCENES, scene

    if particles < 2:
        raise UserError(f"--particles {particles}: expected at least 2, and 100,000 for four digits")
    scenes = [scene(name) for name in dict.fromkeys(landscape or SCENES)]
    checks.check_folder("--report", report)
    from relaxbench.theory.expectation import expect
    from relaxbench.training.engine import torch_device

    place, results = torch_device(device), []
    for each in scenes:
        with console.status(f"{each.name}: {particles:,} particles, {each.steps} steps, with and without control"):
            results.append(expect(each, particles, seed, place))
        console.print(each.name, style="bold")
        console.print(sentence(results[-1]) + "\n")
    with console.status("Drawing the landscapes"):
        page = write_page(results, report)
    console.print(
        "The control is not the implemented Entropy-SGD: it knows the whole landscape. See the page.", style="dim"
    )
    console.print(f"\nPage: {page}", soft_wrap=True, highlight=False)


def reproduce(
    table: Annotated[str, typer.Argument(help="Which one: curveball-toys.")],
    runs: Annotated[int, typer.Option(help="Runs of every cell.")] = 100,
) -> None:
    """A published table, measured again: the paper's numbers beside ours, with the settings of every cell."""
    if table != "curveball-toys":
        raise unknown("table", table, ["curveball-toys"])
    if runs < 2:
        raise UserError(f"--runs {runs}: expected at least 2, and 100 as in the paper")
    from relaxbench.reproduce.curveball_toys import ROWS, curveball_toys
    from relaxbench.reproduce.table import tables

    cells = []
    with console.status("Counting iterations") as status:
        for cell in curveball_toys(runs):
            cells.append(cell)
            status.update(f"{cell.row}, {cell.column}: {cell.mean:.1f}")
    for part in tables(cells):
        console.print(part)
    if not all(cell.holds for cell in cells if cell.row in (ROWS[0], ROWS[-1])):
        raise typer.Exit(1)
