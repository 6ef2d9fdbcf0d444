"""Outputs that are a dict, a tuple, a dataclass or a scalar, packed into one tensor per batch and back."""

from __future__ import annotations

import dataclasses
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as trees

from relaxbench.errors import UserError


class Structure:
    """The form of a model's outputs, learned from the first ones.

    The engine measures splits in pieces and trains members together, so outputs are one tensor ``[B, F]`` to it. A
    scalar among them, such as a loss that is computed within ``forward``, counts for each of the B examples, so that
    its mean over pieces is the mean over all examples. What is no tensor (None, a number) is kept as it is.
    """

    def __init__(self) -> None:
        self._form: tuple[Any, ...] | None = None

    def pack(self, outputs: object, examples: int) -> Tensor:
        """Return outputs ``[B, …]`` (and scalars) as one tensor ``[B, F]``.

        Raises:
            UserError: if they hold no tensor of numbers with a first axis of examples, or another form than before.
        """
        leaves, tree = trees.tree_flatten(plain(outputs))
        tensors = [leaf for leaf in leaves if isinstance(leaf, Tensor)]
        for tensor in tensors:
            if not tensor.is_floating_point() or (tensor.dim() and len(tensor) != examples):
                kind, shape = str(tensor.dtype).removeprefix("torch."), tuple(tensor.shape)
                raise UserError(
                    f"the model returned {type(outputs).__name__} with a tensor of shape {shape} ({kind}) for "
                    f"{examples} examples: expected floating-point numbers with the examples as first axis, or a scalar"
                )
        if not tensors:
            raise UserError(f"the model returned {type(outputs).__name__} without a tensor: expected one or more")
        shapes = [(leaf.shape[1:] if leaf.dim() else None) if isinstance(leaf, Tensor) else leaf for leaf in leaves]
        kinds = [isinstance(leaf, Tensor) for leaf in leaves]
        form = (tree, kinds, shapes, type(outputs))
        if self._form is not None and form != self._form:
            raise UserError(f"the model returned {type(outputs).__name__} of two different forms: expected always one")
        self._form = form
        flat = [tensor.reshape(examples, -1) if tensor.dim() else tensor.expand(examples, 1) for tensor in tensors]
        return torch.cat(flat, dim=1)

    def unpack(self, outputs: Tensor) -> Any:
        """Return what was packed: the structure with tensors ``[B, …]``, and scalars as means over the examples."""
        if self._form is None:
            return outputs
        tree, kinds, shapes, cls = self._form
        leaves, place = [], 0
        for is_tensor, shape in zip(kinds, shapes, strict=True):
            if not is_tensor:
                leaves.append(shape)
                continue
            size = 1 if shape is None else shape.numel()
            part, place = outputs[:, place : place + size], place + size
            leaves.append(part.mean() if shape is None else part.reshape(len(outputs), *shape))
        value = trees.tree_unflatten(leaves, tree)
        return _made(cls, value) if dataclasses.is_dataclass(cls) and type(value) is dict else value


def plain(outputs: object) -> object:
    """Return a dataclass that PyTorch does not know as a dict of its fields."""
    known = type(outputs) in trees.SUPPORTED_NODES
    if dataclasses.is_dataclass(outputs) and not isinstance(outputs, type) and not known:
        return {field.name: getattr(outputs, field.name) for field in dataclasses.fields(outputs)}
    return outputs


def _made(cls: Any, fields: dict[str, Any]) -> Any:
    """Return the dataclass with these fields, without its ``__post_init__``, which has had its say."""
    value = object.__new__(cls)
    for name, field in fields.items():
        object.__setattr__(value, name, field)
    return value
