"""The commands for workers: join a study, free its trials, and test many workers under load."""

from __future__ import annotations

from typing import Annotated

import typer

from relaxbench import given
from relaxbench.cli import checks, options
from relaxbench.cli.console import console
from relaxbench.cli.options import STORAGE, DataDir, Device, Population, Storage, Study
from relaxbench.cli.outcome import finish
from relaxbench.util.text import counted

Part = Annotated[
    list[str] | None,
    typer.Option("--problem", help="Work on this problem only; give a .py file if its path differs on this machine."),
]
Only = Annotated[list[str] | None, typer.Option("--method", help="Work on this method only; may be repeated.")]


def worker(
    study: Annotated[str, typer.Argument(help="Name of a study, or its file (….toml).")],
    storage: Storage = STORAGE,
    device: Device = "auto",
    population: Population = None,
    checkpoints: options.Checkpoints = options.CHECKPOINTS,
    retries: options.Retries = options.RETRIES,
    data_dir: DataDir = None,
    problem: Part = None,
    method: Only = None,
    skip_unfit: options.SkipUnfit = False,
    optuna: options.Optuna = None,
    quiet: options.QuietWorker = False,
) -> None:
    """Join a running study from any machine that reaches its database, and work until no trial is left."""
    from relaxbench.cli.progress import Display, interruptible
    from relaxbench.store.database import open_database
    from relaxbench.store.soundness import check_stored
    from relaxbench.store.transactions import OUTAGE_SECONDS
    from relaxbench.study.coordination.supervisor import orphaned, supervised
    from relaxbench.study.coordination.worker_log import say
    from relaxbench.study.execution import join
    from relaxbench.study.execution.options import RunOptions, parse_device
    from relaxbench.study.execution.run import StudyRun

    checks.check_counts(population, retries)
    checks.check_folder("--checkpoints", checkpoints)
    checks.check_optuna(optuna)
    checks.use_data(data_dir)
    given.receive()
    # A worker that a running study starts again may start in the middle of an outage.
    database = open_database(storage, create=False, patience=OUTAGE_SECONDS if supervised() else None)
    place = parse_device(device)
    check_stored(database, None if study.endswith(".toml") else study)
    opened = join.join(database, study, place, join.Part(problem or (), method or (), skip_unfit))
    with interruptible() as stopping, Display(console, opened.spec, quiet=quiet) as display:
        session = RunOptions(
            device=place,
            population=population,
            checkpoints=checkpoints,
            retries=retries,
            optuna=optuna,
            observe=display.update,
            stopping=lambda: stopping() or orphaned(),
            announce=say if supervised() else display.say,
        )
        summary = StudyRun(database, session).work(opened)
    if supervised():
        raise typer.Exit(summary.code)
    finish(summary, opened.spec.name, storage, quiet)


def reap(
    study: Study = None,
    storage: Storage = STORAGE,
    worker: Annotated[
        str | None, typer.Option(help="Free the trials of this worker (see status), dead or not.")
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="Free every running trial.")] = False,
    failed: Annotated[bool, typer.Option("--failed", help="Also retry the trials that were given up.")] = False,
) -> None:
    """Free the trials of dead workers. A result that such a worker still sends is refused."""
    from relaxbench.store.database import open_database
    from relaxbench.store.freeing import free

    freed, revived = free(open_database(storage, create=False), study, worker, everything, failed)
    console.print(f"{counted(freed, 'trial')} freed" + (f", {revived:,} to be retried" if failed else ""))


def stress(
    only: Annotated[
        list[str] | None,
        typer.Option(metavar="PART", help=r"load, faults, or one fault (kill, outage, …).  \[default: all]"),
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Use few workers and three faults (minutes).")] = False,
    json: options.JsonFile = None,
) -> None:
    """Run simulated trials with many workers on SQLite and PostgreSQL: trials per second, and the effect of faults."""
    from relaxbench.stress.run import StressOptions, run

    if json is not None:
        checks.check_file("--json", json)
    with console.status("") as line:

        def report(what: str) -> None:
            if console.is_terminal:
                line.update(what)
            else:
                console.print(what, style="dim", markup=False, soft_wrap=True)

        for part in run(StressOptions(only or (), quick, json), report):
            console.print(part)
