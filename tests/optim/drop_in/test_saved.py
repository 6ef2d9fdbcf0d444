"""Saved states: refused by an optimizer that they do not belong to."""

from __future__ import annotations

import copy
import io
import math
import pickle
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from relaxbench import optim
from relaxbench.optim import SGD, EntropySGD, Parle, drop_in
from relaxbench.optim.drop_in.classes import DROP_INS
from relaxbench.optim.registry import RULES
from tests.optim.drop_in.models import fresh, loop, new, plain_loop, settings, vector

STATES: list[tuple[str, dict[str, Any], str, dict[str, Any], str]] = [
    ("heat", {}, "lpf-sgd", {}, r"its method: heat \(expected lpf-sgd\)"),
    ("hj", {}, "entropy-sgd", {}, "its method"),
    ("entropy-sgd", {}, "hj", {}, "its method"),
    ("entropy-sgd", {"restart_momentum": True}, "entropy-sgd", {}, "its options"),
    ("parle", {"replicas": 2}, "parle", {}, "its options"),
]


@pytest.mark.parametrize(("saved", "saved_with", "loading", "loading_with", "told"), STATES)
def test_states_of_something_else_are_refused_and_change_nothing(
    saved: str, saved_with: dict[str, Any], loading: str, loading_with: dict[str, Any], told: str
) -> None:
    _, other = new(saved, **saved_with)
    model, optimizer = new(loading, **loading_with)
    loop(model, optimizer, 2)
    before = vector(model)
    with pytest.raises(ValueError, match=told):
        optimizer.load_state_dict(other.state_dict())
    assert torch.equal(vector(model), before)
    loop(model, optimizer, 2)


def test_states_of_other_shapes_and_with_impossible_values_are_refused() -> None:
    wide, tall = nn.Linear(2, 6), nn.Linear(5, 3)  # 18 parameters each
    states = [SGD(layer.parameters(), total_steps=10).state_dict() for layer in (wide, tall)]
    optimizer = SGD(tall.parameters(), total_steps=10)
    with pytest.raises(ValueError, match="its shapes:"):
        optimizer.load_state_dict(states[0])
    for name, value, told in (("momentum", -3.0, "momentum = -3.0"), ("lr", float("nan"), "lr = nan")):
        spoilt = copy.deepcopy(states[1])
        spoilt["param_groups"][0][name] = value
        with pytest.raises(ValueError, match=told):
            optimizer.load_state_dict(spoilt)
    missing = copy.deepcopy(states[1])
    del missing["param_groups"][0]["momentum"]
    with pytest.raises(ValueError, match="has no momentum"):
        optimizer.load_state_dict(missing)
    optimizer.load_state_dict(states[1])
    parle = Parle(tall.parameters(), total_steps=100)
    crowded = parle.state_dict()
    crowded["state"][0]["served"] = torch.tensor([5])
    with pytest.raises(ValueError, match="5 gradients, expected less than 3"):
        parle.load_state_dict(crowded)
    older = {"state": {}, "param_groups": states[1]["param_groups"], "rule": {}, "pending": [], "about": {}}
    with pytest.raises(ValueError, match="an older relaxbench wrote it in another layout"):
        optimizer.load_state_dict(older)


def test_what_was_saved_says_how_long_training_takes() -> None:
    model, optimizer = new("entropy-sgd", inner_steps=5)
    loop(model, optimizer, 7)
    file = io.BytesIO()
    torch.save(optimizer.state_dict(), file)
    file.seek(0)
    again = EntropySGD(model.parameters(), total_steps=50, inner_steps=6)
    saved = torch.load(file, weights_only=True)
    with pytest.warns(UserWarning, match="total_steps = 50 differs from the saved 200: schedules run over 200"):
        again.load_state_dict(saved)
    assert again.total_steps == 200 and again.param_groups[0]["inner_steps"] == 5


def test_a_resume_with_more_steps_uses_them() -> None:
    model, optimizer = new("sgd")
    loop(model, optimizer, 100)
    state = optimizer.state_dict()
    longer = SGD(model.parameters(), total_steps=400)
    with pytest.warns(UserWarning, match="total_steps = 400 differs from the saved 200: schedules run over 400"):
        longer.load_state_dict(state)
    assert longer.total_steps == 400
    assert float(longer._scheduled()["lr"]) == pytest.approx(0.05 * (1 + math.cos(math.pi / 4)), rel=1e-5)


@pytest.mark.parametrize("name", DROP_INS)
@pytest.mark.parametrize("way", ["deepcopy", "pickle"])
def test_copies_go_on_like_the_original(name: str, way: str) -> None:
    model, optimizer = new(name)
    loop(model, optimizer, 4)
    pair = copy.deepcopy((model, optimizer)) if way == "deepcopy" else pickle.loads(pickle.dumps((model, optimizer)))
    loop(model, optimizer, 9)
    assert not torch.equal(vector(model), vector(pair[0]))  # a copy of its own
    loop(*pair, 9)
    assert torch.equal(vector(model), vector(pair[0]))
    for each in (optimizer, pair[1]):
        each.eval()
    assert torch.equal(vector(model), vector(pair[0]))


class Own(RULES["sgd"]):  # type: ignore[misc]
    """A rule of someone's own, which has no drop-in class by name."""

    name = "own"


class Derived(drop_in(Own)):  # type: ignore[misc]
    """A class that can be imported itself."""


@pytest.mark.parametrize("cls", [drop_in(Own), Derived], ids=["made", "derived"])
@pytest.mark.parametrize("way", ["deepcopy", "pickle"])
def test_copies_of_a_class_that_was_made_are_of_that_class(cls: Any, way: str) -> None:
    model = nn.Linear(3, 1)
    pair = (model, cls(model.parameters(), lr=0.1, schedule="constant"))
    loop(*pair, 2)
    again = copy.deepcopy(pair) if way == "deepcopy" else pickle.loads(pickle.dumps(pair))
    loop(*pair, 3)
    loop(*again, 3)
    assert type(again[1]) is cls and torch.equal(vector(model), vector(again[0]))
    assert drop_in(Own) is drop_in(Own)


def test_a_state_of_another_method_is_refused_and_changes_nothing() -> None:
    _, sgd = fresh("sgd")
    model, optimizer = fresh("entropy-sgd", **settings("entropy-sgd"))
    before = nn.utils.parameters_to_vector(model.parameters()).clone()
    for state in (sgd.state_dict(), torch.optim.SGD(model.parameters(), lr=0.1).state_dict()):
        with pytest.raises(ValueError, match="is not one of EntropySGD with these parameters"):
            optimizer.load_state_dict(state)
    assert torch.equal(nn.utils.parameters_to_vector(model.parameters()), before)


@pytest.mark.parametrize("name", [name for name in DROP_INS if name != "curveball"])
def test_state_dict_round_trip_in_mid_inner_loop(name: str) -> None:
    whole, steady = fresh(name, **settings(name))
    plain_loop(whole, steady, 0, 20)
    first, interrupted = fresh(name, **settings(name))
    plain_loop(first, interrupted, 0, 9)
    file = io.BytesIO()
    torch.save((first.state_dict(), interrupted.state_dict()), file)
    file.seek(0)
    weights, state = torch.load(file, weights_only=True)
    second, resumed = fresh(name, **settings(name))
    second.load_state_dict(weights)
    resumed.load_state_dict(state)
    plain_loop(second, resumed, 9, 20)
    for a, b in zip(whole.parameters(), second.parameters(), strict=True):
        assert torch.equal(a, b)


def scheduled(cls: type[Any]) -> tuple[nn.Module, Any, Any]:
    """A model, its optimizer, and a scheduler of PyTorch that moves the betas (or the momentum) in every step."""
    torch.manual_seed(0)
    model = nn.Linear(10, 4)
    constant = {"schedule": "constant"} if "schedule" in cls.rule_class.wide else {"total_steps": 30}
    optimizer = cls(model.parameters(), lr=0.01, **constant)
    return model, optimizer, torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=0.05, total_steps=40)


def trained(parts: tuple[nn.Module, Any, Any], steps: range, evaluates: bool = False) -> nn.Module:
    model, optimizer, scheduler = parts
    for step in steps:
        x = torch.randn(16, 10, generator=torch.Generator().manual_seed(step))
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x), x[:, :4].argmax(1)).backward()
        optimizer.step()
        scheduler.step()
        if evaluates:
            with optimizer.deployed():
                pass
    return model


@pytest.mark.parametrize("cls", [optim.AdamW, optim.GPA, optim.AdamWEMA, optim.SGD], ids=lambda cls: cls.__name__)
def test_a_loop_whose_scheduler_moves_betas_is_resumed_bit_for_bit(cls: type[Any]) -> None:
    """The state is saved after the scheduler's step, as usual: it then belongs to the new betas."""
    unbroken, resumed = scheduled(cls), scheduled(cls)
    trained(unbroken, range(5))
    saved = copy.deepcopy([part.state_dict() for part in unbroken])
    for part, state in zip(resumed, saved, strict=True):
        part.load_state_dict(state)
    assert torch.equal(trained(resumed, range(5, 20)).weight, trained(unbroken, range(5, 20)).weight)


def test_saving_in_between_changes_nothing() -> None:
    looked_at, left_alone = scheduled(optim.AdamW), scheduled(optim.AdamW)
    for step in range(12):
        trained(looked_at, range(step, step + 1))
        looked_at[1].state_dict()
        trained(left_alone, range(step, step + 1))
    assert torch.equal(looked_at[0].weight, left_alone[0].weight)


@pytest.mark.parametrize("cls", [optim.SGD, optim.ScheduleFreeSGD, optim.ScheduleFreeAdamW, optim.EntropySGD])
@pytest.mark.parametrize("how", [copy.deepcopy, lambda pair: pickle.loads(pickle.dumps(pair))], ids=["copy", "pickle"])
def test_a_copy_steps_its_own_model_after_a_scheduler_was_attached(cls: type[Any], how: Any) -> None:
    """The scheduler wraps the step of the first optimizer, and has moved what Schedule-Free's point depends on."""
    model, optimizer, scheduler = scheduled(cls) if cls is not optim.EntropySGD else with_inner_rate()
    trained((model, optimizer, scheduler), range(4))
    twin, other = how((model, optimizer))
    before = model.weight.detach().clone()
    torch.optim.lr_scheduler.LambdaLR(other, lambda step: 1.0)  # one of its own, which wraps the copy's step
    other.param_groups[0].update({key: value for key, value in optimizer.param_groups[0].items() if key != "params"})
    x = torch.randn(16, 10, generator=torch.Generator().manual_seed(4))
    for each, own in ((model, optimizer), (twin, other)):
        own.zero_grad()
        nn.functional.cross_entropy(each(x), x[:, :4].argmax(1)).backward()
    other.step()
    assert torch.equal(model.weight, before) and not torch.equal(twin.weight, before)
    optimizer.step()
    assert torch.equal(model.weight, twin.weight)


def with_inner_rate() -> tuple[nn.Module, Any, Any]:
    model = nn.Linear(10, 4)
    optimizer = EntropySGD(model.parameters(), total_steps=30, inner_steps=3, schedule="constant")
    return model, optimizer, torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 0.9**step)


@pytest.mark.parametrize("cls", [optim.ScheduleFreeSGD, optim.ScheduleFreeAdamW])
def test_evaluations_do_not_move_the_point_that_a_scheduler_s_momentum_would_move(cls: type[Any]) -> None:
    weights = [trained(scheduled(cls), range(20), evaluates).weight for evaluates in (False, True)]
    assert torch.equal(*weights)


def test_a_state_of_other_trained_layers_says_what_to_do() -> None:
    model = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1))
    model[0].requires_grad_(False)
    optimizer = SGD(model.parameters(), total_steps=10)
    saved = optimizer.state_dict()
    model[0].requires_grad_(True)
    with pytest.raises(ValueError, match="set requires_grad of all parameters as it was when the state was saved"):
        optimizer.load_state_dict(saved)


def test_numbers_of_numpy_are_numbers() -> None:
    model = nn.Linear(2, 1)
    optimizer = SGD(model.parameters(), total_steps=np.int64(10), lr=0.1, schedule="constant")
    assert type(optimizer.total_steps) is int
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: np.float32(0.5) ** step)
    for _ in range(3):
        model(torch.ones(1, 2)).sum().backward()
        optimizer.step()
        scheduler.step()
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.0125)
