"""Run a study in this process, from its beginning to its end.

A session can be stopped anywhere and continued from there. Other processes may join the study at any time.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import cast

import torch
from sqlalchemy import Engine as Database
from sqlalchemy import delete

from relaxbench.problems.measurements import say_expensive
from relaxbench.store.claims import Claims
from relaxbench.store.engines import describe_engine
from relaxbench.store.facts import MachineFacts, Manifest
from relaxbench.store.schema import Weights
from relaxbench.store.transactions import write
from relaxbench.store.winners import best_so_far
from relaxbench.store.workers import Presence, arrive
from relaxbench.study.coordination import optuna_proxy
from relaxbench.study.coordination.checkpoints import Checkpoints
from relaxbench.study.coordination.manifest import read_manifest
from relaxbench.study.coordination.optuna_mirror import behind
from relaxbench.study.coordination.plan import Plan
from relaxbench.study.coordination.progress import Progress, current_look, tally
from relaxbench.study.coordination.session import Session, Shift, heartbeat
from relaxbench.study.coordination.supervisor import INCOMPLETE, INTERRUPTED
from relaxbench.study.definition.flatness_share import say_left_out
from relaxbench.study.definition.opening import OpenStudy, refuse_version
from relaxbench.study.execution.calibration import Calibration
from relaxbench.study.execution.flatness import FlatnessMeter
from relaxbench.study.execution.options import RunOptions
from relaxbench.study.execution.script_trainer import ScriptTrainer
from relaxbench.study.execution.trainer import Trainer
from relaxbench.training.devices import machine, torch_device
from relaxbench.util.pause import rest
from relaxbench.util.text import counted, listed

SHARE, OBSERVE_SECONDS, REST_SECONDS = 50, 0.5, 30.0
"""Of pauses between two reports of the progress, see `rest`."""


@dataclass(frozen=True)
class Summary:
    """The result of a session.

    Attributes:
        study: id.
        new: whether the session created the study.
        ran: trials finished in this session.
        total: trials of the complete study.
        missing: trials that are not done.
        failed: trials that have been given up; others may wait for them.
        stopped: whether an end was requested.
        seconds: duration of the session.
        look: the look up to which `total` counts, in words; empty if there is only one, or all is done.
    """

    study: int
    new: bool
    ran: int
    total: int
    missing: int
    failed: int
    stopped: bool
    seconds: float
    look: str = ""

    @property
    def code(self) -> int:
        """The exit code of a command that ran this session."""
        return 0 if not self.missing else INCOMPLETE if self.failed and not self.stopped else INTERRUPTED


@dataclass(frozen=True)
class StudyRun:
    """One session of work on a study.

    Args:
        database: from `store.database.open_database`.
        options: of the session.
    """

    database: Database
    options: RunOptions = field(default_factory=RunOptions)

    def work(self, opened: OpenStudy) -> Summary:
        """Run all trials that are not done yet."""
        start, spec = time.monotonic(), opened.spec
        methods = f"{counted(len(spec.methods), 'method')} on {', '.join(p.name for p in opened.problems)}"
        looks = f"{'look' if len(spec.looks) == 1 else 'looks'} at {listed(spec.looks)} blocks"
        looks += f" of {counted(spec.trials, 'trial')}"
        if spec.more_blocks:
            looks += f", and {spec.more_blocks} blocks beyond the last look"
        again = f", {spec.repetitions:,} times" if spec.repetitions > 1 else ""
        self.options.announce(f"Study {spec.name}: {methods}; {looks}{again}.")
        for note in opened.notes:
            self.options.announce(note)
        flat = read_manifest(self.database, opened.id).get("flatness", {}) if spec.flatness else {}
        for problem in opened.problems:
            for line in (say_expensive(problem.name, problem.measurements), say_left_out(problem.name, flat)):
                if line:
                    self.options.announce(line)
        claims = Claims(self.database, opened.id, retries=self.options.retries)
        claims.reap()
        missing, ran = any(p.done < p.total for p in tally(opened.plans)), 0
        if missing or behind(opened.plans):
            ran = self._session(opened, claims, missing)
        return self.conclude(opened, ran, time.monotonic() - start)

    def conclude(self, opened: OpenStudy, ran: int, seconds: float) -> Summary:
        """Summarize a session, and delete the checkpoints and weights that a complete study does not need.

        Args:
            opened: the study.
            ran: trials finished in the session.
            seconds: its duration.
        """
        progress = tally(opened.plans)
        self.options.observe(progress)
        _keep_best_weights(opened.plans, progress)
        total, done, failed = (sum(getattr(p, name) for p in progress) for name in ("total", "done", "failed"))
        if done == total:
            Checkpoints(self.options.checkpoints, read_manifest(self.database, opened.id)["key"]).clear()
        counts = (opened.id, opened.new, ran, total, total - done, failed)
        return Summary(*counts, self.options.stopping(), seconds, current_look(progress))

    def _session(self, opened: OpenStudy, claims: Claims, missing: bool) -> int:
        """Work until nothing is left; returns how many trials were finished here."""
        options, manifest = self.options, read_manifest(self.database, opened.id)
        refuse_version(manifest, opened.spec.name)
        if options.optuna:
            optuna_proxy.reach(options.optuna)
        device = options.device or torch_device(manifest.get("device", "auto"))
        facts = cast(MachineFacts, machine())
        presence = arrive(self.database, opened.id, claims.worker, str(device), facts)
        observer = _Observer(options, opened.plans)
        threads = torch.get_num_threads()
        torch.set_num_threads(options.threads or threads)
        calibration = Calibration(
            opened, device, claims.worker, presence, options.stopping, observer.preparing, options.announce
        )
        try:
            if missing:
                with heartbeat(claims, presence):
                    manifest = calibration.prepare(options.population)
                _announce_engines(options, manifest)
            checkpoints = Checkpoints(options.checkpoints, manifest["key"])
            shown = partial(_compiling, presence, observer)
            with _trainer(opened, device, checkpoints, options.announce, shown) as train:
                hooks = (train, options.stopping, observer.look)
                Session(claims, opened.plans, presence, *hooks, options.optuna, calibration.measure).work()
            if missing:
                with heartbeat(claims, presence):
                    calibration.measure(wait=True)
        finally:
            torch.set_num_threads(threads)
            presence.leave()
        return presence.finished


@contextmanager
def _trainer(
    opened: OpenStudy,
    device: torch.device,
    checkpoints: Checkpoints,
    announce: Callable[[str], None],
    compiling: Callable[[Plan], AbstractContextManager[None]],
) -> Iterator[Callable[[Shift], None]]:
    """Make what runs the trials of a shift: a population, or the user's own script."""
    if opened.spec.script is None:
        yield Trainer(opened, device, checkpoints, FlatnessMeter(announce), announce, compiling).train
        return
    scripts = ScriptTrainer(opened, str(device), checkpoints, announce)
    try:
        yield scripts.train
    finally:
        scripts.close()


@dataclass
class _Observer:
    """Reports the progress of a session."""

    options: RunOptions
    plans: Sequence[Plan]
    due: float = 0.0

    def look(self) -> None:
        """Report the progress, unless it is too soon."""
        if time.monotonic() >= self.due:
            begin = time.monotonic()
            self.options.observe(tally(self.plans))
            now = time.monotonic()
            self.due = now + rest(now - begin, SHARE, OBSERVE_SECONDS, REST_SECONDS)

    def preparing(self, plan: Plan, phase: str) -> None:
        """Report that the step of a method is being compiled, or its cost measured."""
        progress = tally(self.plans)
        progress[self.plans.index(plan)].running = {phase: 1}
        self.options.observe(progress)


@contextmanager
def _compiling(presence: Presence, observer: _Observer, plan: Plan) -> Iterator[None]:
    """Show here and to others that the step of a plan is compiled, for tens of seconds without a trial."""
    before, presence.doing = presence.doing, f"compiling {plan.method} on {plan.problem}"
    presence.seen()
    observer.preparing(plan, "compile")
    yield
    presence.doing = before
    presence.seen()


def _announce_engines(options: RunOptions, manifest: Manifest) -> None:
    for name, engine in manifest.get("engines", {}).items():
        for line in describe_engine(name, engine):
            options.announce(line)


def _keep_best_weights(planned: list[Plan], progress: list[Progress]) -> None:
    """Delete the weights of a complete method's recommended runs, except those of the run with the smallest loss."""
    for plan, state in zip(planned, progress, strict=True):
        best = plan.winner_of_complete_search() if state.done == state.total else None
        runs = plan.finished("recommend") if best is not None else []
        kept = best_so_far(run for run in runs if best is not None and run.parent == best.id)
        if kept is not None:
            others = delete(Weights).where(Weights.trial_id.in_([run.id for run in runs if run.id != kept.id]))
            write(plan.database, lambda connection, others=others: connection.execute(others))  # type: ignore[misc]
