"""Exact solutions: they satisfy the stated equations (sympy) and make every residual of the problems vanish."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import sympy
import torch
from torch import Tensor

from relaxbench.problems import Params, problem
from relaxbench.problems.science.catalogue import SCIENCE
from relaxbench.problems.science.derivatives import Jet
from relaxbench.problems.science.identification import Identification
from relaxbench.problems.science.pinn import SolutionProblem
from tests.problems.science.nested import derivatives

CPU = torch.device("cpu")
VARIANTS = ("-tanh", "-sin", "-tanh-small")
SOLVED = [name for name in SCIENCE if name.startswith("pinn-") and not name.endswith(VARIANTS)]
SOLVED = [name for name in SOLVED if not name.startswith("pinn-oscillator")]  # complex: see test_oscillator.py
LAWS = [name for name in SCIENCE if name.startswith("pde-id-")]


def solved(exact: Callable[[Tensor], Tensor]) -> Callable[[Params, Jet], Jet]:
    """Return a field that is the exact solution, with derivatives by nested automatic differentiation."""

    def field(params: Params, at: Jet) -> Jet:
        value, slope, bend = derivatives(exact, at.value)
        if at.first is None:
            return Jet(value[:, None])
        along = at.first[:, 0]
        first = torch.einsum("ni,di->dn", slope, along)[..., None]
        second = torch.einsum("nij,di,dj->dn", bend, along, along)[..., None]
        second = second if at.weights is None else (at.weights * second).sum(dim=0, keepdim=True)
        return Jet(value[:, None], first, second, at.order, at.weights)

    return field


@pytest.mark.parametrize("name", SOLVED)
def test_the_exact_solution_has_no_residual_and_no_error(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    task = problem(name)
    assert isinstance(task, SolutionProblem)
    batch = task.split("validation", CPU)
    params = task.unflatten(task.init(0))
    start = task.outputs(params, batch, True).square().sum()
    zero = {key: torch.zeros_like(value) for key, value in params.items()}
    nothing = task.metric_at(zero, batch)
    assert nothing is not None and float(nothing) == pytest.approx(1, rel=1e-14)  # the relative error of u = 0
    monkeypatch.setattr(task, "field", solved(task.exact))
    for split in ("train", "validation", "test"):
        residual = task.outputs(params, task.split(split, CPU), True).square().sum()
        assert residual.sqrt() < 1e-12 * max(1.0, float(start.sqrt())), f"{split}: {residual.sqrt():.1e}"
    error = task.metric_at(params, batch)
    assert error is not None and float(error) < 1e-14


@pytest.mark.parametrize("name", LAWS)
def test_the_law_is_the_only_one_of_the_exact_solution(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    task = problem(name)
    assert isinstance(task, Identification)
    values, _ = task.spectrum()
    assert values[-1] < 1e-12 and values[-2] > 0.05
    flat = torch.cat([task.network.init(0), -3 * torch.tensor(task.law, dtype=torch.float64)])  # any length and sign
    params, batch = task.unflatten(flat), task.split("train", CPU)
    monkeypatch.setattr(task, "network", solved(task.exact))
    count = task.points[0]
    residuals = task.outputs(params, batch, True)[0]
    assert residuals[count:].norm() < 1e-12
    assert float(residuals[:count].norm()) == pytest.approx(task.noise, rel=0.1)  # of as many samples
    error = task.metric_at(params, batch)
    assert error is not None and float(error) < 1e-15


@pytest.mark.parametrize(("angle", "expected"), [(0.0, 1e-16), (1e-7, 7.07e-8), (0.3, 0.2113), (np.pi / 2, 1.0)])
def test_the_error_in_a_law_is_that_of_its_direction(angle: float, expected: float) -> None:
    task = problem("pde-id-wave-small")
    law, other = torch.zeros(7, dtype=torch.float64), torch.zeros(7, dtype=torch.float64)
    law[:2], other[4] = torch.tensor([1.0, -1.0]) / 2**0.5, 1.0
    found = 5 * (np.cos(angle) * law + np.sin(angle) * other)
    params = task.unflatten(torch.cat([task.init(0)[:-7], found]))
    error = task.metric_at(params, task.split("test", CPU))
    assert error is not None
    assert float(error) == pytest.approx(expected, rel=1e-3, abs=1e-15)
    assert float(error) == pytest.approx((1 - abs(np.cos(angle))) ** 0.5, abs=1e-8)


x, y, t = sympy.symbols("x y t", real=True)
sin, cos, exp, pi, log = sympy.sin, sympy.cos, sympy.exp, sympy.pi, sympy.log


def _poisson(u: Any, f: Any) -> Any:
    return sympy.diff(u, x, 2) + sympy.diff(u, y, 2) - f


def _statements() -> dict[str, tuple[Any, Any, Any]]:
    """Return the second coordinate, the solution and the residual of its equation, written once more by hand."""
    u = sin(pi * x) * sin(pi * y)
    modes = [(-1) ** (k + 1) * sin(k * pi * x) * sin(k * pi * y) for k in range(1, 5)]
    source = -sum(m / (4 * k * pi**2) for k, m in enumerate(modes, 1))
    v = sin(6 * pi * x) * sin(6 * pi * y)
    moved = sin(x - 40 * t)
    h = exp(-(((x - pi) / (pi / 4)) ** 2) / 2)
    grown = h * exp(5 * t) / (h * exp(5 * t) + 1 - h)
    wave = sin(pi * x) * cos(2 * pi * t) + sin(5 * pi * x) * cos(10 * pi * t) / 2
    travel = (exp(-((x - t) ** 2)) + exp(-((x + t) ** 2))) / 2 + t
    spread = x**2 / (1 + 4 * t) + log(1 + 4 * t) / 2
    helmholtz = y * sin(x) - x * sin(y)
    oscillating = -_poisson(v, 0) - (v - 1) ** 3 + (v + 2) ** 2
    return {
        "pinn-poisson2d": (y, u, _poisson(u, -2 * pi**2 * u)),
        "pinn-source": (y, source, _poisson(source, sum(k * m for k, m in enumerate(modes, 1)) / 2)),
        "pinn-oscillation": (y, v, oscillating - (2 * 36 * pi**2 * v - (v - 1) ** 3 + (v + 2) ** 2)),
        "pinn-convection": (t, moved, sympy.diff(moved, t) + 40 * sympy.diff(moved, x)),
        "pinn-reaction": (t, grown, sympy.diff(grown, t) - 5 * grown * (1 - grown)),
        "pinn-wave": (t, wave, sympy.diff(wave, t, 2) - 4 * sympy.diff(wave, x, 2)),
        "pde-id-helmholtz": (y, helmholtz, _poisson(helmholtz, -helmholtz)),
        "pde-id-wave": (t, travel, sympy.diff(travel, t, 2) - sympy.diff(travel, x, 2)),
        "pde-id-hjb": (t, spread, sympy.diff(spread, t) - sympy.diff(spread, x, 2) + sympy.diff(spread, x) ** 2),
    }


@pytest.mark.parametrize("name", _statements())
def test_the_solution_is_that_of_the_stated_equation(name: str) -> None:
    second, solution, residual = _statements()[name]
    task = problem(name)
    assert isinstance(task, SolutionProblem | Identification)
    split = task.split("test", CPU)
    points = (split["at"] if "at" in split else split["samples"])[0, :500]
    at = points[:, 0].numpy(), points[:, 1].numpy()
    value = sympy.lambdify((x, second), solution)(*at)
    assert np.allclose(task.exact(points)[:, 0].numpy(), value, rtol=1e-12, atol=1e-13)
    size = abs(sympy.lambdify((x, second), sympy.diff(solution, x, 2))(*at)).max()
    assert abs(np.asarray(sympy.lambdify((x, second), residual)(*at), dtype=float)).max() < 1e-12 * max(1.0, size)
