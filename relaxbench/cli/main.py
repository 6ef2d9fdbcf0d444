"""The commands: parse, call, print. Heavy imports stay inside the commands, so that --help answers at once."""

from __future__ import annotations

import math
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from relaxbench.cli import options as options
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
    ReportDir,
    Seed,
    Storage,
    Study,
    Trials,
)
from relaxbench.cli.ray import asked_cluster, distribute, reached
from relaxbench.cli.report import conclude, report_commands
from relaxbench.cli.storage import storage_commands
from relaxbench.cli.tools import tools
from relaxbench.cli.workers import Crew, finish, log_to_console, reader, supervise, worker_commands
from relaxbench.errors import UserError
from relaxbench.util.malloc import keep_freed_memory
from relaxbench.version import __version__

if TYPE_CHECKING:
    from relaxbench.study.definition.spec import StudySpec

app = typer.Typer(
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Does a relaxation optimizer beat a well-tuned SGD on this model, by how much, and how sure is that?",
    epilog="Start with: python -m relaxbench study",
)


@app.command()
def study(
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
    workers: options.Workers = None,
    devices: options.Devices = None,
    per_device: options.PerDevice = None,
    engine: options.Engine = "local",
    address: options.Address = None,
    gpus_per_worker: options.GpusPerWorker = None,
    cpus_per_worker: options.CpusPerWorker = None,
    optuna: options.Optuna = None,
    retries: options.Retries = options.RETRIES,
    report: ReportDir = Path("reports"),
    no_report: Annotated[bool, typer.Option("--no-report", help="Write no report.")] = False,
    checkpoints: options.Checkpoints = options.CHECKPOINTS,
    quiet: options.Quiet = False,
) -> None:
    """Tune, compare with SGD and write the report. The same command continues, extends, or says that all is done."""
    from relaxbench.cli.progress import Display, interruptible
    from relaxbench.store.database import open_database
    from relaxbench.study.definition.prepare import prepare
    from relaxbench.study.execution.run import StudyRun

    spec, source = _spec(file, name, blocks, trials, budget, method, problem, seed)
    options.check_counts(population, retries)
    options.check_folder("--checkpoints", checkpoints)
    if not no_report:
        options.check_folder("--report", report)
    options.check_optuna(optuna)
    here = {"--device": None if device == "auto" else device, "--devices": devices, "--per-device": per_device}
    cluster = asked_cluster(engine, address, workers, gpus_per_worker, cpus_per_worker, here)
    asked = (workers, devices, per_device)
    crew = Crew(*asked) if cluster is None and any(option is not None for option in asked) else None
    if crew is not None:
        crew.check(device)
        device = crew.kind
    elif cluster is not None and cluster.device == "cpu":
        device = "cpu"  # otherwise its nodes have GPUs, and this machine need not have one
    options.use_data(data_dir, download)
    if optuna:
        from relaxbench.study.coordination.optuna_proxy import reach

        reach(optuna)  # before a database is made
    problems = prepare(spec, device, download)
    with reached(cluster, storage) as notes:
        database = open_database(storage)
        with interruptible() as stopping, Display(options.console, spec, quiet=quiet) as display:
            run = StudyRun(database, spec, source, device, population, checkpoints, retries)
            run.problems, run.observe, run.stopping, run.announce = problems, display.update, stopping, display.say
            run.optuna = optuna
            for note in notes:
                display.say(note)
            if cluster is not None:
                summary = distribute(run, cluster, storage, display)
            else:
                summary = supervise(run, crew, storage, display) if crew is not None else run.run()
    finish(summary, spec.name, quiet)
    conclude(storage, spec.name, None if no_report else report)


@app.command()
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
    """Before a study: its gradients, its hours on this machine, and the smallest difference that it can detect."""
    from relaxbench.cli.overview import plan_tables

    if std is not None and not (0 < std < math.inf):
        raise UserError(f"--std {std:g}: expected a positive number")
    spec, _ = _spec(file, name, blocks, trials, budget, method, problem, seed)
    options.check_counts(population, options.RETRIES)
    options.use_data(data_dir, download)
    for part in plan_tables(spec, storage, device, population, std, download):
        options.console.print(part)


@app.command("list")
def list_(data_dir: DataDir = None) -> None:
    """All problems with their parameters, data, budgets and targets, and all methods."""
    from relaxbench.cli.overview import list_tables

    options.use_data(data_dir)
    for part in list_tables():
        options.console.print(part)


@app.command()
def show(study: Study = None, storage: Storage = STORAGE) -> None:
    """How far a study is, and its verdicts so far."""
    from relaxbench.analysis.frames import load_study
    from relaxbench.cli.overview import show_tables

    for part in show_tables(load_study(reader(storage), study)):
        options.console.print(part)


@app.command()
def best(
    study: Annotated[str, typer.Argument(help="Name of a study.")],
    method: Annotated[str, typer.Argument(help="One of its methods.")],
    storage: Storage = STORAGE,
    problem: Annotated[str | None, typer.Option(help=r"One of its problems.  \[default: the only one]")] = None,
    weights: Annotated[
        Path | None,
        typer.Option(
            parser=options.named_path,
            metavar="<Path>",
            help="Also write the best run's weights to this file (.pt).",
        ),
    ] = None,
) -> None:
    """A method's best settings, as a constructor to paste into a training loop."""
    from relaxbench.cli.overview import best_constructor

    print(best_constructor(reader(storage), study, method, problem, weights))


def main(arguments: list[str] | None = None) -> int:
    """Run a command; returns the exit code. A user's mistake is one line on the error stream and code 2."""
    # MKL reads this at its first call; with it, results do not depend on the alignment of a member's rows.
    os.environ.setdefault("MKL_CBWR", "AUTO,STRICT")
    keep_freed_memory()
    log_to_console()
    arguments = sys.argv[1:] if arguments is None else arguments
    try:
        return app(arguments or ["--help"], prog_name="relaxbench", standalone_mode=False) or 0
    except UserError as error:
        return _mistake(options.described(error))
    except typer.TyperException as error:
        return _mistake(f"{error.format_message().rstrip('.')}{_given(error)} (see python -m relaxbench --help)")
    except (KeyboardInterrupt, typer.Abort):
        print("relaxbench: interrupted; what was finished is kept", file=sys.stderr)
        return 130
    except Exception as error:
        said = _said_by_database(error)
        if said is None:
            raise
        return _mistake(said)


def _mistake(message: str) -> int:
    print(f"relaxbench: {' '.join(message.split())}", file=sys.stderr)
    return 2


def _given(error: typer.TyperException) -> str:
    """What was typed where something else was expected, if the message does not say it."""
    from pydantic import ValidationError

    cause = error.__cause__
    return f", given {cause.errors()[0]['input']!r}" if isinstance(cause, ValidationError) else ""


def _said_by_database(error: Exception) -> str | None:
    """What a person can do about an error of the database; None for one that is ours."""
    from sqlalchemy.exc import DBAPIError

    from relaxbench.store.transactions import curable
    from relaxbench.store.urls import advice, reason

    if isinstance(error, DBAPIError) and curable(error):
        return f"the database refuses ({reason(error)}): {advice(error)}"
    return None


def _spec(
    file: str | None,
    name: str | None,
    blocks: int | None,
    trials: int | None,
    budget: int | None,
    methods: list[str] | None,
    problems: list[str] | None,
    seed: int | None,
) -> tuple[StudySpec, str]:
    """The study file with the command line's options in place of its own."""
    from relaxbench.study.definition.spec import find, load

    for option, value in (("blocks", blocks), ("trials", trials), ("budget", budget)):
        if value is not None and value < 1:
            raise UserError(f"--{option} {value}: expected at least 1")
    if seed is not None and not 0 <= seed < 2**63:
        raise UserError(f"--seed {seed}: expected 0 or more, and less than 2⁶³")
    given: dict[str, Any] = {"blocks": blocks, "trials": trials, "budget": budget, "seed": seed, "name": name}
    changes = {key: value for key, value in given.items() if value is not None}
    if problems:
        changes["problems"] = problems
        if file is None and name is None:
            changes["name"] = "-".join(Path(p).stem for p in problems)
    if methods:
        changes["methods"] = methods
    return load(find(file), changes)


def _version(value: bool) -> None:
    if value:
        print(f"relaxbench {__version__}")
        raise typer.Exit()


@app.callback()
def before(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Options before the command."""


app.add_typer(report_commands)
app.add_typer(worker_commands)
app.add_typer(storage_commands)
app.add_typer(tools)
