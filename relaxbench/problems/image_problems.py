"""Networks on images with the budgets of the papers, and with small budgets for two cores.

A name is that of a network, with ``-small`` for its small budget, and with a colon for other data than the paper's:
``lenet-small``, ``allcnn-bn:cifar100``, ``resnet18:flowers.tar.xz``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, cached_property, partial
from pathlib import Path
from typing import Unpack

import torch
from torch import Tensor, nn

from relaxbench.errors import UserError, unknown
from relaxbench.problems import networks
from relaxbench.problems.data import published, sources
from relaxbench.problems.data.augment import crop_and_flip
from relaxbench.problems.data.images import Images, held_out, moments, part
from relaxbench.problems.data.whitening import Whitening
from relaxbench.problems.losses import Batch
from relaxbench.problems.problem import Params
from relaxbench.problems.splits import SPLITS
from relaxbench.problems.supervised import ProblemOptions, StoredProblem

DEEP_RELAXATION, CURVEBALL = "arXiv 1704.04932", "arXiv 1805.08095"


@dataclass(frozen=True)
class Small:
    """A budget that two cores finish in minutes.

    Attributes:
        budget: gradients per trial.
        batch_size: images per gradient.
        sizes: maximum numbers of images for training, validation and test; None: all.
        statistics: maximum number of training images on which batch normalization is measured.
    """

    budget: int
    batch_size: int = 128
    sizes: tuple[int, int, int] | None = None
    statistics: int = 8192


@dataclass(frozen=True)
class Recipe:
    """A network, and how a paper trains it.

    Attributes:
        network: from a number of classes to the network.
        title: one line.
        source: name of the paper's data set; "" if it is not public.
        budget: gradients per trial.
        small: the small variant.
        batch_size: images per gradient.
        shape: ``(channels, height, width)`` of the images that the network takes; None for any.
        size: height and width to which images of a folder are scaled; None: they are used as they are.
        published: the paper's result of SGD, for comparison.
        augment: whether training images are shifted and mirrored.
        whiten: whether global contrast normalization and ZCA replace the normalization of the channels.
        kind: of problem, see `Problem`.
    """

    network: Callable[[int], nn.Module]
    title: str
    source: str
    budget: int
    small: Small
    batch_size: int = 128
    shape: tuple[int, int, int] | None = None
    size: int | None = None
    published: str = ""
    augment: bool = False
    whiten: bool = False
    kind: str = "cifar-10"


MNIST, CIFAR, IMAGENET = (1, 28, 28), (3, 32, 32), (3, 224, 224)
LITTLE = (5000, 500, 1000)
"""Numbers of images for small budgets of large networks, for which a measurement takes seconds on two cores."""
_mnist = partial(Recipe, source="mnist", budget=100 * 390, small=Small(3 * 390), shape=MNIST)
_allcnn = partial(
    Recipe, networks.allcnn, source="cifar10", budget=200 * 351, small=Small(150, 32, LITTLE, 512), shape=CIFAR
)
_basic = partial(Recipe, source="cifar10", budget=100 * 351, small=Small(3 * 351), shape=CIFAR)
_resnet = partial(Recipe, source="cifar10", budget=200 * 351, small=Small(100, 32, LITTLE, 512))

RECIPES: dict[str, Recipe] = {
    "mnistfc": _mnist(
        networks.mnistfc,
        "784-1024-1024-10 network",
        published=f"SGD 1.10 ± 0.01 % ({DEEP_RELAXATION})",
        kind="fully-connected",
    ),
    "lenet": _mnist(networks.lenet, "LeNet", published=f"SGD 0.50 ± 0.02 % ({DEEP_RELAXATION})", kind="mnist-conv"),
    "mnist-mlp-tanh": _mnist(
        networks.mnist_tanh,
        "784-128-64-32-10 tanh network",
        budget=100 * 781,
        small=Small(3 * 781, 64),
        batch_size=64,
        kind="fully-connected",
    ),
    "allcnn-bn": _allcnn("All-CNN-BN"),
    "allcnn-bn-zca": _allcnn(
        "All-CNN-BN, contrast-normalized and whitened", published=f"SGD 7.94 ± 0.06 % ({DEEP_RELAXATION})", whiten=True
    ),
    "allcnn-bn-augmented": _allcnn(
        "All-CNN-BN with crops and flips", published="SGD 6.15 % (arXiv 1707.00424)", augment=True
    ),
    "cifar-basic": _basic(
        networks.cifar_basic,
        "small convolutional network",
        published=f"SGD 21.1 % ({CURVEBALL})",
    ),
    "cifar-basic-bn": _basic(
        partial(networks.cifar_basic, batch_norm=True),
        "small convolutional network with batch normalization",
        published=f"SGD 16.1 % ({CURVEBALL})",
    ),
    "resnet18": _resnet(networks.resnet18, "ResNet-18 with a 3 × 3 stem"),
    "resnet18-augmented": _resnet(networks.resnet18, "ResNet-18 with a 3 × 3 stem, with crops and flips", augment=True),
    "resnet18-imagenet-stem": _resnet(
        partial(networks.resnet18, small=False),
        "ResNet-18 with its ImageNet stem",
        published=f"SGD 12.8 % ({CURVEBALL})",
    ),
    "vggf": Recipe(
        networks.vggf, "VGG-f with batch normalization", "", 20 * 4500, Small(60, 32, LITTLE, 256), 256, IMAGENET, 224
    ),
}


class ImageProblem(StoredProblem):
    """A network on images, which are held as uint8 and normalized (shifted, mirrored) on the device.

    Args:
        name: as in study files.
        network: from a number of classes to the network.
        source: a name of `published.SOURCES`, or the path of a folder or an archive; "" if the user must name one.
        shape: ``(channels, height, width)`` of the images that the network takes; None for any.
        size: height and width to which images of a folder are scaled; None: they must all have one size.
        sizes: maximum numbers of images for training, validation and test; None: all.
        augment: shift training images by up to 4 pixels and mirror half of them.
        whiten: global contrast normalization and ZCA, instead of a normalization of the channels.
        options: keyword arguments of `SupervisedProblem`.
    """

    def __init__(
        self,
        name: str,
        network: Callable[[int], nn.Module],
        source: str,
        *,
        shape: tuple[int, int, int] | None = None,
        size: int | None = None,
        sizes: tuple[int, int, int] | None = None,
        augment: bool = False,
        whiten: bool = False,
        **options: Unpack[ProblemOptions],
    ) -> None:
        self.source = sources.source(source, size) if source else sources.UserImages(name)
        super().__init__(name, lambda: network(self.source.classes), self._images, source=self.source.title, **options)
        self._shape, self._sizes, self._augment, self._whiten = shape, sizes, augment, whiten

    @property
    def data(self) -> str:  # type: ignore[override]
        """Source and sizes of the splits, or that the data are missing."""
        return f"{self.source.title} ({self.source.layout}), not here" if self.missing() else super().data

    def download(self) -> None:
        self.source.download()

    def outputs(self, params: Params, batch: Batch, training: bool) -> Tensor:
        if training and self._augment:
            batch = {**batch, "x": crop_and_flip(batch["x"], batch["seed"], batch["step"])}
        return super().outputs(params, batch, training)

    def _call(self, params: Params, x: Tensor, y: Tensor | None) -> object:
        dtype = next(iter(params.values())).dtype
        if x.dtype == torch.uint8:
            scale, shift = (values.to(x.device, dtype) for values in self._moments)
            x = x.to(dtype).mul_(scale).sub_(shift)
        return super()._call(params, x, y)

    @cached_property
    def _splits(self) -> dict[str, Images]:
        """All images, held once per process for all problems on a source."""
        return _read(self.source, published.data_dir())

    @cached_property
    def _moments(self) -> tuple[Tensor, Tensor]:
        """Scale and shift ``[C, 1, 1]`` that give pixels from 0 to 255 mean 0 and deviation 1 per channel."""
        mean, std = (values.view(-1, 1, 1) for values in moments(self._splits["train"].x))
        std = std.clamp(min=1 / 255)  # for a constant channel
        return 1 / (255 * std), mean / std

    def _images(self) -> dict[str, tuple[Tensor, Tensor]]:
        splits = self._splits
        actual = tuple(splits["train"].x.shape[1:])
        if self._shape is not None and actual != self._shape:
            takes, has = (" × ".join(map(str, shape)) for shape in (self._shape, actual))
            raise UserError(
                f"problem {self.name!r} takes images of {takes} (channels × height × width), and those of "
                f"{self.source.title} are {has}: choose other data, or convert them"
            )
        if self._sizes is not None:
            splits = {name: part(splits[name], count) for name, count in zip(SPLITS, self._sizes, strict=True)}
        if not self._whiten:
            return dict(splits)
        whitening = Whitening(self._splits["train"].x, self.source.name)
        return {name: (whitening(images.x), images.y) for name, images in splits.items()}


def image_problem(name: str) -> ImageProblem:
    """Make the problem of a name such as ``lenet``, ``lenet-small`` or ``allcnn-bn:cifar10-jpeg75.tar.xz``.

    Raises:
        UserError: if the network or the data set is unknown.
    """
    network, _, source = name.partition(":")
    base = network.removesuffix("-small")
    if base not in RECIPES:
        raise unknown("network on images", base, RECIPES)
    recipe, small = RECIPES[base], network != base
    if ":" in name and not source:
        raise UserError(f"problem {name!r} names no data after the colon: expected a data set, a folder or an archive")
    budget = recipe.small.budget if small else recipe.budget
    where = sources.source(source or recipe.source) if source or recipe.source else None
    return ImageProblem(
        f"{network}:{where.name}" if source and where else network,
        recipe.network,
        source or recipe.source,
        shape=recipe.shape,
        size=recipe.size,
        sizes=recipe.small.sizes if small else None,
        augment=recipe.augment,
        whiten=recipe.whiten,
        batch_size=recipe.small.batch_size if small else recipe.batch_size,
        budget=budget,
        most_rounds=5 if small else 50,
        worst=10.0,
        margin=0.1,
        kind=recipe.kind,
        statistics_limit=recipe.small.statistics if small else 8192,
        title=f"{recipe.title} on {where.title}" if where else recipe.title,
        published="" if source else recipe.published,
        caution="A small budget is a demonstration: networks are trained for 60 to 200 epochs." if small else "",
    )


@cache
def _read(source: sources.Source, folder: Path) -> dict[str, Images]:
    splits = source.published()
    if "validation" in splits:
        return splits
    return {**held_out(splits["train"], source.held_out), "test": splits["test"]}
