"""Points of a domain, drawn as functions of a key."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from relaxbench import random
from relaxbench.errors import UserError
from relaxbench.problems.samplers import Words


def split_key(number: int, device: torch.device | None = None) -> Words:
    """Return the key ``[1, 1]`` of a split's points: the same for all trials, whatever their seeds."""
    place = device or torch.device("cpu")
    return random.key(torch.zeros(1, 1, dtype=torch.int64, device=place), random.DATA, torch.tensor(number).to(place))


def uniforms(words: Words, count: int, dimensions: int) -> Tensor:
    """Draw points of the open unit cube: float64 ``[K, count, dimensions]`` for keys ``[K, 1]``."""
    index = torch.arange(count * dimensions, device=words[0].device)
    return random.uniform(words, index, torch.float64).view(-1, count, dimensions)


def normals(words: Words, count: int) -> Tensor:
    """Draw standard normal numbers: float64 ``[K, count]`` for keys ``[K, 1]``."""
    return random.normal(words, count, torch.float64)


def branches(words: Words, count: int = 2) -> list[Words]:
    """Derive one key per kind of points."""
    return [random.branch(words, number) for number in range(count)]


@dataclass(frozen=True)
class Box:
    """A domain with sides parallel to the axes.

    Attributes:
        low, high: its corners.
    """

    low: tuple[float, ...]
    high: tuple[float, ...]

    @property
    def dimensions(self) -> int:
        """The number of coordinates."""
        return len(self.low)

    def place(self, unit: Tensor) -> Tensor:
        """Map points of the unit cube ``[…, d]`` to this domain."""
        sides = zip(unit.unbind(-1), self.low, self.high, strict=True)
        return torch.stack([low + (high - low) * one for one, low, high in sides], dim=-1)

    def inside(self, words: Words, count: int) -> Tensor:
        """Draw points of the interior, ``[K, count, d]``."""
        return self.place(uniforms(words, count, self.dimensions))

    def boundary(self, words: Words, count: int) -> Tensor:
        """Draw points of the boundary of a rectangle, as many on every side on average: ``[K, count, 2]``."""
        drawn = uniforms(words, count, 2)
        along, turn = drawn[..., :1], 4 * drawn[..., 1:]
        side = turn.floor()
        first = torch.cat([side % 2, along], dim=-1)
        return self.place(torch.where(side < 2, first, first.flip(-1)))

    def refuse_outside(self, name: str, points: Tensor) -> None:
        """Refuse points that are not in this domain, its boundary included.

        Args:
            name: of the problem.
            points: ``[…, d]``.

        Raises:
            UserError: for a point outside, for one that is not finite, and for another number of coordinates.
        """
        box = " × ".join(f"[{low:g}, {high:g}]" for low, high in zip(self.low, self.high, strict=True))
        if points.shape[-1] != self.dimensions:
            raise UserError(
                f"problem {name!r} draws points with {points.shape[-1]} coordinates: expected those of {box}"
            )
        low, high = points.new_tensor(self.low), points.new_tensor(self.high)
        slack = 1e-12 * (high - low)
        outside = ~((points >= low - slack) & (points <= high + slack)).all(dim=-1)  # NaN is outside
        if outside.any():
            first = ", ".join(f"{number:g}" for number in points[outside][0].tolist())
            raise UserError(f"problem {name!r} draws the point ({first}), outside its domain {box}: change its points")
