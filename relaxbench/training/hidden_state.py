"""Find what makes a model something other than a function of parameters, inputs and a trial's seed."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from relaxbench.errors import UserError
from relaxbench.problems import Batch, Problem, SupervisedProblem
from relaxbench.training.clocks import Clocks
from relaxbench.training.kept_values import Kept, changed_values, kept_values
from relaxbench.training.oracle import Oracle

EXAMPLES = 32
"""Held-out examples on which the model is called twice."""
FAR = 10.0
"""Factor of the initial weights at which a model may have a limit for them."""
CLOSE = 1e-5
"""Largest relative difference of two equal computations: libraries may sum in another order."""


def refuse_hidden_state(problem: Problem, points: Tensor, batch: Batch) -> None:
    """Compute a gradient and held-out outputs twice, and compare all that a model could change on the way.

    Raises:
        UserError: if the model keeps a state of its own, draws random numbers that a trial's seed does not fix, or
            writes into its input. Trials would depend on the trials before and beside them.
    """
    _refuse_unseeded_start(problem)
    _refuse_own_steps(problem, points, batch)
    oracle, held_out = Oracle(problem, "direct"), problem.part("validation", slice(0, EXAMPLES), points.device)
    part = {name: value.clone() for name, value in held_out.items()}

    def twice() -> list[tuple[list[Tensor], Kept]]:
        results = []
        for _ in range(2):
            gradient, _ = oracle.gradient_on(points, {name: value.clone() for name, value in batch.items()})
            with torch.no_grad():
                outputs = problem.outputs({n: p[0] for n, p in problem.trainable(points).items()}, part, False)
            results.append(([gradient, outputs.clone()], kept_values(problem)))
        return results

    with _foreign_draws(problem), _watched(problem), Clocks() as clocks:
        (first, before), (second, after) = twice()
    if changed := changed_values(before, after):
        raise UserError(_own_state(problem, changed[0]))
    if clocks.place:
        raise UserError(
            f"problem {problem.name!r} reads the clock when the model is called ({clocks.place}), so that a trial "
            "could not be repeated: make the model a function of parameters and inputs, and time it from outside"
        )
    for what, one, other in zip(("gradient", "outputs"), first, second, strict=True):
        if not torch.allclose(one, other, rtol=CLOSE, atol=CLOSE * float(one.abs().max()), equal_nan=True):
            raise UserError(
                f"problem {problem.name!r}: two calls of the model on the same examples give other {what}: it keeps a "
                "state of its own, or draws random numbers that a trial's seed does not fix; make it a function of "
                "parameters and inputs"
            )
    _refuse_own_parameters(problem, points, batch, first[0])


def _refuse_own_parameters(problem: Problem, points: Tensor, batch: Batch, gradient: Tensor) -> None:
    """Compute a gradient while the module's own parameters, which stand for none of a trial, are not numbers."""
    if not isinstance(problem, SupervisedProblem):
        return
    own = [p for p in problem.model.parameters() if p.requires_grad]
    kept = [p.detach().clone() for p in own]
    try:
        with torch.no_grad():
            for p in own:
                p.fill_(torch.nan)
        now, _ = Oracle(problem, "direct").gradient_on(points, {name: value.clone() for name, value in batch.items()})
    finally:
        with torch.no_grad():
            for p, value in zip(own, kept, strict=True):
                p.copy_(value)
    if bool((now.isnan() & ~gradient.isnan()).any()):
        raise UserError(
            f"problem {problem.name!r}: the gradient depends on parameters that the model keeps beside those of a "
            "trial: leave gradient checkpointing out, which runs layers again after a trial's parameters are gone, "
            "and use parameters as attributes of their layers, not from a list or a closure"
        )


def _refuse_own_steps(problem: Problem, points: Tensor, batch: Batch) -> None:
    """Compute a gradient at large parameters, which a model with a limit would change."""
    large = FAR * points
    Oracle(problem, "direct").gradient_on(large, {name: value.clone() for name, value in batch.items()})
    if not _same(large, FAR * points):
        raise UserError(
            f"problem {problem.name!r}: the model writes into its parameters, as nn.Embedding does with max_norm, so "
            "that no method would take its own steps: compute new tensors in forward, and leave max_norm out"
        )


def _refuse_unseeded_start(problem: Problem) -> None:
    """Build the start of one seed twice: frozen parameters and buffers, too."""
    if isinstance(problem, SupervisedProblem):
        one, other = (problem.adapted.original(0).state_dict() for _ in range(2))
    else:
        one, other = ({"init": problem.init(0)} for _ in range(2))
    for name, value in one.items():
        if not torch.equal(torch.nan_to_num(value), torch.nan_to_num(other[name])):
            raise UserError(
                f"problem {problem.name!r}: {name!r} starts with other values each time that the model is built: draw "
                "them with torch in the model function, which seeds torch's generator, and with nothing else"
            )


@contextlib.contextmanager
def _foreign_draws(problem: Problem) -> Iterator[None]:
    """Refuse draws from Python's and numpy's generators, and from generators of the model's own, in this block."""
    before, mode = _states(), _Generators()
    with mode:
        yield
    drawn = [name for name, state in _states().items() if state != before[name]]
    if mode.used:
        drawn = ["a torch.Generator of its own"]
    if drawn:
        raise UserError(
            f"problem {problem.name!r} draws random numbers from {drawn[0]} when the model is called, which a trial's "
            "seed does not fix: use relaxbench.problems.Dropout, or draw in the model function"
        )


def _states() -> dict[str, object]:
    kind, keys, place, *rest = np.random.get_state()
    return {
        "Python's random": random.getstate(),
        "numpy.random": (kind, np.asarray(keys).tobytes(), place, *rest),
    }


class _Generators(TorchFunctionMode):
    """Notices a function of torch that is given a generator.

    Attributes:
        used: whether one was.
    """

    used = False

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.used = self.used or (kwargs or {}).get("generator") is not None
        return func(*args, **(kwargs or {}))


@contextlib.contextmanager
def _watched(problem: Problem) -> Iterator[None]:
    """Refuse a model that changes its buffers or its inputs when it is called in this block."""
    if not isinstance(problem, SupervisedProblem):
        yield
        return
    kept: list[tuple[dict[str, Tensor], list[Tensor]]] = []

    def before(module: nn.Module, args: tuple[Any, ...]) -> None:
        buffers = {name: value.detach().clone() for name, value in module.named_buffers()}
        kept.append((buffers, [value.detach().clone() for value in args if isinstance(value, Tensor)]))

    def after(module: nn.Module, args: tuple[Any, ...], result: object) -> None:
        buffers, inputs = kept.pop()
        for name, value in module.named_buffers():
            if name not in buffers or not _same(value.detach(), buffers[name]):
                raise UserError(_own_state(problem, f"buffer {name!r}"))
        for value, known in zip((value for value in args if isinstance(value, Tensor)), inputs, strict=True):
            if not _same(value.detach(), known):
                raise UserError(
                    f"problem {problem.name!r}: the model writes into its input, which would change the data for every "
                    "later measurement: compute a new tensor, as x = (x - a) / b instead of x.sub_(a).div_(b)"
                )

    hooks = [problem.model.register_forward_pre_hook(before), problem.model.register_forward_hook(after)]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _same(one: Tensor, other: Tensor) -> bool:
    return one.shape == other.shape and torch.equal(torch.nan_to_num(one), torch.nan_to_num(other))


def _own_state(problem: Problem, what: str) -> str:
    return (
        f"problem {problem.name!r}: the model keeps a state of its own, {what}, which changes when it is called, so "
        "that trials would depend on each other: make it a parameter or a constant, or leave that layer out"
    )
