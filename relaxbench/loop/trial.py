"""What a training script sees of its trial: hyperparameters, seed and budget; and where it bills, reports and tests."""

from __future__ import annotations

import atexit
import math
import os
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, NoReturn, SupportsFloat

from relaxbench.loop.job import Job

ALIVE_SECONDS = 1.0
"""Shortest time between two signs of life."""


class TrialOver(SystemExit):
    """Ends a script whose trial is over; an ``except Exception`` does not catch it."""


class Trial:
    """One run of a training script.

    Made by `relaxbench.trial`, which also seeds the global generators of Python, NumPy and PyTorch with `seed`.

    Attributes:
        method: label of the method, such as ``"adam"``.
        params: its hyperparameters by name, searched and fixed.
        seed: for all that the script draws itself; a whole number from 0 to 2³² − 1.
        budget: gradients that the run may take.
        purpose: ``"plain"`` outside a study, ``"try-out"`` before it; within it ``"explore"``, ``"exploit"``,
            ``"confirm"`` or ``"recommend"``.
        device: where the study works, such as ``"cpu"`` or ``"cuda:1"``.
        billed: gradients so far.
    """

    def __init__(
        self, job: Job, tell: Callable[[dict[str, Any]], None], hear: Callable[[], bool] = lambda: False
    ) -> None:
        self._job, self._tell, self._hear = job, tell, hear
        self.method, self.params, self.seed = job.method, dict(job.params), job.seed
        self.budget, self.purpose, self.device = job.budget, job.purpose, job.device
        self.billed = 0.0
        self._reported = -1.0  # gradients at the last report
        self._curve: list[dict[str, float]] = []
        self._tested = self._pruned = False
        self._said = self._last = time.monotonic()
        self._paused = 0.0  # seconds of evaluation
        self._asked: float | None = None  # when evaluation began
        self._first: tuple[float, float] | None = None  # gradients and seconds at the end of the first step

    def __repr__(self) -> str:
        """Return in one line whose trial it is, and how far."""
        return f"<trial of {self.method!r} ({self.purpose}): {self.billed:g} of {self.budget:g} gradients>"

    @property
    def left(self) -> float:
        """Gradients that are left of the budget; 0 when it is spent."""
        return max(0.0, self.budget - self.billed)

    @cached_property
    def checkpoint_path(self) -> Path:
        """A file that the script may write and, after an interruption, finds again; it need not use it.

        Save `state_dict` in it too. The file is deleted when the trial is done. Outside a study it lies in a folder
        that ends with the process, so that a script alone always begins anew.
        """
        return Path(self._job.checkpoint) if self._job.checkpoint else _temporary_folder() / "checkpoint.pt"

    def bill(self, gradients: float = 1) -> bool:
        """Bill gradients that a step has taken: one for every backward pass over a mini-batch.

        Args:
            gradients: their number; a fraction for a backward pass over a part of a mini-batch.

        Returns:
            whether budget is left: the loop ends when there is none.

        Raises:
            ValueError: if that is no positive number.
            RuntimeError: after `test`, for a pruned trial, or if the script goes on far beyond its budget.
        """
        count = _number(gradients, "bill(gradients=…)")
        if not (count > 0 and math.isfinite(count)):
            raise ValueError(f"trial.bill(gradients={count:g}): expected a positive number")
        self._refuse_after_test("bill")
        self._refuse_pruned("bill")
        if self.billed > self._job.limit:
            raise RuntimeError(
                f"the budget of {self.budget:g} gradients was spent long ago ({self.billed:g} are billed): end the "
                "loop when trial.bill() returns False"
            )
        self.billed += count
        self._resume()
        now = time.monotonic()
        if self._first is None:
            self._first = (self.billed, now - self._paused)
        if now - self._said > ALIVE_SECONDS:
            self._said = now
            self._tell({"kind": "alive"})
        return self.left > 0

    def due(self) -> bool:
        """Whether it is time to report: at evenly spaced points of the budget, and when it is spent."""
        step = self.budget / self._job.reports
        due = math.floor(self.billed / step) > math.floor(max(0.0, self._reported) / step) or (
            self.left == 0 and self._reported < self.billed
        )
        if due and self._asked is None:
            self._asked = time.monotonic()  # what follows is evaluation, not training
        return due

    def report(
        self, validation: SupportsFloat, *, training: SupportsFloat = math.nan, loss: SupportsFloat | None = None
    ) -> None:
        """Report the metric on validation data. The last report of a run counts; the others draw its curve.

        A value that is NaN or infinite ends the script: its trial has diverged.

        Args:
            validation: the metric that the study file names.
            training: the training loss, for the curve.
            loss: the validation loss, if trials are chosen by it rather than by the metric; smaller is better.

        Raises:
            TypeError: if one is no number.
            RuntimeError: after `test`, or for a pruned trial.
        """
        values = {"validation": _number(validation, "report(validation=…)")}
        values["training"] = _number(training, "report(training=…)")
        if loss is not None:
            values["loss"] = _number(loss, "report(loss=…)")
        self._refuse_after_test("report")
        self._refuse_pruned("report")
        self._reported = self.billed
        self._curve.append({"gradients": self.billed, **values})
        self._tell({"kind": "report", "gradients": self.billed, **values})
        if not all(math.isfinite(values.get(name, 0.0)) for name in ("validation", "loss")):
            self.diverged()
        self._resume()

    def should_prune(self) -> bool:
        """Whether the study's pruner stops this trial. Ask after every report, and end the script if it does.

        A trial that is stopped is billed what it has taken, and cannot win. Nothing is stopped outside a study, in one
        without a pruner, or after the budget is spent.

        Raises:
            RuntimeError: after `test`.
        """
        self._refuse_after_test("should_prune")
        if not self._pruned:
            waits = self._job.judged and self.left > 0 and bool(self._curve)
            self._asked = time.monotonic()  # the answer takes time that is not the training's
            self._tell({"kind": "ask", "waits": waits})
            self._pruned = waits and self._hear()
            self._resume()
        return self._pruned

    def diverged(self) -> NoReturn:
        """End the script: its parameters or losses are no longer finite. The trial counts as the worst one."""
        self._tell({"kind": "diverged", "gradients": self.billed})
        raise TrialOver(0)

    def test(self, measure: Callable[[], SupportsFloat]) -> float | None:
        """Measure the metric on test data, if the study reads them for this run. Call it last, and once.

        Args:
            measure: returns the metric of the trained model on the test data, without training.

        Returns:
            the metric, or None where the study does not read it.

        Raises:
            TypeError: if that is no function.
            RuntimeError: if it is called twice.
        """
        if not callable(measure):
            raise TypeError(
                f"trial.test(…): expected a function, got {type(measure).__name__}: call trial.test(lambda: …), which "
                "reads the test data only where the study does"
            )
        self._refuse_after_test("test")
        self._tested = True
        if not self._job.tested or self._pruned:
            self._tell({"kind": "test"})
            return None
        value = _number(measure(), "test(…)")
        self._tell({"kind": "test", "value": value})
        return value

    def state_dict(self) -> dict[str, Any]:
        """Return what this trial has billed and reported, for a checkpoint of the script's own."""
        return {"billed": self.billed, "reported": self._reported, "curve": [dict(point) for point in self._curve]}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on with what was billed and reported when `state_dict` was called."""
        self.billed, self._reported = float(state["billed"]), float(state["reported"])
        self._curve = [dict(point) for point in state["curve"]]
        self._first = None
        self._tell({"kind": "restored", "curve": self._curve})

    def seconds(self) -> tuple[float, float]:
        """Return the seconds of the steps after the first one, without evaluation, and their gradients."""
        if self._first is None:
            return 0.0, 0.0
        gradients, since = self._first
        return self._last - self._paused - since, self.billed - gradients

    def _resume(self) -> None:
        """Note that training goes on."""
        self._last = time.monotonic()
        if self._asked is not None:
            self._paused += self._last - self._asked
            self._asked = None

    def _refuse_after_test(self, what: str) -> None:
        if self._tested:
            raise RuntimeError(f"trial.{what}() comes after trial.test(), which ends a run: test last, and once")

    def _refuse_pruned(self, what: str) -> None:
        if self._pruned:
            raise RuntimeError(f"trial.{what}() comes after trial.should_prune() was true: end the script there")


def seed_all(seed: int) -> None:
    """Seed the global generators of Python and, where they are imported, of NumPy and PyTorch."""
    random.seed(seed)
    numpy, torch = sys.modules.get("numpy"), sys.modules.get("torch")
    if numpy is not None:
        numpy.random.seed(seed)
    if torch is not None:
        torch.manual_seed(seed)


def _temporary_folder() -> Path:
    """Return a new folder that is removed when this process ends; not when one that it has forked does."""
    folder, owner = tempfile.mkdtemp(prefix="relaxbench-"), os.getpid()
    atexit.register(lambda: shutil.rmtree(folder, ignore_errors=True) if os.getpid() == owner else None)
    return Path(folder)


def _number(value: object, what: str) -> float:
    """Return a number of Python, NumPy, PyTorch or JAX as a float."""
    try:
        if isinstance(value, bool | str):
            raise TypeError
        return float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, RuntimeError):
        shape = tuple(getattr(value, "shape", ()))
        shown = f" of shape {shape}" if shape else ""
        raise TypeError(f"trial.{what}: expected a number, got {type(value).__name__}{shown}") from None
