"""Named losses. A name, not a function, because a curvature method needs the loss's own second derivative."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from relaxbench.errors import UserError, unknown

Batch = dict[str, Tensor]
"""What a problem is asked about: for data ``{"x": [B, …], "y": [B]}``."""


class Loss:
    """A loss of one member's outputs on its batch, the mean over the examples.

    Attributes:
        name: ``"cross-entropy"``, ``"least-squares"``, or ``"none"`` where the outputs are the loss themselves.
        convex: whether outputs and loss are two things, so that `gradient` and `curvature` exist.
    """

    name: str
    convex = True

    def value(self, outputs: Tensor, batch: Batch) -> Tensor:
        """The loss, a scalar."""
        raise NotImplementedError

    def gradient(self, outputs: Tensor, batch: Batch) -> Tensor:
        """∇L, of the shape of the outputs."""
        raise NotImplementedError

    def curvature(self, outputs: Tensor, batch: Batch, v: Tensor) -> Tensor:
        """H_L v, of the shape of the outputs."""
        raise NotImplementedError


class CrossEntropy(Loss):
    """Softmax cross-entropy of logits ``[B, …, C]`` with labels ``batch["y"]`` ``[B, …]``, the mean over all labels."""

    name = "cross-entropy"

    def value(self, outputs: Tensor, batch: Batch) -> Tensor:
        return functional.cross_entropy(outputs.flatten(0, -2), batch["y"].flatten())

    def gradient(self, outputs: Tensor, batch: Batch) -> Tensor:
        target = batch["y"][..., None] == torch.arange(outputs.shape[-1], device=outputs.device)
        return (outputs.softmax(-1) - target.to(outputs.dtype)) / _examples(outputs)

    def curvature(self, outputs: Tensor, batch: Batch, v: Tensor) -> Tensor:
        p = outputs.softmax(-1)
        return (p * v - p * (p * v).sum(-1, keepdim=True)) / _examples(outputs)


class LeastSquares(Loss):
    """Sum of squares of ``outputs − batch["y"]`` (of the outputs, where there is no y), the mean over examples."""

    name = "least-squares"

    def value(self, outputs: Tensor, batch: Batch) -> Tensor:
        return self._residual(outputs, batch).square().sum(-1).mean()

    def gradient(self, outputs: Tensor, batch: Batch) -> Tensor:
        return 2 * self._residual(outputs, batch) / _examples(outputs)

    def curvature(self, outputs: Tensor, batch: Batch, v: Tensor) -> Tensor:
        return 2 * v / _examples(outputs)

    @staticmethod
    def _residual(outputs: Tensor, batch: Batch) -> Tensor:
        if "y" not in batch:
            return outputs
        y = batch["y"]
        if outputs.shape != y.shape:  # they would be broadcast
            shapes = f"outputs of shape {tuple(outputs.shape)} and targets of shape {tuple(y.shape)}"
            raise UserError(f"least squares of {shapes}: expected the same shape, (examples, numbers an example)")
        return outputs - y


class Itself(Loss):
    """The outputs are the loss."""

    name = "none"
    convex = False

    def value(self, outputs: Tensor, batch: Batch) -> Tensor:
        return outputs.mean()


def _examples(outputs: Tensor) -> int:
    return outputs.numel() // outputs.shape[-1]


LOSSES: dict[str, Loss] = {loss.name: loss for loss in (CrossEntropy(), LeastSquares(), Itself())}


def loss(name: str) -> Loss:
    """The loss of a name.

    Raises:
        UserError: if there is none.
    """
    if name not in LOSSES:
        raise unknown("loss", name, LOSSES)
    return LOSSES[name]
