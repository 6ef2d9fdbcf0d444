"""K slots, refilled: many trials of one rule on one problem advance together, in rounds.

A round is a fixed number of gradients. At its end every slot is measured and its trial reported; a trial that is done
or has diverged leaves, and its slot is given the next trial at once.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from relaxbench.errors import UserError
from relaxbench.optim import hyper as declared
from relaxbench.optim.rule import Rule, State
from relaxbench.problems import Problem
from relaxbench.space import Value
from relaxbench.training.ledger import Ledger
from relaxbench.training.oracle import Oracle, Path
from relaxbench.training.precision import Precision
from relaxbench.training.rounds import Capture, CudaGraph, Round


@dataclass
class Job:
    """A trial to run: what a slot holds.

    Attributes:
        id: the caller's name for it.
        seed: fixes initial weights, data order and all noise.
        params: a value for every hyperparameter of the rule.
        test: measure the test split at the end.
        resume: a checkpoint made by `Population.checkpoints`, or None to start from the beginning. So does a trial
            whose checkpoint does not fit: the problem was changed since.
    """

    id: int
    seed: int
    params: dict[str, Value]
    test: bool = False
    resume: dict[str, Any] | None = None


@dataclass
class Outcome:
    """What a finished trial gives.

    Attributes:
        job: the trial.
        value: validation loss at the end of the budget, at most the problem's worst.
        diverged: a loss or a parameter was not finite.
        measures: train, validation (and test) loss and metric.
        ledger: the bill.
        curve: float32 ``[5, points]``: gradients, train loss, validation loss, validation metric, γ.
        correct: bool ``[N]`` per test example, or None.
        weights: the deployed iterate ``[P]``.
    """

    job: Job
    value: float
    diverged: bool
    measures: dict[str, float]
    ledger: Ledger
    curve: np.ndarray
    correct: np.ndarray | None
    weights: Tensor


@dataclass
class Slot:
    """A trial in progress, counted in queries; `total` of them end on its last outer step within the budget."""

    job: Job
    period: int
    total: int
    done: int = 0
    ledger: Ledger = field(default_factory=Ledger)
    curve: list[list[float]] = field(default_factory=list)
    reached: float | None = None  # gradients when the tolerance was first met


class Population:
    """Trials of one rule on one problem.

    Args:
        problem: what is trained.
        rule: how.
        budget: gradient equivalents a trial.
        path: see `oracle`.
        device: where the population lives.
        dtype: of parameters and state.
        precision: in which models compute, see `precision.PRECISIONS`.
        captured: replay the steps of a round as a CUDA graph.
    """

    def __init__(
        self,
        problem: Problem,
        rule: Rule,
        budget: int,
        path: Path = "vectorized",
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
        precision: Precision = "float32",
        captured: bool = True,
    ) -> None:
        self.problem, self.rule, self.budget = problem, rule, budget
        self.device, self.dtype = torch.device(device), dtype
        self.oracle = Oracle(problem, path, precision)
        self.capture: Capture | None = CudaGraph(self.device) if captured and self.device.type == "cuda" else None
        self.price = rule.price * rule.replicas  # gradient equivalents a query
        self.round_length = max(1, math.ceil(budget / problem.rounds / self.price))
        rule.bind([shape for _, shape in problem.layout()])
        self.slots: list[Slot] = []
        self.state: State = {}
        self.hyper: dict[str, Tensor] = {}

    def run(
        self,
        feed: Callable[[int], Sequence[Job]],
        report: Callable[[list[Outcome]], None],
        size: int,
        after_round: Callable[[Population], bool] = lambda population: True,
    ) -> None:
        """Run until `feed` gives no more trials and every slot is empty.

        Args:
            feed: from a number of free slots to at most that many trials.
            report: receives the trials that ended in a round.
            size: K, the number of slots.
            after_round: called at the end of every round; False stops, with the slots as they are.
        """
        while True:
            if free := size - len(self.slots):
                self.admit(feed(free))
            if not self.slots:
                return
            report(self.round())
            if not after_round(self):
                return

    def admit(self, jobs: Sequence[Job]) -> None:
        """Give trials a slot each: initialized, or as their checkpoint left them."""
        if not jobs:
            return
        new = declared.stack([job.params for job in jobs], self.device, self.dtype)
        seeds = torch.tensor([[job.seed] for job in jobs]).to(self.device)
        start = torch.stack([self.problem.init(job.seed) for job in jobs]).to(self.device, self.dtype)
        state = self.rule.init(start, seeds)
        for k, (job, period) in enumerate(zip(jobs, self.rule.period(new)[:, 0].tolist(), strict=True)):
            slot = Slot(job, period, math.floor(self.budget / self.price) // period * period)
            if slot.total == 0:
                cost = period * self.price
                raise UserError(
                    f"budget {self.budget} is smaller than one outer step of {self.rule.name} ({cost:g} gradients): "
                    "raise the budget or lower inner_steps"
                )
            if job.resume is not None and _fits(job.resume["state"], state, k):
                slot.done, slot.reached = job.resume["done"], job.resume["reached"]
                slot.ledger, slot.curve = Ledger(**job.resume["ledger"]), list(job.resume["curve"])
                for name, value in job.resume["state"].items():
                    state[name][k] = value.to(self.device)
            self.slots.append(slot)
        self.state = {n: torch.cat([self.state[n], v]) for n, v in state.items()} if self.state else state
        self.hyper = {n: torch.cat([self.hyper[n], v]) for n, v in new.items()} if self.hyper else new

    def drop(self, jobs: Collection[int]) -> None:
        """Empty the slots of some jobs, whose trials are nobody's business here any longer."""
        if jobs:
            self._keep([k for k, slot in enumerate(self.slots) if slot.job.id not in jobs])

    def round(self) -> list[Outcome]:
        """Advance every slot by one round, measure, and empty the slots whose trial is done."""
        slots = self.slots
        counts, losses, table = self.advance(min(self.round_length, max(slot.total - slot.done for slot in slots)))
        gamma = table["gamma"] if "gamma" in table else table["sigma"] ** 2 if "sigma" in table else None
        last = [gamma[count - 1, k, 0].item() if gamma is not None else math.nan for k, count in enumerate(counts)]
        means = [loss / count for loss, count in zip(losses[:, 0].tolist(), counts, strict=True)]
        return self._measure(means, last)

    def advance(self, steps: int) -> tuple[list[int], Tensor, dict[str, Tensor]]:
        """At most `steps` queries for every slot, without a measurement and without a wait for the device.

        Returns:
            queries of each slot; the sums ``[K, 1]`` of their losses; the scheduled hyperparameters.
        """
        slots = self.slots
        first = [slot.done for slot in slots]
        counts = [min(steps, slot.total - slot.done) for slot in slots]
        begin = [self.rule.first_batch(count) for count in first]
        end = max(self.rule.first_batch(count + steps - 1) - b for count, b in zip(first, begin, strict=True))
        seeds = [slot.job.seed for slot in slots]
        self.oracle.sampler = self.problem.sampler(seeds, begin, end + self.rule.replicas, self.device)
        table = self._schedule(first, steps)
        stay = torch.tensor(counts)[:, None].to(self.device)
        losses = self._steps(table, stay, steps, all_alive=min(counts) == steps)
        for slot, count in zip(slots, counts, strict=True):
            slot.done += count
            slot.ledger.bill_gradient(self.problem.batch_size, count * self.rule.replicas)
            slot.ledger.bill_curvature((self.rule.price - 1) * self.rule.replicas, count)
        return counts, losses, table

    def checkpoints(self) -> dict[int, dict[str, Any]]:
        """What each unfinished trial needs in order to go on elsewhere, by job id: tensors and plain numbers."""
        return {
            slot.job.id: {
                "state": {name: value[k].cpu().clone() for name, value in self.state.items()},
                "done": slot.done,
                "ledger": slot.ledger.as_dict(),
                "curve": list(slot.curve),
                "reached": slot.reached,
            }
            for k, slot in enumerate(self.slots)
        }

    def _schedule(self, first: list[int], steps: int) -> dict[str, Tensor]:
        """Hyperparameters of a round, ``[steps, K, 1]`` where scheduled: constant within an outer step."""
        count = torch.tensor(first)[None, :, None] + torch.arange(steps)[:, None, None]
        period = torch.tensor([slot.period for slot in self.slots])[None, :, None]
        outer = torch.tensor([slot.total // slot.period for slot in self.slots])[None, :, None]
        progress = (count // period).double() / outer.double()
        return self.rule.at(self.hyper, progress.to(self.device, self.dtype))

    def _steps(self, table: dict[str, Tensor], counts: Tensor, steps: int, all_alive: bool) -> Tensor:
        """The queries of a round, without a wait for the device; returns the sums ``[K, 1]`` of their losses.

        A member that has reached its last outer step within the budget stays as it is.
        """
        whole = Round(self._step, self.state, table, counts, steps, all_alive)
        if not whole.run(self.capture):
            self.capture = None  # nor could the next
        self.state = whole.state
        return whole.losses

    def _step(self, state: State, hyper: dict[str, Tensor]) -> tuple[State, Tensor]:
        state, losses = self.rule.step(state, self.oracle, hyper)
        return state, losses.mean(dim=1, keepdim=True) if self.rule.replicas > 1 else losses

    def _measure(self, train: list[float], gamma: list[float]) -> list[Outcome]:
        """Measure every slot on the validation split; report and drop those that are done or have diverged."""
        iterate = self.rule.iterate(self.state)
        held_out = self.oracle.measure(iterate, "validation")
        finite = torch.isfinite(iterate).all(dim=1) & torch.isfinite(held_out.loss)
        rows = zip(held_out.loss.tolist(), held_out.metric.tolist(), finite.tolist(), strict=True)
        ended: list[int] = []
        diverged: list[bool] = []
        for k, (slot, (loss, metric, is_finite)) in enumerate(zip(self.slots, rows, strict=True)):
            self._bill_measurement(slot, "validation")
            if self.problem.tolerance is not None:
                if slot.reached is None and loss <= self.problem.tolerance:
                    slot.reached = slot.ledger.total
                metric = float(slot.reached if slot.reached is not None else self.budget)
            slot.curve.append([slot.ledger.total, train[k], loss, metric, gamma[k]])
            lost = not (is_finite and math.isfinite(train[k]))
            if lost or slot.done >= slot.total:
                ended.append(k)
                diverged.append(lost)
        if not ended:
            return []
        outcomes = self._outcomes(ended, diverged, iterate[ended].detach().clone())
        self._keep([k for k in range(len(self.slots)) if k not in set(ended)])
        return outcomes

    def _keep(self, stay: list[int]) -> None:
        self.slots = [self.slots[k] for k in stay]
        self.state = {n: v[stay] for n, v in self.state.items()} if stay else {}
        self.hyper = {n: v[stay] for n, v in self.hyper.items()} if stay else {}

    def _outcomes(self, ended: list[int], diverged: list[bool], iterate: Tensor) -> list[Outcome]:
        tested = [i for i, k in enumerate(ended) if self.slots[k].job.test]
        test = self.oracle.measure(iterate[tested], "test") if tested else None
        outcomes = []
        for i, (k, lost) in enumerate(zip(ended, diverged, strict=True)):
            slot = self.slots[k]
            _, train_loss, loss, metric, _ = slot.curve[-1]
            metric = self.problem.worst_metric if lost else metric
            measures = {"train_loss": train_loss, "validation_loss": loss, "validation_metric": metric}
            correct = None
            if test is not None and i in tested:
                row = tested.index(i)
                self._bill_measurement(slot, "test")
                measures["test_loss"] = test.loss[row].item()
                censored = self.problem.tolerance is not None
                measures["test_metric"] = metric if lost or censored else test.metric[row].item()
                if test.correct is not None:
                    correct = test.correct[row].cpu().numpy()
            value = self.problem.worst if lost else min(loss, self.problem.worst)
            curve = np.asarray(slot.curve, dtype=np.float32).T.copy()
            outcomes.append(Outcome(slot.job, value, lost, measures, slot.ledger, curve, correct, iterate[i].cpu()))
        return outcomes

    def _bill_measurement(self, slot: Slot, split: str) -> None:
        """A pass over a split, and one over the examples on which batch normalization is measured first."""
        examples = len(next(iter(self.problem.split(split, self.device).values())))
        slot.ledger.bill_measurement(examples + self.problem.statistics_examples, self.problem.batch_size)


def _fits(stored: dict[str, Tensor], state: State, k: int) -> bool:
    """Whether a checkpoint's state is one of these trials, slot `k`."""
    return stored.keys() == state.keys() and all(stored[name].shape == state[name][k].shape for name in state)
