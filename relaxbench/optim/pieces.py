"""Update long vectors of parameters piece by piece.

A rule is a dozen operations on vectors. Where these are longer than the processor's cache, each operation fetches them
from memory again. All operations on one piece, before the next one, find it in the cache, and their temporary results
are as short as the piece.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
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


def is_long(parts: Sequence[Tensor]) -> bool:
    """Whether vectors, in parts along their last axis, are updated piece by piece.

    They are on the CPU, and not while a step is recorded: a compiler joins the operations itself.
    """
    numbers = sum(part.numel() for part in parts)
    return numbers >= WORTH * _elements() and parts[0].device.type == "cpu" and not recording()


def by_pieces(update: Update, state: State, parts: Sequence[Tensor], loss: Tensor, hyper: Hyper) -> State:
    """Call `Rule.update` of an elementwise rule, piece by piece; the bits are the same.

    Args:
        update: of the rule.
        state, loss, hyper: its arguments.
        parts: the gradient, ``[K, P]`` or ``[K, n, P]``, as tensors that lie next to each other along its last axis.

    Returns:
        the new state.
    """
    size, elements = sum(part.shape[-1] for part in parts), sum(part.numel() for part in parts)
    columns = _elements() * size // elements // LEAST * LEAST
    return in_pieces(update, state, parts, loss, hyper, max(columns, LEAST))


def in_pieces(update: Update, state: State, parts: Sequence[Tensor], loss: Tensor, hyper: Hyper, columns: int) -> State:
    """Call `Rule.update` for the first `columns` parameters of all members, then for the next ones, and so on."""
    size = sum(part.shape[-1] for part in parts)
    vectors = {name: value for name, value in state.items() if value.shape[-1] == size}
    counters = {name: value for name, value in state.items() if name not in vectors}
    after: list[State] = []
    for first, grad in zip(range(0, size, columns), _columns(parts, columns), strict=True):
        own, last = slice(first, first + columns), first + columns >= size
        part = {name: value[..., own] for name, value in vectors.items()}
        # Every piece counts the query as if it were the only one.
        counts = counters if last else {name: value.clone() for name, value in counters.items()}
        values = {name: value[..., own] if value.shape[-1] == size else value for name, value in hyper.items()}
        new = update({**part, **counts}, grad, loss, values)
        for name, value in part.items():
            if new[name] is not value:
                value.copy_(new[name])
        after.append({name: new[name] for name in counters})
    # A counter of the member is that of its last piece. One that an update has made a vector has a part in every piece.
    grown = {name for name, value in after[0].items() if value.shape != counters[name].shape}
    return {**state, **after[-1], **{name: joined([each[name] for each in after]) for name in grown}}


def _columns(parts: Sequence[Tensor], columns: int) -> Iterator[Tensor]:
    """Yield a gradient piece by piece; only pieces that lie in several parts are copied."""
    found, missing = list[Tensor](), columns
    for part in parts:
        while part.shape[-1] >= missing:
            found.append(part[..., :missing])
            yield joined(found)
            part, found, missing = part[..., missing:], [], columns
        if part.shape[-1]:
            found.append(part)
            missing -= part.shape[-1]
    if found:
        yield joined(found)


def joined(parts: Sequence[Tensor]) -> Tensor:
    """Join vectors along their last axis; a single one stays as it is."""
    return parts[0] if len(parts) == 1 else torch.cat([*parts], dim=-1)


def _elements() -> int:
    return PIECE * torch.get_num_threads()
