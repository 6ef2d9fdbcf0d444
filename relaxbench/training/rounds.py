"""Steps of a round without a word from the host: on CUDA captured once as a graph, then replayed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor

from relaxbench.optim.rule import State, wide

WARM = 2
"""Steps before a capture: libraries set up their workspaces in them."""
WORTH = 8
"""A round of fewer steps is not worth a capture."""

Step = Callable[[State, dict[str, Tensor]], tuple[State, Tensor]]


class Capture(Protocol):
    """A way to record what a function does to tensors, without doing it, and to repeat that."""

    def warm(self, function: Callable[[], None], times: int) -> None:
        """Call the function as it is, in a setting in which it may be captured later."""
        ...

    def __call__(self, function: Callable[[], None]) -> Callable[[], None]:
        """Something that does to the same tensors what the function does; a `RuntimeError` if that cannot be."""
        ...


class CudaGraph:
    """A `Capture` by CUDA graphs: one launch for all kernels of a step.

    Args:
        device: a CUDA device.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device

    def warm(self, function: Callable[[], None], times: int) -> None:
        """On a stream of its own, as captures are."""
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
    """The steps of a round on tensors that stay where they are, so that a step can be replayed.

    Args:
        step: from a state and hyperparameters to the next state and the losses ``[K, 1]``; may work in place.
        state: before the first step. It belongs to the round from now on.
        table: hyperparameters, ``[steps, K, 1]`` where they change from step to step.
        counts: steps of each member ``[K, 1]``; it stays as it is after them.
        steps: of the longest.
        all_alive: every member takes all steps, so that nothing must be kept as it is.

    Attributes:
        losses: sums over the steps, ``[K, 1]``.
    """

    def __init__(
        self, step: Step, state: State, table: dict[str, Tensor], counts: Tensor, steps: int, all_alive: bool
    ) -> None:
        self.step, self.state, self.table, self.counts = step, state, table, counts
        self.steps, self.all_alive = steps, all_alive
        self.losses = torch.zeros_like(next(iter(table.values())).view(-1, *counts.shape)[0])
        self._place = torch.zeros(1, dtype=torch.int64, device=counts.device)

    def run(self, capture: Capture | None) -> bool:
        """Take all steps; replayed, if a round is long enough and the step can be captured.

        Returns:
            false if it could not.
        """
        if capture is None or self.steps < WORTH:
            for _ in range(self.steps):
                self.advance()
            return True
        capture.warm(self.advance, WARM)
        possible, replay = True, self.advance
        try:
            replay = capture(self.advance)
        except RuntimeError:  # the step waits for the device, or draws from a generator: it is taken as it is, then
            possible = False
        for _ in range(self.steps - WARM):
            replay()
        return possible

    def advance(self) -> None:
        """One step, in place."""
        now = {n: v.index_select(0, self._place)[0] if v.dim() == 3 else v for n, v in self.table.items()}
        before = {} if self.all_alive else {name: value.clone() for name, value in self.state.items()}
        after, loss = self.step(dict(self.state), now)
        alive = self.counts > self._place
        for name, kept in self.state.items():
            value = after[name] if self.all_alive else torch.where(wide(alive, after[name]), after[name], before[name])
            if value is not kept:
                kept.copy_(value)
        self.losses += loss if self.all_alive else torch.where(alive, loss, torch.zeros_like(loss))
        self._place += 1
