"""`study`: tune, compare and report."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from relaxbench.cli import checks, options
from relaxbench.cli.console import console, say
from relaxbench.cli.forked import long, prepare
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
    ReportDir,
    Seed,
    Storage,
    TrainingPath,
    Trials,
)
from relaxbench.cli.outcome import conclude, finish
from relaxbench.cli.ray import connected_cluster, distribute, requested_cluster
from relaxbench.cli.spec import QUICK_LABEL, UNPRUNED, Overrides, lender_notes, prepare_spec, quicken, read_spec
from relaxbench.cli.supervise import LocalWorkers, supervise, work_on_this_machine
from relaxbench.cli.tracking import Tracking, destination_of
from relaxbench.util.cores import cores


def study(
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
    workers: options.Workers = None,
    devices: options.Devices = None,
    per_device: options.PerDevice = None,
    engine: options.Engine = "local",
    address: options.Address = None,
    gpus_per_worker: options.GpusPerWorker = None,
    cpus_per_worker: options.CpusPerWorker = None,
    optuna: options.Optuna = None,
    retries: options.Retries = options.RETRIES,
    skip_unfit: options.SkipUnfit = False,
    quick: options.Quick = False,
    no_exploit: options.NoExploit = False,
    no_recommend: options.NoRecommend = False,
    no_flatness: options.NoFlatness = False,
    known: options.Known = None,
    report: ReportDir = Path("reports"),
    no_report: Annotated[bool, typer.Option("--no-report", help="Write no report.")] = False,
    checkpoints: options.Checkpoints = options.CHECKPOINTS,
    restate: options.Restate = False,
    quiet: options.Quiet = False,
) -> None:
    """Tune, compare with SGD and write the report. Run the same command again to continue or extend the study."""
    shared = (
        workers >= 1 if workers is not None else cores() > 1 and not quick and long(file, looks, trials, budget, method)
    )
    if shared and engine == "local" and devices in (None, "cpu"):
        prepare()

    from relaxbench.cli.progress import Display, interruptible
    from relaxbench.store.database import open_database
    from relaxbench.store.soundness import check_stored
    from relaxbench.study.definition.borrowed import Borrowed, borrow
    from relaxbench.study.definition.opening import open_study
    from relaxbench.study.definition.paths import parse_path, refuse_problems
    from relaxbench.study.definition.unsearched import unsearched
    from relaxbench.study.execution.options import RunOptions, parse_device
    from relaxbench.study.execution.run import StudyRun
    from relaxbench.training.devices import torch_device

    given = Overrides(name, looks, more_blocks, trials, budget, method, problem, seed)
    given = given.without(no_exploit, no_recommend, no_flatness)
    spec, source = read_spec(file, given)
    if quick:
        spec = quicken(spec, given)
    checks.check_counts(population, retries)
    wish = parse_path(path)
    checks.check_folder("--checkpoints", checkpoints)
    if not no_report:
        checks.check_folder("--report", report)
    checks.check_optuna(optuna)
    local_only = {
        "--device": None if device == "auto" else device,
        "--devices": devices,
        "--per-device": per_device,
    }
    destination = destination_of(spec)
    cluster = requested_cluster(engine, address, workers, gpus_per_worker, cpus_per_worker, local_only)
    local = None
    if cluster is not None:  # with a GPU cluster, this machine needs no GPU
        place = parse_device("cpu" if cluster.device == "cpu" else "auto")
    elif (workers, devices, per_device) != (None, None, None):
        local = LocalWorkers.parse(device, workers, devices, per_device)
        place = local.place
    else:
        place = parse_device(device)
    checks.use_data(data_dir, download)
    if optuna:
        from relaxbench.study.coordination.optuna_proxy import reach

        reach(optuna)  # before a database is created
    spec, problems, unfit = prepare_spec(spec, file, given, download, skip_unfit)
    borrowed = Borrowed(spec) if known is None else borrow(spec, problems, known, storage)
    spec = borrowed.spec
    refuse_problems(spec, problems, place or torch_device("auto"), wish)
    session = RunOptions(place, population, checkpoints, retries, optuna)
    with Tracking(destination, storage, say, quiet) as tracking:
        with connected_cluster(cluster, storage) as notes:
            database = open_database(storage)
            check_stored(database, spec.name)
            with interruptible() as stopping, Display(console, spec, quiet=quiet) as display:
                reporting = replace(session, observe=display.update, stopping=stopping, announce=display.say)
                run = StudyRun(database, reporting)
                labels = [text for text in (QUICK_LABEL, UNPRUNED) if quick and text in spec.description]
                told = [*labels, *unfit, *unsearched(spec, problems), *lender_notes(borrowed.lenders), *notes]
                for note in told:
                    display.say(note)
                opened = open_study(database, spec, source, problems, place, restate, wish, borrowed.lenders)
                tracking.start(spec.name)
                if cluster is not None:
                    summary = distribute(run, opened, cluster, storage, display)
                elif local is not None:
                    summary = supervise(run, opened, local, storage, display)
                else:
                    summary = work_on_this_machine(run, opened, storage, display)
        finish(summary, spec.name, storage, quiet)
        tracking.page = conclude(storage, spec.name, None if no_report else report)
