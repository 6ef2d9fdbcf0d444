"""PyTorch's names of hyperparameters, under which the parameter groups hold those that PyTorch knows too.

So whatever acts on a group's `lr`, `betas` or `weight_decay` (PyTorch's schedulers, for example) does what it does with
`torch.optim`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from relaxbench.optim.rule import Rule


def stands_for(rule_class: type[Rule] | Rule) -> dict[str, tuple[str, ...]]:
    """Return PyTorch's names, and the rule's own for the same things, where these differ and can mean one thing only.

    `lr` is the step size of a rule that has one under another name, `betas` are `beta1` and `beta2`, and the
    `weight_decay` of a rule that only decays decoupled from the gradient is its `decoupled_decay`.
    """
    wide = rule_class.wide
    rates = tuple(name for name in wide if name.endswith("_lr"))
    known = {"betas": ("beta1", "beta2"), "weight_decay": ("decoupled_decay",)}
    if len(rates) == 1:
        known["lr"] = rates
    return {name: own for name, own in known.items() if name not in wide and all(each in wide for each in own)}


def own(rule_class: type[Rule] | Rule, values: Mapping[str, Any]) -> dict[str, Any]:
    """Replace PyTorch's names by the rule's own.

    Raises:
        TypeError: if a value is given under both names, or `betas` is not a pair.
    """
    values = dict(values)
    for name, owned in stands_for(rule_class).items():
        if name not in values:
            continue
        twice = [each for each in owned if each in values]
        if twice:
            raise TypeError(f"{name} stands for {' and '.join(owned)}, and {twice[0]} is given too: give one of them")
        given = values.pop(name)
        pair = given if len(owned) > 1 else (given,)
        if not isinstance(pair, (tuple, list)) or len(pair) != len(owned):
            raise TypeError(f"{name} = {given!r}: expected {len(owned)} numbers, {' and '.join(owned)}")
        values |= dict(zip(owned, pair, strict=True))
    return values


def pytorch(rule_class: type[Rule] | Rule, values: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    """Undo `own`. What a pair lacks, it has from `defaults`, which have PyTorch's names."""
    values = dict(values)
    for name, owned in stands_for(rule_class).items():
        if not any(each in values for each in owned):
            continue
        if len(owned) == 1:
            values[name] = values.pop(owned[0])
        else:
            rest = defaults.get(name, owned)
            values[name] = tuple(values.pop(each, other) for each, other in zip(owned, rest, strict=True))
    return values


def in_groups(rule: Rule) -> tuple[str, ...]:
    """Return the names under which a group holds the rule's hyperparameters, and `lr`, which every group has."""
    known = stands_for(rule)
    renamed = {each for owned in known.values() for each in owned}
    return tuple(dict.fromkeys([*(name for name in rule.wide if name not in renamed), *known, "lr"]))
