"""One optimizer of a population: makes it, gives it the rows of one member, steps, and writes the rows back."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from relaxbench.errors import UserError
from relaxbench.optim.rule import State
from relaxbench.optim.wrapped.arguments import Recipe
from relaxbench.optim.wrapped.contents import (
    ABSENT,
    DROPPED,
    NONE,
    NUMBER,
    THERE,
    Contents,
    Keys,
    Leaf,
    find,
    leaves_of,
    rebuild,
    trees_of,
)

DRY_STEPS = 2
"""Steps after which the state is looked at: some optimizers make a part of it in the second one."""


class Part:
    """An optimizer for some of the parameters of every member.

    Args:
        recipe: how it is made.
        shapes: of its parameters.
        columns: of each parameter in the P columns of a member.
        prefix: of its hyperparameters' names, and of its slots in the state.

    Attributes:
        widths: columns and type of every slot.
    """

    def __init__(self, recipe: Recipe, shapes: Sequence[torch.Size], columns: Sequence[slice], prefix: str) -> None:
        self.recipe, self.shapes, self.columns, self.prefix = recipe, shapes, columns, prefix
        self.widths: dict[str, tuple[int, torch.dtype]] = {}
        self._contents: Contents | None = None
        self._own: list[list[str]] = []
        self._params: list[nn.Parameter] = []
        self._optimizer: Any = None
        self._host: dict[str, Any] = {}
        self._attributes: set[str] = set()

    def find_state(self, device: torch.device, dtype: torch.dtype) -> None:
        """Find the state by dry steps on parameters of the same shapes, and keep an optimizer to step members with."""
        trees = [self._after_dry_steps(device, dtype, values) for values in (self.recipe.nowhere_zero(), {})]
        self._contents = find(trees, len(self._params), self.prefix, self.recipe.path)
        self.widths = self._contents.widths()
        self._release()

    def _after_dry_steps(
        self, device: torch.device, dtype: torch.dtype, values: Mapping[str, float]
    ) -> list[Mapping[str, Any]]:
        """Take a few steps with these settings, and return all that the optimizer then holds."""
        self._params = [nn.Parameter(dry(shape, 0).to(device, dtype)) for shape in self.shapes]
        self._optimizer = self.recipe.make(self._params, values)
        before = [dict(group) for group in self._optimizer.param_groups]
        for step in range(DRY_STEPS):
            for p in self._params:
                p.grad = dry(p.shape, step + 1).to(device, dtype)
            self._optimizer.step()
        taken = {place.argument for place in self.recipe.places.values()} | {"params"}
        self._own = [
            [name for name, value in group.items() if name not in taken and _is_state(name, value, old, self.recipe)]
            for group, old in zip(self._optimizer.param_groups, before, strict=True)
        ]
        given = self.recipe.arguments(values)
        self._attributes = {
            name for name, value in vars(self._optimizer).items() if name in given and same(value, given[name])
        }
        return trees_of(self._optimizer, self._params, self._own)

    def open(self, state: State) -> None:
        """Copy the numbers of all members to the host, once per step of the population."""
        assert self._contents is not None
        for name in self._contents.on_host():
            rows = state[name]
            self._host[name] = rows.tolist() if name.startswith(NUMBER) else rows.cpu()

    def close(self, state: State) -> None:
        """Write the numbers of all members back."""
        for name, rows in self._host.items():
            if isinstance(rows, list):
                state[name].copy_(torch.tensor(rows, dtype=state[name].dtype))
            elif rows is not state[name]:
                state[name].copy_(rows)
        self._host = {}
        self._release()

    def step(self, state: State, k: int, x: Tensor, grad: Tensor, values: Mapping[str, float], first: bool) -> None:
        """Step one member.

        Args:
            state: of the population; the member's rows are written.
            k: number of the member.
            x: its parameters ``[P]``, which are written.
            grad: its gradient ``[P]``.
            values: its hyperparameters, by the names of the recipe.
            first: whether this is the member's first step, before which an optimizer is made for it alone.
        """
        params = self._params
        self._view(params, x)
        for p, columns in zip(params, self.columns, strict=True):
            p.grad = grad[columns].view(p.shape)
        if first:
            optimizer, loaded = self.recipe.make(params, values), {}
        else:
            optimizer = self._optimizer
            loaded = self._load(state, k, values)
        optimizer.step()
        self._keep(optimizer, state, k, loaded)
        for p, columns in zip(params, self.columns, strict=True):
            target = x[columns]
            if p.numel() != target.numel():
                raise UserError(f"optimizer {self.recipe.path!r} changes the shapes of parameters: name another one")
            if p.data_ptr() != target.data_ptr():  # it has replaced the tensor
                target.copy_(p.detach().reshape(-1))

    def evaluate(self, state: State, k: int, x: Tensor, values: Mapping[str, float]) -> None:
        """Move parameters ``[P]``, a copy, to where a member is evaluated; nothing else changes."""
        copies = {name: state[name][k : k + 1].clone() for name in self.widths}
        self.open(copies)
        self._view(self._params, x)
        self._load(copies, 0, values)
        self._optimizer.eval()
        for p, columns in zip(self._params, self.columns, strict=True):
            if p.data_ptr() != x[columns].data_ptr():
                x[columns].copy_(p.detach().reshape(-1))
        self._host = {}
        self._release()

    def _view(self, params: Sequence[nn.Parameter], x: Tensor) -> None:
        for p, columns, shape in zip(params, self.columns, self.shapes, strict=True):
            p.data = x[columns].view(shape)

    def _load(self, state: State, k: int, values: Mapping[str, float]) -> dict[tuple[int, Keys], Tensor]:
        """Give the optimizer the state and hyperparameters of a member; return the views that it was given."""
        assert self._contents is not None
        views: dict[tuple[int, Keys], Tensor] = {}
        trees = [rebuild(tree, partial(self._taken, state, k, i, views)) for i, tree in enumerate(self._contents.trees)]
        count = len(self._params)
        self._optimizer.state.clear()
        for p, tree in zip(self._params, trees[:count], strict=True):
            if tree:
                self._optimizer.state[p] = tree
        arguments = self.recipe.arguments(values)
        self._optimizer.defaults.update(arguments)  # some optimizers read them there, or in attributes
        vars(self._optimizer).update({name: value for name, value in arguments.items() if name in self._attributes})
        for group, tree in zip(self._optimizer.param_groups, trees[count:], strict=True):
            group.update(tree)
            group.update({name: value for name, value in arguments.items() if name in group})
        return views

    def _taken(
        self, state: State, k: int, tree: int, views: dict[tuple[int, Keys], Tensor], keys: Keys, old: Any
    ) -> Any:
        """Return a leaf of a member, or what was there if it is none."""
        assert self._contents is not None
        leaf = self._contents.leaves[tree].get(keys)
        if leaf is None:
            return old
        place = self._contents.optional.get((tree, keys))
        if place is not None and (there := self._host[self._contents.present][k][place]) != THERE:
            return DROPPED if there == ABSENT else None
        if leaf.shape is None:
            return self._host[leaf.slot][k][leaf.begin]
        rows = self._host[leaf.slot] if leaf.on_host else state[leaf.slot]
        views[tree, keys] = view = leaf.view(rows, k)
        return view

    def _keep(self, optimizer: Optimizer, state: State, k: int, loaded: Mapping[tuple[int, Keys], Tensor]) -> None:
        """Write what an optimizer holds after a step into the rows of a member."""
        assert self._contents is not None
        for tree, (now, leaves) in enumerate(
            zip(trees_of(optimizer, self._params, self._own), self._contents.leaves, strict=True)
        ):
            found: set[Keys] = set()
            for keys, value in leaves_of(now):
                leaf = leaves.get(keys)
                if leaf is None:
                    if value != self._contents.constants[tree].get(keys):
                        raise self._changed(keys)
                    found.add(keys)
                    continue
                found.add(keys)
                if self._mark(k, tree, keys, NONE if value is None else THERE) and value is None:
                    continue
                if loaded.get((tree, keys)) is not value:
                    self._write(leaf, keys, value, state, k)
            for keys, value in self._contents.constants[tree].items():
                if value is not None and keys not in found:
                    raise self._changed(keys)
            for keys in leaves.keys() - found:
                if not self._mark(k, tree, keys, ABSENT):
                    raise self._changed(keys)

    def _mark(self, k: int, tree: int, keys: Keys, there: int) -> bool:
        """Note whether a member has an optional leaf; return whether the leaf is one."""
        assert self._contents is not None
        place = self._contents.optional.get((tree, keys))
        if place is not None:
            self._host[self._contents.present][k][place] = there
        return place is not None

    def _write(self, leaf: Leaf, keys: Keys, value: Any, state: State, k: int) -> None:
        if leaf.shape is None:
            if isinstance(value, Tensor):
                raise self._changed(keys)
            self._host[leaf.slot][k][leaf.begin] = value
            return
        if not isinstance(value, Tensor) or value.shape != leaf.shape or value.dtype != leaf.dtype:
            raise self._changed(keys)
        rows = self._host[leaf.slot] if leaf.on_host else state[leaf.slot]
        leaf.view(rows, k).copy_(value)

    def _changed(self, keys: Keys) -> UserError:
        where = ".".join(map(str, keys))
        return UserError(
            f"optimizer {self.recipe.path!r} changes the form of its state from step to step ({where}): it cannot be "
            "stored for every trial"
        )

    def _release(self) -> None:
        """Let go of the tensors of members: a rule keeps nothing beside the state."""
        for p in self._params:
            p.grad = None
            p.data = torch.empty(0, device=p.device, dtype=p.dtype)
        if self._optimizer is not None:
            self._optimizer.state.clear()


def dry(shape: torch.Size, step: int) -> Tensor:
    """Return numbers that are the same everywhere, for parameters (step 0) and gradients of dry steps."""
    count = shape.numel()
    return torch.sin(torch.arange(1, count + 1, dtype=torch.float64) * (0.7 + 0.3 * step) + step).view(shape)


def _is_state(name: str, value: Any, before: Mapping[str, Any], recipe: Recipe) -> bool:
    """Return whether an entry of a group is part of the state: no argument, or changed by a step."""
    if name in inspect.signature(recipe.cls).parameters and name in before:
        return not same(value, before[name])
    return True


def same(a: Any, b: Any) -> bool:
    """Return whether two values, which may be tensors, are equal."""
    if isinstance(a, Tensor) or isinstance(b, Tensor):
        return isinstance(a, Tensor) and isinstance(b, Tensor) and torch.equal(a, b)
    return bool(a == b)
