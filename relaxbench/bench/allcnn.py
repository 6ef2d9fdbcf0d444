"""All-CNN-BN, whose single model fills a machine: seconds per epoch, and the share of the device's peak FLOP/s."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from relaxbench.bench.flight import Flight
from relaxbench.bench.interleave import Contender, interleaved, median_ratio, stretch
from relaxbench.bench.plain_loop import PlainLoop, resident
from relaxbench.bench.workloads import SHAPES, synthetic
from relaxbench.problems import networks
from relaxbench.training.precision import Precision

BATCH, QUICK_BATCH = 128, 16
IMAGES = 45_000
"""Training images of CIFAR-10, without a tenth for validation."""
ROUNDS, SECONDS = 5, 1.0
TARGETS = {"cuda": 0.5}
"""Seconds per epoch on one H200."""
SIDE = {"cpu": 2048, "cuda": 8192}
"""Side of the square matrices whose product measures the peak of the device."""


class Product:
    """Products of two large square matrices. Satisfies `interleave.Contender`; counts FLOPs.

    Args:
        device: that computes.
        side: of the matrices.
        convolution: compute it as a convolution of size 1: the same product by another library, which is much faster
            on some processors.
        dtype: of the matrices.
    """

    def __init__(self, device: torch.device, side: int, convolution: bool, dtype: torch.dtype = torch.float32) -> None:
        self.device, self.side, self.convolution = device, side, convolution
        shapes = ((side, side, 1, 1), (side // 64, side, 8, 8)) if convolution else ((side, side), (side, side))
        self.a, self.b = (torch.randn(shape, device=device).to(dtype) for shape in shapes)

    @torch.no_grad()
    def step(self) -> int:
        """Compute one product."""
        if self.convolution:
            nn.functional.conv2d(self.b, self.a)
        else:
            torch.mm(self.a, self.b)
        return 2 * self.side**3

    def rate(self, seconds: float) -> float:
        """Return FLOPs per second."""
        return stretch(self.step, seconds / 2, self.device)


def measure(device: torch.device, quick: bool, tell: Callable[[str], object]) -> dict[str, Any]:
    """Measure steps of ours and of the plain loop in turn with matrix products of the same type."""
    batch = QUICK_BATCH if quick else BATCH
    problem = synthetic("allcnn", batch)
    x, y = (part.to(device) for part in problem.tensors["train"])
    tell("All-CNN-BN: the first step")
    side = SIDE[device.type]
    precision: Precision = "bf16" if device.type == "cuda" else "float32"
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    contenders: dict[str, Contender] = {
        "ours": Flight(problem, "direct", 1, device, lead=0, precision=precision),
        "plain": PlainLoop(networks.allcnn(), resident(x, y, batch), device, lead=0, precision=precision),
        "product": Product(device, side, False, dtype),
        "convolution": Product(device, side, True, dtype),
    }
    contenders["plain"].rate(0)
    tell("All-CNN-BN, a plain loop, and products of large matrices in turn")
    rates = interleaved(contenders, 1 if quick else ROUNDS, SECONDS)
    return {
        "batch_size": batch,
        "steps_per_epoch": IMAGES // batch,
        "flops_per_step": gradient_flops("allcnn", batch),
        "side": side,
        "arithmetic": precision,
        "target": TARGETS.get(device.type),
        "rates": rates,
    } | derived(rates, IMAGES // batch, gradient_flops("allcnn", batch))


def derived(rates: dict[str, list[float]], steps: int, flops: int) -> dict[str, Any]:
    """Derive from all rounds: seconds per epoch, FLOPs per second, and the share of the faster product."""
    peaks = [max(pair) for pair in zip(rates["product"], rates["convolution"], strict=True)]
    ways = {}
    for name in ("ours", "plain"):
        used = [rate * flops for rate in rates[name]]
        ways[name] = {
            "seconds_per_epoch": steps / statistics.median(rates[name]),
            "flops_per_second": statistics.median(used),
            "fraction": median_ratio(used, peaks),
        }
    return {
        "peak": statistics.median(peaks),
        "ways": ways,
        "against": median_ratio(rates["ours"], rates["plain"]),
    }


def gradient_flops(network: str, batch_size: int) -> int:
    """Count the FLOPs of the matrix products and convolutions of one gradient with PyTorch, without computing it."""
    with torch.device("meta"):
        model: nn.Module = getattr(networks, network)()
        x, y = torch.empty(batch_size, *SHAPES[network]), torch.zeros(batch_size, dtype=torch.int64)
    with FlopCounterMode(display=False) as counter:
        loss: Tensor = nn.functional.cross_entropy(model(x), y)
        torch.autograd.backward(loss)
    return int(counter.get_total_flops())
