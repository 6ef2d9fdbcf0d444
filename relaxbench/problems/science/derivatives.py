"""Derivatives of a network in its inputs, carried forward through its layers together with its values.

A network's second derivatives by nested automatic differentiation need a backward pass each, whose graph is
differentiated once more for the gradient; they do not vectorize over members. Here every layer maps values, first and
second directional derivatives at once: for z = W a + b, ∂_d z = W ∂_d a and ∂²_d z = W ∂²_d a; for σ(z),
∂_d σ(z) = σ′ ∂_d z and ∂²_d σ(z) = σ″ (∂_d z)² + σ′ ∂²_d z. One forward and one backward pass do, on every path.
Where only a sum Σ_d c_d ∂²_d of second derivatives is needed, as in a Laplacian, that sum alone is carried
("forward Laplacian", Li et al., arXiv 2307.08214).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache

import torch
from torch import Tensor

from relaxbench.errors import UserError


@dataclass(frozen=True)
class Activation:
    """A function σ of one number, with its derivatives.

    Attributes:
        name: for messages.
        value: maps z to σ(z).
        slopes: maps z and σ(z) to σ′ and σ″/factor.
        smooth: whether it has a second derivative that is not zero.
        factor: a number within σ″, which is multiplied where there are fewer numbers.
    """

    name: str
    value: Callable[[Tensor], Tensor]
    slopes: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
    smooth: bool = True
    factor: float = 1.0


def _tanh_slopes(z: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
    first = 1 - value * value
    return first, value * first


def _relu_slopes(z: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
    return (z > 0).to(z.dtype), torch.zeros_like(z)


TANH = Activation("tanh", torch.tanh, _tanh_slopes, factor=-2.0)
SINE = Activation("sin", torch.sin, lambda z, value: (z.cos(), value), factor=-1.0)
QUARTER = Activation("z/4", lambda z: z / 4, lambda z, value: (torch.full_like(z, 0.25), torch.zeros_like(z)))
QUARTER_SQUARE = Activation("z²/4", lambda z: z * z / 4, lambda z, value: (z / 2, torch.full_like(z, 0.5)))
BELL = Activation(
    "exp(−2z²)", lambda z: torch.exp(-2 * z * z), lambda z, value: (-4 * z * value, (16 * z * z - 4) * value)
)
RELU = Activation("relu", torch.relu, _relu_slopes, smooth=False)


@dataclass(frozen=True)
class Jet:
    """Functions ``[N, C]`` at N points, with directional derivatives at these.

    Attributes:
        value: ``[N, C]``.
        first: ∂_d along D directions, ``[D, N, C]``, or ``[D, 1, C]`` where they are the same at all points; None if
            none are carried.
        second: ∂²_d, ``[D, N, C]``, or their sum with the weights, ``[1, N, C]``; None if none are carried, or if they
            are zero.
        order: of the derivatives that are carried: 0, 1 or 2.
        weights: ``[D, 1, 1]``, those of the carried sum of second derivatives; None if each is carried by itself.
    """

    value: Tensor
    first: Tensor | None = None
    second: Tensor | None = None
    order: int = 0
    weights: Tensor | None = None

    @classmethod
    def at(
        cls, points: Tensor, directions: Sequence[Sequence[float]], order: int = 2, total: Sequence[float] | None = None
    ) -> Jet:
        """Return the coordinates themselves.

        Args:
            points: ``[N, d]``.
            directions: D vectors of d numbers.
            order: highest derivative that is needed.
            total: D weights, if only a weighted sum of the second derivatives is needed.
        """
        first = _constant(tuple(map(tuple, directions)), points.dtype, points.device)[:, None, :]
        weights = None if total is None else _constant(tuple(total), points.dtype, points.device)[:, None, None]
        return cls(points, first, None, order, weights)

    def linear(self, weight: Tensor, bias: Tensor) -> Jet:
        """Apply a layer: z = W a + b, for W ``[C', C]`` and b ``[C']``.

        One product for all rows would copy them, and pass gradients through those that a loss does not use.
        """
        first, second = (None if part is None else part @ weight.T for part in (self.first, self.second))
        return replace(self, value=self.value @ weight.T + bias, first=first, second=second)

    def apply(self, activation: Activation) -> Jet:
        """Apply a function to every number.

        Raises:
            UserError: if second derivatives are carried, and the function has none.
        """
        value = activation.value(self.value)
        if self.first is None:
            return replace(self, value=value)
        if self.order > 1 and not activation.smooth:
            raise UserError(
                f"activation {activation.name!r} has the second derivative 0, so an equation of second order would "
                "see no network: take tanh, sin, or another smooth one"
            )
        slope, bend = activation.slopes(self.value, value)
        first, second = slope * self.first, None
        if self.order > 1:
            second = bend * (activation.factor * self._total(self.first * self.first))
            second = second if self.second is None else second + slope * self.second
        return replace(self, value=value, first=first, second=second)

    def __add__(self, other: Jet) -> Jet:
        return replace(
            self,
            value=self.value + other.value,
            first=_sum(self.first, other.first),
            second=_sum(self.second, other.second),
        )

    def __mul__(self, other: Jet) -> Jet:
        """Multiply functions: ∂²(f g) = f ∂²g + 2 ∂f ∂g + g ∂²f."""
        value = self.value * other.value
        if self.first is None or other.first is None:
            return replace(self, value=value)
        first = self.value * other.first + other.value * self.first
        if self.order < 2:
            return replace(self, value=value, first=first)
        second = 2 * self._total(self.first * other.first)
        for one, rest in ((self, other), (other, self)):
            second = second if rest.second is None else second + one.value * rest.second
        return replace(self, value=value, first=first, second=second)

    def columns(self, begin: int, end: int) -> Jet:
        """Return some of the C functions."""
        return self._each(lambda part: part[..., begin:end])

    def padded(self, count: int) -> Jet:
        """Append functions that are zero."""
        return self._each(lambda part: torch.nn.functional.pad(part, (0, count)))

    @staticmethod
    def beside(parts: Sequence[Jet]) -> Jet:
        """Return the functions of several jets next to each other, at the same points along the same directions."""
        first = [part.first for part in parts if part.first is not None]
        second = [part.second for part in parts if part.second is not None]
        return replace(
            parts[0],
            value=torch.cat([part.value for part in parts], dim=-1),
            first=torch.cat(first, dim=-1) if first else None,
            second=torch.cat(second, dim=-1) if second else None,
        )

    def _total(self, rows: Tensor) -> Tensor:
        """Sum over the directions with the weights, if there are any."""
        return rows if self.weights is None else (self.weights * rows).sum(dim=0, keepdim=True)

    def _each(self, function: Callable[[Tensor], Tensor]) -> Jet:
        first, second = (None if part is None else function(part) for part in (self.first, self.second))
        return replace(self, value=function(self.value), first=first, second=second)


@cache
def _constant(values: tuple[object, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    """Return a tensor that is made once: a copy to a GPU could not be recorded."""
    return torch.tensor(values, dtype=dtype, device=device)


def _sum(one: Tensor | None, other: Tensor | None) -> Tensor | None:
    if one is None or other is None:
        return other if one is None else one
    return one + other
