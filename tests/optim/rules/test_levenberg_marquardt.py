"""Levenberg–Marquardt against dense algebra, a plain loop and scipy; its damping, its price, members that never mix."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from scipy.optimize import least_squares
from torch import Tensor

from relaxbench.optim.linearize import Linearized
from relaxbench.optim.rules.levenberg_marquardt import LevenbergMarquardt
from relaxbench.problems.losses import loss
from relaxbench.testing.metered_oracle import Metered
from relaxbench.training.oracle import OnBatch

INPUTS = torch.linspace(-2, 2, 25, dtype=torch.float64)
TARGETS = torch.sin(2 * INPUTS) + 0.1 * torch.cos(17 * INPUTS)
P = 13


def curve(x: Tensor) -> Tensor:
    """A small network's values at the inputs, ``[..., 25]``, from ``[..., 13]``."""
    hidden = torch.tanh(x[..., :4, None] * INPUTS + x[..., 4:8, None])
    return (x[..., 8:12, None] * hidden).sum(-2) + x[..., 12:13]


class Fit:
    """Satisfies `CurvatureOracle`: the mean square of curve − target, examples ``[K, 25, 1]``."""

    def linearize(self, points: Tensor, direction: Tensor | None, batch: Tensor) -> Linearized:
        targets = {"y": TARGETS[None, :, None].expand(len(points), -1, -1)}
        return Linearized(OnBatch(loss("least-squares"), targets), lambda x: curve(x)[..., None], points, direction)


def starts(K: int) -> Tensor:
    return torch.randn(K, P, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def hyper(K: int, damping: float = 0.1, decay: float = 0.0) -> dict[str, Tensor]:
    return {
        "damping": torch.full((K, 1), damping, dtype=torch.float64),
        "weight_decay": torch.full((K, 1), decay, dtype=torch.float64),
    }


def value(x: Tensor, decay: float) -> Tensor:
    return (curve(x) - TARGETS).square().mean(-1) + 0.5 * decay * x.square().sum(-1)


def plain_loop(x: Tensor, steps: int, damping: float, decay: float, cg: int | None) -> list[Tensor]:
    """Madsen, Nielsen & Tingleff with a dense Jacobian, one member; the system is solved exactly, or by plain CG."""
    boost, path = 2.0, [x]
    for _ in range(steps):
        J = torch.autograd.functional.jacobian(curve, x)
        g = 2 * J.T @ (curve(x) - TARGETS) / len(INPUTS) + decay * x
        G = 2 * J.T @ J / len(INPUTS) + decay * torch.eye(P, dtype=x.dtype)
        system = G + damping * torch.eye(P, dtype=x.dtype)
        if cg is None:
            p = torch.linalg.solve(system, -g)
        else:
            p, r = torch.zeros_like(x), -g
            q = r.clone()
            for _ in range(cg):
                alpha = (r @ r) / (q @ system @ q)
                p, after = p + alpha * q, r - alpha * system @ q
                q, r = after + (after @ after) / (r @ r) * q, after
        gain = (value(x + p, decay) - value(x, decay)) / (g @ p + 0.5 * p @ G @ p)
        if gain > 0:
            x, damping, boost = x + p, damping * max(1 / 3, 1 - (2 * float(gain) - 1) ** 3), 2.0
        else:
            damping, boost = damping * boost, 2 * boost
        path.append(x)
    return path


def run(rule: LevenbergMarquardt, x: Tensor, given: dict[str, Tensor], steps: int) -> Tensor:
    state = rule.init(x, torch.zeros(len(x), 1, dtype=torch.int64))
    path = [x]
    for _ in range(steps):
        state, losses = rule.step(state, Fit(), given)
        assert torch.allclose(losses[:, 0], value(path[-1], 0.0), rtol=1e-12)
        path.append(rule.iterate(state).clone())
    return torch.stack(path, dim=1)


@pytest.mark.parametrize("decay", [0.0, 0.01])
def test_with_as_many_conjugate_gradients_as_parameters_a_step_solves_the_system(decay: float) -> None:
    ours = run(LevenbergMarquardt(2 * P), starts(2), hyper(2, 0.1, decay), 6)
    for k, start in enumerate(starts(2)):
        for mine, theirs in zip(ours[k], plain_loop(start, 6, 0.1, decay, None), strict=True):
            assert torch.allclose(mine, theirs, rtol=0, atol=1e-9)


@pytest.mark.parametrize(("decay", "cg"), [(0.0, 3), (0.01, 5)])
def test_a_step_is_that_of_a_plain_loop_with_so_many_conjugate_gradients(decay: float, cg: int) -> None:
    """Members take and refuse steps at different times."""
    ours = run(LevenbergMarquardt(cg), starts(4), hyper(4, 1e-3, decay), 8)
    refused = [[torch.equal(a, b) for a, b in itertools.pairwise(path)] for path in ours]
    assert any(map(any, refused)) and refused[0] != refused[1]
    for k, start in enumerate(starts(4)):
        for mine, theirs in zip(ours[k], plain_loop(start, 8, 1e-3, decay, cg), strict=True):
            assert torch.allclose(mine, theirs, rtol=0, atol=1e-7)


def test_it_ends_where_scipy_ends() -> None:
    """On a decay a exp(−b t) + c with a misfit."""
    times = np.linspace(0, 3, 20)
    data = 2.0 * np.exp(-1.3 * times) + 0.5 + 0.1 * np.sin(9 * times)
    theirs = least_squares(
        lambda x: x[0] * np.exp(-x[1] * times) + x[2] - data,
        np.ones(3),
        method="lm",
        xtol=1e-15,
        ftol=1e-15,
        gtol=1e-15,
    )

    class Decay:
        def linearize(self, points: Tensor, direction: Tensor | None, batch: Tensor) -> Linearized:
            targets = {"y": torch.from_numpy(data)[None, :, None]}

            def outputs(x: Tensor) -> Tensor:
                return (x[:, :1] * torch.exp(-x[:, 1:2] * torch.from_numpy(times)) + x[:, 2:])[..., None]

            return Linearized(OnBatch(loss("least-squares"), targets), outputs, points, direction)

    rule = LevenbergMarquardt(3)
    state = rule.init(torch.ones(1, 3, dtype=torch.float64), torch.zeros(1, 1, dtype=torch.int64))
    for _ in range(60):
        rule.step(state, Decay(), hyper(1, 1e-2))
    assert np.allclose(state["x"][0].numpy(), theirs.x, rtol=1e-7)


@pytest.mark.parametrize("cg", [1, 7])
def test_the_price_is_what_is_requested(cg: int) -> None:
    metered, rule = Metered(Fit()), LevenbergMarquardt(cg)  # type: ignore[arg-type]
    state = rule.init(starts(2), torch.zeros(2, 1, dtype=torch.int64))
    for _ in range(3):
        rule.step(state, metered, hyper(2))
    assert metered.meter.gradients == pytest.approx(3 * (4 + 5 * cg) / 3)
    assert rule.price == pytest.approx((4 + 5 * cg) / 3)


def test_a_members_nan_and_setting_stay_with_it() -> None:
    x, given = starts(3), hyper(3)
    given["damping"][1] = 10.0
    clean = run(LevenbergMarquardt(4), x, given, 5)
    spoilt = x.clone()
    spoilt[1] = torch.nan
    state = LevenbergMarquardt(4).init(spoilt, torch.zeros(3, 1, dtype=torch.int64))
    for _ in range(5):
        LevenbergMarquardt(4).step(state, Fit(), given)
    assert torch.equal(state["x"][[0, 2]], clean[[0, 2], -1]) and bool(state["x"][1].isnan().all())
    for k in range(3):
        alone = run(LevenbergMarquardt(4), x[k : k + 1], {n: v[k : k + 1] for n, v in given.items()}, 5)
        assert torch.equal(alone[0], clean[k])


def test_a_step_from_a_minimum_is_refused_and_nothing_overflows() -> None:
    """Residuals that are zero: no step is better, so the damping grows up to its limit, and x stays."""
    rule, exact = LevenbergMarquardt(3), starts(1)

    class Met(Fit):
        def linearize(self, points: Tensor, direction: Tensor | None, batch: Tensor) -> Linearized:
            targets = {"y": curve(exact)[..., None]}
            return Linearized(OnBatch(loss("least-squares"), targets), lambda x: curve(x)[..., None], points, direction)

    state = rule.init(exact, torch.zeros(1, 1, dtype=torch.int64))
    for _ in range(80):
        rule.step(state, Met(), hyper(1))
    assert torch.equal(state["x"], exact) and bool(torch.isfinite(state["factor"]).all())


def test_pull_keeps_the_graph_if_asked_and_no_tangent_is_computed_without_a_direction() -> None:
    here = Fit().linearize(starts(2), None, torch.zeros(2, 1, dtype=torch.int64))
    v = torch.linspace(-1, 1, 50, dtype=torch.float64).view(2, 25, 1)
    first, second = here.pull(v, keep=True), here.pull(v)
    assert torch.equal(first, second) and not here.tangent.any()
    for k, x in enumerate(starts(2)):
        J = torch.autograd.functional.jacobian(curve, x)
        assert torch.allclose(first[k], J.T @ v[k, :, 0], atol=1e-12)
    with pytest.raises(RuntimeError, match="second time"):
        here.pull(v)
