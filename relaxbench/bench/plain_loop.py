"""Baseline: a carefully written loop in plain PyTorch, with data in memory or from a DataLoader."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from relaxbench.bench.interleave import stretch
from relaxbench.bench.processes import fresh
from relaxbench.bench.workloads import Workload
from relaxbench.training.precision import Precision, forward
from relaxbench.util.pause import sleep

Batches = Iterator[tuple[Tensor, Tensor]]
SETTLE = 0.1
"""Seconds of pause after a stretch: the loader's workers refill their queues before others are timed."""


class PlainLoop:
    """One model, trained step by step. Satisfies `interleave.Contender`.

    Args:
        network: of plain layers.
        batches: endless, on the device.
        device: where the model is trained.
        workers: processes that load the data.
        lead: untimed steps before a stretch; with workers, also as many as have their data prefetched.
        precision: of the forward pass.
    """

    def __init__(
        self,
        network: nn.Module,
        batches: Batches,
        device: torch.device,
        workers: int = 0,
        lead: int = 1,
        precision: Precision = "float32",
    ) -> None:
        self.precision = precision
        self.network, self.batches, self.device = network.to(device).train(), batches, device
        self.workers, self.lead = workers, lead + 2 * workers
        self.optimizer = torch.optim.SGD(
            self.network.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-4, nesterov=True, foreach=True
        )

    def step(self) -> int:
        """Make one step."""
        x, y = next(self.batches)
        self.optimizer.zero_grad(set_to_none=True)
        with forward(self.precision, self.device):
            loss = nn.functional.cross_entropy(self.network(x), y)
        torch.autograd.backward(loss)
        self.optimizer.step()
        return 1

    def rate(self, seconds: float) -> float:
        """Return steps per second."""
        rate = stretch(self.step, seconds, self.device, self.lead)
        if self.workers:
            sleep(SETTLE)
        return rate


def resident(x: Tensor, y: Tensor, size: int) -> Batches:
    """Yield mini-batches of data in the memory of the device; shuffle every epoch and drop the last, partial one."""
    while True:
        order = torch.randperm(len(x), device=x.device)
        for first in range(0, len(x) - size + 1, size):
            index = order[first : first + size]
            yield x[index], y[index]


def loaded(data: Dataset[Any], size: int, workers: int, device: torch.device) -> Batches:
    """Yield mini-batches that a DataLoader collates from single examples; shuffle every epoch."""
    on_gpu = device.type == "cuda"
    loader = DataLoader(
        data,
        size,
        shuffle=True,
        drop_last=True,
        num_workers=workers,
        pin_memory=on_gpu,
        persistent_workers=workers > 0,
        multiprocessing_context=fresh(device) if workers else None,
    )
    while True:
        for x, y in loader:
            yield x.to(device, non_blocking=on_gpu), y.to(device, non_blocking=on_gpu)


def in_memory(workload: Workload, device: torch.device) -> PlainLoop:
    """Return the loop of a workload on its training data, normalized and in the memory of the device."""
    problem = workload.problem()
    x, y = problem.tensors["train"]
    batches = resident(workload.normalized(x).to(device), y.to(device), problem.batch_size)
    return PlainLoop(workload.network(), batches, device)
