"""A nonlinear Poisson equation whose solution oscillates, for networks with several kinds of neurons."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from relaxbench.problems.losses import Batch
from relaxbench.problems.problem import Params
from relaxbench.problems.samplers import Words
from relaxbench.problems.science.derivatives import BELL, QUARTER, QUARTER_SQUARE, SINE, TANH, Activation, Jet
from relaxbench.problems.science.networks import layer_init, layer_layout
from relaxbench.problems.science.pinn import HELD_OUT, SolutionProblem, walls
from relaxbench.problems.science.points import Box

Neurons = tuple[tuple[int, Activation], ...]
"""How many neurons of a layer have which activation."""
NEURONS = {"raf": "reproducing activations", "tanh": "tanh", "sin": "sin"}
"""Kinds of networks: short and long names."""
SCALES = {1: 1578.0, 2: 2.5e4, 3: 1.264e5}
"""Mean (f − 5)², the loss at u = 0, by k."""


def neurons(kind: str, width: int, bells: int) -> Neurons:
    """Return the neurons of a layer: all alike, or one z/4, one z²/4, some bells and otherwise sines."""
    if kind == "raf":
        return (1, QUARTER), (1, QUARTER_SQUARE), (width - 2 - bells, SINE), (bells, BELL)
    return ((width, {"tanh": TANH, "sin": SINE}[kind]),)


@dataclass(frozen=True)
class Blocks:
    """Two residual blocks of two layers; the coordinates, padded with zeros, skip the first.

    Liang, Lyu, Wang & Yang (2022), Reproducing activation function for deep learning, arXiv 2101.04844.

    Attributes:
        neurons: of every layer.
    """

    neurons: Neurons

    @property
    def width(self) -> int:
        """Neurons per layer."""
        return sum(count for count, _ in self.neurons)

    @property
    def sizes(self) -> tuple[int, ...]:
        """Numbers of inputs, of neurons per layer, of outputs."""
        return 2, *[self.width] * 4, 1

    def layout(self) -> list[tuple[str, torch.Size]]:
        """Return names and shapes of the parameters."""
        return layer_layout(self.sizes)

    def init(self, seed: int) -> Tensor:
        """Return initial parameters ``[P]``."""
        return layer_init(self.sizes, "torch", seed)

    def __call__(self, params: Params, inputs: Jet) -> Jet:
        """Apply the network of one member."""
        layers = [(params[f"W{number}"], params[f"b{number}"]) for number in range(5)]
        skip = inputs.padded(self.width - 2)
        for first, second in ((layers[0], layers[1]), (layers[2], layers[3])):
            inputs = self._apply(self._apply(inputs.linear(*first)).linear(*second)) + skip
            skip = inputs
        return inputs.linear(*layers[4])

    def _apply(self, z: Jet) -> Jet:
        parts, begin = list[Jet](), 0
        for count, activation in self.neurons:
            parts.append(z.columns(begin, begin + count).apply(activation))
            begin += count
        return parts[0] if len(parts) == 1 else Jet.beside(parts)


class Oscillation(SolutionProblem):
    """−Δu − (u − 1)³ + (u + 2)² = f on (0, 1)², u = 0 on the boundary; u = sin 2kπx sin 2kπy.

    The network is multiplied by x(1 − x)y(1 − y), so that the boundary is exact. The loss is mean r² over that of
    u = 0.

    Args:
        name: as in study files.
        kind: of neurons: a key of `NEURONS`.
        k: half the oscillations per side.
        width: neurons per layer.
        bells: those of them that are bells.
        points: drawn anew for every gradient.
        budget: gradients per trial.
    """

    domain = Box((0.0, 0.0), (1.0, 1.0))
    fresh = True
    caution = "Figures of this setting are not published; Liang et al. train 100,000 steps of Adam on 10,000 points."

    def __init__(
        self,
        name: str,
        kind: str = "raf",
        k: int = 3,
        width: int = 50,
        bells: int = 10,
        points: int = 1024,
        budget: int = 5000,
    ) -> None:
        super().__init__()
        self.name, self.k, self.points, self.budget, self.scale = name, k, points, budget, SCALES[k]
        self.network = Blocks(neurons(kind, width, bells))
        self.title = (
            f"−Δu − (u − 1)³ + (u + 2)² = f with u = sin {2 * k}πx sin {2 * k}πy; neurons: {NEURONS[kind]} "
            "(Liang et al., 2022)"
        )
        self.data = f"{points:,} points inside, drawn anew for every gradient"

    def exact(self, x: Tensor) -> Tensor:
        return (2 * self.k * math.pi * x).sin().prod(dim=-1, keepdim=True)

    def source(self, x: Tensor) -> Tensor:
        """Return f at points ``[N, 2]``."""
        v = self.exact(x)[..., 0]
        return 2 * (2 * self.k * math.pi) ** 2 * v - (v - 1) ** 3 + (v + 2) ** 2

    def field(self, params: Params, at: Jet) -> Jet:
        return walls(at) * self.network(params, at)

    def draw(self, words: Words, split: str) -> Batch:
        return {"inside": self.domain.inside(words, self.points if split == "train" else HELD_OUT)}

    def terms(self, params: Params, batch: Batch) -> Sequence[Tensor]:
        u, laplacian = self.laplacian(params, batch["inside"])
        return (-laplacian - (u - 1) ** 3 + (u + 2) ** 2 - self.source(batch["inside"]),)
