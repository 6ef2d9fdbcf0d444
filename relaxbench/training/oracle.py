"""Compute gradients, curvature and measurements of a whole population, by one of two paths.

*Vectorized*: one forward and one backward pass for all members (`torch.vmap` over the model, autograd outside).
*Direct*: one member after another, on views of the same tensors, for models that fill the machine alone or do not
vectorize. On either path, the numbers of a member do not depend on the other members.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

import torch
from torch import Tensor

from relaxbench.optim.forward_mode import batched_forward_mode, forward_mode, unspared
from relaxbench.optim.linearize import Linearized
from relaxbench.optim.rule import Query
from relaxbench.problems import Batch, Loss, Params, Problem, Sampler
from relaxbench.problems.together import together
from relaxbench.training.batched import batched
from relaxbench.training.precision import Precision, forward, precision_of, products

Path = Literal["vectorized", "direct"]
"""The training path of an engine."""
Result = TypeVar("Result")
PIECE = 1024
"""Held-out examples per forward pass. It does not depend on K, so that a member's outputs do not either."""


@dataclass(frozen=True)
class Measurement:
    """A split measured at K points.

    Attributes:
        loss: ``[K]``.
        metric: ``[K]``, the error (a fraction of 1), the loss, or another number, see `Problem.metric`.
        correct: bool ``[K, N]``, or None without classes.
    """

    loss: Tensor
    metric: Tensor
    correct: Tensor | None

    def first(self) -> Measurement:
        """Return what was measured at the first point, K = 1."""
        return Measurement(self.loss[:1], self.metric[:1], None if self.correct is None else self.correct[:1])


@dataclass(frozen=True)
class OnBatch:
    """A named loss of K members on their mini-batches. Satisfies `optim.linearize.ConvexLoss`."""

    loss: Loss
    batch: Batch
    path: Path = "vectorized"

    def value(self, outputs: Tensor) -> Tensor:
        """Return the losses, ``[K, 1]``."""
        return self._by_member(self.loss.value, outputs)[:, None]

    def gradient(self, outputs: Tensor) -> Tensor:
        """Return ∇L with respect to the outputs, ``[K, B, C]``."""
        return self._by_member(self.loss.gradient, outputs)

    def curvature(self, outputs: Tensor, v: Tensor) -> Tensor:
        """Return H_L v, ``[K, B, C]``."""
        return self._by_member(self.loss.curvature, outputs, v)

    def _by_member(self, function: Callable[..., Tensor], outputs: Tensor, *more: Tensor) -> Tensor:
        if self.path == "vectorized":
            return _together(function)(outputs, self.batch, *more)
        rows = range(len(outputs))
        return torch.stack([function(outputs[k], _row(self.batch, k), *(v[k] for v in more)) for k in rows])


class Oracle:
    """Everything that is computed from a problem. Satisfies `optim.rule.Oracle` once its sampler is set.

    Args:
        problem: the problem.
        path: the training path.
        precision: of the study; the attribute is that of this problem, see `precision.precision_of`.

    Attributes:
        sampler: the mini-batches of the current round; None before the first.
    """

    def __init__(self, problem: Problem, path: Path = "vectorized", precision: Precision = "float32") -> None:
        self.problem, self.path, self.precision = problem, path, precision_of(problem, precision)
        self.sampler: Sampler | None = None

    def gradient(self, query: Query) -> tuple[Tensor, Tensor]:
        """Return gradients and losses of a query on its mini-batches, see `GradientOracle`."""
        batch = self._batch(query)
        if query.points.dim() == 2:
            return self.gradient_on(query.points, batch)
        grads, losses = self.gradient_on(query.points.flatten(0, 1), batch)
        return grads.view_as(query.points), losses.view_as(query.batch)

    def gradient_parts(self, query: Query) -> tuple[list[Tensor], Tensor]:
        """Return gradients in parts and losses of a query on its mini-batches, see `GradientOracle`."""
        shape, batch = query.points.shape, self._batch(query)
        parts, losses = self.gradient_parts_on(query.points.reshape(-1, shape[-1]), batch)
        return [part.view(*shape[:-1], part.shape[1]) for part in parts], losses.view_as(query.batch)

    def _batch(self, query: Query) -> Batch:
        """Return the mini-batches of a query. Replicas are members of a larger population, n next to each other."""
        assert self.sampler is not None, "a round sets the sampler first"
        if query.points.dim() == 2:
            return self.sampler.batch(query.batch)
        batches = [self.sampler.batch(number) for number in torch.split(query.batch, 1, dim=1)]
        return {name: torch.stack([b[name] for b in batches], dim=1).flatten(0, 1) for name in batches[0]}

    def gradient_on(self, points: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return gradients ``[K, P]`` and losses ``[K, 1]`` on a batch, every tensor of which has a first axis K."""
        with products(self.precision, points.device):
            return self._gradient_on(points, batch)

    def _gradient_on(self, points: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        if self.path == "vectorized":
            leaf = points.detach().requires_grad_()
            losses = _together(self._loss)(self.problem.trainable(leaf), batch)
            (grad,) = torch.autograd.grad(losses.sum(), leaf)
            return grad, losses.detach()[:, None]
        grads = torch.empty_like(points)
        losses = points.new_empty(points.shape[0], 1)
        for k in range(points.shape[0]):
            parts, losses[k] = self._of_a_member(points[k], _row(batch, k))
            torch.cat([part.flatten() for part in parts], out=grads[k])
        return grads, losses

    def gradient_parts_on(self, points: Tensor, batch: Batch) -> tuple[list[Tensor], Tensor]:
        """Return what `gradient_on` returns, but gradients as tensors ``[K, …]`` that are not joined."""
        with products(self.precision, points.device):
            return self._gradient_parts_on(points, batch)

    def _gradient_parts_on(self, points: Tensor, batch: Batch) -> tuple[list[Tensor], Tensor]:
        if self.path == "vectorized":
            params = {name: p.detach().requires_grad_() for name, p in self.problem.trainable(points).items()}
            losses = _together(self._loss)(params, batch)
            grads = torch.autograd.grad(losses.sum(), list(params.values()), materialize_grads=True)
            return [grad.detach().flatten(1) for grad in grads], losses.detach()[:, None]
        if len(points) > 1:
            together, losses = self._gradient_on(points, batch)
            return [together], losses
        parts, loss = self._of_a_member(points[0], _row(batch, 0))
        return [part.flatten()[None] for part in parts], loss[None, None]

    def _of_a_member(self, point: Tensor, batch: Batch) -> tuple[list[Tensor], Tensor]:
        """Return the gradients, one per parameter, and the loss of one member."""
        # Each parameter by itself: the gradient of a view would be a copy of the whole vector.
        params = {name: p.detach().requires_grad_() for name, p in self.problem.trainable(point).items()}
        loss = self._loss(params, batch)
        parts = torch.autograd.grad(loss, list(params.values()), materialize_grads=True)
        # Detached, because older versions of PyTorch give zeros that require a gradient for what has none.
        return [part.detach() for part in parts], loss.detach()

    def linearize(self, points: Tensor, direction: Tensor | None, batch: Tensor) -> Linearized:
        """Linearize the outputs at points ``[K, P]`` along directions, on the mini-batches with numbers ``[K, 1]``."""
        assert self.sampler is not None, "a round sets the sampler first"
        return self.linearize_on(points, direction, self.sampler.batch(batch))

    def linearize_on(self, points: Tensor, direction: Tensor | None, batch: Batch) -> Linearized:
        """Linearize the outputs on a batch, every tensor of which has a first axis K.

        Raises:
            UserError: if the loss has no curvature in the outputs.
        """

        def outputs(x: Tensor) -> Tensor:
            if self.path == "vectorized":
                return _together(lambda own, part: self._outputs_on(own, part, True))(self.problem.trainable(x), batch)
            with unspared():
                rows = [(self.problem.trainable(x[k]), _row(batch, k)) for k in range(len(x))]
            return torch.stack([self._outputs_on(own, part, True) for own, part in rows])

        forward = batched_forward_mode if self.path == "vectorized" else forward_mode
        return Linearized(OnBatch(self.problem.convex_loss(), batch, self.path), outputs, points, direction, forward)

    @torch.no_grad()
    def measure(self, points: Tensor, split: str) -> Measurement:
        """Measure loss and metric at points ``[K, P]`` on a whole split, in evaluation mode."""
        with products(self.precision, points.device):
            if self.path == "vectorized" and len(points) == 1 and points.device.type == "cpu":
                # PyTorch has another product for a single member, which may round otherwise.
                return self._measure(points.repeat(2, 1), split).first()
            return self._measure(points, split)

    def _measure(self, points: Tensor, split: str) -> Measurement:
        params = {**self.problem.trainable(points), **self.statistics(points)}
        parts, kept = list[Tensor](), list[Batch]()
        for piece in self.problem.pieces(split, points.device, PIECE):
            parts.append(self._outputs(params, piece))
            kept.append({n: v for n, v in piece.items() if n != "x"})  # inputs may not fit into memory together
        outputs = torch.cat(parts, dim=1)
        if self.problem.in_memory:
            batch = self.problem.split(split, points.device)
        else:
            batch = {n: torch.cat([piece[n] for piece in kept]) for n in kept[0]}
        # One member at a time, so that the order of summation is the same for any K.
        loss = torch.stack([self.problem.loss.value(out, batch) for out in outputs])
        correct = None
        metric = loss
        if self.problem.correct(outputs[0], batch) is not None:
            rows = [self.problem.correct(out, batch) for out in outputs]
            correct = torch.stack([row for row in rows if row is not None])
            metric = 1.0 - self.problem.share_correct(correct, batch)
            correct = correct if correct.dim() == 2 else None
        scores = [self.problem.score(out, batch) for out in outputs]
        if scores[0] is not None:
            metric = loss.new_tensor([float("nan") if score is None else score for score in scores])
        at = [self.problem.metric_at(own, batch) for own in _members(params)]
        if at[0] is not None:
            metric = torch.stack([value for value in at if value is not None])
        return Measurement(loss, metric, correct)

    @torch.no_grad()
    def statistics(self, points: Tensor) -> Params:
        """Return the means and variances of batch normalization at the points, ``[K, C]`` each.

        They are plain means over pieces of the split ``"statistics"`` (arXiv 1704.04932).
        """
        if not self.problem.statistics_examples:
            return {}
        params, statistics = self.problem.trainable(points), list[Params]()
        for piece in self.problem.pieces("statistics", points.device, PIECE):

            def collect(own: Params, piece: Batch = piece) -> Params:
                return self.problem.statistics(own, piece)

            if self.path == "vectorized":
                statistics.append(_together(collect)(params))
            else:
                rows = [collect(own) for own in _members(params)]
                statistics.append({name: torch.stack([row[name] for row in rows]) for name in rows[0]})
        return {name: torch.stack([part[name] for part in statistics]).mean(dim=0) for name in statistics[0]}

    def _outputs(self, params: Params, batch: Batch) -> Tensor:
        """Compute outputs ``[K, N, …]`` in evaluation mode, on examples that all members share."""

        def forward(own: Params) -> Tensor:
            return self._outputs_on(own, batch, False)

        if self.path == "vectorized":
            return _together(forward)(params)
        return torch.stack([forward(own) for own in _members(params)])

    def _loss(self, params: dict[str, Tensor], batch: Batch) -> Tensor:
        return self.problem.loss.value(self._outputs_on(params, batch, True), batch)

    def _outputs_on(self, params: Params, batch: Batch, training: bool) -> Tensor:
        """Compute outputs of one member in the precision of this oracle; convert bfloat16 to float32 for the loss."""
        device = next(iter(params.values())).device
        with forward(self.precision, device):
            outputs = self.problem.outputs(params, batch, training)
        return outputs.float() if outputs.dtype == torch.bfloat16 else outputs


def _together(function: Callable[..., Result]) -> Callable[..., Result]:
    """Call a function that calls a model once for all members."""

    def run(*arguments: Any) -> Result:
        with together():
            return batched(function)(*arguments)

    return run


def _row(batch: Batch, k: int) -> Batch:
    return {name: value[k] for name, value in batch.items()}


def _members(params: Params) -> list[Params]:
    """Split parameters with a first axis K into those of each member."""
    count = len(next(iter(params.values())))
    return [{name: value[k] for name, value in params.items()} for k in range(count)]
