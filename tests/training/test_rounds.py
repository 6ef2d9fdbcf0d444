"""A round on tensors that stay in place, against a plain loop; captured where there is a GPU."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from relaxbench.optim.hyper import defaults
from relaxbench.optim.registry import RULES
from relaxbench.optim.rule import State
from relaxbench.problems.digits import digits_mlp
from relaxbench.training.oracle import Oracle
from relaxbench.training.population import Population
from relaxbench.training.rounds import WARM, WORTH, Round
from relaxbench.training.trial import Job

GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


def step(state: State, hyper: dict[str, Tensor]) -> tuple[State, Tensor]:
    """One entry is changed in place, one is new."""
    state["v"].mul_(hyper["decay"]).add_(state["x"])
    return {"x": state["x"] - hyper["lr"] * state["v"], "v": state["v"], "t": state["t"] + 1}, state["v"].sum(1, True)


@pytest.mark.parametrize("counts", [(6, 6, 6), (6, 2, 0)])
def test_members_take_their_steps_with_the_hyperparameters_of_each_and_then_stay(counts: tuple[int, ...]) -> None:
    generator = torch.Generator().manual_seed(0)
    start = {"x": torch.randn(3, 4, generator=generator), "v": torch.randn(3, 4, generator=generator)}
    start["t"] = torch.zeros(3, 1, dtype=torch.int64)
    table = {"lr": torch.rand(6, 3, 1, generator=generator), "decay": torch.rand(3, 1, generator=generator)}
    state = {name: value.clone() for name, value in start.items()}
    places = {name: value.data_ptr() for name, value in state.items()}
    whole = Round(step, state, table, torch.tensor(counts)[:, None], 6, all_alive=min(counts) == 6)
    assert whole.run(None)
    for k, count in enumerate(counts):
        own, sum_ = {name: value[k : k + 1].clone() for name, value in start.items()}, torch.zeros(1, 1)
        for i in range(count):
            own, loss = step(own, {"lr": table["lr"][i, k : k + 1], "decay": table["decay"][k : k + 1]})
            sum_ += loss
        assert all(torch.equal(whole.state[name][k : k + 1], own[name]) for name in own)
        assert torch.allclose(whole.losses[k : k + 1], sum_)
    assert {name: value.data_ptr() for name, value in whole.state.items()} == places


class Recorder:
    """A capture that calls the function again, or fails."""

    def __init__(self, possible: bool) -> None:
        self.possible, self.warmed, self.replayed = possible, 0, 0

    def warm(self, function: Callable[[], None], times: int) -> None:
        self.warmed += times
        for _ in range(times):
            function()

    def __call__(self, function: Callable[[], None]) -> Callable[[], None]:
        if not self.possible:
            raise RuntimeError("operation not permitted when stream is capturing")

        def replay() -> None:
            self.replayed += 1
            function()

        return replay


@pytest.mark.parametrize("possible", [True, False])
def test_a_round_has_as_many_steps_whether_they_can_be_captured_or_not(possible: bool) -> None:
    plain, captured = population("entropy-sgd", "cpu", False), population("entropy-sgd", "cpu", True)
    recorder = captured.capture = Recorder(possible)
    for each in (plain, captured):
        each.advance(30)
        each.advance(WORTH - 1)  # too short for a capture
    assert all(torch.equal(captured.state[name], plain.state[name]) for name in plain.state)
    assert (recorder.warmed, recorder.replayed) == (WARM, 30 - WARM if possible else 0)
    assert (captured.capture is recorder) is possible


def population(rule: str, device: str, captured: bool) -> Population:
    made = Population(Oracle(digits_mlp(dropout=0.2)), RULES[rule](), 300, device)
    if not captured:
        made.capture = None
    made.admit([Job(k, k + 5, defaults(made.rule.wide)) for k in range(4)])
    return made


@GPU
@pytest.mark.parametrize("rule", RULES)
def test_a_captured_round_is_the_same_as_one_step_after_another(rule: str) -> None:
    captured, plain = population(rule, "cuda", True), population(rule, "cuda", False)
    for _ in range(2):
        captured.advance(40)
        plain.advance(40)
    for name, value in plain.state.items():
        assert torch.allclose(captured.state[name].double(), value.double(), rtol=1e-4, atol=1e-6), name


@GPU
@pytest.mark.parametrize("rule", RULES)
def test_no_step_of_a_round_waits_for_the_device(rule: str) -> None:
    made = population(rule, "cuda", False)
    made.advance(3)
    steps, calls = Population._steps, 0

    def strictly(self: Population, *arguments: object, **named: object) -> Tensor:
        nonlocal calls
        calls += 1
        torch.cuda.set_sync_debug_mode("error")
        try:
            return steps(self, *arguments, **named)  # type: ignore[arg-type]
        finally:
            torch.cuda.set_sync_debug_mode("default")

    made._steps = strictly.__get__(made)  # type: ignore[method-assign]
    made.advance(30)  # raises where a step synchronizes
    assert calls > 0 and all(torch.isfinite(value).all() for value in made.state.values())
