"""Global contrast normalization and ZCA whitening, as in the CIFAR-10 experiments of Entropy-SGD (arXiv 1611.01838)."""

from __future__ import annotations

import torch
from torch import Tensor

from relaxbench.problems.data.cache import cached, fingerprint

EPSILON = 1e-5
"""Added to standard deviations before a division."""
PIECE = 2048
"""Images per matrix product."""


def normalize_contrast(x: Tensor) -> Tensor:
    """Scale every image ``[N, C, H, W]`` to mean 0 and deviation 1 over its pixels; return float64 ``[N, C H W]``."""
    flat = x.flatten(1).double()
    flat = flat - flat.mean(dim=1, keepdim=True)
    return flat / flat.square().mean(dim=1, keepdim=True).sqrt().clamp(min=EPSILON)


class Whitening:
    """W = U diag(1 / (S + 1e-5)) Uᵀ, where U diag(S²) Uᵀ is the covariance of the pixels of training images.

    Args:
        train: uint8 images ``[N, C, H, W]``.
        name: name of the data, for the cache: the decomposition of a 3,072 × 3,072 matrix takes several seconds.
    """

    def __init__(self, train: Tensor, name: str) -> None:
        self.mean, self.matrix = cached(f"zca-{name}", fingerprint([("x", train)]), lambda: _fit(train)).values()

    def __call__(self, x: Tensor) -> Tensor:
        """Normalize the contrast of images and whiten them; return float32 in the shape of `x`."""
        pieces = [(normalize_contrast(piece) - self.mean) @ self.matrix for piece in torch.split(x, PIECE)]
        return torch.cat([piece.float() for piece in pieces]).view(x.shape)


def _fit(train: Tensor) -> dict[str, Tensor]:
    size = train[0].numel()
    total, square = torch.zeros(size, dtype=torch.float64), torch.zeros(size, size, dtype=torch.float64)
    for piece in torch.split(train, PIECE):
        flat = normalize_contrast(piece)
        total += flat.sum(dim=0)
        square += flat.T @ flat
    mean = total / len(train)
    values, vectors = torch.linalg.eigh(square / len(train) - torch.outer(mean, mean))
    deviation = values.clamp(min=0).sqrt()
    return {"mean": mean, "matrix": vectors @ torch.diag(1 / (deviation + EPSILON)) @ vectors.T}
