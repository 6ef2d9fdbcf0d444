"""An oracle that counts what is asked of it, whatever is said about it."""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor

from relaxbench.optim.rule import Linearization, Query
from relaxbench.training.oracle import Oracle

FORWARD = 1 / 3
"""Of a gradient's FLOPs: a backward pass costs two forward ones, and so does a tangent, since d(W a) = dW a + W da."""
TANGENT = BACKWARD = 2 * FORWARD


@dataclass
class Meter:
    """What members have asked for, each.

    Attributes:
        gradients: gradient equivalents, by their FLOPs.
        batches: for every query the numbers of the mini-batches, ``[K, n]``.
    """

    gradients: float = 0.0
    batches: list[Tensor] = field(default_factory=list)


class Metered:
    """Passes every question on, and counts it. Satisfies `optim.rule.Oracle`.

    Args:
        oracle: what answers.
        spoil: a member whose gradients and losses are multiplied by `factor`, or None for all members.
        factor: NaN, or a number.
    """

    def __init__(self, oracle: Oracle, spoil: int | None = None, factor: float = 1.0) -> None:
        self.oracle, self.factor, self.meter = oracle, factor, Meter()
        self.spoil = slice(None) if spoil is None else spoil

    def gradient(self, query: Query) -> tuple[Tensor, Tensor]:
        """See `GradientOracle`."""
        self.meter.gradients += query.batch.shape[1]
        self.meter.batches.append(query.batch.clone())
        grad, loss = self.oracle.gradient(query)
        grad[self.spoil] *= self.factor
        loss[self.spoil] *= self.factor
        return grad, loss

    def linearize(self, points: Tensor, direction: Tensor, batch: Tensor) -> Linearization:
        """See `CurvatureOracle`; the pull comes on top."""
        self.meter.gradients += FORWARD + TANGENT
        self.meter.batches.append(batch.clone())
        points = points.clone()
        points[self.spoil] *= self.factor
        return _Counted(self.oracle.linearize(points, direction, batch), self.meter)


class _Counted:
    """A linearization, counted."""

    def __init__(self, here: Linearization, meter: Meter) -> None:
        self._here, self._meter = here, meter
        self.loss, self.gradient, self.tangent = here.loss, here.gradient, here.tangent

    def bend(self, tangent: Tensor) -> Tensor:
        return self._here.bend(tangent)

    def pull(self, cotangent: Tensor) -> Tensor:
        self._meter.gradients += BACKWARD
        return self._here.pull(cotangent)

    def push(self, direction: Tensor) -> Tensor:
        self._meter.gradients += FORWARD + TANGENT
        return self._here.push(direction)

    def loss_at(self, points: Tensor) -> Tensor:
        self._meter.gradients += FORWARD
        return self._here.loss_at(points)
