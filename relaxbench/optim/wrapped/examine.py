"""Try out whether an optimizer can be a rule: its steps must follow from its parameters, gradients and stored state."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from relaxbench.errors import UserError
from relaxbench.optim.hyper import defaults, stack
from relaxbench.optim.wrapped.arguments import Recipe, has_iterate
from relaxbench.optim.wrapped.generators import untouched
from relaxbench.optim.wrapped.locate import quoted
from relaxbench.optim.wrapped.part import Part, dry, same
from relaxbench.optim.wrapped.rule import WrappedRule

SHAPES = tuple(map(torch.Size, ((4, 3), (4,), (3, 2, 2, 2), (5, 4))))
"""Of the parameters that are tried: matrices, a vector and a convolution."""
LARGE = tuple(map(torch.Size, ((64, 64), (64,))))
"""A layer of a usual network, on which memory is told where no problem is known."""
DIMENSIONS = (1, 2, 3, 4)
STEPS = 5
MANY = 128
"""Steps before a study begins: an optimizer may change with their number."""
EVERY = 8
"""Of many steps, a population is interrupted after so many."""
CPU = torch.device("cpu")
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


def require_that_it_can_be_stored(rule: type[WrappedRule], steps: int = STEPS) -> None:
    """Check that members of a population take the steps of plain loops, whatever the generators.

    Raises:
        UserError: naming what does not hold.
    """
    try:
        _require(rule, [_others(rule), defaults(rule.wide)], steps)
    except UserError:
        raise
    except (Exception, SystemExit) as error:  # an optimizer may raise any kind
        raise UserError(f"optimizer {rule.recipe.path!r} cannot take a few steps: {quoted(error)}") from error


def _require(rule: type[WrappedRule], settings: Sequence[Mapping[str, Any]], steps: int) -> None:
    """Compare plain loops with members side by side that have these settings."""
    path = rule.recipe.path
    with torch.random.fork_rng(devices=[]):
        with untouched(path, CPU):
            plain = [_plain(rule, values, k, steps) for k, values in enumerate(settings)]
        torch.manual_seed(1)
        again = [_plain(rule, values, k, steps) for k, values in enumerate(settings)]
        _require_movement(rule, settings, plain)
    if not _equal(plain, again):
        raise UserError(f"optimizer {path!r} is not deterministic: the same gradients lead it elsewhere")
    if not _alike(plain, _members(rule, settings, steps)):
        for name in _changed_by_itself(rule, settings, steps):
            what = "the study's schedule sets" if name == "lr" else "is fixed for a trial"
            raise UserError(
                f"optimizer {path!r} changes {name} itself, which {what}: keep a factor of its own in `state` instead"
            )
        raise UserError(
            f"optimizer {path!r} keeps state outside `state` and `param_groups`, or reads hyperparameters elsewhere: a "
            "step after its state is loaded leads elsewhere"
        )


def _require_movement(
    rule: type[WrappedRule], settings: Sequence[Mapping[str, Any]], plain: Sequence[Sequence[Tensor]]
) -> None:
    """Refuse an optimizer that leaves all of its parameters where they are; one that sums gradients moves later."""
    start = _flat([dry(shape, 0).float() for shape in SHAPES])
    mine = _flat([torch.full(s, not rule.dimensions or len(s) in rule.dimensions) for s in SHAPES])
    if any(not torch.equal(points[-1][mine], start[mine]) for points in plain):
        return
    if all(torch.equal(_plain(rule, v, k, MANY)[-1][mine], start[mine]) for k, v in enumerate(settings)):
        raise UserError(
            f"optimizer {rule.recipe.path!r} moves no parameter in {MANY} steps whose gradients are not zero: its "
            "step() must change p.data of the parameters in `param_groups`"
        )


def _changed_by_itself(rule: type[WrappedRule], settings: Sequence[Mapping[str, Any]], steps: int) -> list[str]:
    """Return the arguments that are hyperparameters, and whose values in `param_groups` are others after steps."""
    names = {place.argument for recipe, _ in rule.recipes() for place in recipe.places.values()}
    found: dict[str, None] = {}
    for values in settings:
        params = [nn.Parameter(dry(shape, 0).float()) for shape in SHAPES]
        optimizers = plain_optimizers(rule, params, values)
        before = [dict(group) for optimizer in optimizers for group in optimizer.param_groups]
        for step in range(steps):
            _step(optimizers, params, step, 0)
        after = [group for optimizer in optimizers for group in optimizer.param_groups]
        for was, now in zip(before, after, strict=True):
            found |= {n: None for n in names & was.keys() if n not in now or not same(was[n], now[n])}
    return sorted(found)


def _failure(recipe: Recipe, shape: torch.Size) -> str | None:
    try:
        Part(recipe, [shape], [slice(0, shape.numel())], "").find_state(torch.device("cpu"), torch.float32)
    except UserError:
        raise
    except (Exception, SystemExit) as error:  # an optimizer may raise any kind
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


def _plain(rule: type[WrappedRule], values: Mapping[str, Any], member: int, steps: int) -> list[Tensor]:
    """Return the parameters of a plain training loop after each step, and the point where it is evaluated."""
    params = [nn.Parameter(dry(shape, 0).float()) for shape in SHAPES]
    optimizers = plain_optimizers(rule, params, values)
    found = []
    for step in range(steps):
        _step(optimizers, params, step, member)
        if [p.shape for p in params] != list(SHAPES):
            raise UserError(f"optimizer {rule.recipe.path!r} changes the shapes of parameters: name another one")
        found.append(_flat(params))
    for optimizer in optimizers:
        if has_iterate(type(optimizer)):
            optimizer.eval()  # type: ignore[attr-defined]
    return [*found, _flat(params)]


def _step(optimizers: Sequence[Optimizer], params: Sequence[nn.Parameter], step: int, member: int) -> None:
    for p in params:
        p.grad = _gradient(p.shape, step, member)
    for optimizer in optimizers:
        optimizer.step()


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


def _members(rule: type[WrappedRule], settings: Sequence[Mapping[str, Any]], steps: int) -> list[list[Tensor]]:
    """Return the same of members of a population, which is interrupted: after every step, if these are few."""
    made = rule()
    made.bind(SHAPES)
    start = torch.cat([dry(shape, 0).reshape(-1) for shape in SHAPES]).float()
    count = len(settings)
    state = made.init(start.repeat(count, 1), torch.zeros(count, 1, dtype=torch.int64))
    hyper = made.at(stack(settings, CPU, torch.float64), torch.zeros(count, 1))
    found = []
    for step in range(steps):
        grads = [torch.cat([_gradient(shape, step, k).reshape(-1) for shape in SHAPES]) for k in range(count)]
        made.update(state, torch.stack(grads), torch.zeros(count, 1), hyper)
        found.append(state["x"].clone())
        if steps <= STEPS or step % EVERY == 0:
            made.start_anew()
    found.append(made.iterate(state).clone())
    return [[points[k] for points in found] for k in range(count)]


def _gradient(shape: torch.Size, step: int, member: int) -> Tensor:
    return dry(shape, 1 + step + 7 * member).float()


def _flat(params: Sequence[Tensor]) -> Tensor:
    return torch.cat([p.detach().reshape(-1) for p in params])


def _alike(one: Sequence[Sequence[Tensor]], other: Sequence[Sequence[Tensor]]) -> bool:
    """Return whether the differences of two runs are small beside the way that they went; NaN is like NaN."""
    start = _flat([dry(shape, 0).float() for shape in SHAPES])
    return all(
        torch.equal(a, b) or bool((a - b).abs().max() <= ALIKE * (a - start).abs().max()) or _lost(a, b)
        for mine, theirs in zip(one, other, strict=True)
        for a, b in zip(mine, theirs, strict=True)
    )


def _equal(one: Sequence[Sequence[Tensor]], other: Sequence[Sequence[Tensor]]) -> bool:
    pairs = zip((x for row in one for x in row), (x for row in other for x in row), strict=True)
    return all(torch.equal(a.float(), b.float()) or _lost(a, b) for a, b in pairs)


def _lost(one: Tensor, other: Tensor) -> bool:
    """Return whether both of two runs have diverged."""
    return not bool(torch.isfinite(one).all()) and not bool(torch.isfinite(other).all())
