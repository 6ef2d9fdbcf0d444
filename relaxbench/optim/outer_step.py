"""Take the outer step of those members of a population whose inner loop has ended."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from relaxbench.optim.hyper import Hyper
from relaxbench.optim.rule import State, expand_for_replicas
from relaxbench.recording import recording

OuterStep = Callable[[State, Hyper], State]


def outer_step(due: Tensor | bool, state: State, hyper: Hyper, reads: str, step: OuterStep) -> None:
    """Take the outer step of the members that are due; the others do not change.

    Args:
        due: bool ``[K, 1]``, or one for all members.
        state: the population's state; the entries that `step` returns are written.
        hyper: the population's hyperparameters.
        reads: the names in `state` and `hyper` that `step` needs, separated by spaces.
        step: from the entries of some members to their new entries; must neither change its arguments nor return
            them.
    """
    if due is False:
        return
    part = {name: state[name] for name in reads.split() if name in state}
    values = {name: hyper[name] for name in reads.split() if name in hyper}
    if due is True:
        _write(state, step(part, values))
    elif due.device.type == "cpu" and not recording():
        _by_rows(due, state, part, values, step)
    else:
        _by_mask(due, state, part, values, step)


def _write(state: State, new: State) -> None:
    for name, value in new.items():
        state[name].copy_(value)


def _by_rows(due: Tensor, state: State, part: State, values: Hyper, step: OuterStep) -> None:
    """Compute only the rows that are due, which are usually few of K."""
    found = due.nonzero()  # [rows, 2]
    if len(found) == len(due):
        _write(state, step(part, values))
    elif len(found):
        rows = found[:, 0]
        new = step(_select(part, rows), _select(values, rows))
        for name, value in new.items():
            state[name].index_copy_(0, rows, value)


def _select(values: Hyper, rows: Tensor) -> State:
    return {name: value.index_select(0, rows) for name, value in values.items()}


def _by_mask(due: Tensor, state: State, part: State, values: Hyper, step: OuterStep) -> None:
    """Compute all rows and keep those that are due, without host synchronization, so that a step can be captured."""
    for name, value in step(part, values).items():
        state[name].copy_(torch.where(expand_for_replicas(due, value), value, state[name]))
