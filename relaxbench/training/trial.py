"""A trial on its way through a population: the job, the member that runs it, the outcome."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypedDict

import numpy as np
from torch import Tensor

from relaxbench.optim.rule import State
from relaxbench.problems import Problem
from relaxbench.space import Value
from relaxbench.training.ledger import Ledger


class Checkpoint(TypedDict):
    """What an unfinished trial needs in order to continue elsewhere: tensors on the CPU and plain numbers.

    Attributes:
        state: the rows of this member in every state tensor of the rule.
        done: queries so far.
        ledger: the bill so far, see `Ledger.as_dict`.
        curve: one row per measurement, see `Outcome.curve`.
        reached: see `Member.reached`.
    """

    state: dict[str, Tensor]
    done: int
    ledger: dict[str, float]
    curve: list[list[float]]
    reached: float | None


@dataclass
class Job:
    """A trial to run.

    Attributes:
        id: the caller's identifier.
        seed: fixes initial weights, data order and all noise.
        params: a value for every hyperparameter of the rule.
        test: whether to measure the test split at the end.
        resume: a checkpoint made by `Population.checkpoints`, or None to start from the beginning. A checkpoint that
            does not fit is not used, see `Population.misfits`.
        prune: asked at the end of every round but the last, with the validation losses of all rounds so far; True ends
            the trial there. None for a trial that runs to its end.
    """

    id: int
    seed: int
    params: dict[str, Value]
    test: bool = False
    resume: Checkpoint | None = None
    prune: Callable[[Sequence[float]], bool] | None = None


Ending = Literal["complete", "diverged", "pruned"]
"""Why a trial leaves its slot."""


@dataclass
class Outcome:
    """The result of a finished trial.

    Attributes:
        job: the trial.
        value: validation loss at its end, at most the problem's worst.
        ending: complete; diverged, where a loss or a parameter was not finite; pruned, where `Job.prune` ended it.
        measures: train, validation (and test) loss and metric.
        ledger: the bill.
        curve: float32 ``[5, points]``: gradients, train loss, validation loss, validation metric, γ.
        correct: bool ``[N]``, one per test example, or None.
        weights: the deployed iterate ``[P]``.
    """

    job: Job
    value: float
    ending: Ending
    measures: dict[str, float]
    ledger: Ledger
    curve: np.ndarray
    correct: np.ndarray | None
    weights: Tensor

    @property
    def diverged(self) -> bool:
        """Whether a loss or a parameter was not finite."""
        return self.ending == "diverged"


@dataclass
class Member:
    """A trial in progress; its rows in the state of the population are kept by the population.

    Attributes:
        job: the trial.
        period: queries of one outer step.
        total: queries of the whole trial, a multiple of `period` within the budget.
        done: queries so far.
        ledger: the bill so far.
        curve: one row per measurement, see `Outcome.curve`.
        reached: gradient equivalents when the problem's tolerance was first met, or None.
    """

    job: Job
    period: int
    total: int
    done: int = 0
    ledger: Ledger = field(default_factory=Ledger)
    curve: list[list[float]] = field(default_factory=list)
    reached: float | None = None

    def checkpoint(self, state: State, slot: int) -> Checkpoint:
        """Copy this member, whose rows in the population's state are number `slot`."""
        return {
            "state": {name: value[slot].cpu().clone() for name, value in state.items()},
            "done": self.done,
            "ledger": self.ledger.as_dict(),
            "curve": list(self.curve),
            "reached": self.reached,
        }

    def restore(self, checkpoint: Checkpoint, state: State, slot: int, round_length: int) -> bool:
        """Continue from a checkpoint: write row `slot` of the state.

        Returns:
            whether it fits: the state has these shapes and types, and the counter is at the end of a round that is not
            the last, with one point of the curve per round. Nothing is changed if it does not.
        """
        rows, done = checkpoint["state"], checkpoint["done"]
        if rows.keys() != state.keys() or done >= self.total or done != round_length * len(checkpoint["curve"]):
            return False
        if any(v.shape != state[n][slot].shape or v.dtype != state[n].dtype for n, v in rows.items()):
            return False
        self.done, self.reached = done, checkpoint["reached"]
        self.ledger, self.curve = Ledger(**checkpoint["ledger"]), list(checkpoint["curve"])  # type: ignore[arg-type]
        for name, value in rows.items():
            state[name][slot] = value.to(state[name].device)
        return True

    @property
    def is_pruned(self) -> bool:
        """Whether the job is asked, and ends this trial at this round."""
        return self.job.prune is not None and self.job.prune([loss for _, _, loss, _, _ in self.curve])

    def outcome(self, problem: Problem, ending: Ending, test: TestScore | None, weights: Tensor) -> Outcome:
        """Make the outcome of this trial after its last measurement.

        Args:
            problem: what was trained.
            ending: why it leaves.
            test: the measurement on the test split, if the job requests one.
            weights: the deployed iterate ``[P]``.
        """
        _, train_loss, loss, metric, _ = self.curve[-1]
        diverged = ending == "diverged"
        metric = problem.worst_metric if diverged else metric
        measures = {"train_loss": train_loss, "validation_loss": loss, "validation_metric": metric}
        if test is not None:
            measures["test_loss"] = test.loss
            # Gradients to a tolerance are those of the validation split.
            measures["test_metric"] = metric if diverged or problem.tolerance is not None else test.metric
        value = problem.worst if diverged else min(loss, problem.worst)
        with np.errstate(over="ignore"):  # a diverged run in float64 may exceed float32: infinity in the curve
            curve = np.asarray(self.curve, dtype=np.float32).T.copy()
        correct = None if test is None else test.correct
        return Outcome(self.job, value, ending, measures, self.ledger, curve, correct, weights)


@dataclass(frozen=True)
class TestScore:
    """One member on the test split.

    Attributes:
        loss: its loss.
        metric: its metric.
        correct: bool ``[N]``, or None.
    """

    loss: float
    metric: float
    correct: np.ndarray | None
