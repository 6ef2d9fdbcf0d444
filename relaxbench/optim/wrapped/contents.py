"""The state of an optimizer as rows of a population: what one dry step leaves in `state` and `param_groups`.

A *leaf* is a tensor or a number somewhere in the dicts, lists and tuples of a parameter's state or of a group. Leaves
of one kind of all parameters lie one after another in a tensor ``[K, n]``, the *slot*; a number is one column.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from relaxbench.errors import UserError

Keys = tuple[Any, ...]
DROPPED = object()
"""A leaf that is not put into its dict again."""
NUMBER = "#"
"""First character of the names of slots for numbers."""
NUMBERS = {bool: torch.bool, int: torch.int64, float: torch.float64}
"""Types of slots for numbers of Python, which are floats of 64 bits."""


@dataclass(frozen=True)
class Leaf:
    """A tensor or a number of the state.

    Attributes:
        slot: name of the tensor of the population that holds it.
        begin, end: its columns there.
        shape: of the tensor, or None for a number.
        stride: of the tensor: products of matrices may round otherwise when they lie otherwise in memory.
        dtype: of the slot.
        on_host: whether it is a number, or a tensor that stays on the CPU wherever the parameters are.
    """

    slot: str
    begin: int
    end: int
    shape: torch.Size | None
    stride: tuple[int, ...]
    dtype: torch.dtype
    on_host: bool

    def view(self, rows: Tensor, k: int) -> Tensor:
        """Return the tensor of a member, a view of its row."""
        assert self.shape is not None
        if rows.stride(1) == 1:  # as populations keep it; one operation instead of two
            return rows.as_strided(self.shape, self.stride, rows.storage_offset() + k * rows.stride(0) + self.begin)
        row = rows[k, self.begin : self.end]
        return row.as_strided(self.shape, self.stride, row.storage_offset())


@dataclass(frozen=True)
class Contents:
    """All leaves of an optimizer, found by a dry step.

    Attributes:
        trees: the state of each parameter, then the own entries of each group, without their leaves.
        leaves: of each tree, by their keys.
        constants: of each tree, by their keys: texts, types, devices and None, which must stay what they are.
        optional: the leaves that only some members have, such as a momentum where it is not 0; with their columns in
            the slot `present`.
        present: name of the slot that says which of them a member has.
    """

    trees: Sequence[Mapping[str, Any]]
    leaves: Sequence[Mapping[Keys, Leaf]]
    constants: Sequence[Mapping[Keys, Any]]
    optional: Mapping[tuple[int, Keys], int]
    present: str

    def widths(self) -> dict[str, tuple[int, torch.dtype]]:
        """Return the columns and the type of every slot."""
        widths = {leaf.slot: (leaf.end, leaf.dtype) for tree in self.leaves for leaf in tree.values()}
        return {**widths, self.present: (len(self.optional), torch.int64)} if self.optional else widths

    def on_host(self) -> set[str]:
        """Return the slots of numbers, and of tensors that stay on the CPU."""
        slots = {leaf.slot for tree in self.leaves for leaf in tree.values() if leaf.on_host}
        return slots | {self.present} if self.optional else slots


def trees_of(optimizer: Optimizer, params: Sequence[Tensor], own: Sequence[Sequence[str]]) -> list[Mapping[str, Any]]:
    """Return the state of each parameter, then the entries of each group that belong to its state."""
    states: list[Mapping[str, Any]] = [optimizer.state.get(p, {}) for p in params]
    groups = zip(optimizer.param_groups, own, strict=True)
    return [*states, *({name: group[name] for name in names if name in group} for group, names in groups)]


ABSENT, THERE, NONE = range(3)
"""What the slot of optional leaves says: not in its dict, there, or None."""


def find(found: Sequence[Sequence[Mapping[str, Any]]], params: int, prefix: str, path: str) -> Contents:
    """Lay out the leaves of an optimizer after dry steps.

    Args:
        found: see `trees_of`; after dry steps with several settings.
        params: the number of parameters, whose states come first.
        prefix: of the names of slots.
        path: of the optimizer, for messages.

    Raises:
        UserError: if the state holds something else than tensors, numbers, texts, dicts, lists and tuples.
    """
    trees = found[0]
    for others in found[1:]:
        trees = [_union(one, other) for one, other in zip(trees, others, strict=True)]
    widths: dict[str, int] = {}
    laid: list[dict[Keys, Leaf]] = []
    constants: list[dict[Keys, Any]] = []
    for index, tree in enumerate(trees):
        mine: dict[Keys, Leaf] = {}
        kept: dict[Keys, Any] = {}
        for keys, value in leaves_of(tree):
            if not isinstance(value, (Tensor, bool, int, float)):
                if value is not None and not isinstance(value, (str, torch.dtype, torch.device)):
                    where = ".".join(map(str, keys))
                    raise UserError(
                        f"optimizer {path!r} keeps {where} = {type(value).__name__} in its state: only tensors and "
                        "numbers can be stored for every trial"
                    )
                kept[keys] = value
                continue
            dtype = value.dtype if isinstance(value, Tensor) else NUMBERS[type(value)]
            name = _slot(prefix, "group" if index >= params else "state", keys, value, dtype)
            begin = widths.get(name, 0)
            widths[name] = begin + (value.numel() if isinstance(value, Tensor) else 1)
            shape = value.shape if isinstance(value, Tensor) else None
            host = not isinstance(value, Tensor) or value.device.type == "cpu"
            stride = _stride(value) if isinstance(value, Tensor) else ()
            mine[keys] = Leaf(name, begin, widths[name], shape, stride, dtype, host)
        laid.append(mine)
        constants.append(kept)
    bare = [_without(tree, mine) for tree, mine in zip(trees, laid, strict=True)]
    return Contents(bare, laid, constants, _optional(found, laid), f"{NUMBER}{prefix}present")


def _slot(prefix: str, of: str, keys: Keys, value: Any, dtype: torch.dtype) -> str:
    """Name the slot of a leaf: no other has its name, nor has an entry of the rule itself, such as its counter t."""
    kind = "" if isinstance(value, Tensor) else NUMBER
    return f"{kind}{prefix}{of}.{'.'.join(map(repr, keys))}.{str(dtype).removeprefix('torch.')}"


def _without(tree: Mapping[str, Any], leaves: Mapping[Keys, Leaf]) -> Any:
    """Return a tree without the values of its leaves, which would be a copy of the state."""
    return rebuild(tree, lambda keys, value: None if keys in leaves else value)


def _stride(value: Tensor) -> tuple[int, ...]:
    """Return the strides of a tensor if its elements lie side by side in some order, else those of a fresh one."""
    expected = 1
    for size, stride in sorted(zip(value.shape, value.stride(), strict=True), key=lambda pair: pair[1]):
        if size > 1 and stride != expected:
            return torch.empty(value.shape, device="meta").stride()
        expected *= size
    return tuple(value.stride())


def _optional(
    found: Sequence[Sequence[Mapping[str, Any]]], laid: Sequence[Mapping[Keys, Leaf]]
) -> dict[tuple[int, Keys], int]:
    """Number the leaves that an optimizer does not have with every setting."""
    optional: dict[tuple[int, Keys], int] = {}
    for trees in found:
        for index, (tree, mine) in enumerate(zip(trees, laid, strict=True)):
            there = {keys for keys, value in leaves_of(tree) if value is not None}
            for keys in mine:
                if keys not in there:
                    optional.setdefault((index, keys), len(optional))
    return optional


def _union(one: Any, other: Any) -> Any:
    """Return the entries of both of two nested dicts."""
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return {
            **{key: _union(value, other.get(key)) for key, value in one.items()},
            **{key: value for key, value in other.items() if key not in one},
        }
    return other if one is None else one


def leaves_of(tree: Any, keys: Keys = ()) -> Iterator[tuple[Keys, Any]]:
    """Yield everything in nested dicts, lists and tuples, with its keys."""
    if isinstance(tree, dict):
        for key, value in tree.items():
            yield from leaves_of(value, (*keys, key))
    elif isinstance(tree, (list, tuple)):
        for index, value in enumerate(tree):
            yield from leaves_of(value, (*keys, index))
    else:
        yield keys, tree


def rebuild(tree: Any, take: Callable[[Keys, Any], Any], keys: Keys = ()) -> Any:
    """Return a copy of nested dicts, lists and tuples, with other leaves."""
    if isinstance(tree, dict):
        made = {key: rebuild(value, take, (*keys, key)) for key, value in tree.items()}
        return {key: value for key, value in made.items() if value is not DROPPED}
    if isinstance(tree, (list, tuple)):
        return type(tree)(rebuild(value, take, (*keys, index)) for index, value in enumerate(tree))
    return take(keys, tree)
