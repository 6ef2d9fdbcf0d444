"""A study from beginning to end in this process. Stopped anywhere, it goes on from there; others may join."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import cast

import torch
from sqlalchemy import Engine as Database
from sqlalchemy import delete

from relaxbench.problems import Problem
from relaxbench.store.claims import RETRIES, Claims
from relaxbench.store.facts import MachineFacts, Manifest
from relaxbench.store.schema import Weights
from relaxbench.store.transactions import write
from relaxbench.store.winners import best_so_far
from relaxbench.store.workers import arrive
from relaxbench.study.coordination import optuna_proxy
from relaxbench.study.coordination.checkpoints import Checkpoints
from relaxbench.study.coordination.manifest import read_manifest
from relaxbench.study.coordination.optuna_mirror import behind
from relaxbench.study.coordination.plan import Plan, plans
from relaxbench.study.coordination.progress import Progress, tally
from relaxbench.study.coordination.session import Session, heartbeat
from relaxbench.study.coordination.supervisor import INCOMPLETE, INTERRUPTED
from relaxbench.study.definition import opening
from relaxbench.study.definition.prepare import prepare
from relaxbench.study.definition.spec import StudySpec
from relaxbench.study.execution.calibration import Settlement
from relaxbench.study.execution.flatness import FlatnessMeter
from relaxbench.study.execution.trainer import Trainer
from relaxbench.training.devices import machine, torch_device
from relaxbench.util.text import counted

OBSERVE_SECONDS = 0.5
"""Between two looks at the database for the sake of people."""


@dataclass
class Summary:
    """What a session did.

    Attributes:
        study: id.
        new: the study did not exist before.
        ran: trials finished in this session.
        total: trials that the study has when it is complete.
        missing: trials that are not done.
        failed: trials that have been given up; others may wait for them.
        stopped: somebody asked for an end.
        seconds: of the session.
    """

    study: int
    new: bool
    ran: int
    total: int
    missing: int
    failed: int
    stopped: bool
    seconds: float

    @property
    def code(self) -> int:
        """The exit code of a command that did this."""
        return 0 if not self.missing else INCOMPLETE if self.failed and not self.stopped else INTERRUPTED


@dataclass
class Opened:
    """A study in the database, its trials planned.

    Attributes:
        study: id.
        new: it did not exist before.
        spec: what is asked, all that is stored included.
        problems: the problems.
        plans: the trials of each method on each problem.
    """

    study: int
    new: bool
    spec: StudySpec
    problems: list[Problem]
    plans: list[Plan]


def open_run(database: Database, spec: StudySpec, source: str, problems: list[Problem], device: str = "auto") -> Opened:
    """Make a study, continue or extend it.

    Args:
        database: from `store.database.open_database`.
        spec: what is asked.
        source: the text of the study file.
        problems: from `prepare`.
        device: as for `StudyRun`.

    Raises:
        UserError: if the study is there and differs in something that cannot change.
    """
    study, spec, new = opening.open_study(database, spec, source, problems, device)
    planned = plans(database, study, [p.name for p in problems], spec.methods)
    for plan in planned:
        plan.begin()
    return Opened(study, new, spec, problems, planned)


@dataclass
class StudyRun:
    """One session of work on a study.

    Args:
        database: from `store.database.open_database`.
        spec: what is asked.
        source: the text of the study file.
        device: ``"auto"``, ``"cpu"``, ``"cuda:0"``, …
        population: K, or None for the fastest.
        checkpoints: folder for unfinished trials, the same for all workers.
        retries: how often a trial is tried again when its worker fails or dies.
        observe: called with the progress of all methods, now and then.
        stopping: asked at the end of every round; True ends the session.
        announce: receives lines for people: what is done, and by which engine.
        problems: from `prepare`, which is called otherwise.
        optuna: ``HOST:PORT`` of Optuna's gRPC storage proxy, or None where Optuna's tables are reached directly.
    """

    database: Database
    spec: StudySpec
    source: str
    device: str = "auto"
    population: int | None = None
    checkpoints: Path = Path("checkpoints")
    retries: int = RETRIES
    observe: Callable[[list[Progress]], None] = lambda progress: None
    stopping: Callable[[], bool] = lambda: False
    announce: Callable[[str], None] = lambda line: None
    problems: list[Problem] | None = None
    optuna: str | None = None
    _observed: float = field(default=0.0, repr=False)

    def run(self) -> Summary:
        """Open the study and do everything that is not done yet."""
        problems = self.problems or prepare(self.spec, self.device)
        return self.work(open_run(self.database, self.spec, self.source, problems, self.device))

    def work(self, opened: Opened) -> Summary:
        """Do everything that is not done yet in a study that is open."""
        start, self.spec = time.monotonic(), opened.spec
        tried = f"{counted(len(self.spec.methods), 'method')} on {', '.join(p.name for p in opened.problems)}"
        blocks = counted(self.spec.blocks * self.spec.repetitions, "block")
        self.announce(f"Study {self.spec.name}: {tried}; {blocks} of {counted(self.spec.trials, 'trial')}.")
        claims = Claims(self.database, opened.study, retries=self.retries)
        claims.reap()
        missing, ran = any(p.done < p.total for p in tally(opened.plans)), 0
        if missing or behind(opened.plans):
            ran = self._session(opened, claims, missing)
        return self.conclude(opened, ran, time.monotonic() - start)

    def conclude(self, opened: Opened, ran: int, seconds: float) -> Summary:
        """Look at what there is at the end of a session, and throw away what a complete study does not need."""
        progress = tally(opened.plans)
        self.observe(progress)
        _keep_best_weights(opened.plans, progress)
        total, done, failed = (sum(getattr(p, name) for p in progress) for name in ("total", "done", "failed"))
        if done == total:
            Checkpoints(self.checkpoints, read_manifest(self.database, opened.study)["key"]).clear()
        return Summary(opened.study, opened.new, ran, total, total - done, failed, self.stopping(), seconds)

    def _session(self, opened: Opened, claims: Claims, missing: bool) -> int:
        """Work until nothing is left; returns how many trials were finished here."""
        manifest = read_manifest(self.database, opened.study)
        opening.refuse_version(manifest, self.spec.name)
        if self.optuna:
            optuna_proxy.reach(self.optuna)
        place = torch_device(manifest.get("device", "auto") if self.device == "auto" else self.device)
        problems = {problem.name: problem for problem in opened.problems}
        presence = arrive(self.database, opened.study, claims.worker, str(place), cast(MachineFacts, machine()))
        threads = torch.get_num_threads()
        try:
            if missing:
                tell = partial(self._calibrating, opened.plans)
                who = (place, claims.worker, presence)
                settlement = Settlement(self.spec, opened.plans, problems, *who, self.stopping, tell)
                with heartbeat(claims, presence):
                    manifest = settlement.settle(self.population)
                self._say(manifest)
            checkpoints, meter = Checkpoints(self.checkpoints, manifest["key"]), FlatnessMeter(self.announce)
            trainer = Trainer(self.spec, problems, place, checkpoints, meter, self.announce)
            look = partial(self._look, opened.plans)
            Session(claims, opened.plans, presence, trainer.train, self.stopping, look, self.optuna).work()
        finally:
            torch.set_num_threads(threads)
            presence.leave()
        return presence.finished

    def _say(self, manifest: Manifest) -> None:
        for name, engine in manifest.get("engines", {}).items():
            why = f" ({engine['note']})" if engine["note"] else ""
            where = f"{engine['precision']} on {engine['device']}"
            self.announce(f"{name}: {engine['path']} path, K = {engine['population']}, {where}{why}")

    def _look(self, planned: list[Plan]) -> None:
        """Tell how far the study is, not more often than a person can see, and never at the price of the work."""
        if time.monotonic() >= self._observed:
            begin = time.monotonic()
            self.observe(tally(planned))
            self._observed = time.monotonic() + max(OBSERVE_SECONDS, 20 * (time.monotonic() - begin))

    def _calibrating(self, planned: list[Plan], plan: Plan) -> None:
        progress = tally(planned)
        progress[planned.index(plan)].running = {"calibrate": 1}
        self.observe(progress)


def _keep_best_weights(planned: list[Plan], progress: list[Progress]) -> None:
    """Of the recommended runs of a method that is complete, keep the weights of the one with the smallest loss."""
    for plan, state in zip(planned, progress, strict=True):
        best = plan.winner_of_complete_search() if state.done == state.total else None
        runs = plan.finished("recommend") if best is not None else []
        kept = best_so_far(run for run in runs if best is not None and run.parent == best.id)
        if kept is not None:
            others = delete(Weights).where(Weights.trial_id.in_([run.id for run in runs if run.id != kept.id]))
            write(plan.database, lambda connection, others=others: connection.execute(others))  # type: ignore[misc]
