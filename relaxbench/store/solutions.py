"""A solution on a grid as it is stored with a tested run: small enough for a figure, and for JSON."""

from __future__ import annotations

import base64
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypedDict

import numpy as np
from numpy.typing import NDArray

MOST = 65_536
"""Numbers of a grid at most."""


class PackedFacts(TypedDict):
    """Numbers as float16 in units of the largest, in base64: three digits each."""

    scale: float
    values: str


class SolutionFacts(TypedDict):
    """The measure ``solution`` of a tested run; see `StoredSolution`."""

    quantity: str
    coordinates: list[str]
    low: list[float]
    high: list[float]
    exact: PackedFacts
    error: PackedFacts


@dataclass(frozen=True)
class StoredSolution:
    """The exact solution and a run's error on a grid with one or two axes.

    Attributes:
        quantity: what is shown, as ``"u"``.
        axes: name → the grid's coordinates ``[n]``.
        exact: ``[n]``, or ``[n, n]`` with the first coordinate first.
        error: of the trained solution, its value less the exact one; as `exact`.
    """

    quantity: str
    axes: dict[str, NDArray[np.float64]]
    exact: NDArray[np.float64]
    error: NDArray[np.float64]

    @property
    def trained(self) -> NDArray[np.float64]:
        """The trained solution."""
        return self.exact + self.error


def pack_solution(
    quantity: str,
    coordinates: Sequence[str],
    low: Sequence[float],
    high: Sequence[float],
    exact: NDArray[np.float64],
    error: NDArray[np.float64],
) -> SolutionFacts | None:
    """Return what is stored; None if a number is not finite."""
    if not (np.isfinite(exact).all() and np.isfinite(error).all()):
        return None
    return {
        "quantity": quantity,
        "coordinates": list(coordinates),
        "low": list(low),
        "high": list(high),
        "exact": _pack(exact),
        "error": _pack(error),
    }


def unpack_solution(stored: Any) -> StoredSolution:
    """Return a stored solution.

    Raises:
        ValueError: naming what is wrong with it.
    """
    if not isinstance(stored, dict) or not stored.keys() >= SolutionFacts.__annotations__.keys():
        raise ValueError("a stored solution lacks parts")
    names, ends = stored["coordinates"], (stored["low"], stored["high"])
    if not isinstance(names, list) or len(names) not in (1, 2) or not all(isinstance(name, str) for name in names):
        raise ValueError(f"a stored solution has the coordinates {names!r}: expected one or two names")
    if not all(isinstance(end, list) and len(end) == len(names) and all(map(_is_number, end)) for end in ends):
        raise ValueError("a stored solution has ends that are no numbers")
    exact, error = (_unpack(stored[name]) for name in ("exact", "error"))
    side = round(len(exact) ** (1 / len(names)))
    if len(exact) != len(error) or side ** len(names) != len(exact) or side < 2:
        raise ValueError(f"a stored solution has {len(exact)} and {len(error)} numbers: expected those of one grid")
    axes = {name: np.linspace(low, high, side) for name, low, high in zip(names, *ends, strict=True)}
    shape = [side] * len(names)
    return StoredSolution(str(stored["quantity"]), axes, exact.reshape(shape), error.reshape(shape))


def _pack(values: NDArray[np.float64]) -> PackedFacts:
    scale = float(np.abs(values).max()) or 1.0
    return {"scale": scale, "values": base64.b64encode((values.ravel() / scale).astype("<f2").tobytes()).decode()}


def _unpack(packed: Any) -> NDArray[np.float64]:
    if not isinstance(packed, dict) or not _is_number(packed.get("scale")) or not isinstance(packed.get("values"), str):
        raise ValueError("the numbers of a stored solution are not packed as expected")
    data = base64.b64decode(packed["values"], validate=True)
    if len(data) % 2 or not 0 < len(data) <= 2 * MOST:
        raise ValueError(f"a stored solution has {len(data)} bytes: expected 2 to {2 * MOST}, two per number")
    values: NDArray[np.float64] = np.frombuffer(data, "<f2").astype(float) * float(packed["scale"])
    if not np.isfinite(values).all():
        raise ValueError("a stored solution has a number that is not finite")
    return values


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
