"""The Hessian of a deployed model's training loss, as a matrix that only multiplies: curvlinops does the calculus."""

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
"""Training examples on which the loss is taken, of small and of large networks."""
LARGE = 50_000
"""A network of more parameters is large."""
PIECE = 64
"""Examples of a large network in one pass; those of a small one go together."""


class Hessian:
    """∇²f at x ``[P]``, symmetric, where f is the loss that is trained, of the model as it is deployed.

    The model is in evaluation mode, without dropout; what batch normalization needs is collected at x, as for every
    measurement, and held while f is differentiated. f is the mean over the problem's training examples, or over a
    random part of them that is the same for all runs (`EXAMPLES`, `FEWER`): a sum over more would cost more than the
    run. Weight decay is no part of f. The largest eigenvalues of a mean over fewer examples are larger on average.

    Args:
        problem: whose loss; it needs a split ``"train"``.
        x: where.

    Attributes:
        loss: f(x).
        gradient: ∇f(x), ``[P]``.
        passes: what it has cost, in forward passes of one example; a gradient costs three, a product twice that for
            every vector, and a gradient for all of them (the tangent of a product W a has two products).
    """

    def __init__(self, problem: Problem, x: Tensor) -> None:
        batch = training_part(problem, x.device)
        self._examples = len(next(iter(batch.values())))
        piece = PIECE if problem.size > LARGE else EXAMPLES
        # curvlinops wants pairs of inputs and labels; here the loss is within the model, and a label is nothing.
        nothing = torch.zeros((), device=x.device)
        data = [({n: v[i : i + piece] for n, v in batch.items()}, nothing) for i in range(0, self._examples, piece)]
        statistics = {name: value[0] for name, value in Oracle(problem, "direct").statistics(x[None]).items()}
        model = _LossAt(problem, x.detach().clone(), statistics)
        with _quietly():
            from curvlinops import HessianLinearOperator  # takes a moment, and most commands never need it

            self._operator = HessianLinearOperator(
                model, _AsItIs(), [model.x], data, check_deterministic=False, num_data=self._examples,
                batch_size_fn=lambda part: len(next(iter(part.values()))),
            )  # fmt: skip
            (gradient,), loss = self._operator.gradient_and_loss()
        self.loss = float(loss)
        self.gradient: Tensor = gradient
        self.passes = 3 * self._examples + problem.statistics_examples

    def __matmul__(self, vectors: Tensor) -> Tensor:
        """∇²f times vectors ``[P, n]``."""
        with _quietly():
            product: Tensor = self._operator @ vectors
        self.passes += self._examples * (3 + 6 * vectors.shape[1])
        return product


def training_part(problem: Problem, device: torch.device) -> Batch:
    """The examples on which f is taken: all that a small training split has, else a part, the same for every run."""
    batch = problem.split("train", device)
    count, wanted = len(next(iter(batch.values()))), FEWER if problem.size > LARGE else EXAMPLES
    if count <= wanted:
        return batch
    words = random.key(torch.tensor([0]), random.DATA, torch.tensor([4]))
    chosen = random.permutation(words, count)[:wanted].to(device)
    return {name: value[chosen] for name, value in batch.items()}


class _LossAt(nn.Module):
    """From examples to their mean loss, with all parameters in one vector."""

    def __init__(self, problem: Problem, x: Tensor, statistics: Params) -> None:
        super().__init__()
        self.problem, self.statistics = problem, statistics
        self.x = nn.Parameter(x)

    def forward(self, batch: Batch) -> Tensor:
        params = {**self.problem.unflatten(self.x), **self.statistics}
        return self.problem.loss.value(self.problem.outputs(params, batch, False), batch)


class _AsItIs(nn.Module):
    """The loss of a model that gives a loss."""

    reduction = "mean"  # over pieces, in proportion to their examples

    def forward(self, loss: Tensor, nothing: Tensor) -> Tensor:
        return loss.clone()  # curvlinops scales it in place


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    """Models run uncompiled, with gradients, and without warnings of what PyTorch loads or does slowly."""
    with warnings.catch_warnings(), uncompiled(), torch.enable_grad():
        warnings.simplefilter("ignore")
        yield
