"""Precision of a model's matrix products. Parameters, states, losses and statistics are always float32."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Literal, get_args

import torch

Precision = Literal["float32", "tf32", "bf16"]
PRECISIONS: tuple[Precision, ...] = get_args(Precision)
"""``float32``: full precision; ``tf32``: 10 bits of mantissa, on CUDA devices alone; ``bf16``: autocast."""


@contextlib.contextmanager
def products(precision: Precision, device: torch.device) -> Iterator[None]:
    """Set the precision of matrix products and convolutions of a CUDA device within this block."""
    if device.type != "cuda":
        yield
        return
    before = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    torch.set_float32_matmul_precision("highest" if precision == "float32" else "high")
    torch.backends.cudnn.allow_tf32 = precision != "float32"
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before[0])
        torch.backends.cudnn.allow_tf32 = before[1]


def forward(precision: Precision, device: torch.device) -> contextlib.AbstractContextManager[object]:
    """Return the autocast context of one forward pass for ``bf16``, else an empty context."""
    return torch.autocast(device.type, torch.bfloat16) if precision == "bf16" else contextlib.nullcontext()
