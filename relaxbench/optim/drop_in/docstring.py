"""The docstring of a drop-in class, composed of its rule's docstring, search space and cost."""

from __future__ import annotations

import inspect
import re
import textwrap
from collections.abc import Mapping

import torch

from relaxbench.optim.drop_in.closures import closures
from relaxbench.optim.drop_in.names import stands_for
from relaxbench.optim.hyper import OPTIONS, defaults, expected, stack
from relaxbench.optim.options import entries, options_of
from relaxbench.optim.rule import Rule
from relaxbench.space import Choice, Float, Hyperparameter, Int

SPARED = 1 / 3
"""Of a gradient, per step of a curvature method: a forward pass, because layers are evaluated once for both directions.
Studies do not spare it, and bill it."""
WIDTH = 100
"""Columns of the composed text."""

STEP = (
    "Call `step()` after `loss.backward()`. A closure is optional: `step(closure)` calls it once and returns its loss. "
    "It clears the gradients, computes the loss of one mini-batch, calls `loss.backward()` and returns the loss."
)
STEP_WITH_CLOSURE = (
    "Call `step(closure)`. The closure clears the gradients, computes the loss of one mini-batch, calls "
    "`loss.backward()` and returns the loss. Each step calls it {calls}, on the same mini-batch, and returns the "
    "first loss."
)
STEP_WITH_FUNCTIONS = (
    "Call `step(model_fn, loss_fn)`: `model_fn()` returns the outputs of the model on one mini-batch, "
    "`loss_fn(outputs)` their mean loss. The step differentiates by itself, so do not call `loss.backward()`. It "
    "returns the loss before the step."
)
REPLICAS = "Each call serves one replica, with its own mini-batch; all replicas are updated when each has had one."
NESTEROV = "N(v, d) is Nesterov's momentum as in PyTorch: v ← m v + d, and the direction is d + m v."
DEPLOY = (
    "Between steps the parameters hold the point of the next gradient. Evaluate and save the model within `with "
    "optimizer.deployed():`, which puts the deployed weights into the model and takes them out again "
    "(with Accelerate, whose wrapper lacks it, `optimizer.optimizer.deployed()`)."
)
SCHEDULERS = (
    "The step size has its own schedule. To use a scheduler of `torch.optim.lr_scheduler` instead, pass "
    '`schedule="constant"`: it changes the `lr` of the parameter groups{factor}.'
)

EXAMPLE = """\
>>> optimizer = {constructor}(model.parameters(), total_steps=len(batches))
>>> for x, y in batches:
...     optimizer.zero_grad()
...     loss_fn(model(x), y).backward()
...     optimizer.step()"""
EXAMPLE_WITH_CLOSURE = """\
>>> optimizer = {constructor}(model.parameters(), total_steps=len(batches))
>>> def closure():
...     optimizer.zero_grad()
...     loss = loss_fn(model(x), y)
...     loss.backward()
...     return loss
>>> for x, y in batches:
...     optimizer.step(closure)"""
EXAMPLE_WITH_FUNCTIONS = """\
>>> optimizer = {constructor}(model, total_steps=len(batches))
>>> for x, y in batches:
...     optimizer.step(lambda: model(x), lambda outputs: loss_fn(outputs, y))"""


def compose(summary: str, constructor: str, rule_class: type[Rule], base: type) -> str:
    """Compose the docstring of a drop-in class.

    Args:
        summary: one sentence on what the method does.
        constructor: how code names the class.
        rule_class: the rule; its docstring has the formula, the memory and, under "Args", its options.
        base: the class whose docstring describes the arguments and errors that all rules share.
    """
    rule = _rule_with_defaults(rule_class)
    calls = closures(rule) if rule else 0
    step, example = _usage(rule_class, calls)
    parts = [
        summary,
        *_mathematics(rule_class),
        _fill(f"Source: {rule_class.source}."),
        *([_fill(_cost(rule, max(1, calls)))] if rule else []),
        _fill(" ".join([step, *([REPLICAS] if rule and rule.replicas > 1 else []), DEPLOY])),
        *_schedulers(rule_class),
        _section("Args", {**_shared_arguments(base), **_hyperparameters(rule_class), **_options(rule_class)}),
        _section("Raises", entries(base, "Raises")),
        "Examples:\n" + textwrap.indent(example.format(constructor=constructor), "    "),
    ]
    return "\n\n".join(parts)


def _usage(rule_class: type[Rule], calls: int) -> tuple[str, str]:
    """How `step` is called, in words and as an example."""
    if rule_class.curvature:
        return STEP_WITH_FUNCTIONS, EXAMPLE_WITH_FUNCTIONS
    if calls:
        return STEP_WITH_CLOSURE.format(calls="twice" if calls == 2 else f"{calls} times"), EXAMPLE_WITH_CLOSURE
    return STEP, EXAMPLE


def _schedulers(rule_class: type[Rule]) -> list[str]:
    """How PyTorch's schedulers are used, if the rule has a schedule."""
    if "schedule" not in rule_class.wide:
        return []
    factor = (
        ""
        if {"lr"} & {*rule_class.wide, *stands_for(rule_class)}
        else ", which is 1 at first and a factor on the annealed step size"
    )
    return [_fill(SCHEDULERS.format(factor=factor))]


def _mathematics(rule_class: type[Rule]) -> list[str]:
    """The rule's docstring up to its options, and the meaning of N where it occurs."""
    text = re.split(r"\n\s*\n(?=Args:\n)", inspect.getdoc(rule_class) or "", maxsplit=1)[0]
    return [text, NESTEROV] if " N(" in text else [text]


def _shared_arguments(base: type) -> dict[str, str]:
    return {name: text for name, text in entries(base, "Args").items() if name != "hyper"}


def _hyperparameters(rule_class: type[Rule]) -> dict[str, str]:
    return {
        f"{name} ({_type(declared)})": _describe(rule_class, name, declared)
        for name, declared in rule_class.wide.items()
    }


def _options(rule_class: type[Rule]) -> dict[str, str]:
    """The rule's options with type and default."""
    described = {}
    for name, option in options_of(rule_class).items():
        if option.default is inspect.Parameter.empty:
            described[name] = option.text
        else:
            described[f"{name} ({type(option.default).__name__})"] = f"{option.text} Default: {option.default}."
    return described


def _rule_with_defaults(rule_class: type[Rule]) -> Rule | None:
    """The rule with its default options; None where it has none, or does not work: its constructor says so."""
    try:
        rule = rule_class()
        closures(rule)
        _period(rule)
    except Exception:
        return None
    return rule


def _period(rule: Rule) -> int:
    """Queries in an outer step with the default hyperparameters."""
    return int(rule.period(stack([defaults(rule.wide)], torch.device("cpu"), torch.float32)))


def _cost(rule: Rule, calls: int) -> str:
    """Gradients per call of `step()`, and calls per outer step."""
    price = (rule.price - SPARED * rule.curvature) * calls
    steps = _period(rule) * rule.replicas // calls
    unit = "gradient" if price == 1 else "gradients"
    cost = f"Cost: {price:.3g} {unit} per call of `step()`."
    return cost if steps == 1 else f"{cost} An outer step, after which x moves, is {steps} calls with the defaults."


def _type(declared: Hyperparameter) -> str:
    return "float" if isinstance(declared, Float) else "int" if isinstance(declared, Int) else "str"


def _describe(rule_class: type[Rule], name: str, declared: Hyperparameter) -> str:
    """Meaning, unit, allowed values, what studies do by default, and the default of the constructor."""
    meaning = rule_class.meaning(name)
    unit = f" (unit: {meaning.unit})" if meaning and meaning.unit else ""
    allowed = expected(name, declared, None) or "any value"
    default = f"{declared.default:g}" if isinstance(declared, Float) else declared.default
    text = f"{meaning.text}{unit}. " if meaning else ""
    return f"{text}Allowed: {allowed}{_studied(rule_class, name, declared)}. Default: {default}."


def _studied(rule_class: type[Rule], name: str, wide: Hyperparameter) -> str:
    """What studies search, or at which value they keep it, and their wide range where that is another one."""
    if name not in rule_class.space:
        value = rule_class.default_fixed[name]
        kept = f"; studies keep it at {value if isinstance(value, str) else f'{value:g}'}"
        return f'{kept} (space = "wide": {_range(wide)})'
    declared = rule_class.space[name]
    if isinstance(declared, Choice) and declared.options == OPTIONS[name]:
        return ""
    searched = f"; studies search {_range(declared)}"
    return searched if _range(wide) == _range(declared) else f'{searched} (space = "wide": {_range(wide)})'


def _range(declared: Hyperparameter) -> str:
    if isinstance(declared, Choice):
        return ", ".join(declared.options)
    ends = f"{declared.low:g} to {declared.high:g}"
    if isinstance(declared, Int):
        return ends if declared.step == 1 else f"{ends} in steps of {declared.step}"
    return f"{ends}, on a log scale" if declared.log else ends


def _section(title: str, entries: Mapping[str, str]) -> str:
    return "\n".join([f"{title}:", *(_fill(f"    {name}: {text}", "        ") for name, text in entries.items())])


def _fill(text: str, later: str = "") -> str:
    return textwrap.fill(text, WIDTH, subsequent_indent=later, break_long_words=False, break_on_hyphens=False)
