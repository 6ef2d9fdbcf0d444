"""Say in words what differs between a stored problem or method and the one that is here now."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from typing import Any

from relaxbench.store.facts import MethodFacts, MethodIdentity, ProblemIdentity, TensorFacts
from relaxbench.study.definition.probes import differs

SHORT = 60
"""Longest quotation of a line of code."""


def problem_differences(was: ProblemIdentity, now: ProblemIdentity) -> list[str]:
    """Return what differs between two identities of a problem, most telling first; empty if they are one problem."""
    tensors = _tensors(was["tensors"], now["tensors"])
    old, new = was["settings"], now["settings"]
    settings = [
        f"{key} {_plain(new[key])}, was {_plain(old[key])}" for key in new if key in old and old[key] != new[key]
    ]
    if tensors or any(old.get(key) != new.get(key) for key in ("loss", "batch size")):
        return tensors + settings  # the probe differs as well, and says nothing new
    return _probe(was, now) + settings


def method_differences(was: MethodIdentity, now: MethodIdentity) -> list[str]:
    """Return what differs between two identities of a method; empty if they are one method."""
    lines = [
        f"options {_plain(options)} on {name}, were {_plain(was['options'][name])}"
        for name, options in now["options"].items()
        if name in was["options"] and options != was["options"][name]
    ]
    if not was["probe"]:
        return lines  # its steps could not be repeated
    if not now["probe"]:
        return [*lines, f"its hyperparameters are no longer {', '.join(was['params'])}"]
    if any(differs(numbers, now["probe"].get(name, []), "float64") for name, numbers in was["probe"].items()):
        lines.append("its rule takes other steps with the same hyperparameters (the code of the rule changed)")
    return lines


def space_differences(was: MethodFacts, now: MethodFacts, problems: Sequence[str]) -> list[str]:
    """Return which hyperparameters of a method are searched or fixed otherwise on some problems."""
    lines = []
    for problem in problems:
        old_space, new_space = was["spaces"].get(problem, was["space"]), now["spaces"][problem]
        old_fixed, new_fixed = was["fixes"].get(problem, was["fixed"]), now["fixes"][problem]
        for name in dict.fromkeys([*old_space, *new_space, *old_fixed, *new_fixed]):
            before, after = _place(name, old_space, old_fixed), _place(name, new_space, new_fixed)
            if before != after:
                lines.append(f"{name} is {after} on {problem}, was {before}")
    return lines


def _place(name: str, space: Any, fixed: Any) -> str:
    """Say how a hyperparameter is chosen."""
    if name in fixed:
        return f"fixed at {_plain(fixed[name])}"
    if name not in space:
        return "unknown"
    about = space[name]
    if about["kind"] == "categorical":
        return f"searched among {', '.join(about['choices'])}"
    scale = ", logarithmically" if about["log"] else ""
    step = f" in steps of {about['step']}" if about.get("step", 1) != 1 else ""
    return f"searched in [{_plain(about['low'])}, {_plain(about['high'])}]{step}{scale}"


def _tensors(was: Sequence[TensorFacts], now: Sequence[TensorFacts]) -> list[str]:
    """Return which parameters and buffers differ."""
    old, new = ({facts["name"]: facts for facts in each} for each in (was, now))
    lines = []
    for name in dict.fromkeys([*new, *old]):
        if name not in old:
            lines.append(f"layer {name} is new ({_shape(new[name])})")
        elif name not in new:
            lines.append(f"layer {name} is gone ({_shape(old[name])})")
        elif old[name]["shape"] != new[name]["shape"]:
            lines.append(f"layer {name} is {_shape(new[name])}, was {_shape(old[name])}")
        elif old[name]["kind"] != new[name]["kind"]:
            lines.append(f"layer {name} is {new[name]['kind']}, was {old[name]['kind']}")
        elif old[name]["dtype"] != new[name]["dtype"]:
            lines.append(f"layer {name} is {new[name]['dtype']}, was {old[name]['dtype']}")
    if not lines and list(old) != list(new):
        lines.append("the layers come in another order")
    return lines


def _probe(was: ProblemIdentity, now: ProblemIdentity) -> list[str]:
    """Return how the numbers of the probe differ, with the first line of the file that changed."""
    if not was["probe"]:
        return []  # its numbers could not be repeated when the study began
    changed = [
        name
        for name, numbers in was["probe"].items()
        if was["precision"] != now["precision"] or differs(numbers, now["probe"].get(name, []), was["precision"])
    ]
    if not changed:
        return []
    if "start" in changed:
        what = "the initial weights of the same seed are others"
    elif "evaluation" in changed:
        what = "the same parameters give another loss (activation, loss or forward pass changed)"
    elif "training" in changed:
        what = "the same parameters give another loss in training (dropout or noise changed)"
    else:
        what = "the same parameters give another gradient, at the same loss"
    return [what + _first_change(was["text"], now["text"])]


def _first_change(was: str, now: str) -> str:
    """Quote the first line of a file that differs; "" where none does."""
    old, new = was.splitlines(), now.splitlines()
    if not was or not now:
        return ""
    for kind, begin, end, first, last in difflib.SequenceMatcher(None, old, new, autojunk=False).get_opcodes():
        if kind != "equal":
            before = f", was {_quote(old[begin])}" if end > begin else ""
            return f", line {first + 1}: {_quote(new[first]) if last > first else 'gone'}{before}"
    return ""


def _quote(line: str) -> str:
    text = " ".join(line.split())
    return f"`{text[:SHORT]}…`" if len(text) > SHORT else f"`{text}`"


def _shape(facts: TensorFacts) -> str:
    return " × ".join(map(str, facts["shape"])) or "a number"


def _plain(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} = {_plain(each)}" for name, each in value.items()) or "none"
    return "none" if value is None else str(value)
