"""Optimizers of every kind: for matrices alone, with an iterate of their own, with nested state; of other packages."""

from __future__ import annotations

import importlib
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from relaxbench.optim.hyper import defaults
from relaxbench.optim.wrapped import wrap
from relaxbench.problems.digits import digits_mlp
from relaxbench.training.ensemble import Ensemble
from relaxbench.training.oracle import Oracle
from relaxbench.training.population import Population
from tests.optim.wrapped.test_exact import BUDGET, TASK, job, trained

STEPS = 12


def loop(make: Any, seed: int, steps: int = BUDGET) -> tuple[Tensor, Tensor]:
    """The parameters of a plain loop in training, and where they are evaluated."""
    sampler = TASK.sampler([seed], [0], steps, torch.device("cpu"))
    params = {name: nn.Parameter(part) for name, part in TASK.unflatten(TASK.init(seed)).items()}
    optimizers = make(list(params.values()))
    for optimizer in optimizers:
        getattr(optimizer, "train", lambda: None)()
    for step in range(steps):
        batch = {name: value[0] for name, value in sampler.batch(torch.tensor([[step]])).items()}
        loss = TASK.loss.value(TASK.outputs(params, batch, True), batch)
        for p, grad in zip(params.values(), torch.autograd.grad(loss, [*params.values()]), strict=True):
            p.grad = grad
        for optimizer in optimizers:
            optimizer.step()
    ended = torch.cat([p.detach().flatten() for p in params.values()])
    for optimizer in optimizers:
        getattr(optimizer, "eval", lambda: None)()
    return ended, torch.cat([p.detach().flatten() for p in params.values()])


def test_muon_takes_the_matrices_and_its_companion_the_rest() -> None:
    rule = wrap("torch.optim.Muon", companion="torch:torch.optim.SGD", companion_nesterov=True)
    values = {"lr": 0.02, "companion_lr": 0.05, "companion_momentum": 0.5, "companion_weight_decay": 0.0}
    found = trained(rule, [job(rule, seed, values) for seed in (5, 3, 4)], 2)

    def make(params: list[nn.Parameter]) -> list[torch.optim.Optimizer]:
        matrices, others = [p for p in params if p.dim() == 2], [p for p in params if p.dim() != 2]
        return [
            torch.optim.Muon(matrices, lr=0.02),
            torch.optim.SGD(others, lr=0.05, momentum=0.5, nesterov=True),
        ]

    assert torch.equal(found[3], loop(make, 3)[0])
    assert rule.source == "torch.optim.Muon, wrapped; it takes matrices, torch.optim.SGD the other parameters"
    assert rule.dimensions == {2} and "companion_lr" in rule.space and "companion_momentum" in rule.default_fixed


def test_both_step_sizes_are_annealed() -> None:
    rule = wrap("torch.optim.Muon")
    hyper = {name: torch.full((1, 1), 2.0) for name in ("lr", "companion_lr", "momentum")}
    now = rule().at({**hyper, "schedule": torch.full((1, 1), 1.0)}, torch.tensor([[0.4]]))  # "step", after its first
    assert {name: float(value) for name, value in now.items()} == pytest.approx(
        {"lr": 0.4, "companion_lr": 0.4, "momentum": 2.0, "schedule": 1.0}
    )


@pytest.mark.parametrize("name", ["schedulefree.AdamWScheduleFree", "schedulefree.SGDScheduleFree"])
def test_a_schedule_free_optimizer_is_evaluated_where_its_eval_leads(name: str) -> None:
    package = pytest.importorskip("schedulefree", reason="needs pip install 'relaxbench[optimizers]'")
    rule = wrap(name, warmup_steps=5)
    assert rule.default_fixed["schedule"] == "constant"
    found = trained(rule, [job(rule, seed, {"lr": 0.02}) for seed in (5, 3, 4)], 2)
    made = getattr(package, name.split(".")[1])
    ended, evaluated = loop(lambda params: [made(params, lr=0.02, warmup_steps=5)], 3)
    assert torch.equal(found[3], evaluated) and not torch.equal(ended, evaluated)


def test_looking_at_the_iterate_changes_nothing() -> None:
    pytest.importorskip("schedulefree", reason="needs pip install 'relaxbench[optimizers]'")
    rule = wrap("schedulefree.AdamWScheduleFree")
    start = torch.stack([TASK.init(seed) for seed in (0, 1)])
    looked, other = (
        Ensemble(Oracle(TASK, "direct"), rule(), start, [0, 1], STEPS, defaults(rule.wide)) for _ in range(2)
    )
    assert torch.equal(looked.rule.iterate(looked.state), start)
    for _ in range(STEPS):
        looked.step()
        other.step()
        before = {name: value.clone() for name, value in looked.state.items()}
        looked.rule.iterate(looked.state)
        assert all(torch.equal(value, before[name]) for name, value in looked.state.items())
    assert all(torch.equal(value, other.state[name]) for name, value in looked.state.items())


@pytest.mark.parametrize("name", ["SOAP", "Adan", "Lion"])
def test_nested_and_factored_states_are_kept(name: str) -> None:
    package: Any = pytest.importorskip("pytorch_optimizer", reason="needs pip install 'relaxbench[optimizers]'")
    rule = wrap(f"pytorch_optimizer.{name}")
    found = trained(rule, [job(rule, seed, {"lr": 0.003}) for seed in (5, 3)], 1)
    expected = loop(lambda params: [getattr(package, name)(params, lr=0.003)], 3)[0]
    assert float((found[3] - expected).abs().max()) <= 1e-6  # products of matrices may round otherwise


def test_memory_is_that_of_the_state_which_is_found() -> None:
    """Parameters, gradient, and: nothing; a momentum; two moments; two and their maximum; row and column sums."""
    shapes = [shape for _, shape in digits_mlp().layout()]
    found = {}
    for name, options in (("Adagrad", {}), ("Adam", {}), ("Adam", {"amsgrad": True}), ("Adafactor", {})):
        rule = wrap(f"torch.optim.{name}", **options)()
        rule.bind(shapes)
        found[name + "".join(options)] = rule.copies
    assert found == {"Adagrad": 3, "Adam": 4, "Adamamsgrad": 5, "Adafactor": 2}


def test_the_class_itself_is_its_path() -> None:
    """In Python, three lines make a rule of another name."""

    class MyAdam(wrap(torch.optim.Adam, amsgrad=True)):  # type: ignore[misc]
        name, title = "my-adam", "My Adam"

    assert wrap(torch.optim.Adam) is wrap("torch.optim.Adam") is wrap("torch:torch.optim.Adam")
    assert wrap(torch.optim.Adam).name == "torch:torch.optim.Adam" and MyAdam().name == "my-adam"
    assert importlib.import_module("relaxbench.optim.wrapped").wrap is wrap


class Counts(torch.optim.Optimizer):
    """Names its state as a rule does, and keeps numbers of all kinds under names that look alike."""

    def __init__(self, params: Any, lr: float = 0.1, k: float = 0.9) -> None:
        super().__init__(params, {"lr": lr, "k": k})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:
        for group in self.param_groups:
            for p in group["params"]:
                state = self.state[p]
                if not state:
                    state.update(t=torch.zeros(()), x=torch.zeros_like(p), seed=0, **{"seed#": torch.zeros(2)})
                    state.update({"a.b": 0.0, "a": {"b": 1.0}, "present#": 0})
                state["t"] += 1
                state["seed"] += 1
                state["seed#"] += 2
                state["a.b"] += 3.0
                state["a"]["b"] *= 0.9
                state["x"].mul_(group["k"]).add_(p.grad)
                size = (state["t"] + state["seed"] + state["seed#"].sum() + state["a.b"]) / (8 * state["seed"])
                p.sub_(group["lr"] * size * (1 + state["a"]["b"]) * state["x"])


def test_a_state_may_have_any_names() -> None:
    """Bit for bit, refilled and interrupted, against a plain loop."""
    rule, values = wrap(Counts), {"lr": 0.03, "k": 0.8}
    first = Population(Oracle(TASK, "direct"), rule(), BUDGET)
    first.admit([job(rule, 5, values), job(rule, 3, values)])
    first.round()
    jobs = [job(rule, 4, {**values, "k": 0.5}), job(rule, 3, values, first.checkpoints()[3]), job(rule, 5, values)]
    found = trained(rule, jobs, 2)
    for seed in (3, 5):
        assert torch.equal(found[seed], loop(lambda params: [Counts(params, **values)], seed)[0])


class Careful(torch.optim.Optimizer):
    """Raises where others compute with NaN, or if it is told to."""

    def __init__(self, params: Any, lr: float = 0.1, limit: float = 1e9) -> None:
        super().__init__(params, {"lr": lr, "limit": limit})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:
        for group in self.param_groups:
            for p in group["params"]:
                if not bool((p.grad.abs() < group["limit"]).all()):
                    raise ValueError("a gradient is too large")
                p.sub_(p.grad, alpha=group["lr"])


def test_an_optimizer_that_raises_on_nan_loses_that_member_alone() -> None:
    rule = wrap(Careful)()
    x, seeds = torch.ones(3, 4), torch.zeros(3, 1, dtype=torch.int64)
    hyper = {"lr": torch.full((3, 1), 0.5).double(), "limit": torch.full((3, 1), 10.0).double()}
    grad = torch.ones(3, 4)
    grad[1, 2] = torch.nan
    state = rule.update(rule.init(x, seeds), grad, torch.zeros(3, 1), hyper)
    assert torch.isnan(state["x"][1]).all() and torch.equal(state["x"][[0, 2]], torch.full((2, 4), 0.5))
    with pytest.raises(ValueError, match="a gradient is too large"):
        rule.update(rule.init(x, seeds), torch.full((3, 4), 11.0), torch.zeros(3, 1), hyper)


class Scaled(torch.optim.Optimizer):
    """Has names that relaxation rules use for their scopes."""

    def __init__(self, params: Any, lr: float = 0.1, gamma: float = 0.5, sigma: float = 0.25) -> None:
        super().__init__(params, {"lr": lr, "gamma": gamma, "sigma": sigma})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:
        for group in self.param_groups:
            for p in group["params"]:
                p.sub_(p.grad, alpha=group["lr"] * group["gamma"] * group["sigma"])


def test_arguments_may_have_the_names_of_scopes() -> None:
    rule = wrap(Scaled)
    found = trained(rule, [job(rule, seed, {"lr": 0.8}) for seed in (5, 3)], 1)
    expected = loop(lambda params: [torch.optim.SGD(params, lr=0.1)], 3)[0]
    assert torch.allclose(found[3], expected, rtol=0, atol=1e-6)


class Signs(torch.optim.Optimizer):
    """The sign of NaN is 0: such a run would stand still and look finished."""

    def __init__(self, params: Any, lr: float = 0.1) -> None:
        super().__init__(params, {"lr": lr})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:
        for p in self.param_groups[0]["params"]:
            p.sub_(p.grad.sign(), alpha=self.param_groups[0]["lr"])


def test_a_divergence_that_an_optimizer_hides_is_seen() -> None:
    rule = wrap(Signs)()
    grad = torch.ones(2, 4)
    grad[1, 2] = torch.nan
    state = rule.init(torch.ones(2, 4), torch.zeros(2, 1, dtype=torch.int64))
    state = rule.update(state, grad, torch.zeros(2, 1), {"lr": torch.full((2, 1), 0.5).double()})
    assert torch.equal(state["x"][0], torch.full((4,), 0.5)) and torch.isnan(state["x"][1]).all()
