"""The Hessian of a deployed model's training loss as a linear operator: the derivative of its gradient."""

from __future__ import annotations

import torch
from torch import Tensor

from relaxbench import random
from relaxbench.optim.forward_mode import plain_attention, uncompiled
from relaxbench.problems import Batch, Problem
from relaxbench.problems.losses import is_built_in
from relaxbench.training.oracle import Oracle
from relaxbench.util.text import listed

EXAMPLES, FEWER = 1024, 512
"""Training examples in the loss at most, of small and of large networks."""
LARGE = 50_000
"""A network with more parameters is large."""
PIECE = 64
"""Examples per pass of a large network; a small one takes all in one pass."""
MEAN = 1e-4
"""The part of a loss that a mean over pieces may be away from it, by rounding."""

STEP, AWAY, ROUNDING = 1e-3, 0.05, 1e-6
"""The length of a step along which gradients are compared, relative to x; the part of their difference that a product
may be away from it, and of the gradient, which is rounded."""

GRADIENT, VECTOR = 3, 6
"""Costs of a gradient, and of a vector in a product, in forward passes."""


class Hessian:
    """∇²f at x ``[P]``, symmetric, where f is the training loss of the deployed model.

    The model is in evaluation mode, without dropout. The statistics of batch normalization are collected at x, as for
    every measurement, and are constants in the derivatives of f. f is the mean over the problem's training examples, or
    over a random part of them that is the same for all runs (`most_examples`): more would cost more than the run.
    f does not contain weight decay. With fewer examples, the largest eigenvalues are larger on average. In pieces, f is
    the mean of their losses, each with its weight; a loss of somebody's own for which this does not hold is refused.

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
        weights = [problem.loss.weight(piece) for piece in pieces]
        if not sum(weights):
            raise ValueError(f"none of the {self._examples} examples has a label that counts in the loss")
        # A piece without weight, all labels of which are ignored, has no loss.
        self._pieces = [(weight / sum(weights), piece) for weight, piece in zip(weights, pieces, strict=True) if weight]
        self._kept: Tensor | None = None
        self.loss, self.gradient = 0.0, torch.zeros_like(x)
        self.passes = GRADIENT * self._examples + problem.statistics_examples
        outputs = list[Tensor]()
        for place, (share, piece) in enumerate(self._pieces):
            loss, gradient = self._gradient_on(piece, self._x, outputs)
            self.loss += share * float(loss.detach())
            self.gradient += share * gradient.detach()
            if place == 0 and (names := custom_functions(loss)):
                self._compare(gradient, piece, names)
            self._kept = gradient if keeps_graph(problem) else None
        if len(self._pieces) > 1 and not is_built_in(problem.loss):
            self._refuse_no_mean(torch.cat(outputs))

    def __matmul__(self, vectors: Tensor) -> Tensor:
        """Return ∇²f times vectors ``[P, n]``."""
        columns = [torch.zeros_like(vector) for vector in vectors.T]
        for share, piece in self._pieces:
            gradient = self._gradient_on(piece, self._x)[1] if self._kept is None else self._kept
            if not gradient.requires_grad:  # f is linear
                continue
            for vector, column in zip(vectors.T, columns, strict=True):
                column += share * _derivative(gradient, vector, self._x)
        self.passes += self._examples * ((GRADIENT if self._kept is None else 0) + VECTOR * len(columns))
        return torch.stack(columns, dim=1)

    def _gradient_on(self, piece: Batch, x: Tensor, seen: list[Tensor] | None = None) -> tuple[Tensor, Tensor]:
        """Return the loss on some examples, and its gradient, which can be differentiated again.

        The outputs are added to what was seen.
        """
        with uncompiled(), plain_attention(), torch.enable_grad():  # compiled and fused functions have one derivative
            params = {**self._problem.trainable(x), **self._statistics}
            outputs = self._problem.outputs(params, piece, False)
            loss = self._problem.loss.value(outputs, piece)
            (gradient,) = torch.autograd.grad(loss, x, create_graph=True)
        if seen is not None:
            seen.append(outputs.detach())
        return loss, gradient

    def _refuse_no_mean(self, outputs: Tensor) -> None:
        """Compare the loss of all examples with the mean over pieces: a loss of somebody's own may be another function.

        Raises:
            ValueError: if they differ.
        """
        whole = {name: torch.cat([piece[name] for _, piece in self._pieces]) for name in self._pieces[0][1]}
        loss = float(self._problem.loss.value(outputs, whole))
        if not abs(loss - self.loss) <= MEAN * max(abs(loss), abs(self.loss)):
            raise ValueError(
                f"loss {self._problem.loss.name!r} of {self._examples} examples is {loss:.6g}, and {self.loss:.6g} as "
                f"the mean over pieces of {PIECE}, in which a large network computes it: it is no mean over examples"
            )

    def _compare(self, gradient: Tensor, piece: Batch, names: list[str]) -> None:
        """Compare a product with a difference of gradients: a function of somebody's own may say nothing of the second.

        Raises:
            ValueError: if they differ.
        """
        x = self._x.detach()
        words = random.key(torch.tensor([0], device=x.device), random.PROBES, torch.tensor([5], device=x.device))
        direction = random.normal(words, len(x)).flatten().to(x)
        step = STEP * max(1.0, float(x.norm())) * direction / direction.norm()
        self.passes += len(next(iter(piece.values()))) * (2 * GRADIENT + VECTOR)
        ends = [self._gradient_on(piece, (x + sign * step).requires_grad_())[1].detach() for sign in (1, -1)]
        expected = (ends[0] - ends[1]) / 2
        away = (_derivative(gradient, step, self._x) - expected).norm() if gradient.requires_grad else expected.norm()
        if not float(away) <= AWAY * float(expected.norm()) + ROUNDING * float(gradient.detach().norm()):
            raise ValueError(
                f"the backward pass of {listed(names)} has a wrong derivative: write it with differentiable operations "
                "on saved tensors, or mark it with torch.autograd.function.once_differentiable"
            )


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


def custom_functions(loss: Tensor) -> list[str]:
    """Return the names of the custom `torch.autograd.Function`s in a graph."""
    left, seen, names = [loss.grad_fn], set[object](), list[str]()
    while left:
        node = left.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        left += [before for before, _ in node.next_functions]
        if (custom := getattr(node, "_forward_cls", None)) is not None:
            names.append(custom.__name__)
    return sorted(set(names))


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
