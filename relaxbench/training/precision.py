"""Precision of training: of parameters, states and losses, which are float32 or float64, and of matrix products."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Literal, get_args

import torch

from relaxbench.errors import UserError
from relaxbench.problems import Problem

Precision = Literal["float32", "float64", "tf32", "bf16"]
REDUCED = ("tf32", "bf16")
"""Those with products of fewer bits than the parameters."""
PRECISIONS: tuple[Precision, ...] = get_args(Precision)
"""``float32``: single precision; ``float64``: double, also of parameters, states and losses; ``tf32``: products with 10
bits of mantissa, on CUDA devices alone; ``bf16``: autocast."""


def dtype_of(precision: Precision) -> torch.dtype:
    """Return the type of parameters, states, losses and statistics."""
    return torch.float64 if precision == "float64" else torch.float32


def precision_of(problem: Problem, asked: Precision) -> Precision:
    """Return the precision in which a problem is trained: that of the study, unless the problem declares float64.

    Raises:
        UserError: if products of fewer bits are asked for on a problem that declares float64.
    """
    if problem.dtype != torch.float64:
        return asked
    if asked in REDUCED:
        raise UserError(
            f"precision = {asked!r}: problem {problem.name!r} is trained in float64, because rounding would end its "
            "training early: leave the precision out"
        )
    return "float64"


def dtype_for(problem: Problem, asked: Precision) -> torch.dtype:
    """Return the type of parameters, states and losses of a problem, see `precision_of`."""
    return dtype_of(precision_of(problem, asked))


@contextlib.contextmanager
def products(precision: Precision, device: torch.device) -> Iterator[None]:
    """Set the precision of matrix products and convolutions of a CUDA device within this block."""
    if device.type != "cuda":
        yield
        return
    before = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    torch.set_float32_matmul_precision("high" if precision in REDUCED else "highest")
    torch.backends.cudnn.allow_tf32 = precision in REDUCED
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before[0])
        torch.backends.cudnn.allow_tf32 = before[1]


def forward(precision: Precision, device: torch.device) -> contextlib.AbstractContextManager[object]:
    """Return the autocast context of one forward pass for ``bf16``, else an empty context."""
    return torch.autocast(device.type, torch.bfloat16) if precision == "bf16" else contextlib.nullcontext()
