"""torchvision's MNIST with the images already decoded."""

from __future__ import annotations

from torch import Tensor
from torchvision import datasets, transforms


class DecodedMNIST(datasets.MNIST):  # type: ignore[misc]
    """torchvision's MNIST with the images already decoded; the cost per example is torchvision's.

    Args:
        images: ``[n, 1, 28, 28]`` uint8.
        labels: ``[n]``.
        mean, std: of the pixels, by which they are normalized.
    """

    def __init__(self, images: Tensor, labels: Tensor, mean: float, std: float) -> None:
        normalize = transforms.Normalize((mean,), (std,))
        datasets.VisionDataset.__init__(self, "", transform=transforms.Compose([transforms.ToTensor(), normalize]))
        self.data, self.targets = images[:, 0], labels
