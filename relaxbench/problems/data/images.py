"""Labelled images as tensors, and their division into splits, which is the same on every machine."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from relaxbench import random


class Images(NamedTuple):
    """Labelled images.

    Attributes:
        x: uint8 ``[N, channels, height, width]``.
        y: labels, int64 ``[N]``.
    """

    x: Tensor
    y: Tensor


def held_out(data: Images, share: float) -> dict[str, Images]:
    """Divide images into ``"train"`` and ``"validation"``, with the same share of every class.

    Args:
        data: the images.
        share: of the validation split, between 0 and 1.
    """
    mask = _sample(data.y, share, 1)
    return {name: Images(data.x[rows], data.y[rows]) for name, rows in (("train", ~mask), ("validation", mask))}


def part(data: Images, count: int) -> Images:
    """Return about `count` images with the same share of every class; all of them if there are no more."""
    if count >= len(data.y):
        return data
    rows = _sample(data.y, count / len(data.y), 2)
    return Images(data.x[rows], data.y[rows])


def moments(x: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean and standard deviation ``[C]`` of the channels of uint8 images ``[N, C, H, W]``, scaled to [0, 1]."""
    values = torch.arange(256, dtype=torch.float64) / 255
    means, deviations = [], []
    for channel in x.unbind(1):  # a histogram is exact and needs no copy in floating point
        share = torch.bincount(channel.flatten(), minlength=256).double() / channel.numel()
        mean = (share * values).sum()
        means.append(mean)
        deviations.append((share * (values - mean) ** 2).sum().sqrt())
    return torch.stack(means), torch.stack(deviations)


def first_line(error: Exception) -> str:
    """Return the first line of an error's message, or the name of its class if it has none."""
    return next(iter(str(error).splitlines()), "").rstrip(": ") or type(error).__name__


def _sample(y: Tensor, share: float, step: int) -> Tensor:
    """Draw a share of every class: a mask, bool ``[N]``. `step` numbers independent draws."""
    words = random.key(torch.tensor([0]), random.DATA, torch.tensor([step]))
    order = random.permutation(words, len(y)).flatten()
    mask = torch.zeros(len(y), dtype=torch.bool)
    for label, count in _shares(torch.bincount(y), share).items():
        mask[order[y[order] == label][:count]] = True
    return mask


def _shares(counts: Tensor, share: float) -> dict[int, int]:
    """Return how many to draw of each class: at least one, together the share of the whole (largest remainders)."""
    exact = counts.double() * share
    shares = exact.floor().clamp(min=1).where(counts > 0, 0)
    rest = max(0, round(float(exact.sum() - shares.sum())))
    shares[torch.argsort(exact - shares, descending=True, stable=True)[:rest]] += 1
    return {label: int(count) for label, count in enumerate(shares.tolist()) if count}
