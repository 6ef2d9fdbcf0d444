"""PyTorch's parameter groups as a rule's hyperparameters: checked, and as tensors that the schedules anneal."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from numbers import Real
from typing import Any

import torch
from torch import Tensor

from relaxbench.optim.drop_in.names import in_groups, own, stands_for
from relaxbench.optim.hyper import encode, expected
from relaxbench.optim.rule import Rule, State

RATES = ("lr", "inner_lr", "outer_lr", "adam_lr", "muon_lr")
PER_GROUP = (*RATES, "momentum", "outer_momentum", "weight_decay", "decoupled_decay")
"""Hyperparameters that may differ between parameter groups; the others set when the rule takes its steps."""
SCHEDULERS = ("initial_lr", "max_lr", "min_lr", "base_momentum", "max_momentum", "swa_lr")
"""Keys that PyTorch's schedulers write into groups, and read there when a loop is resumed."""
FREE = ("params", "lr", "name", "param_names", *SCHEDULERS)
"""Keys of a group that are PyTorch's own."""
ELSEWHERE = {
    **dict.fromkeys(("learning_rate", "step_size", "eta"), ("lr",)),
    "wd": ("weight_decay",),
    "L": ("inner_steps",),
    "gamma": ("gamma_start", "gamma_end"),
}
"""Names that papers and other packages use, and ours for the same."""
PROBES = (0.0, 0.04, 0.25, 0.5, 0.75, 1.0)
"""Progress at which schedules are compared: between any two of them, one that is not constant has changed."""


def check_names(rule: Rule, groups: Sequence[Mapping[str, Any]]) -> None:
    """Refuse a hyperparameter in a group that is misspelt, or one of another optimizer: it would have no effect.

    Raises:
        TypeError: for a key that the rule does not have.
    """
    for group in groups:
        for name in group:
            if name not in in_groups(rule) and name not in FREE:
                raise unknown_hyperparameter(rule, name, names=in_groups(rule))


def check(rule: Rule, groups: Sequence[Mapping[str, Any]]) -> None:
    """Refuse groups whose values a rule cannot use.

    Raises:
        ValueError: for a missing hyperparameter, a value that is not allowed, or values that differ and may not.
    """
    known = stands_for(rule)
    for group in groups:
        lr = group.get("lr", 1.0)
        if isinstance(lr, bool) or not isinstance(lr, Real) or not 0 <= float(lr) < float("inf"):
            raise ValueError(f"lr = {lr!r}: expected a number that is not negative, and finite")
        for name, owned in known.items():
            foreign = [each for each in owned if each in group]
            if foreign:
                raise ValueError(
                    f"a parameter group holds {foreign[0]}, which is part of its {name}: set {name}; if a state of an "
                    "older relaxbench is loaded, finish that training with it"
                )
        for name in in_groups(rule):
            if name not in group:
                raise ValueError(f"a parameter group has no {name}: expected a value for every hyperparameter")
    owners = [own(rule, group) for group in groups]
    for name, declared in rule.wide.items():
        shown = "betas" if name in known.get("betas", ()) else name
        for group, owner in zip(groups, owners, strict=True):
            allowed = expected(name, declared, owner[name])
            if allowed:
                part = f" for {name}" if shown == "betas" else ""
                raise ValueError(f"{shown} = {group.get(shown, owner[name])!r}: expected {allowed}{part}")
        if name not in PER_GROUP and any(owner[name] != owners[0][name] for owner in owners):
            values = [group.get(shown, owner[name]) for group, owner in zip(groups, owners, strict=True)]
            raise ValueError(f"{shown} differs between parameter groups ({values}): it must be the same for all")
    if rule.curvature and any(group["lr"] != groups[0]["lr"] for group in groups):
        raise ValueError("lr differs between parameter groups: a curvature method has one step size for all parameters")


def unknown_hyperparameter(rule: Rule, name: str, options: Sequence[str] = (), names: Sequence[str] = ()) -> TypeError:
    """Make the error for a name that is neither a hyperparameter nor an option.

    Args:
        rule: the rule.
        name: the name.
        options: of the rule's constructor, where they can be given.
        names: of the hyperparameters where the name was given; none for the rule's own.
    """
    rates = [key for key in rule.wide if key.endswith("_lr")]
    if len(rates) > 1 and "lr" in (name, *ELSEWHERE.get(name, ())):
        return TypeError(f"{rule.title} has no hyperparameter {name!r}: its step sizes are {' and '.join(rates)}")
    known = [*stands_for(rule), *rule.wide, *names, *options]
    near = [each for each in ELSEWHERE.get(name, ()) if each in known] or difflib.get_close_matches(name, known, n=1)
    hint = f"it has {', '.join([*(names or rule.wide), *options])}"
    if near:
        hint = f"did you mean {' or '.join(map(repr, near))}?"
    return TypeError(f"{rule.title} has no hyperparameter {name!r}: {hint}")


class Hyperparameters:
    """The hyperparameters of the groups as tensors ``[1, 1]``, or ``[1, P]`` where groups differ.

    They are rebuilt only when a value in the groups or the progress of the schedules has changed.

    Args:
        rule: the rule.
        groups: the parameter groups of the optimizer.
        sizes: the number of trained parameters in each group.
        like: a tensor of the rule's state, for type and device.
    """

    def __init__(self, rule: Rule, groups: list[dict[str, Any]], sizes: list[int], like: Tensor) -> None:
        self.rule, self.groups, self.sizes, self.like = rule, groups, sizes, like
        self._names = in_groups(rule)
        self._has_factor = "lr" not in rule.wide and "lr" not in stands_for(rule)
        self._key: tuple[Any, ...] = ()
        self._shape: tuple[Any, ...] = ()
        self.before: dict[str, Tensor] | None = None  # the values before the last change, until the rule knows of it
        self.constant = False  # whether no schedule changes a value
        self.reshaped = False  # whether the last change may have changed what is scheduled
        self._progress = -1.0
        self._fixed: dict[str, Tensor] = {}
        self._now: dict[str, Tensor] = {}
        self.period = 0  # queries per outer step
        self.refresh()

    def refresh(self) -> None:
        """Rebuild the tensors if a value in the groups has changed."""
        key = tuple(group.get(name) for group in self.groups for name in self._names)
        key += tuple(map(len, self.groups))  # a key that does not belong there is refused
        if key == self._key:
            return
        check(self.rule, self.groups)
        check_names(self.rule, self.groups)
        self._key, self._progress = key, -1.0
        shape = tuple(self.groups[0][name] for name in self._names if name not in (*PER_GROUP, "betas"))
        if shape != self._shape:
            self.reshaped, self._shape, self.constant = True, shape, self._is_constant()
        owned, self.before = self._owned(), self.before or self._fixed or None
        names = (*self.rule.wide, *(("lr",) if self._has_factor else ()))
        self._fixed = {name: self._tensor(name, [group[name] for group in owned]) for name in names}
        self.period = int(self.rule.period({name: self._fixed[name][:, :1] for name in self.rule.wide}))

    def at(self, queries: int, total: int | None) -> dict[str, Tensor]:
        """Return the scheduled values after `queries` of `total` queries; they are constant within an outer step.

        Without a total they are those of the start.
        """
        self.refresh()
        progress = (
            0.0 if total is None or self.constant else min(1.0, queries // self.period / max(1, total // self.period))
        )
        if progress != self._progress:
            self._progress = progress
            where = torch.full((1, 1), progress, dtype=self.like.dtype, device=self.like.device)
            now = self.rule.at({name: self._fixed[name] for name in self.rule.wide}, where)
            if self._has_factor:  # PyTorch's schedulers change `lr`, a factor on the annealed step size
                now |= {name: now[name] * self._fixed["lr"] for name in self._annealed()}
            self._now = now
        return self._now

    def tell(self, state: State) -> None:
        """Let the rule adapt its state to values that other code has changed."""
        self.refresh()
        if self.before is not None:
            self.rule.retune(state, self.before, self._fixed)
            self.before = None

    def probed(self) -> list[dict[str, Tensor]]:
        """Return the scheduled values at `PROBES`, one column per group, float64 ``[1, groups]``."""
        return self._probe({name: [encode(name, group[name]) for group in self._owned()] for name in self.rule.wide})

    def _probe(self, values: Mapping[str, Sequence[float]]) -> list[dict[str, Tensor]]:
        rows = {name: torch.tensor([row], dtype=torch.float64) for name, row in values.items()}
        return [self.rule.at(rows, torch.full((1, 1), at, dtype=torch.float64)) for at in PROBES]

    def _is_constant(self) -> bool:
        """Return whether no schedule changes a value; a step size of 0 may be another one later."""
        group = self._owned()[0]
        values = {name: encode(name, group[name]) for name in self.rule.wide}
        first, *later = self._probe({name: [value or float(name.endswith("lr"))] for name, value in values.items()})
        return all(torch.equal(now[name], first[name]) for now in later for name in first)

    def _owned(self) -> list[dict[str, Any]]:
        return [own(self.rule, group) for group in self.groups]

    def _annealed(self) -> list[str]:
        """Name the step sizes that schedules anneal: the chosen one of two, or all but that of an outer loop."""
        if "anneal" in self.rule.wide:
            return [f"{self.groups[0]['anneal']}_lr"]
        return [name for name in self.rule.wide if name.endswith("_lr") and name != "outer_lr"]

    def _tensor(self, name: str, given: Sequence[Any]) -> Tensor:
        values = [encode(name, value) for value in given]
        row = torch.tensor(values, dtype=self.like.dtype, device=self.like.device)
        if all(value == values[0] for value in values):
            return row[:1, None]
        return row.repeat_interleave(torch.tensor(self.sizes, device=row.device))[None]
