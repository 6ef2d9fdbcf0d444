"""Labelled images as tensors, and their division into splits: the same images on every machine."""

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
    """``"train"`` and ``"validation"``: the same share of every class, always the same images."""
    chosen = _chosen(data.y, share, 1)
    return {name: Images(data.x[rows], data.y[rows]) for name, rows in (("train", ~chosen), ("validation", chosen))}


def part(data: Images, count: int) -> Images:
    """About `count` images, the same share of every class; all where there are no more."""
    if count >= len(data.y):
        return data
    rows = _chosen(data.y, count / len(data.y), 2)
    return Images(data.x[rows], data.y[rows])


def moments(x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of each channel of uint8 images ``[N, C, H, W]``, for pixels from 0 to 1."""
    values = torch.arange(256, dtype=torch.float64) / 255
    means, deviations = [], []
    for channel in x.unbind(1):  # counted, which is exact and needs no copy in floating point
        share = torch.bincount(channel.flatten(), minlength=256).double() / channel.numel()
        mean = (share * values).sum()
        means.append(mean)
        deviations.append((share * (values - mean) ** 2).sum().sqrt())
    return torch.stack(means), torch.stack(deviations)


def first_line(error: Exception) -> str:
    """What an error says, for a message of ours."""
    return next(iter(str(error).splitlines()), "").rstrip(": ") or type(error).__name__


def _chosen(y: Tensor, share: float, step: int) -> Tensor:
    words = random.key(torch.tensor([0]), random.DATA, torch.tensor([step]))
    order = random.permutation(words, len(y)).flatten()
    chosen = torch.zeros(len(y), dtype=torch.bool)
    for label, count in _shares(torch.bincount(y), share).items():
        chosen[order[y[order] == label][:count]] = True
    return chosen


def _shares(counts: Tensor, share: float) -> dict[int, int]:
    """How many to take of each class: one at least, and together the share of the whole (largest remainders)."""
    exact = counts.double() * share
    taken = exact.floor().clamp(min=1).where(counts > 0, 0)
    left = max(0, round(float(exact.sum() - taken.sum())))
    taken[torch.argsort(exact - taken, descending=True, stable=True)[:left]] += 1
    return {label: int(count) for label, count in enumerate(taken.tolist()) if count}
