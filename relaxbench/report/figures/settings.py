"""The settings that random search tried, as numbers, and the scales they were searched on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from relaxbench.analysis.frames import StudyFrames
from relaxbench.pages.theme import axis, log_axis, plain

Vector = NDArray[np.float64]

MAX_TICKS = 4
"""Ticks of a narrow axis; more of them run into each other on a telephone."""

PAD = 0.04
"""An axis goes on beyond both ends of its range by this part of it, so that marks there are whole."""


@dataclass(frozen=True)
class Range:
    """What was searched of a hyperparameter, or what is shown of the validation loss.

    Attributes:
        name: the hyperparameter's.
        low, high: its ends; of a choice, the numbers of the first and the last option.
        log: whether its scale is logarithmic.
        choices: its options, empty for a number.
    """

    name: str
    low: float
    high: float
    log: bool = False
    choices: tuple[str, ...] = ()

    @classmethod
    def of(cls, name: str, about: Mapping[str, Any]) -> Range:
        """From the manifest's description of a searched range."""
        if about["kind"] == "categorical":
            choices = tuple(map(str, about["choices"]))
            return cls(name, 0.0, len(choices) - 1.0, choices=choices)
        low, high = float(about["low"]), float(about["high"])
        return cls(name, low, high, bool(about.get("log")) and low > 0)

    def numbers(self, values: Iterable[Any]) -> Vector:
        """Settings as numbers ``[n]``, a choice as the number of its option; NaN where a trial has none."""
        if self.choices:
            known = {choice: float(index) for index, choice in enumerate(self.choices)}
            return np.array([known.get(str(value), np.nan) for value in values])
        return np.asarray(list(values), dtype=np.float64)

    def places(self, numbers: Vector) -> Vector:
        """Where numbers lie on the range's own scale: 0 is its low end, 1 its high end, beyond is possible.

        On a logarithmic scale 0 and what is below it lie infinitely far below the low end.
        """
        low, high = self.low, self.high
        if self.log:
            with np.errstate(divide="ignore"):
                low, high, numbers = np.log(low), np.log(high), np.log(np.maximum(numbers, 0))
        return (numbers - low) / (high - low) if high > low else np.full(np.shape(numbers), 0.5)

    def at(self, places: Vector) -> Vector:
        """The numbers at places on the range's own scale."""
        if self.log:
            return self.low * (self.high / self.low) ** places
        return self.low + (self.high - self.low) * places

    def axis(self, title: str) -> dict[str, Any]:
        """A plotly axis over the whole range, with few ticks."""
        quiet = axis(plain(title, 40)) | {"nticks": MAX_TICKS}
        if self.choices:
            texts = [plain(choice, 10) for choice in self.choices]
            ticks = {"tickmode": "array", "tickvals": list(range(len(texts))), "ticktext": texts}
            return quiet | ticks | {"type": "linear", "range": [-0.6, len(texts) - 0.4], "showgrid": False}
        ends = self.at(np.array([-PAD, 1 + PAD])) if self.high > self.low else np.array([0.9, 1.1]) * self.low
        if not self.log:
            return quiet | {"type": "linear", "tickmode": "auto", "range": [float(end) for end in ends]}
        ticks = {"type": "log", "tickmode": "auto"} | _few(log_axis(self.low, self.high), self.low, self.high)
        return quiet | ticks | {"range": [float(end) for end in np.log10(ends)]}


def _few(ticks: dict[str, Any], low: float, high: float) -> dict[str, Any]:
    """The ticks within a range, at most MAX_TICKS; empty where fewer than two are left, so that plotly sets them."""
    inside = [pair for pair in zip(ticks["tickvals"], ticks["ticktext"], strict=True) if low <= pair[0] <= high]
    inside = inside[:: -(-len(inside) // MAX_TICKS) or 1]
    if len(inside) < 2:
        return {}
    values, texts = zip(*inside, strict=True)
    return {"tickmode": "array", "tickvals": list(values), "ticktext": list(texts)}


@dataclass(frozen=True)
class Tried:
    """The explore trials of a method on a problem that are done, the best first.

    Attributes:
        ranges: what was searched: scoping first, then the inner loop's length, then step sizes, then the rest.
        trials: trial_id, block, number, value, diverged, winner (of its block).
        numbers: the settings as numbers, a column a range, in the same rows.
    """

    ranges: list[Range]
    trials: pd.DataFrame
    numbers: pd.DataFrame

    def table(self, rows: NDArray[np.int64]) -> pd.DataFrame:
        """Rows with their settings, for a CSV: choices by name."""
        settings = self.numbers.iloc[rows].astype(np.float32)
        for range_ in self.ranges:
            if range_.choices:
                codes = settings[range_.name].fillna(-1).astype(int)
                settings[range_.name] = pd.Categorical.from_codes(codes, categories=list(dict.fromkeys(range_.choices)))
        return pd.concat([self.trials.iloc[rows].astype({"value": np.float32}), settings], axis=1)


def tried(frames: StudyFrames, problem: str, method: str) -> Tried:
    """What random search tried of a method on a problem. Diverged trials count: their value is the problem's worst."""
    trials = frames.trials
    own = (trials["problem"] == problem) & (trials["method"] == method)
    done = trials[own & (trials["phase"] == "explore") & (trials["status"] == "done") & trials["value"].notna()]
    done = done.sort_values(["value", "id"], kind="stable", ignore_index=True)
    space = frames.space(method, problem)
    ranges = sorted((Range.of(name, each) for name, each in space.items()), key=lambda range_: order(range_.name))
    numbers = {
        range_.name: range_.numbers([params.get(range_.name, np.nan) for params in done["params"]]) for range_ in ranges
    }
    known = done[["id", "block", "number", "value", "diverged"]].rename(columns={"id": "trial_id"})
    known["winner"] = known["trial_id"].isin(frames.blocks["winner"])
    return Tried(ranges, known, pd.DataFrame(numbers, index=known.index))


def order(name: str) -> int:
    """What a hyperparameter is of: 0 the scope, 1 the length of the inner loop, 2 a step size, 3 anything else."""
    if name == "scoping" or name.endswith(("_start", "_end")):
        return 0
    if name == "inner_steps":
        return 1
    return 2 if name.endswith("lr") else 3


def thinned(count: int, most: int) -> NDArray[np.int64]:
    """At most `most` of `count` rows, evenly spread, the first and the last among them."""
    return np.unique(np.linspace(0, count - 1, min(count, most)).astype(np.int64))
