"""Flatness against closed forms, integrals on a grid and full Hessians from PyTorch; and its errors."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from relaxbench import random
from relaxbench.optim import reestimate_batch_norm
from relaxbench.problems import Problem, SupervisedProblem, problem
from relaxbench.problems.landscapes.landscape import Landscape
from relaxbench.problems.landscapes.quadratic import Quadratic
from relaxbench.problems.losses import Batch, loss
from relaxbench.training.flatness import measure as module
from relaxbench.training.flatness.hessian import EXAMPLES, FEWER, LARGE, training_part
from relaxbench.training.flatness.measure import GAMMAS, Flatness, FlatnessError, flatness
from relaxbench.training.flatness.spectrum import EXACT, spectrum
from tests.training.flatness.networks import network, supervised

CPU = torch.device("cpu")


def laplace(value: float, gradient: Tensor, hessian: Tensor, gamma: float) -> float:
    """f − (γ/2) gᵀ(I + γH)⁻¹g + ½ log det(I + γH), written out in float64."""
    bent = torch.eye(len(hessian), dtype=torch.float64) + gamma * hessian
    pulled = gradient @ torch.linalg.solve(bent, gradient)
    return value - gamma / 2 * float(pulled) + float(torch.logdet(bent)) / 2


def assert_is(found: Flatness, value: float, gradient: Tensor, hessian: Tensor, rel: float) -> None:
    eigenvalues = torch.linalg.eigvalsh(hessian).flip(0)
    scale = float(eigenvalues.abs().max())
    assert found.top == pytest.approx(eigenvalues[:5].tolist(), rel=rel, abs=rel * scale)
    assert found.trace == pytest.approx(float(eigenvalues.sum()), rel=rel) and found.trace_error == 0
    for gamma in GAMMAS:
        if 1 + gamma * float(eigenvalues[-1]) > 0:
            assert found.local_entropy[gamma] == pytest.approx(laplace(value, gradient, hessian, gamma), rel=rel)
        else:
            assert found.local_entropy[gamma] is None


# --- closed forms -----------------------------------------------------------------------------------------------------


def test_a_quadratic_has_the_spectrum_and_the_local_entropy_that_it_was_given() -> None:
    """Its local entropy is exact, −log of a Gaussian integral, and does not depend on the noise of gradients."""
    values = [0.5, 20.0, 3.0, 1.0, 8.0, 0.0, 100.0]
    task = Quadratic(values, noise=0.3)
    x = task.init(3)
    found = flatness(task, x, 0)
    assert found.top == pytest.approx([100, 20, 8, 3, 1], rel=1e-5)
    assert found.trace == pytest.approx(132.5, rel=1e-5) and found.trace_error == 0
    matrix = task.matrix.double()
    for gamma in GAMMAS:
        smoothed = torch.linalg.inv(torch.eye(7) / gamma + matrix)  # ∫ exp(−½yᵀAy − |y−x|²/2γ) = N(x; 0, A⁻¹ + γI)
        far = (x.double() @ (x.double() - smoothed @ x.double() / gamma)) / (2 * gamma)
        exact = float(far) - sum(-math.log1p(gamma * value) for value in values) / 2
        assert found.local_entropy[gamma] == pytest.approx(exact, rel=1e-4)


def test_fewer_parameters_than_requested_eigenvalues() -> None:
    found = flatness(Quadratic([2.0, 6.0]), torch.tensor([1.0, 1.0]), 0)
    assert found.top == pytest.approx([6, 2]) and found.trace == pytest.approx(8)


def test_local_entropy_is_the_integral_on_the_line() -> None:
    """x²/40 + 1 − cos 2x, whose curvature changes within √γ: the approximation's error shrinks as γ does."""
    task = problem("rugged-1d")
    for start in (0.0, 0.6, 2.9):
        found = flatness(task, torch.tensor([start]), 0)
        errors = []
        for gamma in GAMMAS:
            y = torch.linspace(-12, 12, 400_001, dtype=torch.float64) * math.sqrt(gamma) + start
            value = y**2 / 40 + 1 - torch.cos(2 * y) + (y - start) ** 2 / (2 * gamma)
            integral = float(torch.exp(-value).sum() * (y[1] - y[0])) / math.sqrt(2 * math.pi * gamma)
            errors.append(abs(found.local_entropy[gamma] + math.log(integral)))  # type: ignore[operator]
        # The first neglected term is γ² (f⁗/8 − f' f‴/2), with |f⁗| ≤ 16, |f'| ≤ 2.6 and |f‴| ≤ 8 here.
        assert all(error < 13 * gamma**2 + 3e-7 for gamma, error in zip(GAMMAS, errors, strict=True)), (start, errors)


def test_negative_curvature_has_no_local_entropy_at_large_gamma() -> None:
    """At (0, 1) Rosenbrock's Hessian is diag(2 − 400, 200): I + γH is positive definite for γ < 1/398 alone."""
    found = flatness(problem("rosenbrock"), torch.tensor([0.0, 1.0]), 0)
    assert found.top == pytest.approx([200, -398]) and found.trace == pytest.approx(-198)
    assert [gamma for gamma in GAMMAS if found.local_entropy[gamma] is None] == [1e-2, 1e-1]
    hessian, gradient = torch.diag(torch.tensor([-398.0, 200.0]).double()), torch.tensor([-2.0, 200.0]).double()
    for gamma in (1e-4, 1e-3):
        assert found.local_entropy[gamma] == pytest.approx(laplace(101.0, gradient, hessian, gamma), rel=1e-5)


@pytest.mark.parametrize("name", ["rosenbrock-noisy", "rosenbrock-50", "double-well", "gaussian-wells", "linear-net"])
def test_every_kind_of_landscape_is_measured(name: str) -> None:
    task = problem(name)
    x = task.init(1).double()
    batch = task.split("train", CPU)

    def value(point: Tensor) -> Tensor:
        return task.loss.value(task.outputs(task.unflatten(point), batch, False), batch)

    hessian = torch.autograd.functional.hessian(value, x)
    assert_is(flatness(task, x.float(), 0), float(value(x)), torch.func.grad(value)(x), hessian, rel=2e-4)


# --- networks ---------------------------------------------------------------------------------------------------------


def written_out(task: SupervisedProblem, norm: bool, hidden: int, x: Tensor) -> tuple[float, Tensor, Tensor]:
    """Loss, gradient and Hessian in float64, of PyTorch's own layers in evaluation mode with statistics taken at x."""
    plain = network(norm, hidden).double()
    nn.utils.vector_to_parameters(x.double(), plain.parameters())
    inputs, labels = task.tensors["train"]
    reestimate_batch_norm(plain, [inputs.double()])  # as many examples as here, in one piece
    plain.eval()

    def value(point: Tensor) -> Tensor:
        params = task.unflatten(point)
        return nn.functional.cross_entropy(torch.func.functional_call(plain, params, (inputs.double(),)), labels)

    at = x.double()
    gradient = torch.func.grad(value)
    # A few rows at a time stay in the processor's cache; torch.func.hessian takes all at once and three times as long.
    return float(value(at)), gradient(at), torch.func.jacrev(gradient, chunk_size=16)(at)


@pytest.mark.parametrize("norm", [False, True])
def test_a_small_network_against_the_hessian_written_out(norm: bool) -> None:
    task = supervised(norm, hidden=4)
    x = task.init(2) * 1.5
    assert task.size <= EXACT
    assert_is(flatness(task, x, 5), *written_out(task, norm, 4, x), rel=2e-4)


@pytest.mark.parametrize("norm", [False, True])
def test_a_larger_network_is_estimated_well(norm: bool) -> None:
    """With some hundreds of parameters: eigenvalues from the Krylov space, traces close and within their errors."""
    task = supervised(norm, hidden=70)
    x = task.init(2)
    assert task.size > 4 * EXACT
    value, gradient, hessian = written_out(task, norm, 70, x)
    eigenvalues = torch.linalg.eigvalsh(hessian)
    top = eigenvalues.flip(0)[:5].tolist()
    for seed in range(3):
        found = flatness(task, x, seed)
        assert found.top[:2] == pytest.approx(top[:2], rel=1e-4) and found.top == pytest.approx(top, rel=0.02)
        assert all(a <= b * (1 + 1e-5) for a, b in zip(found.top, top, strict=True))  # from within
        assert found.trace == pytest.approx(float(eigenvalues.sum()), abs=0.2 * float(eigenvalues.abs().sum()))
        assert abs(found.trace - float(eigenvalues.sum())) < 6 * found.trace_error
        for gamma in GAMMAS:
            exact, scale = laplace(value, gradient, hessian, gamma), gamma * float(eigenvalues.abs().sum())
            assert found.local_entropy[gamma] == pytest.approx(exact, abs=0.1 * scale + 1e-6)


def test_a_linear_loss_has_no_curvature() -> None:
    found = flatness(Odd(power=1), torch.tensor([2.0, 3.0]), 0)
    assert found.top == [0, 0] and found.trace == 0
    assert found.local_entropy[1e-2] == pytest.approx(5 - 1e-2 / 2 * 2)  # f − γ/2 |∇f|²


def test_the_gradient_counts() -> None:
    """Far from a minimum its term is most of the local entropy."""
    task = supervised(False, hidden=60)
    x = task.init(2) * 4
    value, gradient, hessian = written_out(task, False, 60, x)
    exact = laplace(value, gradient, hessian, 1e-2)
    assert 1e-2 / 2 * float(gradient.square().sum()) > 0.01
    assert flatness(task, x, 0).local_entropy[1e-2] == pytest.approx(exact, abs=0.1 * abs(exact - value))


# --- estimates --------------------------------------------------------------------------------------------------------


def known(values: Sequence[float]) -> tuple[Tensor, Tensor]:
    """A symmetric matrix with these eigenvalues in a random basis, and a vector."""
    words = random.key(torch.tensor([1]), random.DATA, torch.tensor([0]))
    basis = torch.linalg.qr(random.normal(words, len(values) ** 2, torch.float64).view(len(values), -1)).Q
    return ((basis * torch.tensor(values, dtype=torch.float64)) @ basis.T).float(), basis[:, ::7].sum(dim=1).float()


OUTLIERS = [50.0, 30.0, 20.0, 12.0, 11.0, *(2 * 0.98**i for i in range(300)), *[-0.2] * 20]
SPECTRA: dict[str, list[float]] = {
    "outliers": OUTLIERS,
    "three values": [3.0] * 100 + [1.0] * 100 + [0.0] * 100,
    "identity": [1.0] * 200,
    "zero": [0.0] * 200,
    "rank one": [7.0] + [0.0] * 199,
    "falls fast": [10.0 * 0.7**i for i in range(200)],
}


@pytest.mark.parametrize("values", SPECTRA.values(), ids=SPECTRA)
def test_spectra_of_every_kind(values: list[float]) -> None:
    """Also those whose Krylov space ends early."""
    matrix, vector = known(values)
    exact, bent = torch.tensor(sorted(values, reverse=True)), torch.eye(len(values)) + 0.1 * matrix
    scale = max(map(abs, values)) + 1e-30
    for seed in range(5):
        found = spectrum(matrix, vector, seed)
        distinct = len(set(values))
        for i in range(5) if distinct > 5 else range(1):
            assert float(found.values.flip(0)[i]) == pytest.approx(float(exact[i]), abs=2e-3 * scale)
        trace, error = found.trace(lambda x: x)
        assert abs(trace - sum(values)) <= 6 * error + 1e-4 * scale * len(values) / 100
        assert error <= 0.1 * abs(sum(values)) + 1e-4
        pulled = float(vector.double() @ torch.linalg.solve(bent.double(), vector.double()))
        assert found.quadratic(lambda x: 1 / (1 + 0.1 * x)) == pytest.approx(pulled, rel=1e-4)
        assert min(values) - 1e-4 * scale <= found.least


def test_the_trace_is_unbiased_and_has_the_stated_error() -> None:
    matrix, vector = known(OUTLIERS)
    found = [spectrum(matrix, vector, seed).trace(lambda x: x) for seed in range(150)]
    estimates = torch.tensor(found)[:, 0] - sum(OUTLIERS)
    stated = float(torch.tensor(found)[:, 1].square().mean().sqrt())
    assert abs(float(estimates.mean())) < 3.5 * stated / math.sqrt(150)
    assert float(estimates.std()) == pytest.approx(stated, rel=0.25)


def test_a_vector_of_zeros_and_one_direction_alone() -> None:
    matrix, _ = known(OUTLIERS)
    assert spectrum(matrix, torch.zeros(len(OUTLIERS)), 0).quadratic(torch.ones_like) == 0
    for vector in (torch.linalg.eigh(matrix).eigenvectors[:, -1], 1e-6 * torch.linalg.eigh(matrix).eigenvectors[:, 0]):
        found = spectrum(matrix, vector, 0).quadratic(lambda x: x)
        assert found == pytest.approx(float(vector @ matrix @ vector), rel=1e-3)


# --- dependence on its arguments --------------------------------------------------------------------------------------


def test_it_is_a_function_of_the_point_and_the_seed_and_leaves_everything_as_it_was() -> None:
    task = supervised(True, hidden=60)
    x = task.init(0)
    kept, generator = x.clone(), torch.get_rng_state()
    found = flatness(task, x, 2**62 + 1)
    torch.manual_seed(5)
    flatness(task, task.init(1), 9)
    assert flatness(task, x, 2**62 + 1) == found == flatness(supervised(True, hidden=60), x, 2**62 + 1)
    other = flatness(task, x, 2**62 + 2)
    assert other.trace != found.trace and other.top == pytest.approx(found.top, rel=0.03)
    torch.set_rng_state(generator)
    with torch.no_grad():
        flatness(task, x, 3)
    assert torch.equal(torch.get_rng_state(), generator)
    assert torch.equal(x, kept) and not x.requires_grad
    assert all(p.grad is None for p in task.model.parameters())


def test_large_splits_are_measured_in_part_always_the_same_and_in_no_order() -> None:
    task = supervised(False, examples=3000)
    part, train = training_part(task, CPU), task.tensors["train"][0]
    assert len(part["x"]) == len(part["y"]) == EXAMPLES
    again = training_part(supervised(False, examples=3000), CPU)
    assert torch.equal(part["x"], again["x"]) and torch.equal(part["y"], again["y"])
    places = [int((train == x).flatten(1).all(1).nonzero()) for x in part["x"][:60]]
    assert len(set(places)) == 60 and places != sorted(places) and max(places) > 1500
    wide = supervised(False, hidden=LARGE // 15, examples=3000)
    assert wide.size > LARGE and len(training_part(wide, CPU)["x"]) == FEWER
    assert len(training_part(supervised(False, examples=90), CPU)["x"]) == 90


def test_measures_are_plain_json() -> None:
    import json

    measures = flatness(problem("rosenbrock"), torch.tensor([0.0, 1.0]), 0).measures()
    assert json.loads(json.dumps(measures, allow_nan=False)) == measures
    assert set(measures) == {"hessian_top", "hessian_trace", "hessian_trace_error", "local_entropy"}
    assert list(measures["local_entropy"]) == ["0.0001", "0.001", "0.01", "0.1"]


# --- errors -----------------------------------------------------------------------------------------------------------


class Round(torch.autograd.Function):
    """No second derivative."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.round()

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        return grads[0]


class Straight(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return Round.apply(x) + x.flatten(1).sum() * 0


class Odd(Landscape):
    """A custom landscape without a training split, or whose Hessian is not finite."""

    name, title, budget, worst, margin, tolerance = "odd", "odd", 10, 10.0, 1.0, 0.1

    def __init__(self, split: bool = True, power: float = 1.5) -> None:
        super().__init__()
        self.loss, self.has, self.power = loss("none"), split, power

    def layout(self) -> list[tuple[str, torch.Size]]:
        return [("x", torch.Size([2]))]

    def outputs(self, params: dict[str, Tensor], batch: Batch, training: bool) -> Tensor:
        if self.power == 1:
            return params["x"].sum(-1, keepdim=True)
        return params["x"].abs().pow(self.power)  # |x|^1.5 has an infinite second derivative at 0

    def split(self, name: str, device: torch.device) -> Batch:
        return super().split(name, device) if self.has else {"test": {}, "validation": {}}[name]


def failing() -> dict[str, tuple[Problem, Tensor, str]]:
    data = {s: (torch.randn(20, 4), torch.randint(0, 2, (20,))) for s in ("train", "validation", "test")}

    def model(layer: nn.Module) -> SupervisedProblem:
        return SupervisedProblem("m", lambda: nn.Sequential(nn.Linear(4, 2), layer), lambda: data, batch_size=4)

    plain = supervised(False, hidden=60)
    return {
        "no second derivative": (model(Straight()), torch.ones(10), "RuntimeError"),
        "no training split": (Odd(split=False), torch.ones(2), "KeyError: 'train'"),
        "infinite curvature": (Odd(), torch.zeros(2), "not finite"),
        "weights that overflow": (plain, plain.init(0) * 1e30, "not finite"),
        "weights that are NaN": (plain, plain.init(0) * math.nan, "not finite"),
    }


@pytest.mark.parametrize("what", failing())
def test_a_failure_is_a_flatness_error_of_one_line(what: str) -> None:
    task, x, message = failing()[what]
    with pytest.raises(FlatnessError) as refused:
        flatness(task, x, 0)
    assert message in str(refused.value) and "\n" not in str(refused.value) and len(str(refused.value)) < 300


def test_networks_that_are_too_large_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST", 100)
    with pytest.raises(FlatnessError, match=r"^2,\d\d\d parameters: at most 100"):
        flatness(supervised(False, hidden=150), torch.zeros(1), 0)
