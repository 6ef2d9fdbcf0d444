"""The step of a population as one compiled function of tensors, for a fixed number of slots.

Batch selection, forward and backward pass, the rule and the look-up of its schedules are one call, which `compilation`
makes and checks. Slots without a trial hold copies of the first one.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from relaxbench.optim.rule import Rule, State, expand_for_replicas
from relaxbench.problems import Problem, Sampler
from relaxbench.training.oracle import Oracle

LONGEST = 64
"""Queries of a stretch: so many mini-batches are prepared together, however long a round is."""

Function = Callable[[list[Tensor]], object]
"""Takes a step in place, on the tensors of `Recorded.arguments` in their order."""


class UnfitError(Exception):
    """Raised where a step cannot be a function of tensors; the message says why."""


@dataclass(frozen=True)
class Lifted:
    """A sampler's tensors, apart from everything else in it.

    Attributes:
        sampler: as the problem has made it.
        tensors: all tensors that it holds.
        fixed: the rest, with the places, shapes and types of the tensors; it must not change from stretch to stretch.
    """

    sampler: Sampler
    tensors: list[Tensor]
    fixed: Any

    @classmethod
    def of(cls, sampler: Sampler) -> Lifted:
        """Take the tensors out of a sampler's attributes.

        Raises:
            UnfitError: if it has no attributes.
        """
        if not hasattr(sampler, "__dict__"):
            raise UnfitError(f"its mini-batches ({type(sampler).__name__}) have no attributes")
        leaves, places = pytree.tree_flatten(vars(sampler))
        tensors = [leaf for leaf in leaves if isinstance(leaf, Tensor)]
        rest = [(leaf.shape, leaf.dtype) if isinstance(leaf, Tensor) else leaf for leaf in leaves]
        return cls(sampler, tensors, (type(sampler), places, rest))

    def holding(self, tensors: Sequence[Tensor]) -> Sampler:
        """Return a sampler with other tensors in the same places."""
        leaves, places = pytree.tree_flatten(vars(self.sampler))
        others = iter(tensors)
        own = [next(others) if isinstance(leaf, Tensor) else leaf for leaf in leaves]
        made = copy.copy(self.sampler)
        vars(made).update(pytree.tree_unflatten(own, places))
        return made


@dataclass(frozen=True)
class Recorded:
    """How the arguments of a compiled step are laid out.

    Attributes:
        problem: what is trained.
        rule: the mathematics of the method.
        size: K, the number of slots.
        state: names of the entries of the state.
        table: names of the hyperparameters at a step.
        fixed: see `Lifted`.
    """

    problem: Problem
    rule: Rule
    size: int
    state: tuple[str, ...]
    table: tuple[str, ...]
    fixed: Any

    def take(self, oracle: Oracle, sampler: Lifted, arguments: Sequence[Tensor]) -> None:
        """Take a step in place, by plain operations: what is recorded."""
        count = len(self.state)
        state = dict(zip(self.state, arguments[:count], strict=True))
        now, losses, *tensors = arguments[count:]
        hyper = {name: now[index] for index, name in enumerate(self.table)}
        alive = now[len(self.table)] > 0
        oracle.sampler = sampler.holding(tensors)
        new, loss = self.rule.step({name: value.clone() for name, value in state.items()}, oracle, hyper)
        loss = loss.mean(dim=1, keepdim=True) if self.rule.replicas > 1 else loss
        losses.add_(torch.where(alive, loss, torch.zeros_like(loss)))
        for name, value in state.items():
            value.copy_(torch.where(expand_for_replicas(alive, value), new[name], value))

    def pack(self, table: Mapping[str, Tensor], counts: Tensor, steps: int, rows: Tensor) -> Tensor:
        """Put the hyperparameters of every step, and whether a member takes it, in a tensor ``[steps, H + 1, K, 1]``.

        Args:
            table: ``[steps, n, 1]`` where scheduled, else ``[n, 1]``.
            counts: steps of each member ``[n, 1]``.
            steps: the largest count.
            rows: the member in each slot, int64 ``[K]``.

        Raises:
            UnfitError: if other hyperparameters or types were recorded.
        """
        columns = [table[name].expand(steps, *counts.shape) for name in sorted(table)]
        if tuple(sorted(table)) != self.table or len({column.dtype for column in columns}) > 1:
            raise UnfitError(f"the hyperparameters of {self.rule.name} change their names or types from step to step")
        alive = counts > torch.arange(steps, device=counts.device)[:, None, None]
        return torch.stack([*columns, alive.to(columns[0].dtype)], dim=1).index_select(2, rows)

    @property
    def batches(self) -> int:
        """The number of mini-batches that a sampler has ready for a stretch."""
        return self.rule.first_batch(LONGEST) + self.rule.replicas

    def sampler(self, seeds: Sequence[int], first: Sequence[int], device: torch.device) -> Lifted:
        """Prepare the mini-batches of a stretch, for members in the first slots; copies of the first fill the others.

        Raises:
            UnfitError: if the sampler is of another form than the recorded one.
        """
        rows = self.rows(len(seeds))
        all_of = [seeds[k] for k in rows], [first[k] for k in rows]
        lifted = Lifted.of(self.problem.sampler(*all_of, self.batches, device))
        if self.fixed is not None and lifted.fixed != self.fixed:
            raise UnfitError("its mini-batches change their form from stretch to stretch")
        return lifted

    def rows(self, count: int) -> list[int]:
        """Return the member in each slot, for this many members."""
        return [*range(count), *[0] * (self.size - count)]


@dataclass(frozen=True)
class CompiledStep:
    """A compiled step, checked.

    Attributes:
        recorded: the layout of its arguments.
        function: takes the step.
        digest: of the numbers that its check has computed.
        seconds: that recording, compiling and checking took.
        note: what a person should know of it, or "".
    """

    recorded: Recorded
    function: Function
    digest: str = ""
    seconds: float = 0.0
    note: str = ""

    def run(
        self, state: State, table: Mapping[str, Tensor], counts: Tensor, steps: int, sampler: Lifted
    ) -> tuple[State, Tensor]:
        """Take the queries of a stretch.

        Args:
            state: n rows; it may be changed.
            table: see `Recorded.pack`.
            counts: steps of each member ``[n, 1]``; afterwards its state does not change.
            steps: the largest count, at most `LONGEST`.
            sampler: of `Recorded.sampler`.

        Returns:
            the state, n rows, and the sums ``[n, 1]`` of the losses.
        """
        recorded, count = self.recorded, len(counts)
        rows = torch.tensor(recorded.rows(count), device=counts.device)
        now = recorded.pack(table, counts, steps, rows)
        full = count == recorded.size
        slots = [state[name].contiguous() if full else state[name][rows] for name in recorded.state]
        losses = now.new_zeros(recorded.size, 1)
        with torch.no_grad():
            for step in now.unbind():
                self.function([*slots, step, losses, *sampler.tensors])
        return {n: v[:count] for n, v in zip(recorded.state, slots, strict=True)}, losses[:count]
