"""The signatures of the drop-in classes name what their rules take."""

from __future__ import annotations

import inspect
from typing import Any, Literal

import pytest
from torch import nn

from relaxbench import optim
from relaxbench.optim import SGD, CurveBall, EntropySGD, drop_in
from relaxbench.optim.drop_in.classes import DROP_INS
from relaxbench.optim.rules import sgd
from relaxbench.space import Choice, Float


@pytest.mark.parametrize("name", DROP_INS)
def test_every_hyperparameter_has_its_name_type_and_default(name: str) -> None:
    cls = DROP_INS[name]
    parameters = inspect.signature(cls).parameters
    for hyper, declared in cls.rule_class.wide.items():
        parameter = parameters[hyper]
        assert parameter.default == declared.default and parameter.kind is inspect.Parameter.KEYWORD_ONLY
        if isinstance(declared, Choice):
            assert set(declared.options) <= set(parameter.annotation.__args__)
        else:
            assert parameter.annotation is (float if isinstance(declared, Float) else int)
    options = inspect.signature(cls.rule_class).parameters
    assert all(parameters[option].default == value.default for option, value in options.items())
    assert not any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters.values())


@pytest.mark.parametrize("name", DROP_INS)
def test_total_steps_is_asked_for_because_every_rule_is_scheduled_by_default(name: str) -> None:
    cls = DROP_INS[name]
    parameter = inspect.signature(cls).parameters["total_steps"]
    assert parameter.default is None and parameter.annotation == int | None
    model = nn.Linear(2, 2)
    first: Any = model if cls.rule_class.curvature else model.parameters()
    with pytest.raises(TypeError, match=rf"^{cls.__name__} needs total_steps, the calls of step\(\) [^\n]+$"):
        cls(first)


def test_the_signature_of_entropy_sgd() -> None:
    parameters = inspect.signature(EntropySGD).parameters
    assert list(parameters)[:4] == ["params", "total_steps", "seed", "outer_lr"]
    assert parameters["gamma_start"].default == 30.0
    assert parameters["scoping"].annotation == Literal["geometric", "linear", "cosine", "constant", "mean"]
    assert parameters["restart_momentum"].annotation is bool
    assert list(inspect.signature(EntropySGD.__init__).parameters)[:2] == ["self", "params"]
    assert list(inspect.signature(CurveBall).parameters)[:5] == ["model", "params", "total_steps", "seed", "compile"]


def test_a_class_made_for_another_rule_has_its_signature() -> None:
    class Mine(sgd.SGD):
        name, title, source = "mine", "Mine", "nowhere"
        space = {"lr": Float(0.1, 1.0, 0.25), "spread": Float(0.0, 1.0, 0.5)}

        def __init__(self, seed: int = 3, *extra: int, needed: Any, **more: Any) -> None:
            super().__init__()

    parameters = inspect.signature(drop_in(Mine)).parameters
    assert parameters["spread"].default == 0.5 and parameters["needed"].annotation is Any
    assert parameters["seed"].default == 0  # the optimizer's own, not the option of the rule
    assert set(parameters) == {"params", "total_steps", "seed", "lr", "spread", "needed"}


def test_a_subclass_with_a_constructor_of_its_own_keeps_it() -> None:
    class Short(SGD):
        def __init__(self, model: nn.Module, steps: int) -> None:
            super().__init__(model.parameters(), total_steps=steps)

    assert list(inspect.signature(Short).parameters) == ["model", "steps"]
    assert Short(nn.Linear(2, 2), 5).total_steps == 5


def test_exported_classes_show_more_than_a_dictionary_of_hyperparameters() -> None:
    for cls in DROP_INS.values():
        assert "**" not in str(inspect.signature(getattr(optim, cls.__name__)))
