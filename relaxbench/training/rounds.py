"""The steps of a round without host synchronization: on CUDA captured once as a graph, then replayed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor

from relaxbench.optim.rule import State, expand_for_replicas

WARM = 2
"""Steps before a capture, in which libraries allocate their workspaces."""
WORTH = 8
"""A round of fewer steps is not captured, because capturing takes longer than it saves."""

Step = Callable[[State, dict[str, Tensor]], tuple[State, Tensor]]
"""From a state and hyperparameters to the next state and the losses ``[K, 1]``."""


class Capture(Protocol):
    """Record the operations of a function on tensors, without executing them, and replay them."""

    def warm(self, function: Callable[[], None], times: int) -> None:
        """Call the function `times` times, so that it can be captured afterwards."""
        ...

    def __call__(self, function: Callable[[], None]) -> Callable[[], None]:
        """Return a function that replays the operations on the same tensors.

        Raises:
            RuntimeError: if the function cannot be captured.
        """
        ...


class CudaGraph:
    """A `Capture` by CUDA graphs, with one launch for all kernels of a step.

    Args:
        device: a CUDA device.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device

    def warm(self, function: Callable[[], None], times: int) -> None:
        """Call the function on a separate stream, as captures do."""
        side = torch.cuda.Stream(self.device)  # type: ignore[no-untyped-call]
        side.wait_stream(torch.cuda.current_stream(self.device))
        with torch.cuda.stream(side):
            for _ in range(times):
                function()
        torch.cuda.current_stream(self.device).wait_stream(side)

    def __call__(self, function: Callable[[], None]) -> Callable[[], None]:
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            function()
        return graph.replay


class Round:
    """The steps of a round on tensors that keep their memory, so that a step can be replayed.

    Args:
        step: one step; it may work in place.
        state: before the first step. The round owns and changes it.
        table: hyperparameters, ``[steps, K, 1]`` if they change from step to step, else ``[K, 1]``.
        counts: steps of each member ``[K, 1]``; afterwards its state does not change.
        steps: the largest count.
        all_alive: whether all counts are equal, so that no state must be restored.

    Attributes:
        losses: sums of the losses over the steps, ``[K, 1]``.
    """

    def __init__(
        self, step: Step, state: State, table: dict[str, Tensor], counts: Tensor, steps: int, all_alive: bool
    ) -> None:
        self.step, self.state, self.table, self.counts = step, state, table, counts
        self.steps, self.all_alive = steps, all_alive
        self.losses = torch.zeros_like(next(iter(table.values())).view(-1, *counts.shape)[0])
        self._place = torch.zeros(1, dtype=torch.int64, device=counts.device)

    def run(self, capture: Capture | None) -> bool:
        """Take all steps; replay them if the round is long enough and the step can be captured.

        Returns:
            False if a capture failed, else True.
        """
        if capture is None or self.steps < WORTH:
            for step in range(self.steps):  # a number of the host: fewer operations than a tensor's
                self._take({n: v[step] if v.dim() == 3 else v for n, v in self.table.items()}, step)
            return True
        capture.warm(self.advance, WARM)
        possible, replay = True, self.advance
        try:
            replay = capture(self.advance)
        except RuntimeError:  # the step waits for the device, or draws from a generator: it runs uncaptured
            possible = False
        for _ in range(self.steps - WARM):
            replay()
        return possible

    def advance(self) -> None:
        """Take the next step, in place, by the same operations on the same memory as every other."""
        now = {n: v.index_select(0, self._place)[0] if v.dim() == 3 else v for n, v in self.table.items()}
        self._take(now, self._place)
        self._place += 1

    def _take(self, now: dict[str, Tensor], place: Tensor | int) -> None:
        """Take the step with number `place` and its hyperparameters."""
        before = {} if self.all_alive else {name: value.clone() for name, value in self.state.items()}
        after, loss = self.step(dict(self.state), now)
        if self.all_alive:
            self.losses += loss
        else:
            alive = self.counts > place
            self.losses += torch.where(alive, loss, torch.zeros_like(loss))
            after = {n: torch.where(expand_for_replicas(alive, v), v, before[n]) for n, v in after.items()}
        for name, current in self.state.items():
            if after[name] is not current:
                current.copy_(after[name])
