"""What people do to optimizers, and what must then not go wrong without a word."""

from __future__ import annotations

import copy
import io
import pickle
import warnings
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from relaxbench.optim import LPFSGD, SAM, SGD, CurveBall, EntropySGD, Parle, drop_in, reestimate_batch_norm
from relaxbench.optim.drop_in.base import RuleOptimizer
from relaxbench.optim.drop_in.classes import DROP_INS
from relaxbench.optim.drop_in.closures import closures
from relaxbench.optim.rule import Rule

GRADIENT = [name for name in DROP_INS if name != "curveball"]
X = torch.arange(12.0).view(4, 3).sin()


def loop(model: nn.Module, optimizer: RuleOptimizer, steps: int, x: Tensor = X) -> None:
    def closure() -> float:
        optimizer.zero_grad()
        loss = model(x.to(next(model.parameters()).dtype)).square().mean()
        torch.autograd.backward(loss)
        return loss.item()

    for _ in range(steps):
        if isinstance(optimizer, CurveBall):
            optimizer.step(lambda: model(x), lambda out: out.square().sum(-1).mean())
        else:
            optimizer.step(closure)


def made(name: str, **changes: Any) -> tuple[nn.Module, RuleOptimizer]:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 2))
    given: Any = model if name == "curveball" else model.parameters()
    return model, DROP_INS[name](given, total_steps=200, **changes)


def vector(model: nn.Module) -> Tensor:
    return nn.utils.parameters_to_vector(model.parameters()).detach().clone()


@pytest.mark.parametrize("name", DROP_INS)
def test_weights_loaded_before_the_first_step_are_where_it_begins(name: str) -> None:
    model, optimizer = made(name)
    other = {key: value + 1.0 for key, value in model.state_dict().items()}
    model.load_state_dict(other)
    loop(model, optimizer, 3)
    twin, fresh = made(name)
    twin.load_state_dict(other)
    fresh = type(optimizer)(twin if name == "curveball" else twin.parameters(), total_steps=200)  # type: ignore[arg-type]
    loop(twin, fresh, 3)
    assert torch.equal(vector(model), vector(twin))


@pytest.mark.parametrize("name", DROP_INS)
def test_weights_changed_later_are_refused_and_unchanged_ones_are_not(name: str) -> None:
    model, optimizer = made(name)
    loop(model, optimizer, 2)
    with torch.no_grad():
        for p in model.parameters():
            p.mul_(1.0)  # written into, the values are as they were
    loop(model, optimizer, 1)
    with torch.no_grad():
        for p in model.parameters():
            p.clamp_(-0.01, 0.01)
    with pytest.raises(RuntimeError, match="changed by other code"):
        loop(model, optimizer, 1)
    with pytest.raises(RuntimeError, match="changed by other code"):
        optimizer.eval()


@pytest.mark.parametrize("name", DROP_INS)
@pytest.mark.parametrize("way", ["deepcopy", "pickle"])
def test_copies_go_on_like_the_original(name: str, way: str) -> None:
    model, optimizer = made(name)
    loop(model, optimizer, 4)
    pair = copy.deepcopy((model, optimizer)) if way == "deepcopy" else pickle.loads(pickle.dumps((model, optimizer)))
    loop(model, optimizer, 9)
    assert not torch.equal(vector(model), vector(pair[0]))  # a copy of its own
    loop(*pair, 9)
    assert torch.equal(vector(model), vector(pair[0]))
    for each in (optimizer, pair[1]):
        each.eval()
    assert torch.equal(vector(model), vector(pair[0]))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", GRADIENT)
def test_models_in_half_precision_are_trained_with_full_precision_weights(name: str, dtype: torch.dtype) -> None:
    """They follow a float32 model up to the rounding of its parameters; L and the schedules stay exact."""
    model, optimizer = made(name)
    torch.manual_seed(0)
    half = nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 2)).to(dtype)
    rounded = type(optimizer)(half.parameters(), total_steps=200)
    loop(model, optimizer, 60)
    loop(half, rounded, 60)
    found, expected = vector(half).float(), vector(model)
    assert bool(torch.isfinite(found).all())
    assert float((found - expected).abs().max()) < 0.03
    assert all(value.dtype != dtype for value in rounded.state_dict()["rule"].values())


def test_types_may_be_mixed() -> None:
    for name in GRADIENT:
        model, _ = made(name)
        model[0].double()  # type: ignore[index]

        class Cast(nn.Module):
            def __init__(self, inner: nn.Module) -> None:
                super().__init__()
                self.inner = inner

            def forward(self, x: Tensor) -> Tensor:
                first, second, third = self.inner
                return third(second(first(x.double())).float())

        wrapped = Cast(model)
        optimizer = DROP_INS[name](wrapped.parameters(), total_steps=200)
        loop(wrapped, optimizer, 5)
        assert bool(torch.isfinite(vector(wrapped)).all())
    newton = CurveBall(wrapped, total_steps=10)
    loop(wrapped, newton, 2)
    assert bool(torch.isfinite(vector(wrapped)).all())


@pytest.mark.parametrize("name", GRADIENT)
@pytest.mark.parametrize("shape", [(0,), (0, 5), (5, 0)])
def test_empty_parameters_do_no_harm(name: str, shape: tuple[int, ...]) -> None:
    model, _ = made(name)
    model.register_parameter("empty", nn.Parameter(torch.zeros(shape)))
    loop(model, DROP_INS[name](model.parameters(), total_steps=200), 3)


def test_groups_cannot_be_added_later() -> None:
    _, optimizer = made("entropy-sgd")
    with pytest.raises(ValueError, match="cannot be added later"):
        optimizer.add_param_group({"params": [nn.Parameter(torch.ones(2))]})


def test_freezing_moving_and_unfreezing_are_noticed() -> None:
    model, optimizer = made("sgd")
    loop(model, optimizer, 1)
    model[0].weight.requires_grad_(False)  # type: ignore[index,union-attr]
    with pytest.raises(RuntimeError, match=r"shape \(5, 3\) has been frozen"):
        loop(model, optimizer, 1)
    model[0].weight.requires_grad_(True)  # type: ignore[index,union-attr]
    loop(model, optimizer, 1)
    model.double()
    with pytest.raises(RuntimeError, match=r"given another type|changed by other code"):
        loop(model, optimizer, 1)


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
    _, other = made(saved, **saved_with)
    model, optimizer = made(loading, **loading_with)
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
    crowded = copy.deepcopy(states[1])
    crowded["pending"] = [torch.zeros(1, 18)] * 5
    with pytest.raises(ValueError, match="5 gradients"):
        optimizer.load_state_dict(crowded)
    optimizer.load_state_dict(states[1])


def test_what_was_saved_says_how_long_training_takes() -> None:
    model, optimizer = made("entropy-sgd", inner_steps=5)
    loop(model, optimizer, 7)
    file = io.BytesIO()
    torch.save(optimizer.state_dict(), file)
    file.seek(0)
    again = EntropySGD(model.parameters(), total_steps=50, inner_steps=6)
    again.load_state_dict(torch.load(file, weights_only=True))
    assert again.total_steps == 200 and again.param_groups[0]["inner_steps"] == 5


def test_training_that_ends_before_the_first_outer_step_is_refused() -> None:
    with pytest.raises(ValueError, match=r"total_steps = 19 is less than one outer step of Entropy-SGD, 20 steps"):
        EntropySGD(nn.Linear(2, 2).parameters(), total_steps=19)
    EntropySGD(nn.Linear(2, 2).parameters(), total_steps=20)
    with pytest.raises(ValueError, match="one outer step of Parle, 75 steps"):
        Parle(nn.Linear(2, 2).parameters(), total_steps=74, inner_steps=25)
    with pytest.raises(ValueError, match="8 steps"):
        LPFSGD(nn.Linear(2, 2).parameters(), total_steps=7, samples=8)


@pytest.mark.parametrize("name", DROP_INS)
def test_total_steps_are_calls_of_step_and_more_of_them_are_told_once(name: str) -> None:
    """At the end a cosine schedule has come down to zero: the last calls change next to nothing, later ones nothing."""
    given = {"schedule": "cosine"} if "schedule" in DROP_INS[name].rule_class.space else {}
    model, optimizer = made(name, **given)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        loop(model, optimizer, 200)
    with pytest.warns(UserWarning, match="more often than total_steps = 200") as told:
        loop(model, optimizer, 3)
    assert len(told) == 1 and told[0].filename == __file__


def test_a_closure_that_fails_in_the_middle_of_a_step_leaves_no_trace() -> None:
    model, optimizer = made("sam")
    twin, steady = made("sam")
    loop(model, optimizer, 2)
    calls = 0

    def failing() -> float:
        nonlocal calls
        calls += 1
        if calls == 2:
            raise MemoryError("too large a batch")
        optimizer.zero_grad()
        loss = model(X).square().mean()
        torch.autograd.backward(loss)
        return loss.item()

    with pytest.raises(MemoryError):
        optimizer.step(failing)
    loop(model, optimizer, 2)
    loop(twin, steady, 4)
    assert torch.equal(vector(model), vector(twin))


def test_a_rule_that_stays_on_one_mini_batch_is_refused() -> None:
    class Full(SGD.rule_class):  # type: ignore[name-defined,misc]
        def first_batch(self, query: int) -> int:
            return 0

    with pytest.raises(ValueError, match="64 queries in a row"):
        closures(Full())
    assert [closures(DROP_INS[name].rule_class()) for name in ("sgd", "sam", "parle", "heat")] == [0, 2, 0, 0]


BAD: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"total_steps": "a"}, TypeError, "total_steps = 'a': expected an integer"),
    ({"total_steps": 2.5}, TypeError, "total_steps = 2.5"),
    ({"total_steps": 0}, ValueError, "total_steps = 0: expected at least 1"),
    ({"seed": 1.5}, TypeError, "seed = 1.5"),
    ({"seed": 2**63}, ValueError, "below 2⁶³"),
    ({"seed": -1}, ValueError, "seed = -1"),
    ({"scoping": ["a"]}, ValueError, r"scoping = \['a'\]"),
    ({"restart_momentum": "no"}, TypeError, "restart_momentum = 'no': expected True or False"),
    ({"inner_lr": 10**400}, ValueError, "inner_lr"),
    ({"inner_lr": torch.tensor(0.1)}, ValueError, "inner_lr = tensor"),
    ({"lr": 0.1}, TypeError, "no hyperparameter 'lr': its step sizes are outer_lr and inner_lr"),
    ({"gamma_start": -1.0}, ValueError, "gamma_start = -1.0: expected a positive number"),
    ({"inner_steps": 0}, ValueError, "inner_steps = 0: expected an integer of at least 1"),
    ({"averaging": 1.0}, ValueError, "averaging = 1.0: expected a number that is not negative, below 1"),
    ({"averaging": -0.1}, ValueError, "averaging = -0.1"),
    ({"temperature": -1e-9}, ValueError, "temperature = -1e-09: expected a number that is not negative"),
]


@pytest.mark.parametrize(("arguments", "error", "told"), BAD)
def test_bad_arguments_are_named_with_what_was_expected(
    arguments: dict[str, Any], error: type[Exception], told: str
) -> None:
    with pytest.raises(error, match=told):
        EntropySGD(nn.Linear(2, 2).parameters(), **{"total_steps": 100, **arguments})


def test_bad_groups_are_named() -> None:
    layer = nn.Linear(3, 1)
    for extra, error, told in (
        ({"inner_lrr": 0.1}, TypeError, "did you mean 'inner_lr'"),
        ({"lr": -1.0}, ValueError, "lr = -1.0"),
        ({"momentum": 2.0}, ValueError, "momentum = 2.0"),
    ):
        with pytest.raises(error, match=told):
            EntropySGD([{"params": [layer.weight], **extra}], total_steps=100)
    optimizer = EntropySGD(layer.parameters(), total_steps=100)
    optimizer.param_groups[0]["momentum"] = 2.0
    with pytest.raises(ValueError, match=r"momentum = 2\.0"):
        loop(layer, optimizer, 1)
    optimizer.param_groups[0].update(momentum=0.5, lr="a")
    with pytest.raises(ValueError, match="lr = 'a': expected a number"):
        loop(layer, optimizer, 1)


@pytest.mark.parametrize("cls", [SGD, EntropySGD, CurveBall])
def test_the_first_thing_that_is_forgotten_is_told(cls: Any) -> None:
    layer = nn.Linear(2, 2)
    first = layer if cls is CurveBall else layer.parameters()
    with pytest.raises(TypeError, match=rf"^{cls.__name__} needs total_steps, the calls of step\(\)"):
        cls(first)


def test_a_step_without_any_gradient_is_refused() -> None:
    layer = nn.Linear(2, 2)
    optimizer = SGD(layer.parameters(), total_steps=10)
    with pytest.raises(RuntimeError, match=r"no parameter has a gradient: call loss\.backward\(\) before step"):
        optimizer.step()
    sharpness = SAM(layer.parameters(), total_steps=10)
    before = layer.weight.clone()
    with pytest.raises(RuntimeError, match="no parameter has a gradient"):
        sharpness.step(lambda: layer(torch.ones(1, 2)).sum().item())
    with pytest.raises(TypeError, match="closure = 3: expected a function without arguments"):
        sharpness.step(3)  # type: ignore[call-overload]
    assert torch.equal(layer.weight, before)


def test_things_of_the_wrong_kind_are_named() -> None:
    layer = nn.Linear(2, 2)
    with pytest.raises(TypeError, match="rule = 3: expected the name of a rule"):
        drop_in(3)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"model is a int: expected a torch\.nn\.Module"):
        reestimate_batch_norm(3, [])  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="state_dict is a NoneType"):
        SGD(layer.parameters(), total_steps=10).load_state_dict(None)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="compile = 'yes': expected True or False"):
        CurveBall(layer, total_steps=10, compile="yes")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"layer '0' \(Embedding\) has sparse gradients"):
        CurveBall(nn.Sequential(nn.Embedding(3, 2, sparse=True)), total_steps=10)


def test_curveball_says_what_its_step_takes() -> None:
    layer, other, x = nn.Linear(2, 2), nn.Linear(2, 2), torch.ones(3, 2)
    optimizer = CurveBall(layer, total_steps=10)
    with pytest.raises(TypeError, match=r"CurveBall takes step\(model_fn, loss_fn\)"):
        optimizer.step()
    with pytest.raises(TypeError, match="loss_fn returned a float"):
        optimizer.step(lambda: layer(x), lambda out: 1.0)  # type: ignore[arg-type,return-value]
    with pytest.raises(ValueError, match="must call the model that the optimizer was made for"):
        optimizer.step(lambda: other(x), lambda out: out.square().mean())


def test_numbers_of_numpy_are_numbers() -> None:
    optimizer = EntropySGD(
        nn.Linear(2, 2).parameters(),
        total_steps=100,
        inner_lr=np.float32(0.1),
        inner_steps=np.int64(6),  # type: ignore[arg-type]
    )
    assert optimizer._hyper.period == 6


def test_nothing_to_train_and_nothing_given() -> None:
    with pytest.raises(ValueError, match="no parameter needs a gradient"):
        SGD(nn.Linear(2, 2).requires_grad_(False).parameters(), total_steps=10)
    with pytest.raises(ValueError, match="empty parameter list"):
        SGD([], total_steps=10)
    with pytest.raises(ValueError, match="empty parameter list"):
        CurveBall(nn.Linear(2, 2), [], total_steps=10)


def test_schedulers_that_add_keys_to_the_groups_work() -> None:
    model, optimizer = made("sgd", schedule="constant")
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=0.1, total_steps=20)
    for _ in range(19):
        loop(model, optimizer, 1)
        scheduler.step()
    state = optimizer.state_dict()
    again, other = made("sgd", schedule="constant")
    other.load_state_dict(state)
    assert other.param_groups[0]["max_lr"] == 0.1 and bool(torch.isfinite(vector(again)).all())


@pytest.mark.parametrize("name", GRADIENT)
def test_clipped_gradients_are_those_that_are_used(name: str) -> None:
    """Clipping works as always: between backward and step."""
    moved = []
    for scale in (1.0, 1000.0):
        torch.manual_seed(0)
        model = nn.Linear(3, 2)
        optimizer = DROP_INS[name](model.parameters(), total_steps=200)

        def closure(model: nn.Module = model, optimizer: Any = optimizer, scale: float = scale) -> float:
            optimizer.zero_grad()
            loss = scale * model(X).square().mean()
            torch.autograd.backward(loss)
            nn.utils.clip_grad_norm_(model.parameters(), 1e-3)
            return loss.item()

        for _ in range(20):
            optimizer.step(closure)
        moved.append(vector(model))
    assert torch.allclose(moved[0], moved[1], atol=1e-6)


def test_memory_is_stated_where_people_look() -> None:
    """In every rule's docstring: the number of copies that it declares."""
    for name, cls in DROP_INS.items():
        rule: Rule = cls.rule_class()
        assert f"{rule.copies} copies" in " ".join((cls.rule_class.__doc__ or "").split()), name


def test_a_step_of_sam_calls_its_closure_twice() -> None:
    assert SAM(nn.Linear(2, 2).parameters(), total_steps=5).closures == 2
