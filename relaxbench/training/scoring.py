"""Try the loss and the metric of a problem: is the loss a mean, is the metric positive, and a function of outputs?"""

from __future__ import annotations

import contextlib
import math
import random
import warnings
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from relaxbench.errors import UserError
from relaxbench.problems import Problem, SupervisedProblem
from relaxbench.problems.custom_losses import OwnLoss
from relaxbench.problems.seeding import torch_seeded

EXAMPLES = 1024
"""Held-out examples at most on which a metric is computed twice."""
CLOSE = 1e-5
"""Largest relative difference of two equal computations."""
LINEAR = 0.05
"""Share by which the loss of doubled examples may differ from twice the loss, and that of tripled ones from 3 times."""


def refuse_negative_metric(problem: Problem, metric: float) -> None:
    """Check that a metric at the initial weights is no less than 0: methods are compared by ratios.

    Raises:
        UserError: if it is, and counts.
    """
    if metric < 0 and problem.tolerance is None:
        raise UserError(
            f"problem {problem.name!r}: {problem.metric.removeprefix('test ')!r} is {metric:g} on the validation data "
            "at the initial weights: expected 0 or more, because methods are compared by ratios of it: take a metric "
            "that is positive, such as 1 − accuracy in place of −accuracy"
        )


def refuse_metric_beyond_worst(problem: Problem, metric: float) -> None:
    """Check that a model of one's own begins with a metric that is no worse than what a diverged run counts as.

    Raises:
        UserError: if it is: the best runs would then be no better than diverged ones, which nobody notices before the
            study has been run.
    """
    if isinstance(problem, SupervisedProblem) and problem.tolerance is None and metric > problem.worst_metric:
        raise UserError(
            f"problem {problem.name!r}: {problem.metric.removeprefix('test ')!r} is {metric:g} on the validation data "
            f"at the initial weights, more than the {problem.worst_metric:g} that a diverged run counts as: state a "
            "larger worst_metric (without a metric of your own: a larger worst)"
        )


def refuse_random_metric(problem: Problem, points: Tensor) -> None:
    """Compute the metric of the same outputs twice, with generators in other states.

    Raises:
        UserError: if it differs.
    """
    part = problem.part("validation", slice(0, EXAMPLES), points.device)
    params = {name: value[0] for name, value in problem.trainable(points).items()}
    with torch.no_grad():
        outputs = problem.outputs(params, part, False)
        values = []
        for seed in (1, 2):
            at, score = None, None
            with _drawing(seed), contextlib.suppress(Exception), warnings.catch_warnings(action="ignore"):
                score = problem.score(outputs.clone(), {**part})  # a part may lack a class that the metric needs
                at = problem.metric_at(params, part)
            values.append([math.nan if value is None else float(value) for value in (score, at)])
    for one, other in zip(*values, strict=True):
        if not np.isclose(one, other, rtol=CLOSE, atol=0.0, equal_nan=True):
            raise UserError(
                f"problem {problem.name!r}: {problem.metric.removeprefix('test ')!r} of the same outputs is {one:g} "
                f"and then {other:g}: it draws random numbers, or keeps a state: let outputs and labels alone fix it"
            )


def refuse_sum(problem: Problem, points: Tensor) -> None:
    """Compute the loss of examples, of these twice, and of these three times.

    Losses that compare examples with each other, as contrastive ones, grow otherwise and are left alone.

    Raises:
        UserError: if they are about L, 2 L and 3 L: the loss is a sum over the examples.
    """
    if not isinstance(problem, SupervisedProblem):
        return
    part = problem.part("train", slice(0, problem.batch_size), points.device)
    params = {name: value[0] for name, value in problem.trainable(points).items()}
    losses: list[float] = []
    with torch.no_grad(), contextlib.suppress(Exception):  # a model may take no larger mini-batch
        for times in (1, 2, 3):
            batch = {name: _repeated(value, times) for name, value in part.items()}
            losses.append(float(problem.loss.value(problem.outputs(params, batch, False), batch)))
    if len(losses) == 3 and losses[0] and all(abs(losses[n - 1] / losses[0] / n - 1) < LINEAR for n in (2, 3)):
        raise UserError(
            f"problem {problem.name!r}: the loss of {len(part['x']):,} examples is {losses[0]:g}, and of the same "
            f'examples twice {losses[1]:g}: expected the mean over the examples, not their sum: reduction="mean"'
        )


def refuse_broadcast(problem: Problem, points: Tensor) -> None:
    """Compute a loss of one's own with the labels in their order and in the reverse one.

    Outputs ``[B, 1]`` and labels ``[B]`` become ``[B, B]`` in a difference: every output is then compared with every
    label, in whatever order they are, and the best model is a constant.

    Raises:
        UserError: if outputs and labels differ so, and the order of the labels matters only where both have one shape.
    """
    if not isinstance(problem, SupervisedProblem) or not isinstance(problem.loss, OwnLoss):
        return
    part = problem.part("train", slice(0, max(2, problem.batch_size)), points.device)
    losses: list[float] = []
    with torch.no_grad(), warnings.catch_warnings(), contextlib.suppress(Exception):  # told by other checks
        warnings.simplefilter("ignore")
        outputs, labels = problem.outputs(problem.unflatten(points[0]), part, False), part["y"]
        if sorted((outputs.shape, labels.shape), key=len) == [(len(labels),), (len(labels), 1)]:
            for out, y in ((outputs, labels), (outputs.flatten(), labels.flatten())):
                losses += [float(problem.loss.value(out, {**part, "y": each})) for each in (y, y.flip(0))]
    if len(losses) < 4:
        return
    given, reversed_, alike, alike_reversed = losses
    if math.isclose(given, reversed_, rel_tol=CLOSE) and not math.isclose(alike, alike_reversed, rel_tol=1e-3):
        raise UserError(
            f"problem {problem.name!r}: outputs of shape {tuple(outputs.shape)} and labels of shape "
            f"{tuple(labels.shape)} are compared each with each (the loss is {given:g}, and {alike:g} where both have "
            "one shape): give both the same shape, as outputs.squeeze(1) does"
        )


def _repeated(value: Tensor, times: int) -> Tensor:
    return torch.cat([value] * times) if value.dim() else value


@contextlib.contextmanager
def _drawing(seed: int) -> Iterator[None]:
    """Seed torch's, Python's and numpy's generators in a block, and put them back."""
    states = random.getstate(), np.random.get_state()
    random.seed(seed)
    np.random.seed(seed)
    try:
        with torch_seeded(seed):
            yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
