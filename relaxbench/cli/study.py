"""`study`: tune, compare and report."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from relaxbench.cli import options
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
from relaxbench.cli.session import Session
from relaxbench.cli.spec import Overrides, quicken, read_spec
from relaxbench.util.cores import cores

if TYPE_CHECKING:
    from relaxbench.study.execution.run import Summary


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

    from relaxbench.study.definition.files import find

    given = Overrides(name, looks, more_blocks, trials, budget, method, problem, seed)
    given = given.without(no_exploit, no_recommend, no_flatness)
    spec, source = read_spec(file, given)
    if quick:
        spec = quicken(spec, given)
    session = Session(
        storage=storage,
        population=population,
        path=path,
        device=device,
        data_dir=data_dir,
        download=download,
        workers=workers,
        devices=devices,
        per_device=per_device,
        engine=engine,
        address=address,
        gpus_per_worker=gpus_per_worker,
        cpus_per_worker=cpus_per_worker,
        optuna=optuna,
        retries=retries,
        skip_unfit=skip_unfit,
        known=known,
        report=None if no_report else report,
        checkpoints=checkpoints,
        restate=restate,
        quiet=quiet,
    )

    def end(summary: Summary, name: str) -> Path | None:
        finish(summary, name, storage, quiet)
        return conclude(storage, name, session.report)

    session.run(spec, source, str(find(file)), given.names, end)
