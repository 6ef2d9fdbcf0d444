"""An oracle that counts the requests of a rule, whatever the rule declares."""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor

from relaxbench.optim.rule import Linearization, Query
from relaxbench.training.oracle import Oracle

FORWARD = 1 / 3
"""Share of a gradient's FLOPs. A backward pass costs two forward passes; so does a tangent: d(W a) = dW a + W da."""
TANGENT = BACKWARD = 2 * FORWARD


@dataclass
class Meter:
    """The requests per member.

    Attributes:
        gradients: gradient equivalents, by their FLOPs.
        batches: the numbers of the mini-batches of every query, ``[K, n]``.
    """

    gradients: float = 0.0
    batches: list[Tensor] = field(default_factory=list)


class Metered:
    """Count every request and pass it on. Satisfies `optim.rule.Oracle`.

    Args:
        oracle: the oracle that answers.
        spoil: the member whose gradients and losses are multiplied by `factor`, or None for all members.
        factor: a number, or NaN.
    """

    def __init__(self, oracle: Oracle, spoil: int | None = None, factor: float = 1.0) -> None:
        self.oracle, self.factor, self.meter = oracle, factor, Meter()
        self.spoil = slice(None) if spoil is None else spoil

    def gradient(self, query: Query) -> tuple[Tensor, Tensor]:
        """Compute gradients, see `GradientOracle`."""
        self.meter.gradients += query.batch.shape[1]
        self.meter.batches.append(query.batch.clone())
        grad, loss = self.oracle.gradient(query)
        grad[self.spoil] *= self.factor
        loss[self.spoil] *= self.factor
        return grad, loss

    def gradient_parts(self, query: Query) -> tuple[list[Tensor], Tensor]:
        """Compute gradients in one part, see `GradientOracle`."""
        grad, loss = self.gradient(query)
        return [grad], loss

    def linearize(self, points: Tensor, direction: Tensor | None, batch: Tensor) -> Linearization:
        """Linearize, see `CurvatureOracle`; products are counted when they are requested."""
        self.meter.gradients += FORWARD if direction is None else FORWARD + TANGENT
        self.meter.batches.append(batch.clone())
        points = points.clone()
        points[self.spoil] *= self.factor
        return _MeteredLinearization(self.oracle.linearize(points, direction, batch), self.meter)


class _MeteredLinearization:
    """A linearization whose products are counted."""

    def __init__(self, inner: Linearization, meter: Meter) -> None:
        self._inner, self._meter = inner, meter
        self.loss, self.gradient, self.tangent = inner.loss, inner.gradient, inner.tangent

    def bend(self, tangent: Tensor) -> Tensor:
        return self._inner.bend(tangent)

    def pull(self, cotangent: Tensor, keep: bool = False) -> Tensor:
        self._meter.gradients += BACKWARD
        return self._inner.pull(cotangent, keep)

    def push(self, direction: Tensor) -> Tensor:
        self._meter.gradients += FORWARD + TANGENT
        return self._inner.push(direction)

    def loss_at(self, points: Tensor) -> Tensor:
        self._meter.gradients += FORWARD
        return self._inner.loss_at(points)
