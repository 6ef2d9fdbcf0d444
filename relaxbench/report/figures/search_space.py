"""The search space in figures: scales of hyperparameters, explore trials on them, and the baseline as a reference."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from relaxbench.analysis.frames import StudyFrames
from relaxbench.analysis.log_scale import smallest_positive
from relaxbench.analysis.means import means
from relaxbench.analysis.winsorized import winsorized
from relaxbench.pages.theme import BAND, INK, axis, log_axis, plain
from relaxbench.space import Choice, Float, Hyperparameter

Vector = NDArray[np.float64]

MAX_TICKS = 4
"""Largest number of ticks on a narrow axis; more would overlap on a telephone."""
MAX_LETTERS = 14
"""Most letters of all of them together."""

LOSS = "validation loss"
"""The name of the vertical axis of figures of the search."""

PAD = 0.04
"""An axis extends beyond both ends of its range by this fraction of it, so that marks at the ends are drawn whole."""


@dataclass(frozen=True)
class Scale:
    """The scale of a hyperparameter, or of the validation loss.

    Attributes:
        name: of the hyperparameter.
        range: the searched range, or the range of losses that are drawn.
    """

    name: str
    range: Hyperparameter

    @classmethod
    def number(cls, name: str, low: float, high: float, log: bool = False) -> Scale:
        """Make the scale of a real number that no study searches, such as the loss."""
        return cls(name, Float(low, high, low, log))

    @property
    def choices(self) -> tuple[str, ...]:
        """The options of a choice; empty for a number."""
        return self.range.options if isinstance(self.range, Choice) else ()

    @property
    def low(self) -> float:
        """The low end; 0 for a choice, whose options are numbered."""
        return 0.0 if isinstance(self.range, Choice) else float(self.range.low)

    @property
    def high(self) -> float:
        """The high end; the number of the last option for a choice."""
        return len(self.range.options) - 1.0 if isinstance(self.range, Choice) else float(self.range.high)

    @property
    def log(self) -> bool:
        """Whether the scale is logarithmic."""
        return isinstance(self.range, Float) and self.range.log and self.range.low > 0

    def numbers(self, values: Iterable[Any]) -> Vector:
        """Convert values to numbers ``[n]``: a choice to the number of its option, an unknown one to NaN."""
        if self.choices:
            known = {choice: float(index) for index, choice in enumerate(self.choices)}
            return np.array([known.get(str(value), np.nan) for value in values])
        return np.asarray(list(values), dtype=np.float64)

    def places(self, numbers: Vector) -> Vector:
        """Map numbers to places on the scale: the low end to 0, the high end to 1, numbers outside to places outside.

        On a logarithmic scale, 0 and negative numbers map to minus infinity.
        """
        low, high = self.low, self.high
        if self.log:
            with np.errstate(divide="ignore"):
                low, high, numbers = np.log(low), np.log(high), np.log(np.maximum(numbers, 0))
        return (numbers - low) / (high - low) if high > low else np.full(np.shape(numbers), 0.5)

    def at(self, places: Vector) -> Vector:
        """Map places on the scale to numbers; the inverse of `places`."""
        if self.log:
            return self.low * (self.high / self.low) ** places
        return self.low + (self.high - self.low) * places

    def axis(self, title: str) -> dict[str, Any]:
        """Return a plotly axis over the whole scale, with few ticks."""
        base = axis(plain(title, 40)) | {"nticks": MAX_TICKS}
        if self.choices:
            texts = [plain(choice, 10) for choice in self.choices]
            ticks = {"tickmode": "array", "tickvals": list(range(len(texts))), "ticktext": texts, "tickangle": None}
            return base | ticks | {"type": "linear", "range": [-0.6, len(texts) - 0.4], "showgrid": False}
        ends = self.at(np.array([-PAD, 1 + PAD])) if self.high > self.low else np.array([0.9, 1.1]) * self.low
        if not self.log:
            return base | {"type": "linear", "tickmode": "auto", "range": [float(end) for end in ends]}
        ticks = {"type": "log", "tickmode": "auto"} | _few(log_axis(self.low, self.high), self.low, self.high)
        return base | ticks | {"range": [float(end) for end in np.log10(ends)]}


def _few(ticks: dict[str, Any], low: float, high: float) -> dict[str, Any]:
    """Keep the ticks inside a range that fit beside each other; empty if fewer than two, so that plotly sets them."""
    inside = [pair for pair in zip(ticks["tickvals"], ticks["ticktext"], strict=True) if low <= pair[0] <= high]
    thinned = [inside[::every] for every in range(1, len(inside))]
    fitting = (
        ticks for ticks in thinned if len(ticks) <= MAX_TICKS and sum(len(text) for _, text in ticks) <= MAX_LETTERS
    )
    inside = next(fitting, inside[:2])
    if len(inside) < 2:
        return {}
    values, texts = zip(*inside, strict=True)
    return {"tickmode": "array", "tickvals": list(values), "ticktext": list(texts)}


@dataclass(frozen=True)
class Exploration:
    """The finished explore trials of a method on a problem, the best first.

    Attributes:
        scales: the scales of the hyperparameters, in the order of `order`.
        trials: trial_id, block, number, value, diverged, winner (of its block).
        numbers: the params as numbers, one column per scale, in the same rows.
    """

    scales: list[Scale]
    trials: pd.DataFrame
    numbers: pd.DataFrame

    @property
    def values(self) -> Vector:
        """The validation loss of every trial."""
        return np.asarray(self.trials["value"], dtype=float)

    @property
    def finite(self) -> Vector:
        """The validation losses of the trials that did not diverge."""
        diverged: NDArray[np.bool_] = np.asarray(self.trials["diverged"], dtype=bool)
        return np.asarray(self.values[~diverged])

    def table(self, rows: NDArray[np.int64]) -> pd.DataFrame:
        """Return rows with their params, for a CSV: choices by name."""
        params = self.numbers.iloc[rows].astype(np.float32)
        for scale in self.scales:
            if scale.choices:
                codes = params[scale.name].fillna(-1).astype(int)
                params[scale.name] = pd.Categorical.from_codes(codes, categories=list(dict.fromkeys(scale.choices)))
        return pd.concat([self.trials.iloc[rows].astype({"value": np.float32}), params], axis=1)


def explore_trials(frames: StudyFrames, problem: str, method: str) -> Exploration:
    """Collect the finished explore trials of a method on a problem. Diverged ones have the problem's worst value."""
    trials = frames.trials
    own = (trials["problem"] == problem) & (trials["method"] == method)
    done = trials[own & (trials["phase"] == "explore") & (trials["status"] == "done") & trials["value"].notna()]
    done = done.sort_values(["value", "id"], kind="stable", ignore_index=True)
    space = frames.space(method, problem)
    scales = sorted((Scale(name, declared) for name, declared in space.items()), key=lambda scale: order(scale.name))
    numbers = {
        scale.name: scale.numbers([params.get(scale.name, np.nan) for params in done["params"]]) for scale in scales
    }
    rows = done[["id", "block", "number", "value", "diverged"]].rename(columns={"id": "trial_id"})
    rows["winner"] = rows["trial_id"].isin(frames.blocks["winner"].dropna())
    return Exploration(scales, rows, pd.DataFrame(numbers, index=rows.index))


def order(name: str) -> int:
    """Return the group by which hyperparameters are sorted: 0 scope, 1 inner loop's length, 2 step size, 3 others."""
    if name == "scoping" or name.endswith(("_start", "_end")):
        return 0
    if name == "inner_steps":
        return 1
    return 2 if name.endswith("lr") else 3


def thinned(count: int, most: int) -> NDArray[np.int64]:
    """Return the indices of at most `most` of `count` rows, evenly spread, the first and the last included."""
    return np.unique(np.linspace(0, count - 1, min(count, most)).astype(np.int64))


@dataclass(frozen=True)
class Reference:
    """The tuned baseline's validation loss.

    Attributes:
        level: over the confirm runs of its blocks: the geometric mean, in which rare disasters count less, as in the
            verdict (0 counts as the problem's smallest one above 0); the mean where losses are negative.
        low, high: its 95 % t interval; NaN for a single block.
    """

    level: float
    low: float
    high: float


def reference(frames: StudyFrames, problem: str, method: str | None = None) -> Reference | None:
    """Return the validation loss of a method, usually the baseline, on a problem; None without a complete block."""
    label = method or frames.baseline
    known = frames.blocks[(frames.blocks["problem"] == problem) & frames.blocks["value"].notna()]
    values = known.loc[known["method"] == label, ["method", "value"]]
    if values.empty:
        return None
    floor = smallest_positive(known["value"])
    positive = np.isfinite(floor)
    if positive:
        logs = np.log(values["value"].to_numpy(dtype=float).clip(floor))
        values = values.assign(value=winsorized(logs))
    row = means(values).iloc[0]
    ends = np.array([row["mean"], row["mean"] - row["half"], row["mean"] + row["half"]], dtype=float)
    return Reference(*map(float, np.exp(ends) if positive else ends))


def loss_scale(values: Vector, baseline: Reference | None) -> Scale:
    """Return a scale for all losses except the worst twentieth, and for the baseline's; logarithmic for a wide range.

    Args:
        values: losses of trials that did not diverge, at least one.
        baseline: the baseline's loss.
    """
    ends = [float(values.min()), float(np.quantile(values, 0.95)), *([baseline.level] if baseline else [])]
    low, high = min(ends), max(ends)
    return Scale.number(LOSS, low, high, log=0 < 3 * low < high)


def reference_lines(baseline: Reference | None, loss: Scale, number: str = "") -> list[dict[str, Any]]:
    """Return the baseline as shapes: its mean as a dotted line, its interval as a band.

    Args:
        baseline: the baseline's loss.
        loss: the scale of the vertical axis.
        number: number of the panel's axes, e.g. "2" for x2 and y2.
    """
    if baseline is None:
        return []
    where = {"xref": f"x{number} domain", "yref": f"y{number}", "x0": 0, "x1": 1, "layer": "below"}
    line = {
        "type": "line",
        "y0": baseline.level,
        "y1": baseline.level,
        "line": {"color": INK, "width": 1, "dash": "dot"},
    }
    if not baseline.low < baseline.high:
        return [where | line]
    low, high = np.clip([baseline.low, baseline.high], *loss.at(np.array([-PAD, 1 + PAD])))
    band = {"type": "rect", "y0": float(low), "y1": float(high), "fillcolor": BAND, "line": {"width": 0}}
    return [where | band, where | line]
