"""Say in words what differs between a stored problem or method and the one that is here now."""

from __future__ import annotations

import ast
import difflib
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from relaxbench.optim.wrapped.arguments import Option
from relaxbench.store.facts import MethodFacts
from relaxbench.store.identity_facts import MethodIdentity, ProblemIdentity, TensorFacts
from relaxbench.study.definition.probes import COARSER, differs

SHORT = 60
"""Longest quotation of a line of code."""
WORDS = {
    "data": "the data of a split are others",
    "batches": "the mini-batches of the same seed are others (their order, noise or augmentation changed)",
    "start": "the initial weights of the same seed are others",
    "evaluation": "the same parameters give another loss (activation, loss or forward pass changed)",
    "training": "the same parameters give another loss in training (dropout or noise changed)",
    "gradient": "the same parameters give another gradient, at the same loss",
    "outside": "the same outputs give another loss (the loss changed)",
    "right": "outputs that are nearly right give another loss (the loss changed where it is small)",
    "held out": "the same parameters give another loss on larger pieces of data, or on some examples of them",
    "metric": "the same outputs give another metric (the function of the metric changed)",
    "pieces": "other labels give another metric (the function of the metric changed)",
    "answers": "other answers count as right",
    "rare": "the same parameters give another loss on examples with rare inputs or labels",
    "inputs": "larger inputs give another loss (a limit or threshold in the forward pass changed)",
    "far": "large parameters give another loss (a limit or threshold in the forward pass changed)",
    "as trained": "whole mini-batches give other outputs in the precision of training (type, autocast or batch size)",
    "beyond": "outputs that are far off give another loss or metric (a limit of it changed)",
    "vast": "parameters of a diverging trial give another loss (a limit in the forward pass changed)",
    "undefined": "parameters that are not numbers give another loss, so that diverged trials would count otherwise",
}
"""What a difference of the probe's numbers means, the first one that holds."""


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


def method_differences(
    was: MethodIdentity, now: MethodIdentity, edited: Collection[str] = (), usual: Mapping[str, Option] | None = None
) -> list[str]:
    """Return what differs between two identities of a method; empty if they are one method.

    Args:
        was: when the study began.
        now: what is here.
        edited: problems that differ themselves, on which any method takes other steps.
        usual: the options of the rule where none are stated.
    """
    lines = [
        f"options {_plain(options)} on {name}, were {_plain(was['options'][name])}"
        for name, options in now["options"].items()
        if name in was["options"] and {**(usual or {}), **options} != {**(usual or {}), **was["options"][name]}
    ]
    for problem, old in was.get("settings", {}).items():
        new = now["settings"].get(problem, old)
        lines += [f"{what} {new[what]} on {problem}, were {old[what]}" for what in old if new[what] != old[what]]
    if not was["probe"]:
        return lines  # its steps could not be repeated
    where = _line_of(now["file"], was.get("text", ""), now["text"])
    if now.get("failure"):
        failure = now.get("failure")
        return [*lines, f"its rule no longer takes the steps that it took when the study began ({failure}){where}"]
    changed = any(differs(numbers, now["probe"].get(name, []), "float64") for name, numbers in was["probe"].items())
    for problem, steps in was.get("steps", {}).items():
        changed = changed or (problem not in edited and differs(steps, now["steps"].get(problem, steps), "float32"))
    if changed:
        origins = was.get("origin", ""), now.get("origin", "")
        why = "the code of the rule changed" if origins[0] == origins[1] else f"it is {origins[1]}, was {origins[0]}"
        lines.append(f"its rule takes other steps with the same hyperparameters ({why}){where}")
    return lines


def _line_of(file: str, was: str, now: str) -> str:
    """Quote the first line of the file of a rule that changed; "" if none did."""
    change = code_change(was, now)
    return f"; `{file}`{change}" if change else ""


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
    where = _first_change(was, now)
    if now.get("failure"):
        precision = was["precision"].replace("mixed", "float64").replace("lifted", "float64")
        return [
            f"the model no longer works in {precision}, as it did when the study began ({now.get('failure')}){where}"
        ]
    changed = [
        name
        for name, numbers in was["probe"].items()
        if differs(numbers, now["probe"].get(name, []), COARSER.get(name, was["precision"]))
    ]
    return [next(words for name, words in WORDS.items() if name in changed) + where] if changed else []


def _first_change(was: ProblemIdentity, now: ProblemIdentity) -> str:
    """Quote the first line of a file that differs, or say that none does."""
    if not was["text"] or not now["text"]:
        return ""
    if _code(was["text"]) == _code(now["text"]):
        for path, text in was.get("modules", {}).items():
            if change := code_change(text, now["modules"].get(path, "")):
                return f"; `{path}`{change}"
        return f"; `{now['file']}` itself has the same code: look at the modules and files that it reads"
    return _changed_line(was["text"], now["text"])


def code_change(was: str, now: str) -> str:
    """Quote the first line of a file whose code changed; "" if only comments, docstrings or spaces did."""
    return _changed_line(was, now) if was and now and _code(was) != _code(now) else ""


def _changed_line(was: str, now: str) -> str:
    old, new = was.splitlines(), now.splitlines()
    for kind, begin, end, first, last in difflib.SequenceMatcher(None, old, new, autojunk=False).get_opcodes():
        if kind == "equal" or all(not line.split("#")[0].strip() for line in (*old[begin:end], *new[first:last])):
            continue  # comments and empty lines
        before, after = old[begin] if end > begin else "", new[first] if last > first else ""
        pairs = zip(" ".join(before.split()), " ".join(after.split()), strict=False)
        at = next((place for place, (one, other) in enumerate(pairs) if one != other), 0)
        was_line = f", was {_quote(before, at)}" if end > begin else ""
        return f", line {first + 1}: {_quote(after, at) if last > first else 'gone'}{was_line}"
    return ""


def _code(text: str) -> str:
    """Return the code of a file without comments, docstrings and form; the text itself where it is no code."""
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError):  # a long file is stored in part
        return text
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list):
            node.body = [each for each in body if not _is_text(each)]  # type: ignore[attr-defined]
    return ast.dump(tree)


def _is_text(node: ast.AST) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def _quote(line: str, at: int) -> str:
    """Quote the part of a line that shows what is at a place."""
    text = " ".join(line.split())
    begin = max(0, min(at - SHORT // 3, len(text) - SHORT))
    return f"`{'…' if begin else ''}{text[begin : begin + SHORT]}{'…' if len(text) > begin + SHORT else ''}`"


def _shape(facts: TensorFacts) -> str:
    return " × ".join(map(str, facts["shape"])) or "a number"


def _plain(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} = {_plain(each)}" for name, each in value.items()) or "none"
    return "none" if value is None else str(value)
