"""Run claimed trials of a training script, one at a time, in processes of their own, and store their results."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from relaxbench.loop.runs import Host, Told
from relaxbench.store.claims import Result
from relaxbench.store.schema import TESTED, Trial
from relaxbench.study.coordination.checkpoints import Checkpoints
from relaxbench.study.coordination.judge import Judge
from relaxbench.study.coordination.manifest import read_manifest
from relaxbench.study.coordination.session import Shift
from relaxbench.study.definition.opening import OpenStudy
from relaxbench.study.definition.script_problem import LoopProblem
from relaxbench.study.definition.script_tryout import why_unfit

EXCESS = 1.01
"""Budgets that a run may bill before that is said."""


@dataclass
class ScriptTrainer:
    """Runs the trials of a shift.

    Args:
        study: that the trials belong to.
        device: name of the device that scripts are told.
        checkpoints: names the files that scripts may write.
        announce: receives lines for people.
    """

    study: OpenStudy
    device: str
    checkpoints: Checkpoints
    announce: Callable[[str], None]
    _hosts: dict[int, Host] = field(default_factory=dict, repr=False)  # by threads
    _said: set[tuple[str, str]] = field(default_factory=set, repr=False)

    def train(self, shift: Shift) -> None:
        """Run trials until the shift has no more, or is stopped."""
        plan = shift.plan
        (own,) = (problem for problem in self.study.problems if problem.name == plan.problem)
        assert isinstance(own, LoopProblem)
        host = self._host(own, read_manifest(plan.database, plan.study)["engines"][own.name]["threads"])
        lost: set[int] = set()

        def go_on() -> bool:
            lost.update(shift.lost())
            return shift.go_on() and not lost

        while trials := shift.feed(1):
            (trial,) = trials
            own.refuse_edits()
            file = self._checkpoint(trial, own)
            judge = plan.judge(trial)
            job = replace(self._job(trial, own, file), judged=judge is not None)
            told = host.run(job, go_on, _pruning(judge, own))
            if told.stopped:
                if trial.id not in lost:
                    return  # the session gives the trial back
                lost.clear()
                continue
            file.unlink(missing_ok=True)
            reason = why_unfit(told, own.script)
            if reason:
                self._fail(shift, trial, reason)
                continue
            self._say_excess(trial, told, own)
            shift.report([result_of(trial, told, own)])
            if not shift.go_on():
                return

    def close(self) -> None:
        """End the processes that run the script."""
        for host in self._hosts.values():
            host.close()
        self._hosts.clear()

    def _host(self, own: LoopProblem, threads: int) -> Host:
        if threads not in self._hosts:
            self._hosts[threads] = Host(own.path, threads, own.script.silence)
        return self._hosts[threads]

    def _job(self, trial: Trial, own: LoopProblem, file: Path) -> Any:
        job = own.job(trial.method, trial.params, trial.seed, trial.phase)
        return replace(job, tested=trial.phase in TESTED, device=self.device, checkpoint=str(file.absolute()))

    def _checkpoint(self, trial: Trial, own: LoopProblem) -> Path:
        """Return the file of a trial's own checkpoint: its name says which trial of which script wrote it."""
        keys = ("problem", "method", "phase", "block", "number", "seed", "params")
        what = json.dumps([{key: getattr(trial, key) for key in keys}, own.files], sort_keys=True)
        file = self.checkpoints.file(trial.id)
        self.checkpoints.folder.mkdir(parents=True, exist_ok=True)
        return file.with_name(f"{file.stem}-{hashlib.sha256(what.encode()).hexdigest()[:12]}{file.suffix}")

    def _fail(self, shift: Shift, trial: Trial, reason: str) -> None:
        """Give a trial back as failed, and say so once per method: it is retried, and the others go on."""
        shift.session.claims.fail(reason)
        if (trial.method, "failed") not in self._said:
            self._said.add((trial.method, "failed"))
            self.announce(
                f"trial {trial.id} of {trial.method} failed: {reason}. Others of {trial.method} that fail are not "
                "named; status shows them. If losses were not finite, call trial.diverged()."
            )

    def _say_excess(self, trial: Trial, told: Told, own: LoopProblem) -> None:
        """Say once per method that it bills more than its budget."""
        if told.billed > EXCESS * own.budget and (trial.method, "excess") not in self._said:
            self._said.add((trial.method, "excess"))
            self.announce(
                f"trial {trial.id} of {trial.method} billed {told.billed:g} gradients, more than the budget of "
                f"{own.budget:,}: end the loop when trial.bill() returns False"
            )


def result_of(trial: Trial, told: Told, own: LoopProblem) -> Result:
    """Return what is stored of a run of a script.

    Args:
        trial: as claimed.
        told: by the run, which has failed in nothing.
        own: the script.
    """
    last = told.points[-1] if told.points else {}
    validation = own.script.distance(last.get("validation", math.nan))
    chosen = last.get("loss", validation)
    diverged = told.diverged or not (math.isfinite(chosen) and math.isfinite(validation))
    metric = own.worst_metric if diverged else min(validation, own.worst_metric)
    measures: dict[str, float | None] = {
        "train_loss": _finite(last.get("training", math.nan)),
        "validation_loss": _finite(chosen),
        "validation_metric": metric,
    }
    if trial.phase in TESTED:
        tested = None if told.test is None or diverged else own.script.distance(told.test)
        measures["test_metric"] = metric if tested is None else _finite(min(tested, own.worst_metric))
        measures["test_loss"] = measures["test_metric"]
    return Result(
        trial=trial.id,
        token=trial.token,
        value=own.worst if diverged else min(chosen, own.worst),
        diverged=diverged,
        pruned=told.pruned and not diverged,
        measures=measures,
        ledger={"gradients": told.billed, "jvps": 0.0, "examples": 0, "measurement": 0.0},
        curve=_curve(told, own).tobytes(),
    )


def _pruning(judge: Judge | None, own: LoopProblem) -> Callable[[list[dict[str, float]]], bool]:
    """Return what answers a script, from all its reports so far."""
    if judge is None:
        return lambda points: False
    return lambda points: judge([_chosen(point, own) for point in points])


def _chosen(point: dict[str, float], own: LoopProblem) -> float:
    """Return what trials are chosen by, of a report."""
    return point.get("loss", own.script.distance(point["validation"]))


def _curve(told: Told, own: LoopProblem) -> np.ndarray:
    """Return float32 ``[5, points]``, see `store.schema.CURVE_COLUMNS`."""
    rows = [
        [
            point["gradients"],
            point.get("training", math.nan),
            _chosen(point, own),
            own.script.distance(point["validation"]),
            math.nan,
        ]
        for point in told.points
    ]
    return np.asarray(rows, dtype=np.float32).reshape(-1, 5).T.copy()


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
