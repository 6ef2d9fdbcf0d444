"""Refuse models whose parameters cannot be one vector of real numbers, before they fail far from their cause."""

from __future__ import annotations

import inspect
from collections.abc import Callable

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parameter import is_lazy

from relaxbench.errors import UserError
from relaxbench.problems.arguments import failure

REPLACED = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
"""Layers whose running statistics a population replaces."""


def checked(build: Callable[[], object]) -> Callable[[], object]:
    """Return the model function with checks of itself and of what it returns; see `refuse_unsupported`."""

    def model() -> object:
        refuse_uncallable(build)
        try:
            made = build()
        except (UserError, MemoryError):
            raise
        except Exception as error:
            raise UserError(f"the model function fails ({failure(error)}): mend it") from error
        if isinstance(made, nn.Module):
            refuse_unsupported(made)
        return made

    return model


def refuse_uncallable(build: object) -> None:
    """Check that a model function can be called without arguments.

    Raises:
        UserError: for a model in its place, and for a function or class that needs arguments.
    """
    if isinstance(build, nn.Module) or not callable(build):
        raise UserError(
            f"the model is an instance of {type(build).__name__}: expected a function without arguments that returns a "
            "new model, because every trial begins with weights of its own"
        )
    try:
        inspect.signature(build).bind()
    except ValueError:  # a builtin, whose arguments are not known
        return
    except TypeError as error:
        name = getattr(build, "__name__", type(build).__name__)
        raise UserError(
            f"the model function {name} cannot be called without arguments ({error}): expected a function without "
            f"arguments that returns a new model, such as lambda: {name}(...)"
        ) from None


def refuse_unsupported(model: nn.Module) -> None:
    """Check the parameters and layers of a model.

    Raises:
        UserError: for lazy and complex parameters, sparse gradients, and subclasses of batch normalization.
    """
    for name, parameter in model.named_parameters():
        if is_lazy(parameter):
            raise UserError(
                f"parameter {name!r} of the model has no shape yet, as in nn.LazyLinear: call the model once on an "
                "example in the model function, before it returns it, or use nn.Linear"
            )
        if parameter.is_complex():
            raise UserError(
                f"parameter {name!r} of the model is {_kind(parameter.dtype)}: expected real numbers: keep real and "
                "imaginary parts in a last axis of 2, and use torch.view_as_complex in forward"
            )
    for name, layer in model.named_modules():
        if getattr(layer, "sparse", False) and isinstance(layer, nn.Embedding | nn.EmbeddingBag):
            raise UserError(
                f"layer {name!r} ({type(layer).__name__}) has sparse=True: expected dense gradients, which every "
                "method can use: leave sparse out"
            )
        bases = [kind.__name__ for kind in REPLACED if isinstance(layer, kind)]
        if bases and type(layer) not in REPLACED and isinstance(layer, _BatchNorm) and layer.running_mean is not None:
            raise UserError(
                f"layer {name!r} ({type(layer).__name__}) is a subclass of {bases[0]}, which is not replaced, and "
                f"keeps running statistics, which a population does not have: use nn.{bases[0]} itself, "
                "track_running_stats=False, or another layer such as GroupNorm"
            )


def mixed_types(model: nn.Module) -> str:
    """Say which trained parameters have different types; "" if none do."""
    trained = [(name, p.dtype) for name, p in model.named_parameters() if p.requires_grad]
    first, kind = next(iter(trained), ("", torch.float32))
    other = next(((name, each) for name, each in trained if each != kind), None)
    return f"{first!r} is {_kind(kind)}, and {other[0]!r} {_kind(other[1])}" if other else ""


def _kind(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
