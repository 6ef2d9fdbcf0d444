"""SGD as the stochastic differential equation of the papers, with a control or without, as a rule for a population."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from relaxbench.optim.hyper import Hyper
from relaxbench.optim.rule import Query, Rule, State, counters, standard_normal
from relaxbench.space import Float, Space
from relaxbench.theory.diffusion import Control


class Field:
    """The control α(x, s) = ∇u, interpolated linearly in time and space between the points of a solution."""

    def __init__(self, solution: Control, device: torch.device | str = "cpu") -> None:
        shape = solution.grid.shape
        self.size = torch.tensor(shape, device=device)
        table = solution.value.reshape(-1, *shape)
        slopes = np.stack(
            [np.gradient(table, h, axis=dimension + 1) for dimension, h in enumerate(solution.grid.steps)], axis=-1
        )
        self.table = torch.tensor(slopes.reshape(len(table), -1, len(shape)), dtype=torch.float32, device=device)
        self.low = torch.tensor([axis[0] for axis in solution.grid.axes], device=device)
        self.steps = torch.tensor(solution.grid.steps, device=device)
        self.piece = float(solution.times[1])

    def at(self, x: Tensor, seconds: float) -> Tensor:
        """α at ``[K, n]`` and a time, ``[K, n]``; outside of the grid as at its boundary."""
        place = seconds / self.piece
        before = min(int(place), len(self.table) - 2)
        late = place - before
        slopes = (1 - late) * self.table[before] + late * self.table[before + 1]
        where = ((x - self.low) / self.steps).clamp(min=0).minimum(self.size - 1)
        lower = where.long().minimum(self.size - 2)
        share = (where - lower).to(slopes.dtype)
        total = torch.zeros_like(slopes[:1]).expand(len(x), -1)
        n = x.shape[1]
        for corner in range(2**n):
            up = torch.tensor([corner >> dimension & 1 for dimension in range(n)], device=x.device)
            weight = torch.where(up == 1, share, 1 - share).prod(dim=1, keepdim=True)
            total = total + weight * slopes[_number(lower + up, self.size)]
        return total.to(x.dtype)


def _number(index: Tensor, size: Tensor) -> Tensor:
    """Numbers ``[K]`` of grid points with indices ``[K, n]``, row by row."""
    number = index[:, 0]
    for dimension in range(1, index.shape[1]):
        number = number * size[dimension] + index[:, dimension]
    return number


class Particles(Rule):
    """dx = −∇f ds − α ds + β^{-1/2} dW by the Euler–Maruyama scheme; the state accumulates the cost of α.

    Args:
        field: the control α; None for none.
    """

    name, title = "particles", "particles of a diffusion"
    source = "Chaudhari et al., arXiv 1704.04932, section 5"
    space: ClassVar[Space] = {
        "time_step": Float(1e-5, 1.0, 1e-2, log=True, above=True),
        "beta": Float(1e-3, 1e3, 1.0, log=True, above=True),
    }
    copies = 2
    rate = "time_step"

    def __init__(self, field: Field | None = None) -> None:
        self.field = field

    def init(self, x: Tensor, seed: Tensor) -> State:
        return {"x": x.clone(), "cost": x.new_zeros(len(x), 1), **counters(x, seed)}

    def query(self, state: State, hyper: Hyper) -> Query:
        return Query(state["x"], state["t"])

    def update(self, state: State, grad: Tensor, loss: Tensor, hyper: Hyper) -> State:
        x, step = state["x"], hyper["time_step"]
        drift = grad
        if self.field is not None:
            alpha = self.field.at(x, float(state["t"][0, 0] * step[0, 0]))
            drift = grad + alpha
            state["cost"] += 0.5 * step * alpha.square().sum(dim=1, keepdim=True)
        noise = standard_normal(state, x.shape[1], x.dtype)
        x.sub_(step * drift).add_((step / hyper["beta"]).sqrt() * noise)
        state["t"] += 1
        return state
