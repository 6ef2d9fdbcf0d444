"""The ranges of a script's hyperparameters, as a study file states them, and the middle of each."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence

from relaxbench.errors import UserError
from relaxbench.space import Choice, Float, Hyperparameter, Int, Space, Value

DECADE = 10.0
"""A range whose ends differ by this factor, or by more, is searched on a logarithmic scale."""
LARGEST = 1e30


def range_of(name: str, bounds: Sequence[float | str], whole: bool = False, linear: bool = False) -> Hyperparameter:
    """Return a range with its kind: a choice of texts, whole numbers, or real numbers on a linear or log scale.

    Args:
        name: of the hyperparameter.
        bounds: ``[low, high]``, or the names of options.
        whole: whether its values are whole numbers.
        linear: whether it is searched on a linear scale, however wide it is.

    Raises:
        UserError: if the range is empty, turned around, or of another kind.
    """
    if bounds and all(isinstance(bound, str) for bound in bounds):
        options = tuple(str(bound) for bound in bounds)
        if len(set(options)) < len(options):
            raise UserError(f"range {name} = {list(bounds)}: an option stands there twice: name it once")
        return Choice(options, options[0])
    numbers = [float(bound) for bound in bounds if not isinstance(bound, str)]
    if len(numbers) != 2 or len(bounds) != 2 or not all(abs(number) <= LARGEST for number in numbers):
        shown = ", ".join(repr(bound) if isinstance(bound, str) else f"{bound:.10g}" for bound in bounds)
        raise UserError(
            f"range {name} = [{shown}]: expected [low, high], without a step, or a list of choices in quotes, which "
            'the script is given as texts: int(trial.params["NAME"])'
        )
    low, high = numbers
    if low >= high:
        raise UserError(f"range {name} = [{low:g}, {high:g}] is turned around: expected low < high")
    if whole:
        if low != int(low) or high != int(high):
            raise UserError(f"range {name} = [{low:g}, {high:g}]: `integer` names it, so expected whole numbers")
        return Int(int(low), int(high), (int(low) + int(high)) // 2)
    log = low > 0 and high >= DECADE * low and not linear
    return Float(low, high, math.sqrt(low * high) if log else (low + high) / 2, log=log)


def space_of(ranges: Mapping[str, Sequence[float | str]], integer: Collection[str], linear: Collection[str]) -> Space:
    """Return the space of some ranges, see `range_of`."""
    return {name: range_of(name, bounds, name in integer, name in linear) for name, bounds in ranges.items()}


def middle(space: Space) -> dict[str, Value]:
    """Return the middle of every range: on its scale; of a choice, its first option."""
    return {name: declared.default for name, declared in space.items()}


def value_of(name: str, value: float | str, integer: Collection[str]) -> Value:
    """Return a fixed value: a whole number where `integer` names it.

    Raises:
        UserError: if it is not whole then.
    """
    if name in integer:
        if isinstance(value, str) or value != int(value):
            raise UserError(f"{name} = {value!r}: `integer` names it, so expected a whole number")
        return int(value)
    return value
