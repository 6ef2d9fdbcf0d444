"""Probe a loss and a metric beyond a few outputs: where outputs are nearly right, and on other labels."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import torch
from torch import Tensor

from relaxbench.problems import Batch, Problem, SupervisedProblem

STEPS = 24
"""Steps towards outputs that are right, after each of which the loss is measured."""
STEP = 0.5
"""Size of a step in every output: logits that are right have margins of tens after them all."""
SMALLEST = 0.01
"""Gradient, relative to the largest, in whose direction an output moves half as far as in others."""
PIECES = (7, 11, 16, 23, 32, 47, 64, 96, 128, 160)
"""Sizes of pieces of held-out examples on which a metric is computed: from the first one, and to the last one."""
NUMBERS = 4_000_000
"""Numbers of outputs at most for which a metric is computed on a whole split."""

Loss = Callable[[Tensor, Batch], Tensor]


def nearly_right(loss: Loss, outputs: Tensor, batch: Batch) -> list[Tensor]:
    """Move outputs towards those of the smallest loss; return the loss and the length of its gradient on the way."""
    found: list[Tensor] = []
    for _ in range(STEPS):
        with torch.enable_grad():
            at = outputs.detach().requires_grad_()
            value = loss(at, batch)
            (gradient,) = torch.autograd.grad(value, at)
        found += [value.detach(), gradient.norm()]
        size = gradient.abs()
        outputs = at.detach() - STEP * gradient / (size + SMALLEST * size.max() + torch.finfo(size.dtype).tiny)
    return found


def scores(task: Problem, outputs: Tensor, batch: Batch) -> list[Tensor]:
    """Return the metric on pieces of held-out examples, and on the labels of whole splits.

    Args:
        task: the problem.
        outputs: of the held-out examples ``[N, …]``.
        batch: these examples.
    """
    if not isinstance(task, SupervisedProblem) or task.score(outputs, batch) is None:
        return []
    count = len(outputs)
    pieces = [slice(0, size) for size in PIECES if size < count] + [
        slice(-size, None) for size in PIECES if size < count
    ]
    found = [_score(task, outputs[rows], {"y": batch["y"][rows]}) for rows in pieces]
    for split in ("validation", "test") if task.in_memory else ():
        size = min(task.examples(split), max(1, NUMBERS // max(1, outputs[0].numel())))
        labels = task.part(split, slice(0, size), torch.device("cpu"))["y"]
        found.append(_score(task, outputs[torch.arange(size) % count], {"y": labels}))
    return found


def _score(task: Problem, outputs: Tensor, batch: Batch) -> Tensor:
    """Return the metric, NaN where it has none: a few examples may lack a class."""
    try:
        with warnings.catch_warnings(action="ignore"):  # sklearn's, of a class that is missing
            return torch.tensor(task.score(outputs, batch), dtype=torch.float64)
    except Exception:  # what a metric of a person raises may be of any kind
        return torch.tensor(torch.nan, dtype=torch.float64)
