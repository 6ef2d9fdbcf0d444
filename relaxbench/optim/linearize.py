"""Linearize the loss on one mini-batch, for curvature rules: forward mode gives Jφ, the loss gives H_L."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from relaxbench.optim.forward_mode import ForwardMode, Outputs, forward_mode, plain_attention


class ConvexLoss(Protocol):
    """The members' losses on one mini-batch, with their derivatives in the outputs ``[K, B, C]``."""

    def value(self, outputs: Tensor) -> Tensor:
        """Compute the losses, ``[K, 1]``."""
        ...

    def gradient(self, outputs: Tensor) -> Tensor:
        """Compute ∇L, in the shape of the outputs."""
        ...

    def curvature(self, outputs: Tensor, v: Tensor) -> Tensor:
        """Compute H_L v, in the shape of the outputs."""
        ...


class Linearized:
    """A `rule.Linearization`. One forward pass with tangents gives the outputs, Jφ z and the graph for `pull`.

    Args:
        loss: of the outputs on the mini-batch.
        outputs: the model on the mini-batch.
        points, direction: ``[K, P]``; without a direction, the first pass has no tangents. The points are not copied:
            a rule writes into them after its last `pull` and `push`.
        forward: how values and tangents are computed.

    Attributes:
        depends: whether the outputs depend on the points; without a direction, whether they have a graph.

    Raises:
        TypeError: if the outputs depend on the points but have no tangent.
    """

    def __init__(
        self,
        loss: ConvexLoss,
        outputs: Outputs,
        points: Tensor,
        direction: Tensor | None,
        forward: ForwardMode = forward_mode,
    ) -> None:
        self._convex, self._outputs, self._forward = loss, outputs, forward
        self._leaf = points.detach().requires_grad_()
        with torch.enable_grad():
            if direction is None:
                with plain_attention():
                    self._graph, tangent = outputs(self._leaf), None
            else:
                self._graph, tangent = forward(outputs, self._leaf, direction)
        # Without a tangent, the graph may belong to other parameters.
        reached = tangent is not None or (direction is None and self._graph.requires_grad)
        self.depends = reached or self._graph_reaches_points()
        self.at = self._graph.detach()
        self.tangent = torch.zeros_like(self.at) if direction is None else self._or_zero(tangent)
        self.gradient = loss.gradient(self.at)
        self.loss = loss.value(self.at)

    def bend(self, tangent: Tensor) -> Tensor:
        """Multiply a tangent by H_L."""
        return self._convex.curvature(self.at, tangent)

    def pull(self, cotangent: Tensor, keep: bool = False) -> Tensor:
        """Multiply a cotangent by Jφᵀ; keep the graph for another call."""
        (result,) = torch.autograd.grad(self._graph, self._leaf, cotangent, retain_graph=keep)
        return result

    def push(self, direction: Tensor) -> Tensor:
        """Multiply a direction by Jφ."""
        with torch.no_grad():
            return self._or_zero(self._forward(self._outputs, self._leaf.detach(), direction)[1])

    @torch.no_grad()
    def loss_at(self, points: Tensor) -> Tensor:
        """Compute losses on the same mini-batch at other points."""
        with plain_attention():  # the same operations as at the other points
            return self._convex.value(self._outputs(points))

    def _graph_reaches_points(self) -> bool:
        if not self._graph.requires_grad:
            return False
        ones = torch.ones_like(self._graph)
        (slope,) = torch.autograd.grad(self._graph, self._leaf, ones, retain_graph=True, allow_unused=True)
        return slope is not None

    def _or_zero(self, tangent: Tensor | None) -> Tensor:
        """Return a tangent; zero if there is none because the outputs do not depend on the points."""
        if tangent is not None:
            return tangent
        if self.depends:
            raise TypeError(
                "the outputs depend on the parameters but have no tangent: a part of the model loses it, as a custom "
                "autograd function without jvp() does"
            )
        return torch.zeros_like(self.at)
