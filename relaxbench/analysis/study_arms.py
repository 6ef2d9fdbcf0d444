"""The arms of a study: every method's estimate at every look, from its frames.

`arms.arm_of` and `arms.outcomes` decide, as they do in the plan of trials; this module only hands them the runs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd

from relaxbench.analysis.all_subsets import best_of_subsets
from relaxbench.analysis.arm import Arm
from relaxbench.analysis.arms import Limits, Place, arm_of, family_of, outcomes
from relaxbench.analysis.at_seconds import worst_metric
from relaxbench.analysis.frames import StudyFrames
from relaxbench.analysis.looks import Outcome
from relaxbench.analysis.simultaneous import Family
from relaxbench.analysis.winsorized import winsorized
from relaxbench.store.facts import protocol

Key = tuple[str, str, int]
"""Problem, method and repetition."""

PAIR = ["problem", "method"]
OUTCOME = ["phase", "repetition", "block", "status", "gradients", "diverged"]

NOTHING = Arm(np.array(np.nan), np.array(np.nan), 0)
"""An arm without an estimate, of which no claim is made."""


@dataclass(frozen=True)
class Runs:
    """The runs of one method on one problem in one repetition.

    Attributes:
        trials: T; 0 where a block is used whole: of a method that is run as published, of a sampler that learns, and of
            all methods of protocol 1, whose unit is the winner of a block.
        first: the first block of the repetition.
        explored: place → validation loss of the finished random trials; empty where T is 0.
        confirmed: place → id of the confirm run; (block, 0) where T is 0.
        table: the rows of `StudyFrames.confirmations`, by id.
    """

    trials: int
    first: int
    explored: Mapping[Place, float]
    confirmed: Mapping[Place, int]
    table: pd.DataFrame

    def arm(self, blocks: int, limits: Limits, readings: pd.Series | None = None) -> Arm | None:
        """Return the estimate from the first blocks; None while a run that it needs is missing.

        Args:
            blocks: R.
            limits: of the metric.
            readings: id of a confirm run → its result; None for the test metric.
        """
        metric = (self.table["test_metric"] if readings is None else readings).to_dict()
        results = {place: metric[run] for place, run in self.confirmed.items() if run in metric}
        lost = set(self.table.index[self.table["diverged"].astype(bool)])
        diverged = {place for place, run in self.confirmed.items() if run in lost}
        return arm_of(self.explored, results, self._blocks(blocks), self.trials, limits, diverged)

    def loss(self, blocks: int, floor: float) -> float:
        """Return the estimated validation loss of the same runs, with the same weights; NaN without runs.

        It is that of what has been run so far, so no verdict may rest on it.

        Args:
            blocks: R.
            floor: losses count at least so much, and the estimate is the mean of their logarithms, in which a disaster
                counts little, as in a verdict. NaN for losses that have no logarithm: then it is their mean.
        """
        known = self.table["value"].to_dict()
        places = [(block, number) for block in self._blocks(blocks) for number in range(max(self.trials, 1))]
        values = np.array([known.get(self.confirmed.get(place, -1), np.nan) for place in places])
        if np.isfinite(floor) and np.isfinite(values).any():
            values = winsorized(np.log(np.maximum(values, floor)))
        if not self.trials:
            return float(np.nanmean(values)) if np.isfinite(values).any() else float("nan")
        losses = np.array([self.explored.get(place, np.inf) for place in places])
        estimate, _ = best_of_subsets(losses.reshape(-1, self.trials), values.reshape(-1, self.trials))
        return float(estimate)

    def within(self, blocks: int) -> pd.DataFrame:
        """Return the confirm runs of the first blocks."""
        return self.table[self.table["block"].isin(self._blocks(blocks))]

    def _blocks(self, blocks: int) -> range:
        return range(self.first, self.first + blocks)


class StudyArms:
    """The arms of a study, computed at first use and kept.

    Args:
        frames: the study.
    """

    def __init__(self, frames: StudyFrames) -> None:
        self.frames = frames
        self._runs: dict[Key, Runs] = {}
        self._arms: dict[Key, list[Arm | None]] = {}
        self._outcomes: dict[tuple[str, int], dict[str, Outcome | None]] = {}

    @cached_property
    def family(self) -> Family:
        """The comparisons and looks that share the level."""
        return family_of(self.frames.spec) if self.frames.problems and self.frames.looks else Family(1, 1)

    def limits(self, problem: str) -> Limits:
        """Return the limits of a problem's test metric."""
        return Limits.of(self.frames.problem(problem))

    def runs(self, problem: str, method: str, repetition: int = 0) -> Runs:
        """Return the runs of a method."""
        key = problem, method, repetition
        if key not in self._runs:
            self._runs[key] = self._collect(*key)
        return self._runs[key]

    def trials(self, problem: str, method: str, phase: str) -> pd.DataFrame:
        """Return the trials of a method in a phase, with the columns that say where they are and how they ended."""
        return self._trials.get((problem, method, phase), self.frames.trials[:0])

    def confirmations(self, problem: str, method: str) -> pd.DataFrame:
        """Return the confirm runs of a method in all repetitions."""
        return self._confirmations.get((problem, method), self.frames.confirmations[:0])

    def blocks(self, problem: str, method: str) -> pd.DataFrame:
        """Return the winners of a method's blocks."""
        return self._blocks.get((problem, method), self.frames.blocks[:0])

    def arms(self, problem: str, method: str, repetition: int = 0) -> list[Arm | None]:
        """Return the estimate of a method at every look; None where the look is not complete."""
        key = problem, method, repetition
        if key not in self._arms:
            runs, limits = self.runs(*key), self.limits(problem)
            self._arms[key] = [runs.arm(blocks, limits) for blocks in self.frames.looks]
        return self._arms[key]

    def outcomes(self, problem: str, repetition: int = 0) -> dict[str, Outcome | None]:
        """Return the comparison of every method with its opponent; empty without a baseline."""
        key = problem, repetition
        if key not in self._outcomes:
            opponents = self.frames.opponents
            arms = {method: self.arms(problem, method, repetition) for method in self.frames.methods}
            margin = self.frames.margin(problem)
            self._outcomes[key] = outcomes(arms, opponents, self.family, margin)
        return self._outcomes[key]

    def latest(self, problem: str, method: str, until: int) -> Arm | None:
        """Return a method's estimate at the last complete look up to this one (from 1); None before the first."""
        complete = [arm for arm in self.arms(problem, method)[:until] if arm is not None]
        return complete[-1] if complete else None

    @cached_property
    def _trials(self) -> dict[tuple[str, ...], pd.DataFrame]:
        return _parts(self.frames.trials[[*PAIR, *OUTCOME]], [*PAIR, "phase"])

    @cached_property
    def _confirmations(self) -> dict[tuple[str, ...], pd.DataFrame]:
        return _parts(self.frames.confirmations, PAIR)

    @cached_property
    def _blocks(self) -> dict[tuple[str, ...], pd.DataFrame]:
        return _parts(self.frames.blocks, PAIR)

    @cached_property
    def _explored(self) -> dict[Key, pd.DataFrame]:
        trials = self.frames.trials
        done = (trials["status"] == "done") & (trials["phase"] == "explore")
        return _by_repetition(trials[[*PAIR, "repetition", "block", "number", "value"]][done])

    @cached_property
    def _confirmed(self) -> dict[Key, pd.DataFrame]:
        return _by_repetition(self.frames.confirmations)

    def _collect(self, problem: str, method: str, repetition: int) -> Runs:
        key, frames = (problem, method, repetition), self.frames
        table = self._confirmed.get(key, frames.confirmations[:0]).set_index("id", drop=False)
        first = repetition * (frames.looks[-1] if frames.looks else 1)
        trials = frames.tuning(method)
        if protocol(frames.spec) == 1:
            current = self.blocks(problem, method)["confirm"].dropna()
            table, trials = table[table["id"].isin(current)], 0
        if not frames.is_random(method):
            trials = 0
        worst = worst_metric(frames, problem)  # of a run whose metric was not finite
        if np.isfinite(worst):
            table = table.assign(test_metric=table["test_metric"].fillna(worst))
        if not trials:
            return Runs(0, first, {}, {(int(row.block), 0): int(row.id) for row in table.itertuples()}, table)
        explored = self._explored.get(key)
        losses = {} if explored is None else _places(explored, "value")
        return Runs(trials, first, losses, {k: int(v) for k, v in _places(table, "id").items()}, table)


def _parts(rows: pd.DataFrame, by: list[str]) -> dict[tuple[str, ...], pd.DataFrame]:
    """The rows that agree in some columns of text, in their order."""
    return {tuple(map(str, key)): part for key, part in rows.groupby(by, sort=False)}


def _by_repetition(rows: pd.DataFrame) -> dict[Key, pd.DataFrame]:
    groups = rows.groupby([*PAIR, "repetition"], sort=False)
    return {(str(problem), str(method), int(repetition)): part for (problem, method, repetition), part in groups}


def _places(rows: pd.DataFrame, column: str) -> dict[Place, float]:
    return dict(zip(zip(rows["block"], rows["number"], strict=True), rows[column], strict=True))
