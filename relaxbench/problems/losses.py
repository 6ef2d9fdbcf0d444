"""Losses by name, with the second derivatives that curvature methods need."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from relaxbench.errors import UserError, unknown
from relaxbench.problems.together import is_together

Batch = dict[str, Tensor]
"""A mini-batch or a split: for data ``{"x": [B, …], "y": [B]}``."""
FEW = 16
"""Fewer classes than these do not fill a vector of the CPU (512 bits)."""


class Loss:
    """The mean loss of one member's outputs over the examples of its batch.

    Attributes:
        name: ``"cross-entropy"``, ``"least-squares"``, or ``"none"`` if the outputs are the loss.
        convex: whether the loss is a convex function of the outputs, so that `gradient` and `curvature` exist.
    """

    name: str
    convex = True

    def value(self, outputs: Tensor, batch: Batch) -> Tensor:
        """Return the loss, a scalar."""
        raise NotImplementedError

    def weight(self, batch: Batch) -> float:
        """Return what the loss of a batch counts in the loss of several batches together: its number of examples."""
        return float(len(next(iter(batch.values()))))

    def gradient(self, outputs: Tensor, batch: Batch) -> Tensor:
        """Return ∇L with respect to the outputs, in their shape."""
        raise NotImplementedError

    def curvature(self, outputs: Tensor, batch: Batch, v: Tensor) -> Tensor:
        """Return H_L v, the Hessian in the outputs times v, in the shape of the outputs."""
        raise NotImplementedError


class CrossEntropy(Loss):
    """Mean softmax cross-entropy of logits ``[B, …, C]`` over all labels ``batch["y"]`` ``[B, …]``."""

    name = "cross-entropy"

    def value(self, outputs: Tensor, batch: Batch) -> Tensor:
        logits, labels = outputs.flatten(0, -2), batch["y"].flatten()
        if not is_together() or labels.dtype != torch.int64:
            return functional.cross_entropy(logits, labels)
        # The same operations as `vmap` makes of it, but for those that leave out examples without a label.
        if _short(logits):
            losses = -logits.T.contiguous().log_softmax(0).gather(0, labels[None]).squeeze(0)
        else:
            losses = -logits.log_softmax(1).gather(1, labels[:, None]).squeeze(1)
        return losses.sum() / losses.new_full((), len(labels))

    def gradient(self, outputs: Tensor, batch: Batch) -> Tensor:
        target = batch["y"][..., None] == torch.arange(outputs.shape[-1], device=outputs.device)
        return (_softmax(outputs) - target.to(outputs.dtype)) / _examples(outputs)

    def curvature(self, outputs: Tensor, batch: Batch, v: Tensor) -> Tensor:
        p = _softmax(outputs)
        return (p * v - p * (p * v).sum(-1, keepdim=True)) / _examples(outputs)


class LeastSquares(Loss):
    """Mean over the examples of the sum of squares of ``outputs − batch["y"]`` (of the outputs, without a y)."""

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
        if outputs.shape != y.shape:  # PyTorch would broadcast them
            shapes = f"outputs of shape {tuple(outputs.shape)} and targets of shape {tuple(y.shape)}"
            raise UserError(f"least squares of {shapes}: expected the same shape, (examples, numbers per example)")
        return outputs - y


class Itself(Loss):
    """The mean of the outputs, which are the loss already."""

    name = "none"
    convex = False

    def value(self, outputs: Tensor, batch: Batch) -> Tensor:
        return outputs.mean()


def _short(logits: Tensor) -> bool:
    """Whether PyTorch's softmax takes longer along the classes, the last axis, than along another: up to ten times."""
    return logits.shape[-1] < FEW and logits.device.type == "cpu"


def _softmax(logits: Tensor) -> Tensor:
    """Return the probabilities of the classes, ``[B, …, C]``."""
    if not is_together() or not _short(logits):
        return logits.softmax(-1)
    return logits.movedim(-1, 0).contiguous().softmax(0).movedim(0, -1)


def _examples(outputs: Tensor) -> int:
    return outputs.numel() // outputs.shape[-1]


LOSSES: dict[str, Loss] = {loss.name: loss for loss in (CrossEntropy(), LeastSquares(), Itself())}


def is_built_in(loss: Loss) -> bool:
    """Return whether a loss is one of `LOSSES`, or a copy of it from another process."""
    return type(loss) in map(type, LOSSES.values())


def loss(name: str) -> Loss:
    """Return the loss of a name.

    Raises:
        UserError: for an unknown name.
    """
    if name not in LOSSES:
        raise unknown("loss", name, LOSSES)
    return LOSSES[name]
