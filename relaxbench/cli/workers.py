"""The commands of many workers: a crew on this machine, one that joins from anywhere, who works, and freeing trials."""

from __future__ import annotations

import logging
import shlex
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from relaxbench.cli import options as options
from relaxbench.cli.options import STORAGE, DataDir, Device, Population, Storage, Study
from relaxbench.errors import UserError
from relaxbench.util.text import counted, duration

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from relaxbench.cli.progress import Display
    from relaxbench.study.coordination.supervisor import Slot
    from relaxbench.study.execution.run import StudyRun, Summary

worker_commands = typer.Typer()

Part = Annotated[
    list[str] | None,
    typer.Option("--problem", help="Work on this problem only; a .py file says where a problem lies here."),
]
Only = Annotated[list[str] | None, typer.Option("--method", help="Work on this method only; may be repeated.")]


@worker_commands.command()
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
    optuna: options.Optuna = None,
    quiet: options.QuietWorker = False,
) -> None:
    """Join a study that has begun, from any machine that reaches its database: works until nothing is left."""
    from relaxbench.cli.progress import Display, interruptible
    from relaxbench.store.database import open_database
    from relaxbench.study.coordination.supervisor import orphaned, supervised
    from relaxbench.study.execution.join import join
    from relaxbench.study.execution.run import StudyRun

    options.check_counts(population, retries)
    options.check_folder("--checkpoints", checkpoints)
    options.check_optuna(optuna)
    options.use_data(data_dir)
    database = open_database(storage, create=False)
    opened = join(database, study, device, problem or (), method or ())
    with interruptible() as stopping, Display(options.console, opened.spec, quiet=quiet) as display:
        run = StudyRun(database, opened.spec, "", device, population, checkpoints, retries)
        run.observe, run.announce = display.update, display.say
        run.stopping, run.optuna = lambda: stopping() or orphaned(), optuna
        summary = run.work(opened)
    if supervised():
        raise typer.Exit(summary.code)
    finish(summary, opened.spec.name, quiet)


@worker_commands.command()
def status(study: Study = None, storage: Storage = STORAGE) -> None:
    """Who works on a study: workers, running trials and their last sign of life, and trials that failed."""
    from relaxbench.cli.status import status_tables

    for part in status_tables(reader(storage), study):
        options.console.print(part)


@worker_commands.command()
def reap(
    study: Study = None,
    storage: Storage = STORAGE,
    worker: Annotated[str | None, typer.Option(help="Free what this worker holds (see status), dead or not.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="Free every running trial.")] = False,
    failed: Annotated[bool, typer.Option("--failed", help="Also try again what has been given up.")] = False,
) -> None:
    """Free the trials of dead workers by hand. A result that still comes from one is refused."""
    from relaxbench.store.claims import free
    from relaxbench.store.database import open_database

    freed, revived = free(open_database(storage, create=False), study, worker, everything, failed)
    options.console.print(f"{counted(freed, 'trial')} freed" + (f", {revived:,} to be tried again" if failed else ""))


@worker_commands.command()
def stress(
    only: Annotated[
        list[str] | None,
        typer.Option(metavar="PART", help=r"load, faults, or one of these (kill, outage, …).  \[default: all]"),
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Few workers and three faults: minutes.")] = False,
    json: options.JsonFile = None,
) -> None:
    """Simulated trials by many workers on SQLite and PostgreSQL: how many a second, and what faults do (a while)."""
    from relaxbench.stress.run import Options, run

    if json is not None:
        options.check_file("--json", json)
    with options.console.status("") as shown:

        def tell(what: str) -> None:
            if options.console.is_terminal:
                shown.update(what)
            else:
                options.console.print(what, style="dim", markup=False, soft_wrap=True)

        for part in run(Options(only or (), quick, json), tell):
            options.console.print(part)


@dataclass
class Crew:
    """Worker processes as they were asked for; see `supervisor.places`."""

    workers: int | None
    devices: str | None
    per_device: int | None
    kind: str = "cpu"

    def check(self, device: str) -> None:
        """Refuse what does not fit together; `kind` is then what all of its devices are.

        Args:
            device: of ``--device``, which says where the crew works if ``--devices`` does not.

        Raises:
            UserError: naming the option.
        """
        from relaxbench.training.devices import torch_device

        torch_device(device)
        if self.devices is None and device != "cpu":
            import torch

            count = torch.cuda.device_count() if torch.cuda.is_available() else 0
            found = ",".join(f"cuda:{i}" for i in range(count)) or "cpu"
            self.devices = found if device in ("auto", "cuda") else device
        slots = self.places(Path(), "")
        kinds = {slot.device.partition(":")[0] for slot in slots}
        if len(kinds) > 1:
            raise UserError(f"--devices {self.devices!r}: a study runs on one kind of device, cuda or cpu")
        (self.kind,) = kinds
        if device != "auto" and torch_device(device).type != self.kind:
            raise UserError(f"--devices {self.devices!r}: --device {device} is of another kind: leave one of them out")
        for slot in slots:
            torch_device(slot.device)

    def places(self, folder: Path, name: str) -> list[Slot]:
        """A slot for every worker."""
        from relaxbench.study.coordination.supervisor import places

        return places(self.workers, self.devices, self.per_device, folder, name)


def supervise(run: StudyRun, crew: Crew, storage: str, display: Display) -> Summary:
    """A session in which processes of their own do the work; this one watches them."""
    from relaxbench.cli.watch import Watch
    from relaxbench.study.coordination.manifest import read_manifest
    from relaxbench.study.coordination.supervisor import Supervisor, environment

    watch = Watch(run, display)
    name = watch.opened.spec.name
    slots = crew.places(run.checkpoints, read_manifest(run.database, watch.opened.study)["key"])

    def command(slot: Slot) -> tuple[list[str], dict[str, str]]:
        line = [sys.executable, "-m", "relaxbench", "worker", "--quiet", "--device", run.device]
        line += ["--checkpoints", str(run.checkpoints), "--retries", str(run.retries)]
        line += ["--population", str(run.population)] if run.population else []
        line += ["--optuna", run.optuna] if run.optuna else []
        # The study may have more than what was asked for here.
        line += [f"--problem={problem.name}" for problem in watch.opened.problems]
        line += [f"--method={label}" for label in watch.opened.spec.methods]
        line += ["--", name]
        # The storage's address may hold a password, and every user of a machine can read command lines.
        return line, {**environment(slot, len(slots)), "RELAXBENCH_STORAGE": storage}

    def work() -> None:
        display.say(f"Study {name}: {counted(len(slots), 'worker')} on {_where(slots)}.")
        Supervisor(watch.claims, slots, command, run.stopping, watch.tick, display.say).run()

    return watch.over(work)


def finish(summary: Summary, name: str, quiet: bool) -> None:
    """Say what a session did; a study that is not complete ends the command here, with what to do."""
    from relaxbench.study.coordination.supervisor import INCOMPLETE

    console, done = options.console, summary.total - summary.missing
    if summary.code == INCOMPLETE:
        console.print(f"{done:,} of {summary.total:,} trials are done; {summary.failed:,} failed too often.")
        console.print(f"  see why:    python -m relaxbench status {shlex.quote(name)}", markup=False, soft_wrap=True)
        console.print(
            f"  try again:  python -m relaxbench reap {shlex.quote(name)} --failed", markup=False, soft_wrap=True
        )
        raise typer.Exit(summary.code)
    if summary.missing:
        again = shlex.join(["python", "-m", "relaxbench", *sys.argv[1:]])
        console.print(f"Stopped. {done:,} of {summary.total:,} trials are done and kept. Continue with:")
        console.print(f"  {again}", markup=False, soft_wrap=True)  # one line, to be copied
        raise typer.Exit(summary.code)
    if quiet:
        return
    if summary.ran:
        console.print(f"{summary.ran:,} trials in {duration(summary.seconds)}; {summary.total:,} in the study.")
    else:
        console.print(f"All {summary.total:,} trials of study {name!r} are done; nothing was run.")
    console.print()


def log_to_console() -> None:
    """Warnings of the library (an outage, a full disk) as lines on the error stream."""
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("relaxbench: %(message)s"))
    logging.getLogger("relaxbench").addHandler(handler)


def _where(slots: list[Slot]) -> str:
    counts = {slot.device: sum(other.device == slot.device for other in slots) for slot in slots}
    return ", ".join(device if count == 1 else f"{device} ({count})" for device, count in counts.items())


def reader(storage: str) -> Engine:
    """A database that is only read."""
    from relaxbench.store.database import open_database

    return open_database(storage, create=False, read_only=True)
