"""The base class of landscapes, Rosenbrock's function, and a function with many wells."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from relaxbench import random
from relaxbench.problems.losses import Batch, loss
from relaxbench.problems.problem import Params, Problem


class NumberedDraws:
    """Mini-batches of a problem whose only data are random numbers: uniform in [low, high), one per gradient.

    Args:
        seeds: K seeds, one per member.
        low, high: the range; where they are equal, nothing is drawn.
        device: where the numbers are needed.
        first: number of each member's first mini-batch in this round.
        steps: mini-batches of the round, which are drawn at once: one alone is mostly the overhead of calls. 0: each is
            drawn when it is asked for.
    """

    def __init__(
        self,
        seeds: Sequence[int],
        low: float,
        high: float,
        device: torch.device,
        first: Sequence[int] = (),
        steps: int = 0,
    ) -> None:
        self.seeds = torch.tensor(list(seeds))[:, None].to(device)
        self.low, self.high, self.steps = low, high, steps if low < high else 0
        self.first = torch.tensor(list(first), dtype=torch.int64)[:, None].to(device)
        if self.steps:
            self.ahead = self._draw(self.first + torch.arange(steps, device=device))

    def batch(self, number: Tensor) -> Batch:
        """Return ``{"draw": [K, 1]}`` for the mini-batches with these numbers, int64 ``[K, 1]``."""
        if self.low == self.high:
            return {"draw": torch.full_like(number, self.low, dtype=torch.float32)}
        return {"draw": self.ahead.gather(1, number - self.first) if self.steps else self._draw(number)}

    def _draw(self, number: Tensor) -> Tensor:
        words = random.key(self.seeds, random.DATA, number)
        return self.low + (self.high - self.low) * random.uniform(words, torch.zeros_like(number))


SCOPES: Mapping[str, tuple[float, float]] = {"gamma_start": (0.03, 300.0), "gamma_end": (0.01, 30.0)}
"""Ranges of γ on a landscape that gives none: no author published one, and those of networks do not apply."""


class Landscape(Problem):
    """Base class of the analytic problems. Their metric is the number of gradients to a tolerance.

    Attributes:
        ranges: ranges of hyperparameters for all methods, name → (low, high); `SCOPES` are added.
    """

    metric, unit, metric_scale = "gradients to tolerance", "gradients", 1.0
    most_rounds = 100
    kind = "landscape"
    fixed: Mapping[str, float] = {"weight_decay": 0.0, "decoupled_decay": 0.0}  # a decay would only move the minimum

    def __init__(self) -> None:
        self.worst_metric = float(self.budget)
        self.space = {**SCOPES, **type(self).ranges}

    ranges: dict[str, tuple[float, float]] = {}

    def split(self, name: str, device: torch.device) -> Batch:
        return {"draw": torch.ones(1, device=device)}


class Rosenbrock(Landscape):
    """f(u, v) = (1 − u)² + 100 ε (v − u²)², with ε = 1, or ε ~ U[low, high] drawn anew for every gradient.

    As least squares: outputs (10 (v − u²), 1 − u) with weights (ε, 1). Start (−¼, −¼) plus one scalar shift
    (U[0, 1] − ½)/2 on both coordinates (Henriques et al., arXiv 1805.08095, section 4).

    Args:
        name: as in study files.
        low, high: range of ε; equal for the deterministic function.
        budget: gradients per trial.
    """

    kind = "rosenbrock"
    worst = 100.0
    tolerance = 1e-4
    ranges = {"lr": (1e-5, 1e-2), "inner_lr": (1e-5, 1e-2), "gamma_start": (1e-2, 10.0), "gamma_end": (1e-3, 1.0)}

    def __init__(self, name: str = "rosenbrock", low: float = 1.0, high: float = 1.0, budget: int = 2000) -> None:
        self.budget, self.margin = budget, budget / 20
        super().__init__()
        self.name, self.low, self.high = name, low, high
        noise = "deterministic" if low == high else f"noisy, ε ~ U[{low:g}, {high:g}]"
        self.title = f"Rosenbrock's function, {noise}"
        self.loss = loss("least-squares")

    def layout(self) -> list[tuple[str, torch.Size]]:
        return [("w", torch.Size([2]))]

    def init(self, seed: int) -> Tensor:
        words = random.key(torch.tensor([seed]), random.INIT, torch.tensor([0]))
        shift = (random.uniform(words, torch.tensor([0])) - 0.5) / 2
        return torch.full((2,), -0.25) + shift

    def sampler(self, seeds: Sequence[int], first: Sequence[int], steps: int, device: torch.device) -> NumberedDraws:
        return NumberedDraws(seeds, self.low, self.high, device, first, steps)

    def outputs(self, params: Params, batch: Batch, training: bool) -> Tensor:
        u, v = params["w"][..., 0], params["w"][..., 1]
        scale = batch["draw"].sqrt()[..., 0] if training else 1.0
        return torch.stack([scale * 10 * (v - u**2), 1 - u], dim=-1)


class ChainedRosenbrock(Landscape):
    """f(w) = Σ over i < n of (1 − w_i)² + 100 (w_{i+1} − w_i²)²: Rosenbrock's valley in n dimensions.

    In two dimensions, a method that searches a plane, as CurveBall does, is nearly exact; in n it is not. Start as for
    two variables: all coordinates at −¼ plus one shift.

    Args:
        n: number of dimensions.
    """

    kind = "rosenbrock"
    worst = 1e4
    tolerance = 1e-4
    budget = 5000
    margin = 250.0
    ranges = Rosenbrock.ranges

    def __init__(self, n: int = 10) -> None:
        super().__init__()
        self.n, self.name, self.title = n, f"rosenbrock-{n}", f"Rosenbrock's function chained in {n} dimensions"
        self.loss = loss("least-squares")

    def layout(self) -> list[tuple[str, torch.Size]]:
        return [("w", torch.Size([self.n]))]

    def init(self, seed: int) -> Tensor:
        return Rosenbrock().init(seed)[:1].repeat(self.n)

    def sampler(self, seeds: Sequence[int], first: Sequence[int], steps: int, device: torch.device) -> NumberedDraws:
        return NumberedDraws(seeds, 1.0, 1.0, device)

    def outputs(self, params: Params, batch: Batch, training: bool) -> Tensor:
        w = params["w"]
        current, following = w[..., :-1], w[..., 1:]
        return torch.cat([10 * (following - current**2), 1 - current], dim=-1)


class Rugged1D(Landscape):
    """f(x) = x²/40 + 1 − cos(2 x): one global minimum at 0 among many wells, from a start in U[−12, 12].

    Gradients are exact. Gradient descent with small steps ends in the well in which it starts.
    """

    name, title = "rugged-1d", "a parabola with many wells on the line"
    budget = 400
    worst = 100.0
    margin = 20.0
    tolerance = 0.05
    ranges = {"sigma_start": (0.1, 10.0), "sigma_end": (1e-2, 1.0), "temperature": (1e-4, 1.0)}

    def __init__(self) -> None:
        super().__init__()
        self.loss = loss("none")

    def layout(self) -> list[tuple[str, torch.Size]]:
        return [("x", torch.Size([1]))]

    def init(self, seed: int) -> Tensor:
        words = random.key(torch.tensor([seed]), random.INIT, torch.tensor([0]))
        return 24.0 * random.uniform(words, torch.tensor([0])) - 12.0

    def sampler(self, seeds: Sequence[int], first: Sequence[int], steps: int, device: torch.device) -> NumberedDraws:
        return NumberedDraws(seeds, 1.0, 1.0, device)

    def outputs(self, params: Params, batch: Batch, training: bool) -> Tensor:
        x = params["x"]
        return x**2 / 40 + 1 - torch.cos(2 * x)
