"""The commands that are not about one study: is all well, how fast is it, theory, and tables of the papers."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

from relaxbench.cli import options as options
from relaxbench.cli.options import STORAGE, DataDir, Device, ReportDir, Storage
from relaxbench.errors import UserError, unknown

tools = typer.Typer()


@tools.command()
def doctor(storage: Storage = STORAGE) -> None:
    """Python, torch, GPU, storage and data: what works here, what does not, and what to do."""
    from relaxbench.cli.doctor import examine

    table, healthy = examine(storage)
    options.console.print(table)
    if not healthy:
        raise typer.Exit(1)


@tools.command()
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
        options.check_folder("--report", report)
    from relaxbench.bench.run import Options, run

    page = None if no_report else report / "bench.html"
    command = shlex.join(["python", "-m", "relaxbench", *sys.argv[1:]])
    asked = Options(device, only or (), quick, compiled, json, page, command)
    with options.console.status("") as status:

        def tell(what: str) -> None:
            if options.console.is_terminal:
                status.update(f"Measuring {what}")
            else:
                options.console.print(f"measuring {what}", style="dim", markup=False, soft_wrap=True)

        for part in run(asked, tell):
            options.console.print(part)
    for file in filter(None, (json, page)):
        options.console.print(f"\n{'Page' if file == page else 'Figures'}: {file}", soft_wrap=True, highlight=False)


@tools.command()
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
    options.use_data(data_dir)
    from relaxbench.testing.runner import run_checks
    from relaxbench.testing.subjects import everything as all_subjects
    from relaxbench.testing.subjects import subjects

    chosen = all_subjects() if everything else [each for name in names or [] for each in subjects(name)]
    failed = 0
    for subject in chosen:
        if subject.missing:
            options.console.print(f"– {subject.kind} {subject.name}: not checked, {subject.missing}", style="yellow")
            continue
        with options.console.status(f"{subject.kind} {subject.name}"):
            checks = list(run_checks(subject.suite))
        bad, skipped = [check for check in checks if check.failed], [check for check in checks if check.skipped]
        failed += bool(bad)
        count = f"{len(checks) - len(bad) - len(skipped)} of {len(checks)} checks passed"
        if skipped:
            count += f", {len(skipped)} skipped"
        options.console.print(
            f"[{'red' if bad else 'green'}]{'✗' if bad else '✓'}[/] {subject.kind} [bold]{subject.name}[/]: {count}"
        )
        for check in [*bad, *skipped] if len(chosen) > 1 else checks:
            mark, style = {"passed": ("✓", "dim"), "failed": ("✗", "red"), "skipped": ("–", "yellow")}[check.outcome]
            options.console.print(f"  {mark} {check.name}", style=style)
            if check.reason:
                reason = f"skipped: {check.reason}" if check.skipped else check.reason
                options.console.print(f"      {reason}", markup=False)
    if failed:
        raise typer.Exit(1)


@tools.command()
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
    options.check_folder("--report", report)
    from relaxbench.theory.expectation import expect
    from relaxbench.training.devices import torch_device

    place, results = torch_device(device), []
    for each in scenes:
        with options.console.status(
            f"{each.name}: {particles:,} particles, {each.steps} steps, with and without control"
        ):
            results.append(expect(each, particles, seed, place))
        options.console.print(each.name, style="bold")
        options.console.print(sentence(results[-1]) + "\n")
    with options.console.status("Drawing the landscapes"):
        page = write_page(results, report)
    options.console.print(
        "The control is not the implemented Entropy-SGD: it knows the whole landscape. See the page.", style="dim"
    )
    options.console.print(f"\nPage: {page}", soft_wrap=True, highlight=False)


@tools.command()
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
    with options.console.status("Counting iterations") as status:
        for cell in curveball_toys(runs):
            cells.append(cell)
            status.update(f"{cell.row}, {cell.column}: {cell.mean:.1f}")
    for part in tables(cells):
        options.console.print(part)
    if not all(cell.holds for cell in cells if cell.row in (ROWS[0], ROWS[-1])):
        raise typer.Exit(1)
