"""The workloads: our problems, and the same networks and images in the form of PyTorch's own examples."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset, TensorDataset

from relaxbench.problems import SupervisedProblem, networks
from relaxbench.problems.digits import mlp
from relaxbench.problems.registry import problem
from relaxbench.problems.splits import SPLITS

MEAN, STD = 0.1307, 0.3081
"""Mean and standard deviation of MNIST's pixels, as in PyTorch's MNIST example."""
SYNTHETIC = 512
"""Images of a synthetic data set: a few mini-batches, as time and memory do not depend on their content."""


@dataclass(frozen=True)
class Workload:
    """A network and its data, for the engine and for a plain loop.

    Attributes:
        name: of the problem, as in study files.
        network: builds it of plain layers.
        normalized: maps the stored inputs to inputs of the network.
        dataset: makes a data set of single examples from the stored inputs and their labels.
    """

    name: str
    network: Callable[[], nn.Module]
    normalized: Callable[[Tensor], Tensor]
    dataset: Callable[[Tensor, Tensor], Dataset[Any]]

    def problem(self) -> SupervisedProblem:
        """Return the problem of this name."""
        supervised = problem(self.name)
        assert isinstance(supervised, SupervisedProblem)
        return supervised


def normalized_mnist(images: Tensor) -> Tensor:
    """Normalize uint8 images for the network."""
    return (images.float() / 255 - MEAN) / STD


def decoded_mnist(images: Tensor, labels: Tensor) -> Dataset[Any]:
    """Return torchvision's MNIST of these images, as in PyTorch's MNIST example."""
    from relaxbench.bench.decoded_mnist import DecodedMNIST  # torchvision takes a second to import

    return DecodedMNIST(images, labels, MEAN, STD)


WORKLOADS = {
    workload.name: workload
    for workload in (
        Workload("digits-mlp", mlp, lambda x: x, lambda x, y: TensorDataset(x, y)),
        Workload("mnistfc", networks.mnistfc, normalized_mnist, decoded_mnist),
        Workload("lenet", networks.lenet, normalized_mnist, decoded_mnist),
    )
}

SHAPES = {"mnistfc": (1, 28, 28), "lenet": (1, 28, 28), "allcnn": (3, 32, 32)}
"""Image shape of the networks that are measured on noise."""


def synthetic(network: str, batch_size: int = 128) -> SupervisedProblem:
    """Return a problem: a network of `relaxbench.problems.networks` on noise of the right shape."""

    def data() -> dict[str, tuple[Tensor, Tensor]]:
        generator = torch.Generator().manual_seed(0)
        x = torch.randn(SYNTHETIC, *SHAPES[network], generator=generator)
        y = torch.randint(0, 10, (SYNTHETIC,), generator=generator)
        return dict.fromkeys(SPLITS, (x, y))

    return SupervisedProblem(f"{network} on noise", getattr(networks, network), data, batch_size=batch_size)
