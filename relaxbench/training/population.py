"""Train many trials of one rule on one problem together, in K slots that are refilled.

A round is a fixed number of gradients. At its end every member is measured. A trial that is finished, has diverged or
is pruned leaves, and its slot receives the next trial at once.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Collection, Sequence

import torch
from torch import Tensor

from relaxbench.errors import UserError
from relaxbench.optim import hyper as declared
from relaxbench.optim.rule import Rule, State
from relaxbench.recording import recorded
from relaxbench.training.compiled import LONGEST, CompiledStep
from relaxbench.training.oracle import Oracle
from relaxbench.training.precision import dtype_of
from relaxbench.training.rounds import Capture, CudaGraph, Round
from relaxbench.training.trial import Checkpoint, Ending, Job, Member, Outcome, TestScore


class Population:
    """Trials of one rule on one problem.

    Args:
        oracle: the problem, with the path and precision of its gradients. The population sets its sampler.
        rule: the mathematics of the method.
        budget: gradient equivalents per trial.
        device: where parameters and state live.
        dtype: of parameters and state; None for that of the oracle's precision.
        compiled: takes the steps, for at most as many members as it was compiled for; None: plain operations do.

    Attributes:
        price: gradient equivalents per query.
        slots: the members, one per slot in use.
        misfits: ids of the jobs whose checkpoints did not fit; they began anew.
        capture: how the steps of a round are recorded and replayed; None: they are run one by one.
    """

    def __init__(
        self,
        oracle: Oracle,
        rule: Rule,
        budget: int,
        device: torch.device | str = "cpu",
        dtype: torch.dtype | None = None,
        compiled: CompiledStep | None = None,
    ) -> None:
        self.oracle, self.problem, self.rule, self.budget = oracle, oracle.problem, rule, budget
        self.device, self.dtype = torch.device(device), dtype or dtype_of(oracle.precision)
        self.compiled = compiled
        graphs = rule.capturable and self.device.type == "cuda"
        self.capture: Capture | None = CudaGraph(self.device) if graphs else None
        self.price = rule.price * rule.replicas
        self.round_length = max(1, math.ceil(budget / self.problem.rounds / self.price))
        rule.bind([shape for _, shape in self.problem.layout()])
        self.slots: list[Member] = []
        self.misfits: set[int] = set()
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
            after_round: called at the end of every round; False stops, and the trials stay in their slots.

        Raises:
            UserError: see `admit`.
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
        """Give each trial a slot, from its initial weights or from its checkpoint.

        Raises:
            UserError: if the budget is smaller than one outer step.
        """
        if not jobs:
            return
        new = declared.stack([job.params for job in jobs], self.device, self.rule.hyper_dtype or self.dtype)
        seeds = torch.tensor([[job.seed] for job in jobs]).to(self.device)
        drawn = {seed: self.problem.init(seed) for seed in {job.seed for job in jobs}}
        start = torch.stack([drawn[job.seed] for job in jobs]).to(self.device, self.dtype)
        state = self.rule.init(start, seeds)
        for k, (job, period) in enumerate(zip(jobs, self.rule.period(new)[:, 0].tolist(), strict=True)):
            member = Member(job, period, math.floor(self.budget / self.price) // period * period)
            if member.total == 0:
                cost = period * self.price
                raise UserError(
                    f"budget {self.budget} is smaller than one outer step of {self.rule.name} ({cost:g} gradients): "
                    "raise the budget or lower inner_steps"
                )
            if job.resume is not None and not member.restore(job.resume, state, k, self.round_length):
                self.misfits.add(job.id)
            self.slots.append(member)
        self.state = {n: torch.cat([self.state[n], v]) for n, v in state.items()} if self.state else state
        self.hyper = {n: torch.cat([self.hyper[n], v]) for n, v in new.items()} if self.hyper else new

    def drop(self, jobs: Collection[int]) -> None:
        """Empty the slots of jobs with these ids, without an outcome."""
        if jobs:
            self._keep([k for k, member in enumerate(self.slots) if member.job.id not in jobs])

    def round(self) -> list[Outcome]:
        """Advance every member by one round, measure, and empty the slots of trials that have ended."""
        longest = max(member.total - member.done for member in self.slots)
        counts, losses, table = self.advance(min(self.round_length, longest))
        scope = self.rule.scope  # of another rule, a wrapped optimizer's say, `gamma` is a number like any other
        gamma = table["gamma"] if scope == "gamma" else table["sigma"] ** 2 if scope == "sigma" else None
        last = [gamma[count - 1, k, 0].item() if gamma is not None else math.nan for k, count in enumerate(counts)]
        means = [loss / count for loss, count in zip(losses[:, 0].tolist(), counts, strict=True)]
        return self._measure(means, last)

    def advance(self, steps: int) -> tuple[list[int], Tensor, dict[str, Tensor]]:
        """Take at most `steps` queries for every member, without a measurement and without host synchronization.

        Returns:
            queries of each member; the sums ``[K, 1]`` of their losses; the scheduled hyperparameters.
        """
        longest = LONGEST if self.compiled else steps
        parts = [self._stretch(min(longest, steps - begun)) for begun in range(0, steps, longest)]
        if len(parts) == 1:
            return parts[0]
        counts = [sum(several) for several in zip(*(part[0] for part in parts), strict=True)]
        tables = [part[2] for part in parts]
        table = {n: torch.cat([t[n] for t in tables]) if v.dim() == 3 else v for n, v in tables[0].items()}
        return counts, torch.stack([part[1] for part in parts]).sum(dim=0), table

    def _stretch(self, steps: int) -> tuple[list[int], Tensor, dict[str, Tensor]]:
        members = self.slots
        first = [member.done for member in members]
        counts = [min(steps, member.total - member.done) for member in members]
        begin = [self.rule.first_batch(count) for count in first]
        seeds = [member.job.seed for member in members]
        stay = torch.tensor(counts)[:, None].to(self.device)
        if self.compiled is not None:
            table = self.schedule(first, steps)
            sampler = self.compiled.recorded.sampler(seeds, begin, self.device)
            self.state, losses = self.compiled.run(self.state, table, stay, steps, sampler)
        else:
            end = max(self.rule.last_batch(count + steps - 1) - b for count, b in zip(first, begin, strict=True))
            self.oracle.sampler = self.problem.sampler(seeds, begin, end + self.rule.replicas, self.device)
            table = self.schedule(first, steps)
            losses = self._steps(table, stay, steps, all_alive=min(counts) == steps)
        for member, count in zip(members, counts, strict=True):
            member.done += count
            member.ledger.bill_gradient(self.problem.batch_size, count * self.rule.replicas)
            member.ledger.bill_curvature((self.rule.price - 1) * self.rule.replicas, count)
        return counts, losses, table

    def schedule(self, first: list[int], steps: int) -> dict[str, Tensor]:
        """Return the hyperparameters of some queries, ``[steps, K, 1]`` where scheduled: constant within an outer step.

        Args:
            first: number of each member's first query.
            steps: queries.
        """
        count = torch.tensor(first)[None, :, None] + torch.arange(steps)[:, None, None]
        period = torch.tensor([member.period for member in self.slots])[None, :, None]
        outer = torch.tensor([member.total // member.period for member in self.slots])[None, :, None]
        progress = (count // period).double() / outer.double()
        with contextlib.nullcontext() if self.compiled is None else recorded():  # a table has the same names always
            return self.rule.at(self.hyper, progress.to(self.device, self.dtype))

    def checkpoints(self) -> dict[int, Checkpoint]:
        """Return a checkpoint of each unfinished trial, by job id."""
        return {member.job.id: member.checkpoint(self.state, k) for k, member in enumerate(self.slots)}

    def _steps(self, table: dict[str, Tensor], counts: Tensor, steps: int, all_alive: bool) -> Tensor:
        """Take the queries of a round without host synchronization; return the sums ``[K, 1]`` of their losses.

        A member that has reached its last outer step within the budget stays as it is.
        """
        whole = Round(self._step, self.state, table, counts, steps, all_alive)
        if not whole.run(self.capture):
            self.capture = None  # later rounds cannot be captured either
        self.state = whole.state
        return whole.losses

    def _step(self, state: State, hyper: dict[str, Tensor]) -> tuple[State, Tensor]:
        state, losses = self.rule.step(state, self.oracle, hyper)
        return state, losses.mean(dim=1, keepdim=True) if self.rule.replicas > 1 else losses

    def _measure(self, train: list[float], gamma: list[float]) -> list[Outcome]:
        """Measure every member on the validation split; return and drop those that end here, see `Ending`.

        Float64 goes on to 1e308. What exceeds float32 has diverged: results are stored so.
        """
        iterate = self.rule.iterate(self.state)
        held_out = self.oracle.measure(iterate, "validation")
        finite = torch.isfinite(iterate.float()).all(dim=1) & torch.isfinite(held_out.loss.float())
        rows = zip(held_out.loss.tolist(), held_out.metric.tolist(), finite.tolist(), strict=True)
        ended: dict[int, Ending] = {}  # by slot
        for k, (member, (loss, metric, is_finite)) in enumerate(zip(self.slots, rows, strict=True)):
            self._bill_measurement(member, "validation")
            if self.problem.tolerance is not None:
                if member.reached is None and loss <= self.problem.tolerance:
                    member.reached = member.ledger.total
                metric = float(member.reached if member.reached is not None else self.budget)
            member.curve.append([member.ledger.total, train[k], loss, metric, gamma[k]])
            if not (is_finite and abs(train[k]) <= torch.finfo(torch.float32).max):
                ended[k] = "diverged"
            elif member.done >= member.total:
                ended[k] = "complete"
            elif member.is_pruned:
                ended[k] = "pruned"
        if not ended:
            return []
        outcomes = self._outcomes(ended, iterate[list(ended)].detach().clone())
        self._keep([k for k in range(len(self.slots)) if k not in ended])
        return outcomes

    def _keep(self, stay: list[int]) -> None:
        self.slots = [self.slots[k] for k in stay]
        self.state = {n: v[stay] for n, v in self.state.items()} if stay else {}
        self.hyper = {n: v[stay] for n, v in self.hyper.items()} if stay else {}

    def _outcomes(self, ended: dict[int, Ending], iterate: Tensor) -> list[Outcome]:
        scores = self._test_scores([self.slots[k] for k in ended], iterate)
        return [
            self.slots[k].outcome(self.problem, ending, scores.get(i), iterate[i].cpu())
            for i, (k, ending) in enumerate(ended.items())
        ]

    def _test_scores(self, members: list[Member], iterate: Tensor) -> dict[int, TestScore]:
        """Measure the test split for those members whose job requests it, by their place in the list."""
        places = [i for i, member in enumerate(members) if member.job.test]
        if not places:
            return {}
        measured, scores = self.oracle.measure(iterate[places], "test"), {}
        for row, i in enumerate(places):
            self._bill_measurement(members[i], "test")
            correct = None if measured.correct is None else measured.correct[row].cpu().numpy()
            scores[i] = TestScore(measured.loss[row].item(), measured.metric[row].item(), correct)
        return scores

    def _bill_measurement(self, member: Member, split: str) -> None:
        """Bill a pass over a split, and one over the examples on which batch normalization is measured first."""
        examples = self.problem.examples(split)
        member.ledger.bill_measurement(examples + self.problem.statistics_examples, self.problem.batch_size)
