"""Update long vectors of parameters piece by piece.

A rule is a dozen operations on vectors. Where these are longer than the processor's cache, each operation fetches them
from memory again. All operations on one piece, before the next one, find it in the cache, and their temporary results
are as short as the piece.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from relaxbench.recording import recording

if TYPE_CHECKING:
    from relaxbench.optim.hyper import Hyper
    from relaxbench.optim.rule import State

    Update = Callable[[State, Tensor, Tensor, Hyper], State]

PIECE = 1 << 17
"""Elements of a piece, of all members together, per thread: a few vectors of them fit into the cache of a core."""
LEAST = 1 << 10
"""Columns of a piece; a multiple of every vector register, so that an element is computed as in one long vector."""
WORTH = 8
"""Pieces that a vector must have to be taken apart."""


def by_pieces(update: Update, state: State, grad: Tensor, loss: Tensor, hyper: Hyper) -> State:
    """Call `Rule.update` of an elementwise rule, piece by piece where that is faster; the bits are the same.

    Only on the CPU, and not while a step is recorded: a compiler joins the operations itself.

    Args:
        update: of the rule.
        state, grad, loss, hyper: its arguments.

    Returns:
        the new state.
    """
    size, elements = grad.shape[-1], PIECE * torch.get_num_threads()
    if grad.device.type != "cpu" or grad.numel() < WORTH * elements or recording():
        return update(state, grad, loss, hyper)
    columns = elements * size // grad.numel() // LEAST * LEAST
    return in_pieces(update, state, grad, loss, hyper, max(columns, LEAST))


def in_pieces(update: Update, state: State, grad: Tensor, loss: Tensor, hyper: Hyper, columns: int) -> State:
    """Call `Rule.update` for the first `columns` parameters of all members, then for the next ones, and so on."""
    size = grad.shape[-1]
    vectors = {name: value for name, value in state.items() if value.shape[-1] == size}
    counters = {name: value for name, value in state.items() if name not in vectors}
    for first in range(0, size, columns):
        own, last = slice(first, first + columns), first + columns >= size
        part = {name: value[..., own] for name, value in vectors.items()}
        # Every piece counts the query as if it were the only one.
        counts = counters if last else {name: value.clone() for name, value in counters.items()}
        values = {name: value[..., own] if value.shape[-1] == size else value for name, value in hyper.items()}
        new = update({**part, **counts}, grad[..., own], loss, values)
        for name, value in part.items():
            if new[name] is not value:
                value.copy_(new[name])
    return {**state, **{name: new[name] for name in counters}}
