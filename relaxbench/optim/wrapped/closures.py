"""A plain training loop with a closure, with which the rule of such an optimizer is compared."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from relaxbench.errors import UserError
from relaxbench.optim.hyper import defaults, stack
from relaxbench.optim.wrapped.examine import CPU, SHAPES
from relaxbench.optim.wrapped.generators import untouched
from relaxbench.optim.wrapped.lbfgs import LBFGSRule
from relaxbench.optim.wrapped.locate import quoted
from relaxbench.optim.wrapped.part import dry

STEPS = 2
"""Steps in which an optimizer is tried."""
SIZE = sum(shape.numel() for shape in SHAPES)


def loop(
    optimizer: Any, params: Sequence[nn.Parameter], loss_on: Callable[[int], Tensor], evaluations: int
) -> list[Tensor]:
    """Take steps while their evaluations last.

    Args:
        optimizer: of the parameters.
        params: which are moved.
        loss_on: from the number of a mini-batch to its loss; the number is that of a step's first evaluation.
        evaluations: of the closure.

    Returns:
        the parameters ``[P]`` at each evaluation, and after the last whole step.
    """
    found, whole = list[Tensor](), _flat(params)
    while True:

        def closure(begin: int = len(found)) -> Tensor:
            if len(found) == evaluations:
                raise _Spent
            found.append(_flat(params))
            optimizer.zero_grad()
            loss = loss_on(begin)
            torch.autograd.backward(loss)
            return loss

        known = len(found)
        try:
            optimizer.step(closure)
        except _Spent:
            return [*found, whole]
        if len(found) == known:
            raise UserError("its step() does not call the closure: call it for the loss and the gradients")
        whole = _flat(params)


def require_that_steps_can_be_taken_again(rule: type[LBFGSRule], evaluations: int = 0) -> None:
    """Check that a rule, interrupted after every evaluation, takes the steps of a plain loop.

    Args:
        rule: the rule.
        evaluations: of the closure; a few steps at least are taken.

    Raises:
        UserError: naming what does not hold.
    """
    path, values = rule.recipe.path, defaults(rule.wide)
    evaluations = max(evaluations, rule().evaluations(STEPS))
    try:
        with torch.random.fork_rng(devices=[]), untouched(path, CPU):
            plain = _plain(rule, values, evaluations)
        member = _member(rule, values, evaluations)
    except UserError:
        raise
    except (Exception, SystemExit) as error:  # an optimizer may raise any kind
        raise UserError(f"optimizer {path!r} cannot take a few steps: {quoted(error)}") from error
    if not all(torch.equal(a, b) for a, b in zip(plain, member, strict=True)):
        raise UserError(
            f"optimizer {path!r} keeps more than PyTorch's L-BFGS in `state`, or is not deterministic: a step that is "
            "taken again leads elsewhere"
        )


def _plain(rule: type[LBFGSRule], values: Mapping[str, Any], evaluations: int) -> list[Tensor]:
    params = [nn.Parameter(dry(shape, 0)) for shape in SHAPES]
    optimizer = rule.recipe.make(params, {name: values[name] for name in rule.recipe.places})
    return loop(optimizer, params, lambda number: _bowl(torch.cat([p.flatten() for p in params])), evaluations)


def _member(rule: type[LBFGSRule], values: Mapping[str, Any], evaluations: int) -> list[Tensor]:
    made = rule()
    made.bind(SHAPES)
    start = torch.cat([dry(shape, 0).reshape(-1) for shape in SHAPES])
    state = made.init(start[None], torch.zeros(1, 1, dtype=torch.int64))
    hyper = made.at(stack([values], torch.device("cpu"), torch.float64), torch.zeros(1, 1))
    found = []
    for _ in range(evaluations):
        leaf = made.query(state, hyper).points[0].clone().requires_grad_()
        found.append(leaf.detach())
        loss = _bowl(leaf)
        (grad,) = torch.autograd.grad(loss, leaf)
        made.update(state, grad[None], loss.detach()[None, None], hyper)
    return [*found, state["x"][0]]


def _bowl(x: Tensor) -> Tensor:
    """A function that is not minimized in a few steps."""
    return (torch.linspace(0.2, 2, SIZE, dtype=x.dtype) * x.square()).sum() + (3 * x).cos().sum()


def _flat(params: Sequence[Tensor]) -> Tensor:
    return torch.cat([p.detach().reshape(-1) for p in params])


class _Spent(Exception):  # noqa: N818  (no error)
    """No evaluations are left."""
