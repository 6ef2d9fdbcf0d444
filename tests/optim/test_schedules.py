"""Schedules of step sizes and of the scope, against closed forms and the papers' recursions."""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from torch import Tensor

from relaxbench.optim.hyper import ANNEALED, SCHEDULES, SCOPINGS
from relaxbench.optim.registry import RULES
from relaxbench.optim.schedules import scope, step_size

GRID = torch.linspace(0, 1, 401, dtype=torch.float64)
PROGRESS = st.floats(0, 1)
SCOPE = st.floats(1e-3, 1e5)


def factor(kind: str, progress: float) -> float:
    """The factor on a step size, written down a second time."""
    if kind == "constant":
        return 1.0
    if kind == "step":
        return 0.2 ** sum(progress >= at for at in (0.3, 0.6, 0.9))
    if kind == "warmup" and progress < 0.05:
        return (progress + 0.005) / 0.055
    if kind == "warmup":
        progress = (progress - 0.05) / 0.95
    return math.cos(math.pi * progress / 2) ** 2  # = (1 + cos πp)/2


def width(kind: str, start: float, end: float, progress: float) -> float:
    """The scope, written down a second time."""
    weight = {"linear": progress, "cosine": math.sin(math.pi * progress / 2) ** 2, "constant": 0.0}
    if kind in ("geometric", "mean"):
        progress = 0.5 if kind == "mean" else progress
        return float(start ** (1 - progress) * end**progress)
    return (1 - weight[kind]) * start + weight[kind] * end


def one(number: float) -> Tensor:
    return torch.tensor([[number]], dtype=torch.float64)


def steps_of(kind: str, progress: Tensor) -> Tensor:
    return step_size(torch.full_like(progress, SCHEDULES.index(kind)), progress)


def scopes_of(kind: str, start: float, end: float, progress: Tensor) -> Tensor:
    return scope(torch.full_like(progress, SCOPINGS.index(kind)), one(start), one(end), progress)


@given(start=SCOPE, end=SCOPE)
def test_linear_scoping_ends_at_its_end_in_single_precision(start: float, end: float) -> None:
    """The last step of a training that goes on past its budget: a γ of 0 would divide by it."""
    a, b = torch.tensor([[start]]), torch.tensor([[end]])
    assert torch.equal(scope(torch.full_like(a, SCOPINGS.index("linear")), a, b, torch.ones_like(a)), b)


@pytest.mark.parametrize("kind", SCHEDULES)
@given(progress=PROGRESS)
def test_step_sizes_in_closed_form(kind: str, progress: float) -> None:
    assert float(steps_of(kind, one(progress))) == pytest.approx(factor(kind, progress), rel=1e-12, abs=1e-15)


@pytest.mark.parametrize(
    ("kind", "first", "last"),
    [("constant", 1, 1), ("step", 1, 0.008), ("cosine", 1, 0), ("warmup", 1 / 11, 0)],
)
def test_ends_of_step_sizes(kind: str, first: float, last: float) -> None:
    factors = steps_of(kind, GRID)
    assert float(factors[0]) == pytest.approx(first, rel=1e-12)
    assert float(factors[-1]) == pytest.approx(last, rel=1e-12, abs=1e-15)
    assert bool((factors >= 0).all() and (factors <= 1).all())
    assert bool((factors[:-1] > 0).all())  # no step before the end of the budget is wasted


@pytest.mark.parametrize("kind", ["constant", "step", "cosine"])
def test_step_sizes_never_rise(kind: str) -> None:
    assert bool((steps_of(kind, GRID).diff() <= 0).all())


def test_warmup_rises_then_falls_and_is_continuous() -> None:
    rise, fall = steps_of("warmup", GRID[GRID < 0.05]), steps_of("warmup", GRID[GRID >= 0.05])
    assert bool((rise.diff() > 0).all() and (fall.diff() < 0).all())
    assert float(steps_of("warmup", one(0.05))) == 1.0
    assert float(steps_of("warmup", one(0.05 - 1e-12))) == pytest.approx(1, abs=1e-9)


@given(st.integers(1, 3000), st.sampled_from([torch.float32, torch.float64]))
def test_step_drops_at_the_first_outer_step_that_is_due(count: int, dtype: torch.dtype) -> None:
    """Step k of n against exact fractions, in both precisions: 30 of 100 is due, 29 is not."""
    progress = (torch.arange(count, dtype=torch.float64) / count).to(dtype)
    due = [sum(Fraction(k, count) >= Fraction(n, 10) for n in (3, 6, 9)) for k in range(count)]
    expected = torch.tensor([0.2**n for n in due], dtype=torch.float64)
    assert torch.allclose(steps_of("step", progress).double(), expected, rtol=1e-6)


@pytest.mark.parametrize("kind", SCOPINGS)
@given(start=SCOPE, end=SCOPE, progress=PROGRESS)
def test_scopes_in_closed_form(kind: str, start: float, end: float, progress: float) -> None:
    found = float(scopes_of(kind, start, end, one(progress)))
    rounding = 1e-14 * max(start, end)
    assert found == pytest.approx(width(kind, start, end, progress), rel=1e-10, abs=rounding)
    assert min(start, end) * (1 - 1e-12) - rounding <= found <= max(start, end) * (1 + 1e-12)


@pytest.mark.parametrize("kind", [kind for kind in SCOPINGS if kind != "mean"])  # that one is constant in between
@given(start=SCOPE, end=SCOPE)
def test_scopes_go_from_start_to_end_without_turning(kind: str, start: float, end: float) -> None:
    assume(abs(start - end) > 1e-6 * start)
    found = scopes_of(kind, start, end, GRID[:, None])[:, 0]
    rounding = 1e-14 * max(start, end)
    assert float(found[0]) == pytest.approx(start, rel=1e-12, abs=rounding)
    assert float(found[-1]) == pytest.approx(start if kind == "constant" else end, rel=1e-10, abs=rounding)
    turn = found.diff() * (1 if end > start else -1)
    assert bool((turn >= -1e-12 * max(start, end)).all())
    if kind != "constant":
        assert bool((turn[100:300] > 0).all())


@given(SCOPE, PROGRESS)
def test_equal_ends_are_a_constant_scope(value: float, progress: float) -> None:
    for kind in SCOPINGS:
        assert float(scopes_of(kind, value, value, one(progress))) == pytest.approx(value, rel=1e-12)


@given(
    st.lists(
        st.tuples(st.sampled_from(SCHEDULES), st.sampled_from(SCOPINGS), SCOPE, SCOPE, PROGRESS), min_size=1, max_size=8
    )
)
def test_members_with_different_kinds_and_progress(members: list[tuple[str, str, float, float, float]]) -> None:
    """[K, 1] each, and [steps, K, 1] of progress as the engine gives it, against one member at a time."""
    kinds, scopings, starts, ends, progress = (list(column) for column in zip(*members, strict=True))
    kind = torch.tensor([[float(SCHEDULES.index(k))] for k in kinds])  # float32, as the population holds it
    scoping = torch.tensor([[float(SCOPINGS.index(s))] for s in scopings])
    start, end, now = (torch.tensor(column, dtype=torch.float64)[:, None] for column in (starts, ends, progress))
    table = torch.stack([now, now / 2, torch.zeros_like(now)])
    factors, widths = step_size(kind, table), scope(scoping, start, end, table)
    assert factors.shape == widths.shape == (3, len(members), 1)
    for k, member in enumerate(members):
        for i, p in enumerate((member[4], member[4] / 2, 0.0)):
            assert float(factors[i, k]) == pytest.approx(factor(member[0], p), rel=1e-10, abs=1e-15)
            assert float(widths[i, k]) == pytest.approx(width(*member[1:4], p), rel=1e-10, abs=1e-14 * max(member[2:4]))
    assert torch.equal(step_size(kind, now), factors[0])
    assert torch.equal(scope(scoping, start, end, now), widths[0])


# The papers' scoping.


@given(st.floats(1e-2, 1e4), st.floats(1e-6, 0.2), st.integers(1, 300))
def test_the_geometric_scope_passes_through_the_recursion(gamma_0: float, gamma_1: float, outer_steps: int) -> None:
    """Outer step k of n uses γ_0 (1 − γ_1)^k: the published schedule in the form in which a study declares it."""
    end = gamma_0 * (1 - gamma_1) ** outer_steps
    assume(end > 1e-290)
    progress = torch.arange(outer_steps, dtype=torch.float64)[:, None] / outer_steps
    found = scopes_of("geometric", gamma_0, end, progress)[:, 0]
    gamma = gamma_0
    for k in range(outer_steps):
        assert float(found[k]) == pytest.approx(gamma, rel=1e-9)
        gamma *= 1 - gamma_1


# What a rule does with them.

INITIAL = {
    "lr": 0.3,
    "outer_lr": 0.7,
    "inner_lr": 0.2,
    "gamma_start": 50.0,
    "gamma_end": 0.5,
    "sigma_start": 0.2,
    "sigma_end": 0.01,
    "rho_start": 0.2,
    "rho_end": 3.0,
}


def fixed(name: str, schedule: str, scoping: str, anneal: str) -> dict[str, Tensor]:
    coded = {
        "schedule": SCHEDULES.index(schedule),
        "scoping": SCOPINGS.index(scoping),
        "anneal": ANNEALED.index(anneal),
    }
    return {key: one(float({**INITIAL, **coded}.get(key, 0.25))) for key in RULES[name].wide}


@pytest.mark.parametrize("name", RULES)
@given(PROGRESS, st.sampled_from(SCHEDULES), st.sampled_from(SCOPINGS), st.sampled_from(ANNEALED))
def test_a_rule_anneals_one_step_size_and_scopes_its_gamma(
    name: str, progress: float, schedule: str, scoping: str, anneal: str
) -> None:
    given_hyper = fixed(name, schedule, scoping, anneal)
    before = {key: value.clone() for key, value in given_hyper.items()}
    now = RULES[name]().at(given_hyper, one(progress))
    expected = {key: float(value) for key, value in before.items()}
    rates = [rate for rate in ("lr", "adam_lr", "newton_lr") if rate in expected or "anneal" in expected]
    single = "" if RULES[name].finds_steps else rates[0]
    annealed = f"{anneal}_lr" if "anneal" in expected else single
    rise = min(1.0, (progress + 0.025) / 0.275)  # of a warm-up over the 0.25 of `fixed`, from an eleventh
    for each in {annealed, "muon_lr"} & set(expected):
        expected[each] *= rise if "warmup" in expected else factor(schedule, progress)
    if name == "parle":
        expected["rho"] = width(scoping, 0.2, 3.0, progress)
    if RULES[name].scope == "gamma":
        expected["gamma"] = width(scoping, 50.0, 0.5, progress)
    elif RULES[name].scope == "sigma":  # σ² = γ/β is what is scoped
        expected["sigma"] = width(scoping, 0.2**2, 0.01**2, progress) ** 0.5
    if "switch" in expected:
        expected["newton"] = float(progress >= expected["switch"])
    if name == "entropy-sgd":  # factors of its inner loop
        expected["renewal"] = 1 - expected["averaging"]
        variance = 2 * expected["inner_lr"] * expected["temperature"] / (1 - expected["momentum"])
        expected["noise"] = variance  # a root would raise the rounding of a step size near 0
        now = {**now, "noise": now["noise"] ** 2}
    assert {key: float(value) for key, value in now.items()} == pytest.approx(expected, rel=1e-10, abs=1e-15)
    assert all(torch.equal(given_hyper[key], value) for key, value in before.items()) and set(given_hyper) == set(
        before
    )


@pytest.mark.parametrize("name", RULES)
def test_a_rule_schedules_a_whole_round_at_once(name: str) -> None:
    """Progress [steps, K, 1] gives what progress [K, 1] gives step by step, bit for bit."""
    rule: Callable[..., dict[str, Tensor]] = RULES[name]().at
    hyper = {
        key: torch.cat([a, b])
        for (key, a), b in zip(
            fixed(name, "cosine", "linear", "outer").items(),
            fixed(name, "step", "geometric", "inner").values(),
            strict=True,
        )
    }
    progress = torch.rand(7, 2, 1, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    table = rule(hyper, progress)
    for step in range(7):
        for key, value in rule(hyper, progress[step]).items():
            assert torch.equal(table[key][step] if table[key].dim() == 3 else table[key], value)


def test_schedules_do_not_call_what_imports_sympy(monkeypatch: pytest.MonkeyPatch) -> None:
    """It would take 0.4 s of every command that trains, and of the first step of an optimizer in a loop."""
    monkeypatch.setattr(torch, "broadcast_shapes", None)
    one, many = torch.tensor([[2.0]]), torch.tensor([[0.0], [3.0], [4.0]])
    for progress in (torch.zeros(1, 5), torch.zeros(())):
        assert step_size(one, progress).shape == (1, progress.numel())
        for kind in (one, one + 1, one + 2, many):
            assert scope(kind, torch.ones(1, 1), 2 * torch.ones(1, 1), progress).shape == (len(kind), progress.numel())
