"""Try out whether an optimizer can be a rule: its steps must follow from its parameters, gradients and stored state."""

from __future__ import annotations

import inspect
import random
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from relaxbench.errors import UserError
from relaxbench.optim.hyper import defaults, stack
from relaxbench.optim.wrapped.arguments import Recipe, has_iterate
from relaxbench.optim.wrapped.locate import quoted
from relaxbench.optim.wrapped.part import Part, dry
from relaxbench.optim.wrapped.rule import WrappedRule

SHAPES = tuple(map(torch.Size, ((4, 3), (4,), (3, 2, 2, 2), (5, 4))))
"""Of the parameters that are tried: matrices, a vector and a convolution."""
LARGE = tuple(map(torch.Size, ((64, 64), (64,))))
"""A layer of a usual network, on which memory is told where no problem is known."""
DIMENSIONS = (1, 2, 3, 4)
STEPS = 5
ALIKE = 1e-3
"""Difference of equal runs, relative to their way: products of matrices may round otherwise elsewhere in memory."""


def dimensions_of(recipe: Recipe) -> frozenset[int]:
    """Return the numbers of dimensions of a parameter that an optimizer takes; empty if it takes any.

    Raises:
        UserError: if it does not even take matrices.
    """
    failures = {d: error for d in DIMENSIONS if (error := _failure(recipe, torch.Size((4, 3, 2, 2)[:d])))}
    if 2 in failures:
        closure = inspect.signature(recipe.cls.step).parameters.get("closure")
        if closure is not None and closure.default is inspect.Parameter.empty:
            raise UserError(
                f"optimizer {recipe.path!r} needs a closure, with which a step takes any number of gradients: of such "
                "optimizers only torch.optim.LBFGS can be a method; name another one"
            )
        raise UserError(f"optimizer {recipe.path!r} cannot take a step: {failures[2]}")
    return frozenset(DIMENSIONS) - failures.keys() if failures else frozenset()


def require_that_it_can_be_stored(rule: type[WrappedRule]) -> None:
    """Check that members of a population take the steps of plain loops, whatever the generators.

    Raises:
        UserError: naming what does not hold.
    """
    try:
        _require(rule, [_others(rule), defaults(rule.wide)])
    except UserError:
        raise
    except Exception as error:  # an optimizer may raise any kind
        raise UserError(f"optimizer {rule.recipe.path!r} cannot take a few steps: {quoted(error)}") from error


def _require(rule: type[WrappedRule], settings: Sequence[Mapping[str, Any]]) -> None:
    """Compare plain loops with members side by side that have these settings."""
    path = rule.recipe.path
    with torch.random.fork_rng(devices=[]):
        before = generators()
        plain = [_plain(rule, values, k) for k, values in enumerate(settings)]
        if not all(torch.equal(a, b) for a, b in zip(before, generators(), strict=True)):
            raise UserError(
                f"optimizer {path!r} draws from a global generator, so that trials would depend on each other: give "
                "it an option without random numbers, or name another one"
            )
        torch.manual_seed(1)
        again = [_plain(rule, values, k) for k, values in enumerate(settings)]
    if not _equal(plain, again):
        raise UserError(f"optimizer {path!r} is not deterministic: the same gradients lead it elsewhere")
    if not _alike(plain, _members(rule, settings)):
        raise UserError(
            f"optimizer {path!r} keeps state outside `state` and `param_groups`, or reads hyperparameters elsewhere: a "
            "step after its state is loaded leads elsewhere"
        )


def _failure(recipe: Recipe, shape: torch.Size) -> str | None:
    try:
        Part(recipe, [shape], [slice(0, shape.numel())], "").find_state(torch.device("cpu"), torch.float32)
    except UserError:
        raise
    except Exception as error:  # an optimizer may raise any kind
        return quoted(error)
    return None


def _others(rule: type[WrappedRule]) -> dict[str, Any]:
    """Return values that are not the defaults, where the optimizer takes them."""
    values = defaults(rule.wide)
    for name, value in list(values.items()):
        changed = {**values, name: value if isinstance(value, str) else 0.9 * value or 0.1}
        if rule.refusal(changed) is None:
            values = changed
    return values


def _plain(rule: type[WrappedRule], values: Mapping[str, Any], member: int) -> list[Tensor]:
    """Return the parameters of a plain training loop after each step, and the point where it is evaluated."""
    params = [nn.Parameter(dry(shape, 0).float()) for shape in SHAPES]
    pairs: list[Optimizer] = plain_optimizers(rule, params, values)
    found = []
    for step in range(STEPS):
        for p in params:
            p.grad = _gradient(p.shape, step, member)
        for optimizer in pairs:
            optimizer.step()
        if [p.shape for p in params] != list(SHAPES):
            raise UserError(f"optimizer {rule.recipe.path!r} changes the shapes of parameters: name another one")
        found.append(_flat(params))
    for optimizer in pairs:
        if has_iterate(type(optimizer)):
            optimizer.eval()  # type: ignore[attr-defined]
    return [*found, _flat(params)]


def plain_optimizers(
    rule: type[WrappedRule], params: Sequence[nn.Parameter], values: Mapping[str, Any]
) -> list[Optimizer]:
    """Make the optimizer and its companion as a person would: each of its own parameters."""
    made = []
    for recipe, prefix in rule.recipes():
        mine = [p for p in params if not rule.dimensions or (p.dim() in rule.dimensions) == (prefix == "")]
        if mine:
            made.append(recipe.make(mine, {n: values[prefix + n] for n in recipe.places if prefix + n in values}))
    return made


def _members(rule: type[WrappedRule], settings: Sequence[Mapping[str, Any]]) -> list[list[Tensor]]:
    """Return the same of members of a population, which is interrupted after every step."""
    made = rule()
    made.bind(SHAPES)
    return _run(made, settings, torch.float32)


def _run(rule: WrappedRule, settings: Sequence[Mapping[str, Any]], dtype: torch.dtype) -> list[list[Tensor]]:
    start = torch.cat([dry(shape, 0).reshape(-1) for shape in SHAPES]).to(dtype)
    count = len(settings)
    state = rule.init(start.repeat(count, 1), torch.zeros(count, 1, dtype=torch.int64))
    hyper = rule.at(stack(settings, torch.device("cpu"), torch.float64), torch.zeros(count, 1))
    found = []
    for step in range(STEPS):
        grads = [torch.cat([_gradient(shape, step, k).reshape(-1) for shape in SHAPES]).to(dtype) for k in range(count)]
        rule.update(state, torch.stack(grads), torch.zeros(count, 1), hyper)
        found.append(state["x"].clone())
        rule.start_anew()
    found.append(rule.iterate(state).clone())
    return [[points[k] for points in found] for k in range(count)]


def _gradient(shape: torch.Size, step: int, member: int) -> Tensor:
    return dry(shape, 1 + step + 7 * member).float()


def _flat(params: Sequence[Tensor]) -> Tensor:
    return torch.cat([p.detach().reshape(-1) for p in params])


def generators() -> list[Tensor]:
    """Return the states of the generators of PyTorch, Python and numpy."""
    import numpy as np  # the optimizers need none

    numpy_state = np.random.get_state()
    numbers = [int(n) for n in numpy_state[1]] + [int(numpy_state[2])]  # type: ignore[index]
    python = [n for n in random.getstate()[1] if n is not None]
    return [torch.get_rng_state(), torch.tensor(numbers), torch.tensor(python)]


def _alike(one: Sequence[Sequence[Tensor]], other: Sequence[Sequence[Tensor]]) -> bool:
    """Return whether the differences of two runs are small beside the way that they went."""
    start = _flat([dry(shape, 0).float() for shape in SHAPES])
    return all(
        bool((a - b).abs().max() <= ALIKE * (a - start).abs().max())
        for mine, theirs in zip(one, other, strict=True)
        for a, b in zip(mine, theirs, strict=True)
    )


def _equal(one: Sequence[Sequence[Tensor]], other: Sequence[Sequence[Tensor]]) -> bool:
    pairs = zip((x for row in one for x in row), (x for row in other for x in row), strict=True)
    return all(torch.equal(a.float(), b.float()) for a, b in pairs)
