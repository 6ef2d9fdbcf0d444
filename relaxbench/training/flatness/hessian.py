"""The Hessian of a deployed model's training loss as a linear operator, computed with curvlinops."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from relaxbench import random
from relaxbench.optim.forward_mode import uncompiled
from relaxbench.problems import Batch, Params, Problem
from relaxbench.training.oracle import Oracle

EXAMPLES, FEWER = 1024, 512
"""Training examples in the loss at most, of small and of large networks."""
LARGE = 50_000
"""A network with more parameters is large."""
PIECE = 64
"""Examples per pass of a large network; a small one takes all in one pass."""


GRADIENT, VECTOR = 3, 6
"""Costs of a gradient and of a vector in a product, in forward passes."""


class Hessian:
    """∇²f at x ``[P]``, symmetric, where f is the training loss of the deployed model.

    The model is in evaluation mode, without dropout. The statistics of batch normalization are collected at x, as for
    every measurement, and are constants in the derivatives of f. f is the mean over the problem's training examples, or
    over a random part of them that is the same for all runs (`most_examples`): more would cost more than the run.
    f does not contain weight decay. With fewer examples, the largest eigenvalues are larger on average.

    Args:
        problem: the problem, with a split ``"train"``.
        x: the point.
        examples: of f; None for as many as `most_examples` has.

    Attributes:
        loss: f(x).
        gradient: ∇f(x), ``[P]``.
        passes: cost so far, in forward passes of one example. A gradient costs `GRADIENT`. A product with n vectors
            costs `VECTOR` per vector (the tangent of a product W a has two products), and their common gradient.
    """

    def __init__(self, problem: Problem, x: Tensor, examples: int | None = None) -> None:
        batch = training_part(problem, x.device, examples)
        self._examples = len(next(iter(batch.values())))
        piece = PIECE if problem.size > LARGE else EXAMPLES
        # curvlinops needs pairs of inputs and labels. Here the model computes the loss, and the label is not used.
        no_label = torch.zeros((), device=x.device)
        data = [({n: v[i : i + piece] for n, v in batch.items()}, no_label) for i in range(0, self._examples, piece)]
        statistics = {name: value[0] for name, value in Oracle(problem, "direct").statistics(x[None]).items()}
        model = _LossAt(problem, x.detach().clone(), statistics)
        with _quietly():
            from curvlinops import HessianLinearOperator  # slow to import, and most commands do not need it

            self._operator = HessianLinearOperator(
                model,
                _Identity(),
                [model.x],
                data,
                check_deterministic=False,
                num_data=self._examples,
                batch_size_fn=lambda part: len(next(iter(part.values()))),
            )
            (gradient,), loss = self._operator.gradient_and_loss()
        self.loss = float(loss)
        self.gradient: Tensor = gradient
        self.passes = GRADIENT * self._examples + problem.statistics_examples

    def __matmul__(self, vectors: Tensor) -> Tensor:
        """Return ∇²f times vectors ``[P, n]``."""
        with _quietly():
            product: Tensor = self._operator @ vectors
        self.passes += self._examples * (GRADIENT + VECTOR * vectors.shape[1])
        return product


def most_examples(problem: Problem) -> int:
    """Return the number of examples of f at most: those of a small training split, else a part of them."""
    return min(problem.examples("train"), FEWER if problem.size > LARGE else EXAMPLES)


def training_part(problem: Problem, device: torch.device, examples: int | None = None) -> Batch:
    """Return the examples of f: the whole training split, or a part that is the same for every run."""
    count, limit = problem.examples("train"), most_examples(problem) if examples is None else examples
    if count <= limit:
        return problem.split("train", device)
    words = random.key(torch.tensor([0]), random.DATA, torch.tensor([4]))
    return problem.part("train", random.permutation(words, count)[:limit], device)


class _LossAt(nn.Module):
    """Map examples to their mean loss, with all parameters in one vector."""

    def __init__(self, problem: Problem, x: Tensor, statistics: Params) -> None:
        super().__init__()
        self.problem, self.statistics = problem, statistics
        self.x = nn.Parameter(x)

    def forward(self, batch: Batch) -> Tensor:
        params = {**self.problem.trainable(self.x), **self.statistics}
        return self.problem.loss.value(self.problem.outputs(params, batch, False), batch)


class _Identity(nn.Module):
    """The loss function of a model that returns its loss."""

    reduction = "mean"  # over pieces, in proportion to their examples

    def forward(self, loss: Tensor, no_label: Tensor) -> Tensor:
        return loss.clone()  # curvlinops scales it in place


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    """Run models uncompiled, with gradients, and without PyTorch's warnings about deprecations and slow paths."""
    with warnings.catch_warnings(), uncompiled(), torch.enable_grad():
        warnings.simplefilter("ignore")
        yield
