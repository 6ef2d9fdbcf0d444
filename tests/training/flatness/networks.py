"""A small network on drawn images, with and without batch normalization."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from relaxbench.problems import SupervisedProblem


def network(norm: bool, hidden: int = 6) -> nn.Sequential:
    layers: list[nn.Module] = [nn.Conv2d(1, 3, 3), *([nn.BatchNorm2d(3)] if norm else []), nn.Tanh(), nn.MaxPool2d(2)]
    layers += [nn.Flatten(), nn.Dropout(0.4), nn.Linear(12, hidden)]
    return nn.Sequential(*layers, *([nn.BatchNorm1d(hidden)] if norm else []), nn.ReLU(), nn.Linear(hidden, 3))


def images(examples: int) -> dict[str, tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(7)
    x = torch.randn(examples + 60, 1, 6, 6, generator=generator)
    y = x[:, 0, 0, :3].argmax(1)
    cuts = {"train": slice(0, examples), "validation": slice(examples, -30), "test": slice(-30, None)}
    return {name: (x[rows], y[rows]) for name, rows in cuts.items()}


def supervised(norm: bool, hidden: int = 6, examples: int = 250) -> SupervisedProblem:
    return SupervisedProblem("small", lambda: network(norm, hidden), lambda: images(examples), batch_size=16)
