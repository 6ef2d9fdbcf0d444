"""The arguments of a drop-in optimizer: its rule with the rule's options, and its whole numbers."""

from __future__ import annotations

import inspect
from collections.abc import Iterable
from numbers import Integral
from typing import Any

import torch
from torch import nn

from relaxbench.optim.drop_in.groups import unknown_hyperparameter
from relaxbench.optim.rule import Rule
from relaxbench.space import Value


def make_rule(rule_class: type[Rule], arguments: dict[str, Value]) -> tuple[Rule, dict[str, Any], dict[str, Value]]:
    """Make the rule that some arguments describe.

    Args:
        rule_class: the rule's class.
        arguments: options of the rule (arguments of its `__init__`) and hyperparameters, by name.

    Returns:
        the rule, all of its options, and the hyperparameters that were given.

    Raises:
        TypeError: for a name that the rule does not have, or an option that should be True or False.
    """
    parameters = inspect.signature(rule_class).parameters
    options = {name: value for name, value in arguments.items() if name in parameters}
    hyper = {name: value for name, value in arguments.items() if name not in parameters}
    for name, value in options.items():
        if isinstance(parameters[name].default, bool) and not isinstance(value, bool):
            raise TypeError(f"{name} = {value!r}: expected True or False")
    rule = rule_class(**options)
    for name in hyper:
        if name not in rule.wide:
            raise unknown_hyperparameter(rule, name, list(parameters))
    return rule, {name: options.get(name, option.default) for name, option in parameters.items()}, hyper


def once(params: Iterable[Any]) -> list[Any]:
    """Return parameters, or pairs of a name and a parameter, each once: one that is shared may be listed twice."""
    return list({id(p[1]) if isinstance(p, tuple) else id(p): p for p in params}.values())


def check_params(title: str, params: Any) -> None:
    """Refuse what is often given in place of parameters: a model, or an optimizer that is to be wrapped.

    Raises:
        TypeError: saying what to give.
    """
    kind = type(params).__name__
    if isinstance(params, nn.Module):
        raise TypeError(f"params is a model ({kind}): give its parameters, model.parameters()")
    if isinstance(params, torch.optim.Optimizer):
        raise TypeError(
            f"params is an optimizer ({kind}): {title} wraps no other one, it takes the steps itself; give the "
            "parameters, model.parameters()"
        )


def check_integer(name: str, value: Any, low: int, meaning: str, below: float = float("inf")) -> None:
    """Refuse anything but an integer in [low, below).

    Raises:
        TypeError: if the value is not an integer.
        ValueError: if it is out of range.
    """
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise TypeError(f"{name} = {value!r}: expected an integer, {meaning}")
    if not low <= int(value) < below:
        raise ValueError(f"{name} = {value}: expected at least {low}, {meaning}")
