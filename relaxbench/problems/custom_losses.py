"""Losses of a user's own: a function of outputs and labels, or a loss module of PyTorch."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from relaxbench.errors import UserError
from relaxbench.problems import losses
from relaxbench.problems.losses import Batch, Loss
from relaxbench.problems.structure import Structure


class OwnLoss(Loss):
    """The mean over examples that a function of (outputs, labels) returns. No curvature: CurveBall does not use it.

    `nn.CrossEntropyLoss`, with class weights, label smoothing or `ignore_index`, is a loss of logits ``[B, …, C]``.

    Args:
        function: a module or a function that returns a scalar tensor.

    Attributes:
        structure: the form of the model's outputs, if they are not one tensor.
    """

    convex = False

    def __init__(self, function: Callable[..., Tensor]) -> None:
        self.function, self.structure = function, Structure()
        self.name = type(function).__name__ if isinstance(function, nn.Module) else _name(function)
        self.classifies = isinstance(function, nn.CrossEntropyLoss)
        self.ignored = function.ignore_index if isinstance(function, nn.CrossEntropyLoss) else None

    def value(self, outputs: Tensor, batch: Batch) -> Tensor:
        labels, function = batch["y"], self.function
        if isinstance(function, nn.Module):
            function = self._double if outputs.dtype == torch.float64 else function.to(outputs.device)
        if self.classifies:
            outputs, labels = outputs.flatten(0, -2), labels.flatten()
        elif labels.is_floating_point():
            labels = labels.to(outputs.dtype)
        value: Any = function(self.structure.unpack(outputs), labels)
        if not isinstance(value, Tensor) or value.dim():
            shape = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
            raise UserError(f"loss {self.name!r} gives {shape}: expected a scalar tensor, the mean over the examples")
        return value

    def weight(self, batch: Batch) -> float:
        """Return the number of examples, or what PyTorch's cross-entropy divides by: the sum of the labels' weights."""
        labels, function = batch["y"], self.function
        if not isinstance(function, nn.CrossEntropyLoss) or labels.is_floating_point():
            return super().weight(batch)
        known = labels[labels != function.ignore_index]
        return float(known.numel() if function.weight is None else function.weight.to(known.device)[known].sum())

    def packed(self, outputs: object, examples: int) -> Tensor:
        """Return outputs of any form as one tensor with the examples as first axis."""
        if isinstance(outputs, Tensor) and outputs.dim():
            return outputs
        return self.structure.pack(outputs, examples)

    @cached_property
    def _double(self) -> Callable[..., Tensor]:
        """The module with weights in float64, in which problems are compared (on the CPU)."""
        return (
            copy.deepcopy(self.function).to("cpu", torch.float64)
            if isinstance(self.function, nn.Module)
            else self.function
        )


def loss_of(loss: str | Loss | Callable[..., Tensor]) -> Loss:
    """Return a loss by its name, or of the user's own.

    Raises:
        UserError: for an unknown name, and for something that cannot be called.
    """
    if isinstance(loss, Loss):
        return loss
    if isinstance(loss, str):
        return losses.loss(loss)
    if isinstance(loss, type):
        raise UserError(f"loss is the class {loss.__name__}: give an instance of it, {loss.__name__}()")
    if not callable(loss):
        raise UserError(f"loss = {loss!r}: expected {', '.join(losses.LOSSES)}, or a function of (outputs, labels)")
    return OwnLoss(loss)


def _name(function: Any) -> str:
    return str(getattr(function, "__name__", type(function).__name__))
