"""Mistakes in the arguments are named, with what was expected."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from relaxbench.optim import LPFSGD, SGD, AdamW, CurveBall, EntropySGD, Lookahead, Parle, drop_in, reestimate_batch_norm
from relaxbench.optim.drop_in.classes import DROP_INS
from relaxbench.space import Value
from tests.optim.drop_in.models import loop, new, vector

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


@pytest.mark.parametrize(
    ("params", "told"),
    [
        (nn.Linear(2, 2), r"params is a model \(Linear\): give its parameters"),
        (torch.optim.SGD(nn.Linear(2, 2).parameters(), lr=0.1), r"params is an optimizer \(SGD\): Lookahead wraps no"),
    ],
)
def test_what_is_given_in_place_of_parameters_is_named(params: Any, told: str) -> None:
    with pytest.raises(TypeError, match=told):
        Lookahead(params, total_steps=100)


@pytest.mark.parametrize(("arguments", "error", "told"), BAD)
def test_bad_arguments_are_named_with_what_was_expected(
    arguments: dict[str, Any], error: type[Exception], told: str
) -> None:
    with pytest.raises(error, match=told):
        EntropySGD(nn.Linear(2, 2).parameters(), **{"total_steps": 100, **arguments})


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


def test_numbers_of_numpy_are_numbers() -> None:
    optimizer = EntropySGD(
        nn.Linear(2, 2).parameters(),
        total_steps=100,
        inner_lr=np.float32(0.1),
        inner_steps=np.int64(6),  # type: ignore[arg-type]
    )
    assert optimizer._hyper.period == 6


def test_training_that_ends_before_the_first_outer_step_is_refused() -> None:
    with pytest.raises(ValueError, match=r"total_steps = 19 is less than one outer step of Entropy-SGD, 20 steps"):
        EntropySGD(nn.Linear(2, 2).parameters(), total_steps=19)
    EntropySGD(nn.Linear(2, 2).parameters(), total_steps=20)
    with pytest.raises(ValueError, match="one outer step of Parle, 75 steps"):
        Parle(nn.Linear(2, 2).parameters(), total_steps=74, inner_steps=25)
    with pytest.raises(ValueError, match="8 steps"):
        LPFSGD(nn.Linear(2, 2).parameters(), total_steps=7, samples=8)


@pytest.mark.parametrize("cls", [SGD, EntropySGD, CurveBall])
def test_the_first_thing_that_is_forgotten_is_told(cls: Any) -> None:
    layer = nn.Linear(2, 2)
    first = layer if cls is CurveBall else layer.parameters()
    with pytest.raises(TypeError, match=rf"^{cls.__name__} needs total_steps, the calls of step\(\)"):
        cls(first)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"inner_step": 5}, TypeError, "did you mean 'inner_steps'"),
        ({"L": 5}, TypeError, "did you mean 'inner_steps'"),
        ({"gamma": 5}, TypeError, "did you mean 'gamma_start' or 'gamma_end'"),
        ({"learning_rate": 0.1}, TypeError, "its step sizes are outer_lr and inner_lr"),
        ({"momentum": -0.1}, ValueError, "momentum = -0.1"),
        ({"scoping": "quadratic"}, ValueError, "expected one of geometric, linear, cosine, constant"),
        ({"inner_steps": 2.5}, ValueError, "integer of at least 1"),
        ({"inner_steps": True}, ValueError, "integer of at least 1"),
        ({"momentum": 1.0}, ValueError, "momentum = 1.0: expected a number that is not negative, below 1"),
        ({"averaging": 1}, ValueError, "below 1"),
        ({"gamma_start": 0.0}, ValueError, "gamma_start = 0.0: expected a positive number"),
        ({"gamma_end": float("inf")}, ValueError, "finite"),
        ({"inner_lr": float("nan")}, ValueError, "inner_lr = nan"),
        ({"inner_lr": "0.1"}, ValueError, "inner_lr = '0.1'"),
    ],
)
def test_mistakes_are_named(arguments: dict[str, Value], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        EntropySGD(nn.Linear(2, 2).parameters(), total_steps=10, **arguments)


@pytest.mark.parametrize(
    ("make", "written"),
    [
        (lambda layer: SGD(layer.parameters(), 0.1), "write lr = 0.1 if"),
        (lambda layer: EntropySGD(layer.parameters(), 0.1), "write outer_lr or inner_lr = 0.1 if"),
        (lambda layer: CurveBall(layer, layer.parameters(), 0.1), "write newton_lr = 0.1 if"),
        (lambda layer: SGD(layer.parameters(), learning_rate=0.1), "did you mean 'lr'"),
        (lambda layer: AdamW(layer.parameters(), learning_rate=0.1), "did you mean 'lr'"),
        (lambda layer: AdamW(layer.parameters(), wd=0.1), "did you mean 'weight_decay'"),
    ],
)
def test_a_step_size_is_given_by_its_name(make: Callable[[nn.Linear], object], written: str) -> None:
    with pytest.raises(TypeError, match=written):
        make(nn.Linear(2, 2))


def test_adamw_understands_the_names_of_pytorch() -> None:
    """In groups too: there the `lr` of PyTorch is a step size, not a factor."""
    found = []
    for ours in (True, False):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 2))
        groups = [{"params": model[0].parameters(), "lr": 3e-3}, {"params": model[2].parameters()}]
        values: dict[str, Any] = {"lr": 1e-2, "betas": (0.8, 0.95), "weight_decay": 0.1}
        optimizer: Any = (
            AdamW(groups, total_steps=20, schedule="constant", **values)
            if ours
            else torch.optim.AdamW(groups, **values)
        )
        loop(model, optimizer, 10)
        found.append(vector(model))
    assert torch.allclose(*found, rtol=1e-4, atol=1e-6)
    params = list(nn.Linear(2, 2).parameters())
    with pytest.raises(TypeError, match="lr stands for adam_lr, and adam_lr is given too"):
        AdamW(params, total_steps=5, lr=0.1, adam_lr=0.1)
    with pytest.raises(TypeError, match=r"betas = 0.9: expected 2 numbers, beta1 and beta2"):
        AdamW(params, total_steps=5, betas=0.9)


@pytest.mark.parametrize("name", DROP_INS)
def test_a_parameter_listed_twice_counts_once(name: str) -> None:
    found = []
    for twice in (False, True):
        model, _ = new(name)
        params = [*model.parameters(), *(list(model.parameters())[:1] if twice else [])]
        given: dict[str, Any] = {"model": model} if name == "curveball" else {}
        optimizer = DROP_INS[name](params=params, total_steps=200, **given)
        loop(model, optimizer, 25)
        found.append(vector(model))
    assert torch.equal(*found)
