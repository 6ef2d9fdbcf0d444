"""Precision of training: of parameters, states and losses, which are float32 or float64, and of matrix products."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Literal, get_args

import torch

Precision = Literal["float32", "float64", "tf32", "bf16"]
REDUCED = ("tf32", "bf16")
"""Those with products of fewer bits than the parameters."""
PRECISIONS: tuple[Precision, ...] = get_args(Precision)
"""``float32``: single precision; ``float64``: double, also of parameters, states and losses; ``tf32``: products with 10
bits of mantissa, on CUDA devices alone; ``bf16``: autocast."""


def dtype_of(precision: Precision) -> torch.dtype:
    """Return the type of parameters, states, losses and statistics."""
    return torch.float64 if precision == "float64" else torch.float32


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
