"""The networks of the papers on real images, with the papers' budgets, and small ones for two cores."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path

import torch
from torch import Tensor, nn

from relaxbench.errors import UserError
from relaxbench.problems import data, networks
from relaxbench.problems.problem import Params
from relaxbench.problems.supervised import SupervisedProblem

MNIST = (0.1307,), (0.3081,)
"""Mean and standard deviation of its pixels, from 0 to 1."""


class ImageProblem(SupervisedProblem):
    """A network on images that are held as uint8, and normalized where they are used.

    Args:
        name: as in study files.
        network: a function without arguments that builds it.
        source: a name of `data.SOURCES`.
        normalization: means and standard deviations of the channels, for pixels from 0 to 1.
        options: as for `SupervisedProblem`.
    """

    def __init__(
        self,
        name: str,
        network: Callable[[], nn.Module],
        source: str,
        normalization: tuple[Sequence[float], Sequence[float]],
        **options: object,
    ) -> None:
        self.source = data.SOURCES[source]
        super().__init__(name, network, lambda: _splits(source, data.data_dir()), source=self.source.title, **options)  # type: ignore[arg-type]
        self._mean, self._std = (torch.tensor(values).view(-1, 1, 1) for values in normalization)

    @property
    def data(self) -> str:  # type: ignore[override]
        """Source and sizes of the splits, or that it is not here."""
        if self.missing():
            return f"{self.source.title}, not here: set RELAXBENCH_DATA to the folder that holds {self.source.layout}"
        return super().data

    def missing(self) -> str:
        try:
            self.tensors  # noqa: B018
        except UserError as error:
            return str(error)
        return ""

    def _call(self, params: Params, x: Tensor) -> object:
        dtype = next(iter(params.values())).dtype
        mean, std = (values.to(x.device, dtype) for values in (self._mean, self._std))
        return super()._call(params, (x.to(dtype) / 255 - mean) / std)


def mnist(name: str, network: Callable[[], nn.Module], title: str, *, small: bool = False) -> ImageProblem:
    """A network on MNIST: 100 epochs as in the papers, or three."""
    return ImageProblem(
        f"{name}-small" if small else name,
        network,
        "mnist",
        MNIST,
        batch_size=128,
        budget=3 * 390 if small else 100 * 390,
        rounds=5 if small else 50,
        worst=10.0,
        margin=0.1,
        title=f"{title}, {'3' if small else '100'} epochs of MNIST",
        caution="Three epochs are a demonstration: published errors are those of 60 to 200 epochs." if small else "",
    )


def mnistfc(small: bool = False) -> ImageProblem:
    """Full layers with dropout and batch normalization (Entropy-SGD, arXiv 1611.01838)."""
    return mnist("mnistfc", networks.mnistfc, "784-1024-1024-10 network", small=small)


def lenet(small: bool = False) -> ImageProblem:
    """LeNet with dropout and batch normalization (Entropy-SGD, arXiv 1611.01838)."""
    return mnist("lenet", networks.lenet, "LeNet", small=small)


def mnist_tanh(small: bool = False) -> ImageProblem:
    """The tanh network of CurveBall (arXiv 1805.08095)."""
    return mnist("mnist-mlp-tanh", networks.mnist_tanh, "784-128-64-32-10 tanh network", small=small)


@cache
def _splits(source: str, folder: Path) -> dict[str, tuple[Tensor, Tensor]]:
    """Once in a process, for all problems on a source."""
    published = data.images(source)
    return {**data.held_out(published["train"], data.SOURCES[source].held_out), "test": published["test"]}
