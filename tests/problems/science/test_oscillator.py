"""The quantum oscillator: its solution by sympy, the derivatives of a soft gate by nested differentiation."""

from __future__ import annotations

import numpy as np
import pytest
import sympy
import torch

from relaxbench.problems import problem
from relaxbench.problems.science.derivatives import Jet
from relaxbench.problems.science.oscillator import DIRECTIONS, TOTAL, Oscillator
from relaxbench.training.compatibility import why_not_vectorized
from tests.problems.science.nested import derivatives
from tests.problems.science.test_solutions import solved

CPU = torch.device("cpu")
NAMES = ["pinn-oscillator-small", "pinn-oscillator-gated-small"]


def test_the_solution_is_that_of_the_stated_equation() -> None:
    x, t = sympy.symbols("x t", real=True)
    ground = sympy.pi ** sympy.Rational(-1, 4) * sympy.exp(-(x**2) / 2)
    excited = sympy.sqrt(2) * x * ground
    psi = (ground * sympy.exp(-sympy.I * t / 2) + excited * sympy.exp(-3 * sympy.I * t / 2)) / sympy.sqrt(2)
    residual = sympy.I * sympy.diff(psi, t) + sympy.diff(psi, x, 2) / 2 - x**2 * psi / 2
    points = problem("pinn-oscillator-small").split("test", CPU)["at"][0, :200]
    at = points[:, 0].numpy(), points[:, 1].numpy()
    assert abs(sympy.lambdify((x, t), residual)(*at)).max() < 1e-14
    values = sympy.lambdify((x, t), psi)(*at)
    line = np.linspace(-12, 12, 4001)
    density = abs(sympy.lambdify((x, t), psi)(line, 0.7)) ** 2
    assert float(np.trapezoid(density, line)) == pytest.approx(1, abs=1e-12)
    ours = torch.view_as_complex(problem("pinn-oscillator-small").exact(points)).numpy()  # type: ignore[attr-defined]
    assert np.allclose(ours, values, rtol=1e-13, atol=1e-15)


@pytest.mark.parametrize("name", NAMES)
def test_it_has_no_residual_and_no_error(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    task = problem(name)
    assert isinstance(task, Oscillator)
    params = task.unflatten(task.init(0))
    parts = [solved(lambda x, part=part: task.exact(x)[:, part]) for part in (0, 1)]
    monkeypatch.setattr(task, "field", lambda own, at: Jet.beside([part(own, at) for part in parts]))
    for split in ("train", "validation", "test"):
        batch = task.split(split, CPU)
        terms = task.terms(params, {key: value[0] for key, value in batch.items()})
        assert len(terms) == 6 and all(float(term.abs().max()) < 1e-12 for term in terms)
    error = task.metric_at(params, task.split("test", CPU))
    assert error is not None and float(error) < 1e-14


@pytest.mark.parametrize("name", NAMES)
def test_derivatives_through_the_gate_are_those_of_nested_differentiation(name: str) -> None:
    task = problem(name)
    assert isinstance(task, Oscillator)
    params, points = task.unflatten(task.init(3)), task.split("validation", CPU)["inside"][0, :50]
    jet = task.field(params, Jet.at(points, DIRECTIONS, total=TOTAL))
    assert jet.first is not None and jet.second is not None
    for part in (0, 1):
        value, slope, bend = derivatives(lambda x, part=part: task.field(params, Jet(x)).value[:, part], points)
        assert torch.allclose(jet.value[:, part], value, rtol=0, atol=1e-13)
        assert torch.allclose(jet.first[..., part].T, slope, rtol=0, atol=1e-12)
        assert torch.allclose(jet.second[0, :, part], bend[:, 0, 0], rtol=0, atol=1e-12)


def test_a_gate_with_one_certain_expert_is_that_expert() -> None:
    task = problem("pinn-oscillator-gated-small")
    assert isinstance(task, Oscillator)
    params = task.unflatten(task.init(1))
    params["gate"], params["bias"] = torch.zeros_like(params["gate"]), torch.tensor([-1e3, 1e3], dtype=torch.float64)
    at = Jet(task.split("test", CPU)["at"][0, :20])
    expert = {name: params[f"{name}.1"] for name, _ in task.network.expert.layout()}  # type: ignore[attr-defined]
    inputs = Jet(at.value / torch.tensor([5.0, torch.pi / 2], dtype=torch.float64))
    assert torch.allclose(task.field(params, at).value, task.network.expert(expert, inputs).value, atol=1e-14)  # type: ignore[attr-defined]


def test_it_vectorizes_and_experts_differ() -> None:
    task = problem("pinn-oscillator-gated-small")
    assert why_not_vectorized(task) is None
    params = task.unflatten(task.init(2))
    assert not torch.allclose(params["W0.0"], params["W0.1"])
    assert not torch.equal(task.init(2), task.init(3))
