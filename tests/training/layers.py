"""Layers that do not vectorize or draw random numbers, and a small problem around them."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from relaxbench.problems import SupervisedProblem
from relaxbench.problems.digits import digits


class Branch(nn.Module):
    """Branches on the data, which a vectorized program cannot."""

    def forward(self, x: Tensor) -> Tensor:
        return x if bool(x.sum() > 0) else -x


class Item(nn.Module):
    """Converts a tensor to a Python number."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.weight.item() + self.weight


class Drawing(nn.Module):
    """Draws from torch's generator in its own code."""

    def forward(self, x: Tensor) -> Tensor:
        return x + torch.randn_like(x) if self.training else x


class Mixing(nn.Module):
    """Gives another result when it is vectorized."""

    def forward(self, x: Tensor) -> Tensor:
        return x * 2 if torch._C._functorch.is_batchedtensor(x) else x


def with_layer(*layers: nn.Module) -> SupervisedProblem:
    def model() -> nn.Module:
        return nn.Sequential(nn.Linear(64, 8), *layers, nn.Linear(8, 10))

    return SupervisedProblem("mine", model, digits, batch_size=16)
