"""A session of work on a study, begun by the command `study` or by `relaxbench.run_study`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from relaxbench import given
from relaxbench.cli import checks
from relaxbench.cli.console import console, say
from relaxbench.cli.options import CHECKPOINTS, RETRIES, STORAGE
from relaxbench.cli.ray import connected_cluster, distribute, requested_cluster
from relaxbench.cli.spec import QUICK_LABEL, UNPRUNED, lender_notes, prepare_spec
from relaxbench.cli.supervise import LocalWorkers, supervise, work_on_this_machine
from relaxbench.cli.tracking import Tracking, destination_of
from relaxbench.errors import UserError

if TYPE_CHECKING:
    from relaxbench.study.coordination.ray_cluster import Cluster
    from relaxbench.study.definition.spec import StudySpec
    from relaxbench.study.execution.run import Summary

    End = Callable[[Summary, str], Path | None]


@dataclass(frozen=True, kw_only=True)
class Session:
    """How a session works, in the terms of the options of `study`, which say what each means.

    Attributes:
        report: folder of the report; None writes none.
    """

    storage: str = STORAGE
    population: int | None = None
    path: str = "auto"
    device: str = "auto"
    data_dir: Path | None = None
    download: bool = False
    workers: int | None = None
    devices: str | None = None
    per_device: int | None = None
    engine: str = "local"
    address: str | None = None
    gpus_per_worker: float | None = None
    cpus_per_worker: int | None = None
    optuna: str | None = None
    retries: int = RETRIES
    skip_unfit: bool = False
    known: str | None = None
    report: Path | None = None
    checkpoints: Path = CHECKPOINTS
    restate: bool = False
    quiet: bool = False

    def run(self, spec: StudySpec, source: str, where: str, names: Mapping[str, str], end: End) -> None:
        """Run all that is missing of a study.

        Args:
            spec: the study.
            source: the text of its file.
            where: the file, for error messages.
            names: how messages name keys whose values have another origin.
            end: receives what the session did and the study's name; returns the report's page, or None without one.

        Raises:
            UserError: naming what is wrong.
        """
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

        checks.check_counts(self.population, self.retries)
        wish = parse_path(self.path)
        checks.check_folder("--checkpoints", self.checkpoints)
        if self.report is not None:
            checks.check_folder("--report", self.report)
        checks.check_optuna(self.optuna)
        destination, cluster, local = destination_of(spec), self._cluster(), None
        if cluster is not None and (own := given.names()):
            raise UserError(
                f"--engine ray: its workers do not see {own[0]!r}, an object of this program: define it in a Python "
                "file, and name the file"
            )
        if cluster is not None:  # with a GPU cluster, this machine needs no GPU
            place = parse_device("cpu" if cluster.device == "cpu" else "auto")
        elif (self.workers, self.devices, self.per_device) != (None, None, None):
            local = LocalWorkers.parse(self.device, self.workers, self.devices, self.per_device)
            given.packed()  # refused before anything is written
            place = local.place
        else:
            place = parse_device(self.device)
        checks.use_data(self.data_dir, self.download)
        if self.optuna:
            from relaxbench.study.coordination.optuna_proxy import reach

            reach(self.optuna)  # before a database is created
        spec, problems, unfit = prepare_spec(spec, where, names, self.download, self.skip_unfit)
        borrowed = Borrowed(spec) if self.known is None else borrow(spec, problems, self.known, self.storage)
        spec = borrowed.spec
        refuse_problems(spec, problems, place or torch_device("auto"), wish)
        options = RunOptions(place, self.population, self.checkpoints, self.retries, self.optuna)
        with Tracking(destination, self.storage, say, self.quiet) as tracking:
            with connected_cluster(cluster, self.storage) as notes, ExitStack() as opened_here:
                database = open_database(self.storage)
                opened_here.callback(database.dispose)
                check_stored(database, spec.name)
                with interruptible() as stopping, Display(console, spec, quiet=self.quiet) as display:
                    reporting = replace(options, observe=display.update, stopping=stopping, announce=display.say)
                    run = StudyRun(database, reporting)
                    quick = QUICK_LABEL in spec.description
                    labels = [text for text in (QUICK_LABEL, UNPRUNED) if quick and text in spec.description]
                    told = [*labels, *unfit, *unsearched(spec, problems), *lender_notes(borrowed.lenders), *notes]
                    for note in told:
                        display.say(note)
                    opened = open_study(database, spec, source, problems, place, self.restate, wish, borrowed.lenders)
                    tracking.start(spec.name)
                    if cluster is not None:
                        summary = distribute(run, opened, cluster, self.storage, display)
                    elif local is not None:
                        summary = supervise(run, opened, local, self.storage, display)
                    else:
                        summary = work_on_this_machine(run, opened, self.storage, display)
            tracking.page = end(summary, spec.name)

    def _cluster(self) -> Cluster | None:
        """The requested Ray cluster; None if the work stays on this machine."""
        local_only = {
            "--device": None if self.device == "auto" else self.device,
            "--devices": self.devices,
            "--per-device": self.per_device,
        }
        wished = (self.engine, self.address, self.workers, self.gpus_per_worker, self.cpus_per_worker)
        return requested_cluster(*wished, local_only)
