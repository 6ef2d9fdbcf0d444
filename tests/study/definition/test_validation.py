"""Mistakes in a study: each gives one line that names what is wrong."""

from __future__ import annotations

import re
from typing import Any

import pytest

from relaxbench.errors import UserError
from relaxbench.problems import problem
from relaxbench.study.definition.validation import parse

GOOD: dict[str, Any] = {"name": "good", "problems": ["rosenbrock"], "methods": ["sgd", "heat"]}


def refusal(**values: Any) -> str:
    """The one line with which a study is refused."""
    with pytest.raises(UserError) as refused:
        parse({**GOOD, **values}, "my.toml")
    line = str(refused.value)
    assert ("\n" not in line and line.startswith("my.toml")) or "in my.toml" in line
    return line


MISTAKES: list[tuple[dict[str, Any], tuple[str, ...]]] = [
    ({"methods": ["sgd", "haet"]}, ("haet", "did you mean 'heat'?")),
    ({"baseline": "sdg"}, ("sdg", "did you mean 'sgd'?")),
    ({"controls": ["lookahaed"]}, ("lookahaed", "'lookahead'")),
    ({"looks": True}, ("looks = True", "a list, such as [10, 20, 40]")),
    ({"looks": [True]}, ("entry 1 of looks = True", "a whole number")),
    ({"looks": []}, ("looks is empty: name at least one",)),
    ({"looks": [20, 10]}, ("looks = [20, 10]: 10 blocks come after 20", "that rise, such as [10, 20, 40]")),
    ({"looks": [10, 20, 20]}, ("looks = [10, 20, 20]: 20 blocks come after 20", "that rise")),
    ({"looks": [5, 20]}, ("looks = [5, 20]: a look at 5 blocks comes too early", "begin with 6 or more")),
    ({"looks": 10}, ("looks = 10", "list")),
    ({"blocks": 10}, ("`blocks` is not a key of a study", "say `looks = [10]`")),
    ({"more_blocks": -1}, ("more_blocks = -1", "expected at least 0")),
    ({"more_blocks": 5, "repetitions": 2}, ("more_blocks = 5", "repetitions", "leave it out")),
    ({"margin": -1.0}, ("margin = -1.0", "a positive number", '"10 %"')),
    ({"margin": float("inf")}, ("margin = inf", "a positive number")),
    ({"margin": "0 %"}, ("margin = '0 %'", "above 0 and below 100 %")),
    ({"margin": "100 %"}, ("margin = '100 %'", "above 0 and below 100 %")),
    ({"margin": "-5 %"}, ("margin = '-5 %'", "above 0 and below 100 %")),
    ({"margin": "ten"}, ("margin = 'ten'", '"10 %"')),
    ({"margin": True}, ("margin = True",)),
    ({"budgets": [600, 2000, 600]}, ("budgets = [600, 2000, 600]: 600 stands there twice",)),
    ({"budgets": [0]}, ("entry 1 of budgets = 0", "expected at least 1")),
    ({"budgets": [600], "budget": 600}, ("budget = 600 and budgets = [600] exclude each other",)),
    ({"method": {"heat": {"space": "wild"}}}, ("method.heat.space = 'wild'", '"default", "wide" or a table of ranges')),
    ({"method": {"heat": {"arm": "untuned"}}}, ("method.heat.arm = 'untuned'", "'tuned' or 'published'")),
    ({"method": {"sgd": {"arm": "published"}}}, ("method.sgd", "does not tune the baseline")),
    ({"method": {"heat": {"arm": "published", "fixed": {"lr": 0.1}}}}, ("method.heat", "leave fixed out")),
    ({"method": {"heat": {"arm": "published", "space": "wide"}}}, ("method.heat", "'wide'", "leave space out")),
    ({"seed": -1}, ("seed = -1", "expected at least 0")),
    ({"seed": 2**63}, ("seed =", "less than")),
    ({"problems": []}, ("problems is empty: name at least one",)),
    ({"look": [10]}, ("'look'", "did you mean 'looks'?")),
    ({"method": {"mine": {"rule": "sgd", "fixd": {}}}}, ("'fixd'", "did you mean 'fixed'?")),
    ({"method": {"mine": {"rule": "sdg"}}, "methods": ["sgd", "mine"]}, ("sdg", "'sgd'")),
    ({"method": {"mine": {"rule": "sdg"}}}, ("sdg", "'sgd'")),
    (
        {"method": {"mine": {"rule": "sgd", "title": "SGD"}}, "methods": ["sgd", "mine"]},
        ("method.mine.title = 'SGD': 'sgd' and 'mine' would have one name", "another title"),
    ),
    ({"method": {"mine": {"title": "x"}}}, ("method.mine.rule", "missing")),
    ({"budget": 0}, ("budget = 0", "expected at least 1")),
    ({"budget": -5}, ("budget = -5", "expected at least 1")),
    ({"looks": [0]}, ("entry 1 of looks = 0", "expected at least 1")),
    ({"trials": -1}, ("trials", "-1")),
    ({"exploit": -1}, ("exploit", "-1")),
    ({"recommend": -2}, ("recommend", "-2")),
    ({"repetitions": 0}, ("repetitions", "0")),
    ({"margin": 0}, ("margin = 0", "a positive number")),
    ({"looks": ["ten"]}, ("entry 1 of looks = 'ten'", "a whole number")),
    ({"looks": [10, 12.5]}, ("entry 2 of looks = 12.5", "a whole number")),
    ({"problems": "rosenbrock"}, ("problems", "'rosenbrock'", "list")),
    ({"methods": []}, ("methods is empty: name at least one",)),
    ({"name": ""}, ("name", "''")),
    ({"methods": ["sgd", "heat", "sgd"]}, ("method 'sgd'", "twice")),
    ({"problems": ["rosenbrock", "rosenbrock"]}, ("problem 'rosenbrock'", "twice")),
    ({"space": {"lr": [0.1, 0.01]}}, ("lr = [0.1, 0.01]", "turned around", "low < high")),
    ({"space": {"lr": [0.1, 0.1]}}, ("lr = [0.1, 0.1]",)),
    ({"space": {"lr": [0.0, 0.1]}}, ("lr", "log scale", "low > 0")),
    ({"space": {"lr": [0.1]}}, ("lr = [0.1]", "[low, high]")),
    ({"space": {"lr": ["a", "b"]}}, ("lr", "[low, high]")),
    ({"space": {"lr": 0.1}}, ("space.lr", "0.1")),
    ({"space": {"lr": [1e-3, float("inf")]}}, ("lr", "inf")),
    ({"space": {"lr": [float("nan"), 1.0]}}, ("lr", "nan")),
    ({"space": {"inner_steps": [6.5, 30]}}, ("inner_steps", "6.5", "integers")),
    ({"space": {"inner_steps": [0, 30]}}, ("inner_steps", "integers ≥ 1")),
    ({"space": {"inner_steps": [6, 29]}}, ("inner_steps", "steps of 2")),
    ({"space": {"inner_steps": [6, float("inf")]}}, ("inner_steps", "inf")),
    ({"space": {"learning_rate": [0.1, 1]}}, ("learning_rate",)),
    ({"space": {"momentun": [0.1, 0.2]}}, ("momentun", "did you mean 'momentum'?")),
    ({"space": {"schedule": ["cosin"]}}, ("schedule", "cosin", "did you mean 'cosine'?")),
    ({"space": {"schedule": []}}, ("schedule", "[]")),
    ({"space": {"schedule": [0.1, 0.2]}}, ("schedule", "0.1")),
    ({"method": {"mine": {"rule": "sgd", "space": {"gamma_start": [1, 2]}}}}, ("[method.mine]", "gamma_start")),
    ({"method": {"mine": {"rule": "sgd", "space": {"lr": [2, 1]}}}}, ("lr = [2, 1]", "turned around")),
    ({"method": {"mine": {"rule": "sgd", "fixed": {"momentm": 0}}}}, ("momentm", "'momentum'")),
    (
        {"method": {"mine": {"rule": "sgd", "fixed": {"lr": 0.1}, "space": {"lr": [0.01, 1]}}}},
        ("method.mine", "lr is fixed at 0.1 and has the range", "leave one of them out"),
    ),
    ({"method": {"mine": {"rule": "sgd", "fixed": {"lr": "fast"}}}}, ("method.mine.fixed.lr", "'fast'", "a number")),
    ({"method": {"mine": {"rule": "sgd", "fixed": {"momentum": 1.0}}}}, ("mine.fixed.momentum", "1.0", "below 1")),
    ({"method": {"mine": {"rule": "heat", "fixed": {"sigma_end": 0.0}}}}, ("mine.fixed.sigma_end", "positive")),
    ({"space": {"momentum": [0.5, 1.5]}}, ("momentum", "1.5", "below 1")),
    ({"method": {"mine": {"rule": "sgd", "fixed": {"schedule": "cos"}}}}, ("mine.fixed.schedule", "'cos'", "cosine")),
    ({"method": {"mine": {"rule": "sgd", "fixed": {"schedule": 1}}}}, ("mine.fixed.schedule", "cosine")),
    ({"method": {"mine": {"rule": "heat", "fixed": {"inner_steps": 0}}}}, ("mine.fixed.inner_steps", "0")),
    ({"method": {"mine": {"rule": "heat", "fixed": {"inner_steps": 2.5}}}}, ("mine.fixed.inner_steps", "2.5")),
    ({"method": {"mine": {"rule": "sgd", "fixed": {"lr": float("nan")}}}}, ("mine.fixed.lr", "nan")),
    ({"method": {"mine": {"rule": "sgd", "options": {"nestrov": False}}}}, ("mine.options", "nestrov")),
    ({"method": {"mine": {"rule": "sgd", "options": {"nesterov": "maybe"}}}}, ("mine.options.nesterov", "'maybe'")),
    ({"method": {"mine": {"rule": "parle", "options": {"replicas": 0}}}}, ("mine.options", "replicas = 0", "least 1")),
    ({"methods": ["heat"]}, ("baseline 'sgd' is not among the methods", "`methods`")),
    ({"looks": [10**12]}, ("entry 1 of looks = 1000000000000", "at most 10,000,000")),
    ({"margin": float("nan")}, ("margin", "nan")),
    ({"flatness": "yes"}, ("flatness = 'yes'", 'true, false or "full"')),
    ({"budgets": []}, ("budgets = []", "at least one budget", "leave the key out")),
    ({"looks": "10,20"}, ("my.toml: looks = '10,20': expected a list, such as [10, 20, 40]",)),
    ({"methods": ["sgd", 3]}, ("entry 2 of methods = 3: expected a text in quotes",)),
    ({"methods": {"sgd": 1}}, ('methods = {\'sgd\': 1}: expected a list, such as ["sgd", "heat"]',)),
    ({"space": {"lr": [True, 2]}}, ("space.lr = [True, 2]: expected [low, high], or a list of choices",)),
    ({"space": {"lr": ["0.1", 2]}}, ("space.lr = ['0.1', 2]: expected [low, high], or a list of choices",)),
    ({"space": [1]}, ("space = [1]: expected a table",)),
    ({"margin": []}, ('margin = []: expected a positive number, or a ratio above 0 and below 100 %, such as "10 %"',)),
    ({"method": {"heat": 1}}, ("method.heat = 1: expected a table",)),
    ({"method": {"heat": {"fixed": {"lr": True}}}}, ("method.heat.fixed.lr = True: expected a number, or a choice",)),
    ({"method": {"heat": {"fixed": {"lr": [1]}}}}, ("method.heat.fixed.lr = [1]: expected a number, or a choice",)),
    ({"method": {"heat": {"space": 7}}}, ('method.heat.space = 7: expected "default", "wide" or a table of ranges',)),
    (
        {"method": {"heat": {"colour": 1}}},
        ("table [method.heat]: 'colour'", "against, arm, fixed, instead, options, rule, search, space, title, without"),
    ),
    ({"method": {"heat": {"options": {"n": 1}}}}, ("method.heat.options = {'n': 1}: heat has no such", "no options")),
    (
        {"method": {"m": {"rule": "parle", "options": {"n": 1}}}},
        ("parle has no such option; its options are replicas",),
    ),
    ({"method": {"m": {"rule": "parle", "options": {"replicas": 2.5}}}}, ("m.options.replicas = 2.5: expected true",)),
    ({"name": "a\nb"}, ("name = 'a\\nb': expected printable characters",)),
    ({"name": "a\udc80"}, ("name = 'a\\udc80': expected printable characters",)),
    ({"method": {"\0": {"rule": "sgd"}}}, ("method = '\\x00': expected printable characters",)),
    ({"method": {"m" * 300: {"rule": "sgd"}}}, ("expected at most 200 characters, not 300",)),
]


@pytest.mark.parametrize(("change", "parts"), MISTAKES, ids=lambda value: str(value) if isinstance(value, dict) else "")
def test_a_mistake_is_named_in_one_line(change: dict[str, Any], parts: tuple[str, ...]) -> None:
    line = refusal(**change)
    for part in parts:
        assert part in line


@pytest.mark.parametrize("key", ["name", "problems", "methods"])
def test_a_missing_key_is_named(key: str) -> None:
    values = {k: v for k, v in GOOD.items() if k != key}
    with pytest.raises(UserError, match=re.escape(f"my.toml: the key {key!r} is missing")):
        parse(values, "my.toml")


def test_an_unknown_problem_is_named_with_the_nearest() -> None:
    with pytest.raises(UserError, match=r"unknown problem 'rosenbrok': did you mean 'rosenbrock'\?"):
        problem("rosenbrok")
