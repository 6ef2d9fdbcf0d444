"""Fully connected networks on jets, with their initial parameters."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor

from relaxbench import random
from relaxbench.problems.problem import Params
from relaxbench.problems.science.derivatives import TANH, Activation, Jet

Initial = Literal["xavier", "torch"]
"""``xavier``: weights normal with variance 2 / (inputs + outputs), biases zero (Glorot & Bengio, 2010). ``torch``: both
uniform in ±1/√inputs, as `torch.nn.Linear` starts."""


def layer_layout(sizes: Sequence[int]) -> list[tuple[str, torch.Size]]:
    """Return names and shapes of the parameters of layers between so many neurons, as W0, b0, W1."""
    pairs = enumerate(pairwise(sizes))
    return [entry for i, (m, n) in pairs for entry in ((f"W{i}", torch.Size([n, m])), (f"b{i}", torch.Size([n])))]


def layer_init(sizes: Sequence[int], initial: Initial, seed: int) -> Tensor:
    """Return initial parameters in the order of `layer_layout`, float64 ``[P]``, a function of the seed alone."""
    parts = list[Tensor]()
    for number, (m, n) in enumerate(pairwise(sizes)):
        words = random.key(torch.tensor([seed]), random.INIT, torch.tensor([number]))
        if initial == "xavier":
            parts.append(random.normal(words, m * n, torch.float64) * math.sqrt(2 / (m + n)))
            parts.append(torch.zeros(n, dtype=torch.float64))
        else:
            parts.append((2 * random.uniform(words, torch.arange(m * n + n), torch.float64) - 1) / math.sqrt(m))
    return torch.cat([part.flatten() for part in parts])


@dataclass(frozen=True)
class Dense:
    """A fully connected network: an activation behind every layer but the last.

    Attributes:
        sizes: numbers of inputs, of neurons per hidden layer, of outputs.
        activation: of the hidden layers.
        initial: see `Initial`.
    """

    sizes: tuple[int, ...]
    activation: Activation = TANH
    initial: Initial = "xavier"

    def layout(self) -> list[tuple[str, torch.Size]]:
        """Return names and shapes of the parameters."""
        return layer_layout(self.sizes)

    def init(self, seed: int) -> Tensor:
        """Return initial parameters ``[P]``."""
        return layer_init(self.sizes, self.initial, seed)

    def __call__(self, params: Params, inputs: Jet) -> Jet:
        """Apply the network of one member."""
        last = len(self.sizes) - 2
        for number in range(last):
            inputs = inputs.linear(params[f"W{number}"], params[f"b{number}"]).apply(self.activation)
        return inputs.linear(params[f"W{last}"], params[f"b{last}"])
