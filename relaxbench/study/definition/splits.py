"""Describe the splits of a problem, and say what differs: a digest of data says only that they changed."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from relaxbench.problems import Problem, SupervisedProblem
from relaxbench.problems.splits import Split
from relaxbench.store.identity_facts import SAME, SHARED

Facts = dict[str, str | int | float]
"""What a split is → value."""
Splits = dict[str, Facts]


def describe_splits(problem: Problem) -> Splits:
    """Describe the number of examples, and the form and the mean of inputs and labels, of every split.

    A split with the examples of an earlier one names that, and one with some of them says how many.
    """
    if not isinstance(problem, SupervisedProblem):
        return {}
    described, known = Splits(), dict[str, tuple[Split, Facts]]()
    for name, split in problem.splits.items():
        facts = _facts(split)
        twin = next((other for other, (given, theirs) in known.items() if theirs == facts and _equal(given, split)), "")
        if twin:
            described[name] = {**facts, SAME: twin}
            continue
        shared = {SHARED + other: split.shares(given) for other, (given, _) in known.items()}
        described[name] = facts | {key: count for key, count in shared.items() if count}
        known[name] = split, facts
    return described


def _equal(one: Split, other: Split) -> bool:
    return all(torch.equal(mine, others) for mine, others in zip(one.sample, other.sample, strict=True))


def _facts(split: Split) -> Facts:
    x, y = split.sample
    code = {"code of the Dataset": split.code} if split.code else {}
    return {"examples": split.count, **code, **_described("input", x), **_described("label", y)}


def split_differences(was: Mapping[str, Mapping[str, object]], now: Splits) -> list[str]:
    """Return what differs between two descriptions, one line per split; empty if that is not known."""
    lines = []
    for split, facts in now.items():
        told = [
            f"{name} {_plain(value)}, was {_plain(was[split][name])}"
            for name, value in facts.items()
            if split in was and name in was[split] and was[split][name] != value
        ]
        if told:
            lines.append(f"{split} has {'; '.join(told)}")
    return lines


def _described(name: str, values: Tensor) -> Facts:
    shape = " × ".join(map(str, values.shape[1:])) or "one number"
    numbers = values.abs() if values.is_complex() else values
    mean = float(numbers.mean(dtype=torch.float64))
    return {
        f"type of {name}s": str(values.dtype).removeprefix("torch."),
        f"shape of {name}s": shape,
        f"mean of {name}s": f"{mean:.6g}",
    }


def _plain(value: object) -> str:
    return f"{value:,}" if isinstance(value, int) else str(value)
