"""Regular grids in one and two dimensions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Function = Callable[[Array], Array]
"""From points ``[M, n]`` to values ``[M]``."""


@dataclass(frozen=True)
class Grid:
    """All points of a box, row by row.

    Attributes:
        axes: the coordinates along each dimension, evenly spaced.
    """

    axes: tuple[Array, ...]

    @classmethod
    def box(cls, low: Sequence[float], high: Sequence[float], counts: Sequence[int]) -> Grid:
        """Make a grid with this number of points per dimension of a box.

        Raises:
            ValueError: if the box is empty or a dimension has fewer than three points.
        """
        if not len(low) == len(high) == len(counts) or not all(
            a < b and c >= 3 for a, b, c in zip(low, high, counts, strict=True)
        ):
            raise ValueError(
                f"box {list(low)} … {list(high)} of {list(counts)} points: expected low < high and 3 points"
            )
        return cls(tuple(np.linspace(a, b, c) for a, b, c in zip(low, high, counts, strict=True)))

    @property
    def shape(self) -> tuple[int, ...]:
        """Number of points per dimension."""
        return tuple(len(axis) for axis in self.axes)

    @property
    def steps(self) -> Array:
        """Spacing per dimension, ``[n]``."""
        return np.array([axis[1] - axis[0] for axis in self.axes])

    @property
    def cell(self) -> float:
        """Length or area per point."""
        return float(np.prod(self.steps))

    @property
    def points(self) -> Array:
        """``[N, n]``."""
        return np.stack([part.ravel() for part in np.meshgrid(*self.axes, indexing="ij")], axis=1)

    @property
    def edge(self) -> NDArray[np.bool_]:
        """Which points lie on the boundary, ``[N]``."""
        inner = np.zeros(self.shape, dtype=bool)
        inner[(slice(1, -1),) * len(self.shape)] = True
        return ~inner.ravel()

    def nearest(self, point: Sequence[float]) -> int:
        """Return the number of the grid point nearest to a point."""
        index = [int(np.abs(axis - value).argmin()) for axis, value in zip(self.axes, point, strict=True)]
        return int(np.ravel_multi_index(index, self.shape))
