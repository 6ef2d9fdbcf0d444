"""The Hessian of a deployed model's training loss as a linear operator: the derivative of its gradient."""

from __future__ import annotations

import torch
from torch import Tensor

from relaxbench import random
from relaxbench.optim.forward_mode import plain_attention, uncompiled
from relaxbench.problems import Batch, Problem
from relaxbench.training.oracle import Oracle

EXAMPLES, FEWER = 1024, 512
"""Training examples in the loss at most, of small and of large networks."""
LARGE = 50_000
"""A network with more parameters is large."""
PIECE = 64
"""Examples per pass of a large network; a small one takes all in one pass."""

GRADIENT, VECTOR = 3, 6
"""Costs of a gradient, and of a vector in a product, in forward passes."""


class Hessian:
    """∇²f at x ``[P]``, symmetric, where f is the training loss of the deployed model.

    The model is in evaluation mode, without dropout. The statistics of batch normalization are collected at x, as for
    every measurement, and are constants in the derivatives of f. f is the mean over the problem's training examples, or
    over a random part of them that is the same for all runs (`most_examples`): more would cost more than the run.
    f does not contain weight decay. With fewer examples, the largest eigenvalues are larger on average.

    A product with v is the derivative of ∇f · v in reverse mode (Pearlmutter, "Fast exact multiplication by the
    Hessian", 1994). A small network keeps the graph of ∇f. A large one would need much memory for it: it computes ∇f
    again for every product, piece by piece.

    Args:
        problem: the problem, with a split ``"train"``.
        x: the point.
        examples: of f; None for as many as `most_examples` has.

    Attributes:
        loss: f(x).
        gradient: ∇f(x), ``[P]``.
        passes: cost so far, in forward passes of one example. A gradient costs `GRADIENT`. A product costs `VECTOR`
            per vector (each product of matrices in ∇f has two in its derivative), and a gradient that is not kept.
    """

    def __init__(self, problem: Problem, x: Tensor, examples: int | None = None) -> None:
        self._problem, self._x = problem, x.detach().clone().requires_grad_()
        self._statistics = {name: value[0] for name, value in Oracle(problem, "direct").statistics(x[None]).items()}
        batch = training_part(problem, x.device, examples)
        self._examples = len(next(iter(batch.values())))
        size = self._examples if keeps_graph(problem) else PIECE
        pieces = [{n: v[i : i + size] for n, v in batch.items()} for i in range(0, self._examples, size)]
        self._pieces = [(len(next(iter(piece.values()))) / self._examples, piece) for piece in pieces]
        self._kept: Tensor | None = None
        self.loss, self.gradient = 0.0, torch.zeros_like(x)
        for share, piece in self._pieces:
            loss, gradient = self._gradient_on(piece)
            self.loss += share * float(loss)
            self.gradient += share * gradient.detach()
            self._kept = gradient if keeps_graph(problem) else None
        self.passes = GRADIENT * self._examples + problem.statistics_examples

    def __matmul__(self, vectors: Tensor) -> Tensor:
        """Return ∇²f times vectors ``[P, n]``."""
        columns = [torch.zeros_like(vector) for vector in vectors.T]
        for share, piece in self._pieces:
            gradient = self._gradient_on(piece)[1] if self._kept is None else self._kept
            if not gradient.requires_grad:  # f is linear
                continue
            for vector, column in zip(vectors.T, columns, strict=True):
                column += share * _derivative(gradient, vector, self._x)
        self.passes += self._examples * ((GRADIENT if self._kept is None else 0) + VECTOR * len(columns))
        return torch.stack(columns, dim=1)

    def _gradient_on(self, piece: Batch) -> tuple[Tensor, Tensor]:
        """Return the loss on some examples, and its gradient, which can be differentiated again."""
        with uncompiled(), plain_attention(), torch.enable_grad():  # compiled and fused functions have one derivative
            params = {**self._problem.trainable(self._x), **self._statistics}
            loss = self._problem.loss.value(self._problem.outputs(params, piece, False), piece)
            (gradient,) = torch.autograd.grad(loss, self._x, create_graph=True)
        return loss.detach(), gradient


def _derivative(gradient: Tensor, vector: Tensor, x: Tensor) -> Tensor:
    """Return the derivative of g · v by x.

    `torch.autograd.grad` would silently leave out what passes through a function with one derivative alone.

    Raises:
        RuntimeError: for such a function.
    """
    x.grad = torch.zeros_like(x)
    with torch.enable_grad():
        torch.autograd.backward(gradient @ vector, retain_graph=True)
    return x.grad


def keeps_graph(problem: Problem) -> bool:
    """Return whether a network is small: all examples are processed at once, and the graph of the gradient is kept."""
    return problem.size <= LARGE


def most_examples(problem: Problem) -> int:
    """Return the number of examples of f at most: those of a small training split, else a part of them."""
    return min(problem.examples("train"), EXAMPLES if keeps_graph(problem) else FEWER)


def training_part(problem: Problem, device: torch.device, examples: int | None = None) -> Batch:
    """Return the examples of f: the whole training split, or a part that is the same for every run."""
    count, limit = problem.examples("train"), most_examples(problem) if examples is None else examples
    if count <= limit:
        return problem.split("train", device)
    words = random.key(torch.tensor([0]), random.DATA, torch.tensor([4]))
    return problem.part("train", random.permutation(words, count)[:limit], device)
