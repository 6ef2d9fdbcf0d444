"""The numbers in which a model computes. Parameters, states, losses and statistics are float32 whatever is chosen."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Literal, get_args

import torch

Precision = Literal["float32", "tf32", "bf16"]
PRECISIONS: tuple[Precision, ...] = get_args(Precision)
"""``float32``: products in full; ``tf32``: those of CUDA devices with 10 bits of mantissa; ``bf16``: autocast."""


@contextlib.contextmanager
def products(precision: Precision, device: torch.device) -> Iterator[None]:
    """Within this block, matrix products of a CUDA device are full (which PyTorch's convolutions are not) or TF32."""
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
    """Within this block, one forward pass, layers take part in autocast if that is the precision."""
    return torch.autocast(device.type, torch.bfloat16) if precision == "bf16" else contextlib.nullcontext()
