"""The signature of a drop-in class: every hyperparameter and option of its rule by name."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any, Literal

from relaxbench.optim.hyper import OPTIONS
from relaxbench.optim.rule import Rule
from relaxbench.space import Float, Hyperparameter, Int

Init = Callable[..., None]
Parameter = inspect.Parameter


def named_init(init: Init, rule_class: type[Rule]) -> Init:
    """Give the constructor of a base class the signature that fits one rule.

    Args:
        init: takes the rule's hyperparameters and options as `**hyper`.
        rule_class: the rule.

    Returns:
        a function that calls `init`; in its signature each hyperparameter has its name, type and default, keyword-only.
        It raises TypeError for a value without a name.
    """
    places = [p.name for p in inspect.signature(init).parameters.values() if p.kind is Parameter.POSITIONAL_OR_KEYWORD]
    del places[0]  # self
    rates = [name for name in rule_class.wide if name == "lr" or name.endswith("_lr")]

    @functools.wraps(init)
    def named(self: Any, *args: Any, **kwargs: Any) -> None:
        if len(args) > len(places):
            value = repr(args[len(places)])
            raise TypeError(
                f"{type(self).__name__}: {value} is given without its name: write {' or '.join(rates)} = {value} if it "
                f"is a step size; only {' and '.join(places)} may stand without a name"
            )
        init(self, *args, **kwargs)

    # Not marked as a wrapper: tools that unwrap functions would show the signature of `init`.
    named.__dict__.update(__signature__=_signature(init, rule_class))
    del named.__dict__["__wrapped__"]
    return named


def _signature(init: Init, rule_class: type[Rule]) -> inspect.Signature:
    declared = inspect.signature(init, eval_str=True)
    parameters = {name: p for name, p in declared.parameters.items() if p.kind is not Parameter.VAR_KEYWORD}
    for name, value in rule_class.wide.items():
        parameter = Parameter(name, Parameter.KEYWORD_ONLY, default=value.default, annotation=_annotation(name, value))
        parameters.setdefault(name, parameter)
    for name, option in inspect.signature(rule_class).parameters.items():
        if option.kind in (Parameter.POSITIONAL_OR_KEYWORD, Parameter.KEYWORD_ONLY):
            kind = Any if option.default is Parameter.empty else type(option.default)
            parameters.setdefault(name, option.replace(kind=Parameter.KEYWORD_ONLY, annotation=kind))
    return declared.replace(parameters=list(parameters.values()))


def _annotation(name: str, declared: Hyperparameter) -> Any:
    """The type of a hyperparameter's values: a choice is one of its names."""
    if isinstance(declared, Float):
        return float
    return int if isinstance(declared, Int) else Literal[OPTIONS[name]]
