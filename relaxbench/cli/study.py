"""`study`: tune, compare and report."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

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
    ReportDir,
    Seed,
    Storage,
    Trials,
)
from relaxbench.cli.outcome import conclude, finish
from relaxbench.cli.ray import asked_cluster, distribute, reached
from relaxbench.cli.spec import Overrides, read_spec
from relaxbench.cli.supervise import Crew, supervise


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

    spec, source = read_spec(file, Overrides(name, blocks, trials, budget, method, problem, seed))
    checks.check_counts(population, retries)
    checks.check_folder("--checkpoints", checkpoints)
    if not no_report:
        checks.check_folder("--report", report)
    checks.check_optuna(optuna)
    here = {"--device": None if device == "auto" else device, "--devices": devices, "--per-device": per_device}
    cluster = asked_cluster(engine, address, workers, gpus_per_worker, cpus_per_worker, here)
    asked = (workers, devices, per_device)
    crew = Crew(*asked) if cluster is None and any(option is not None for option in asked) else None
    if crew is not None:
        crew.check(device)
        device = crew.kind
    elif cluster is not None and cluster.device == "cpu":
        device = "cpu"  # otherwise its nodes have GPUs, and this machine need not have one
    checks.use_data(data_dir, download)
    if optuna:
        from relaxbench.study.coordination.optuna_proxy import reach

        reach(optuna)  # before a database is made
    problems = prepare(spec, device, download)
    with reached(cluster, storage) as notes:
        database = open_database(storage)
        with interruptible() as stopping, Display(console, spec, quiet=quiet) as display:
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
