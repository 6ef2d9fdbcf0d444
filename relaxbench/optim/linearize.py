"""The loss on one mini-batch around a point, for curvature rules: forward mode gives Jφ, the loss gives H_L."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import cache
from typing import Protocol

import torch
from torch import Tensor
from torch.autograd import forward_ad

Outputs = Callable[[Tensor], Tensor]
"""From points ``[K, P]`` to outputs ``[K, B, C]`` on a fixed mini-batch. Called again, it draws the same masks."""


class ConvexLoss(Protocol):
    """The members' losses on that mini-batch, with their derivatives in the outputs ``[K, B, C]``."""

    def value(self, outputs: Tensor) -> Tensor:
        """The losses, ``[K, 1]``."""
        ...

    def gradient(self, outputs: Tensor) -> Tensor:
        """∇L, of the shape of the outputs."""
        ...

    def curvature(self, outputs: Tensor, v: Tensor) -> Tensor:
        """H_L v, of the shape of the outputs."""
        ...


class Linearized:
    """Satisfies `rule.Linearization`. One forward pass with tangents gives outputs, Jφ z and the graph to pull through.

    Args:
        loss: of the outputs on the mini-batch.
        outputs: the model on the mini-batch.
        points, direction: ``[K, P]``.
    """

    def __init__(self, loss: ConvexLoss, outputs: Outputs, points: Tensor, direction: Tensor) -> None:
        _load_forward_mode()
        self._convex, self._outputs = loss, outputs
        # A copy: a rule may write into its tensors before it has asked for everything.
        self._leaf = points.detach().clone().requires_grad_()
        with torch.enable_grad(), forward_ad.dual_level():
            self._graph, tangent = _parts(outputs(_dual(self._leaf, direction)))
        self.depends = self._graph.requires_grad
        self.at, self.tangent = self._graph.detach(), tangent.detach()
        self.loss, self.gradient = loss.value(self.at), loss.gradient(self.at)

    def bend(self, tangent: Tensor) -> Tensor:
        """H_L times a tangent."""
        return self._convex.curvature(self.at, tangent)

    def pull(self, cotangent: Tensor) -> Tensor:
        """Jφᵀ times a cotangent."""
        (result,) = torch.autograd.grad(self._graph, self._leaf, cotangent)
        return result

    def push(self, direction: Tensor) -> Tensor:
        """Jφ times a direction."""
        with torch.no_grad(), forward_ad.dual_level():
            return _parts(self._outputs(_dual(self._leaf.detach(), direction)))[1]

    @torch.no_grad()
    def loss_at(self, points: Tensor) -> Tensor:
        """Losses on the same mini-batch elsewhere."""
        return self._convex.value(self._outputs(points))


@cache
def _load_forward_mode() -> None:
    """PyTorch loads its forward mode at the first use, and then warns of a part of its own."""
    with warnings.catch_warnings(), forward_ad.dual_level():
        warnings.simplefilter("ignore", FutureWarning)
        forward_ad.make_dual(torch.zeros(1), torch.zeros(1))  # type: ignore[no-untyped-call]


def _dual(points: Tensor, direction: Tensor) -> Tensor:
    dual: Tensor = forward_ad.make_dual(points, direction)  # type: ignore[no-untyped-call]
    return dual


def _parts(dual: Tensor) -> tuple[Tensor, Tensor]:
    """Value and tangent; a tangent of None means outputs that do not depend on the parameters."""
    value, tangent = forward_ad.unpack_dual(dual)  # type: ignore[no-untyped-call]
    return value, torch.zeros_like(value) if tangent is None else tangent
