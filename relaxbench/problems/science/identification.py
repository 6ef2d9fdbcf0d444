"""Identify a differential equation from noisy samples of one of its solutions."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from relaxbench import random
from relaxbench.errors import UserError
from relaxbench.problems.losses import Batch
from relaxbench.problems.problem import Params
from relaxbench.problems.samplers import Words
from relaxbench.problems.science.derivatives import Jet
from relaxbench.problems.science.networks import Dense
from relaxbench.problems.science.pinn import HELD_OUT
from relaxbench.problems.science.points import Box, branches, normals, split_key
from relaxbench.problems.science.residual import ResidualProblem
from relaxbench.problems.solution import Solution, solution_on

DIRECTIONS = ((1.0, 0.0), (0.0, 1.0), (1.0, 1.0))
"""Both axes, and the diagonal, whose second derivative has the mixed one in it."""
SPREAD = 20_000
"""Points from which the standard deviation of a solution is computed."""
CHECKED = 2_000
"""Points on which a dictionary is checked."""
NULL, APART, SAME = 1e-10, 1e-6, 1e-6
"""The singular value of the law at most, the second smallest at least, relative to the largest; the error of a law."""


class Identification(ResidualProblem):
    """min over (w, c) of mean ((u_w(s_i) − y_i)/σ)² + mean (Σ_j c_j θ_j(u_w)(f_k) / (‖c‖ σ))².

    Hasan, Pereira, Ravier, Farsiu & Tarokh (2020), Learning partial differential equations from data using neural
    networks, ICASSP, whose loss is a product of both terms and so no least squares. u_w is a network, y noisy samples
    of a solution u with standard deviation σ, and the law is the vector c with Σ c_j θ_j(u) = 0. The metric compares
    it with the true one: √(1 − |cos(c, c*)|).

    Attributes:
        coordinates: names of both.
        terms: of the dictionary θ, as products such as ``"u·u_x"``.
        law: c*.
        domain: of samples.
    """

    metric = "error in the law"
    worst_metric = 1.0
    budget = 5000
    noise = 0.1
    coordinates: str
    terms_of_law: tuple[str, ...]
    law: tuple[float, ...]
    domain: Box

    def __init__(self, name: str, small: bool = False) -> None:
        super().__init__()
        self.name = name
        self._refuse_misspelled()
        self.network, self.points = Dense((2, 50, 50, 50, 1)), (1000, 1000)
        if small:
            self.network, self.points, self.budget = Dense((2, 24, 24, 1)), (512, 512), 2000
        self.data = (
            f"{self.points[0]:,} samples with noise of {self.noise:g} σ, and {self.points[1]:,} points of the law"
        )
        drawn = self.domain.inside(split_key(30), SPREAD)[0]
        self.deviation = float(self.exact(drawn).std())

    def exact(self, x: Tensor) -> Tensor:
        """Return the solution ``[…, 1]`` at points ``[…, 2]``."""
        raise NotImplementedError

    def layout(self) -> list[tuple[str, torch.Size]]:
        return [*self.network.layout(), ("law", torch.Size([len(self.law)]))]

    def init(self, seed: int) -> Tensor:
        words = random.key(torch.tensor([seed]), random.INIT, torch.tensor([99]))
        return torch.cat([self.network.init(seed), random.normal(words, len(self.law), torch.float64).flatten()])

    def draw(self, words: Words, split: str) -> Batch:
        samples, law = self.points if split == "train" else (HELD_OUT, HELD_OUT)
        first, second, noise = branches(words, 3)
        at = self.domain.inside(first, samples)
        seen = self.exact(at) + self.noise * self.deviation * normals(noise, samples)[..., None]
        return {"samples": at, "seen": seen, "law": self.domain.inside(second, law)}

    def terms(self, params: Params, batch: Batch) -> Sequence[Tensor]:
        away = self.network(params, Jet(batch["samples"])).value - batch["seen"]
        u = self.network(params, Jet.at(batch["law"], DIRECTIONS))
        assert u.first is not None and u.second is not None
        along, bend = u.first[..., 0], u.second[..., 0]
        mixed = (bend[2] - bend[0] - bend[1]) / 2
        rows = self.dictionary(u.value[:, 0], (along[0], along[1]), (bend[0], mixed, bend[1]))
        law = params["law"] / params["law"].norm()
        return away[:, 0] / self.deviation, rows @ law / self.deviation

    def dictionary(self, u: Tensor, first: Sequence[Tensor], second: Sequence[Tensor]) -> Tensor:
        """Return θ ``[N, J]`` for u, its two first and its three second derivatives (mixed in the middle), ``[N]``."""
        x, y = self.coordinates[0], self.coordinates[1]
        known = dict(zip((f"u_{x}", f"u_{y}"), first, strict=True)) | {"u": u}
        known |= dict(zip((f"u_{x}{x}", f"u_{y}{x}", f"u_{y}{y}"), second, strict=True))
        columns = []
        for term in self.terms_of_law:
            factors = [known[name] for name in term.split("·")]
            columns.append(factors[0] if len(factors) == 1 else factors[0] * factors[1])
        return torch.stack(columns, dim=-1)

    def error(self, params: Params, batch: Batch) -> Tensor:
        law, exact = params["law"], params["law"].new_tensor(self.law)
        found, exact = law / law.norm(), exact / exact.norm()
        away = torch.minimum((found - exact).norm(), (found + exact).norm())  # accurate where the cosine is near 1
        error: Tensor = away / math.sqrt(2)
        return error

    def solution(self, params: Params) -> Solution | None:
        low, high = self.domain.low, self.domain.high
        return solution_on(low, high, self.exact, lambda x: self.network(params, Jet(x)).value, "u", self.coordinates)

    def check(self) -> None:
        super().check()
        values, null = self.spectrum()
        if values[-1] > NULL * values[0]:
            raise UserError(
                f"problem {self.name!r}: no law of {', '.join(self.terms_of_law)} holds for its solution (smallest "
                f"singular value {values[-1]:.1e}): change the terms or the solution"
            )
        if values[-2] < APART * values[0]:
            raise UserError(
                f"problem {self.name!r}: the terms {', '.join(self.terms_of_law)} are dependent on its solution beyond "
                f"its law (second smallest singular value {values[-2]:.1e}), so that many laws hold: leave terms out"
            )
        away = self.error({"law": null}, {})
        if away > SAME:
            raise UserError(
                f"problem {self.name!r}: the stated law is not the one that holds for its solution (error {away:.1e}): "
                f"expected a multiple of ({', '.join(f'{number:.3g}' for number in null.tolist())})"
            )

    def _refuse_misspelled(self) -> None:
        """Refuse terms that do not exist, and a law with another number of coefficients.

        Raises:
            UserError: naming the term or the number.
        """
        x, y = tuple(self.coordinates)
        known = [f"u_{x}", f"u_{y}", "u", f"u_{x}{x}", f"u_{y}{x}", f"u_{y}{y}"]
        for term in self.terms_of_law:
            if term.count("·") > 1 or not set(term.split("·")) <= set(known):
                raise UserError(
                    f"problem {self.name!r}: the term {term!r} of its law is unknown: expected one of "
                    f"{', '.join(known)}, or a product of two, as u·u_{x}"
                )
        if len(self.law) != len(self.terms_of_law) or not any(self.law):
            raise UserError(
                f"problem {self.name!r}: its law is {self.law}: expected {len(self.terms_of_law)} numbers, one per "
                "term, and not all zero"
            )

    def spectrum(self) -> tuple[Tensor, Tensor]:
        """Decompose the dictionary on the exact solution.

        Returns:
            its singular values over √points, descending; the right vector ``[J]`` of the smallest.
        """
        x = self.domain.inside(split_key(31), CHECKED)[0].requires_grad_()
        with torch.enable_grad():
            u = self.exact(x)[:, 0]
            (slope,) = torch.autograd.grad(u.sum(), x, create_graph=True)
            rows = [torch.autograd.grad(slope[:, i].sum(), x, retain_graph=True)[0] for i in (0, 1)]
        second = (rows[0][:, 0], rows[0][:, 1], rows[1][:, 1])
        columns = self.dictionary(u.detach(), slope.detach().unbind(1), second)
        _, values, rows_of_v = torch.linalg.svd(columns / math.sqrt(CHECKED), full_matrices=False)
        return values, rows_of_v[-1]


class Helmholtz(Identification):
    """Δu + u = 0 on [−π, π]²: u = y sin x − x sin y."""

    title = "identify Helmholtz's equation u_xx + u_yy + u = 0 from noisy samples (Hasan et al., 2020)"
    coordinates = "xy"
    terms_of_law: tuple[str, ...] = ("u_yy", "u_xx", "u_yx", "u_y", "u_x", "u", "u·u", "u·u_x", "u·u_y")
    law: tuple[float, ...] = (1, 1, 0, 0, 0, 1, 0, 0, 0)
    domain = Box((-math.pi, -math.pi), (math.pi, math.pi))

    def exact(self, x: Tensor) -> Tensor:
        x, y = x[..., :1], x[..., 1:]
        return y * x.sin() - x * y.sin()


class WaveLaw(Identification):
    """u_tt = u_xx on [−3, 3]²: u = ½ (exp(−(x − t)²) + exp(−(x + t)²)) + t."""

    title = "identify the wave equation u_tt = u_xx from noisy samples (Hasan et al., 2020)"
    coordinates = "xt"
    terms_of_law: tuple[str, ...] = ("u_tt", "u_xx", "u_t", "u_x", "u", "u·u", "u·u_x")
    law: tuple[float, ...] = (1, -1, 0, 0, 0, 0, 0)
    domain = Box((-3.0, -3.0), (3.0, 3.0))

    def exact(self, x: Tensor) -> Tensor:
        x, t = x[..., :1], x[..., 1:]
        return ((-((x - t) ** 2)).exp() + (-((x + t) ** 2)).exp()) / 2 + t


class HamiltonJacobi(Identification):
    """u_t = u_xx − u_x² on [−2, 2] × [0, 2]: u = x²/(1 + 4t) + ½ log(1 + 4t)."""

    title = "identify the viscous Hamilton–Jacobi equation u_t = u_xx − u_x² from noisy samples (Hasan et al., 2020)"
    published = "Hasan et al. (example.ipynb), noise 10^(−½), 10,000 samples, 30,000 epochs: 2.9e-2"
    coordinates = "xt"
    terms_of_law: tuple[str, ...] = ("u_tt", "u_xx", "u_t", "u_x", "u", "u·u", "u·u_x", "u_x·u_x")
    law: tuple[float, ...] = (0, -1, 1, 0, 0, 0, 0, 1)
    domain = Box((-2.0, 0.0), (2.0, 2.0))

    def exact(self, x: Tensor) -> Tensor:
        x, t = x[..., :1], x[..., 1:]
        return x**2 / (1 + 4 * t) + (1 + 4 * t).log() / 2
