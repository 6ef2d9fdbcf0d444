"""All-CNN-BN, a network that fills a machine alone: seconds an epoch, and the share of the device's arithmetic used."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from relaxbench.bench.interleave import Contender, interleaved, median_ratio, stretch
from relaxbench.bench.plain_loop import PlainLoop, resident
from relaxbench.bench.trials import Flight
from relaxbench.bench.workloads import SHAPES, synthetic
from relaxbench.problems import networks
from relaxbench.training.precision import Precision

BATCH, QUICK_BATCH = 128, 16
IMAGES = 45_000
"""Of CIFAR-10, less a tenth for validation."""
ROUNDS, SECONDS = 5, 1.0
TARGETS = {"cuda": 0.5}
"""Seconds an epoch, of one H200."""
SIDE = {"cpu": 2048, "cuda": 8192}
"""Of the square matrices whose product shows what the device can do."""


class Product:
    """Products of two large square matrices. Satisfies `interleave.Contender`; counts FLOPs.

    Args:
        device: where.
        side: of the matrices.
        convolution: as a convolution of size 1, which is the same product by another library; on some processors that
            one is much the faster.
        dtype: of the matrices.
    """

    def __init__(self, device: torch.device, side: int, convolution: bool, dtype: torch.dtype = torch.float32) -> None:
        self.device, self.side, self.convolution = device, side, convolution
        shapes = ((side, side, 1, 1), (side // 64, side, 8, 8)) if convolution else ((side, side), (side, side))
        self.a, self.b = (torch.randn(shape, device=device).to(dtype) for shape in shapes)

    @torch.no_grad()
    def step(self) -> int:
        """One product."""
        if self.convolution:
            nn.functional.conv2d(self.b, self.a)
        else:
            torch.mm(self.a, self.b)
        return 2 * self.side**3

    def rate(self, seconds: float) -> float:
        """FLOPs a second."""
        return stretch(self.step, seconds / 2, self.device)


def measure(device: torch.device, quick: bool, tell: Callable[[str], object]) -> dict[str, Any]:
    """Rates of a step of ours and of the plain loop, beside products of matrices of the same type."""
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
    """From rates of every round: seconds an epoch, FLOPs a second, and their share of the faster product's."""
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
    }  # fmt: skip


def gradient_flops(network: str, batch_size: int) -> int:
    """FLOPs of the matrix products and convolutions of one gradient, as PyTorch counts them; nothing is computed."""
    with torch.device("meta"):
        model: nn.Module = getattr(networks, network)()
        x, y = torch.empty(batch_size, *SHAPES[network]), torch.zeros(batch_size, dtype=torch.int64)
    with FlopCounterMode(display=False) as counter:
        loss: Tensor = nn.functional.cross_entropy(model(x), y)
        torch.autograd.backward(loss)
    return int(counter.get_total_flops())
