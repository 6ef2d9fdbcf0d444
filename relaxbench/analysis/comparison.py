"""The types of a study's answers: one comparison, and the results of one method on one problem."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Verdict = Literal["better", "worse", "equivalent", "undecided", "no claim"]
"""What one comparison says."""

Opponent = Literal["baseline", "control"]
"""A method is compared with the baseline, and a candidate also with the best control."""

Clock = Literal["gradients", "seconds"]
"""Two methods are compared at equal gradients and at equal seconds."""

VERDICTS: tuple[Verdict, ...] = ("better", "worse", "equivalent", "undecided", "no claim")

NAN = math.nan


@dataclass(frozen=True)
class Comparison:
    """A method against one opponent on one problem, at equal gradients or at equal seconds.

    Differences are method − opponent, in `unit`; lower is better. Numbers are NaN where there are fewer than two pairs.

    Attributes:
        problem, method: names.
        opponent, clock: the kind of comparison.
        reference, reference_title: the opponent's label and title.
        metric: the compared metric. At equal seconds it is the validation metric: test data are read once, at the end.
        unit: of differences. Differences of percentages are points.
        censored: whether the metric counts gradients (or seconds) to a tolerance.
        decimals: decimals that differences are shown with.
        budget: gradients of a run; None if not known.
        margin: of equivalence, in `unit`; None where equivalence is not tested.
        runs: complete blocks of the method.
        missed, reference_missed: runs of the method and of the opponent that did not reach the tolerance.
        pairs: complete blocks that both have.
        verdict: the verdict.
        reason: why there is no claim, in a few words; empty where there is one.
        family: comparisons that Holm's correction counts.
        difference, low, high: mean difference over blocks and its 95 % paired t interval.
        p, p_holm: of the paired t test, before and after Holm's correction over the family.
        p_exact: of the sign-flip permutation test.
        p_equivalence: of two one-sided t tests against the margin.
        correlation: of the pairs.
        detectable: smallest true difference that is found with 80 % power after the correction.
        probability_better: chance that an unpaired run of the method is lower; ties count ½.
        beyond_low, beyond_high: 95 % interval under new blocks and new test examples, where it is known.
        read_at: seconds of a run at which both methods are read; NaN at equal gradients and for censored metrics.
    """

    problem: str
    method: str
    opponent: Opponent
    clock: Clock
    reference: str
    reference_title: str
    metric: str
    unit: str
    censored: bool
    decimals: int
    budget: float | None = None
    margin: float | None = None
    runs: int = 0
    missed: int = 0
    reference_missed: int = 0
    pairs: int = 0
    verdict: Verdict = "no claim"
    reason: str = ""
    family: int = 0
    difference: float = NAN
    low: float = NAN
    high: float = NAN
    p: float = NAN
    p_holm: float = NAN
    p_exact: float = NAN
    p_equivalence: float = NAN
    correlation: float = NAN
    detectable: float = NAN
    probability_better: float = NAN
    beyond_low: float = NAN
    beyond_high: float = NAN
    read_at: float = NAN

    @property
    def known(self) -> bool:
        """Whether there is a difference, claimed or only described."""
        return math.isfinite(self.difference)


@dataclass(frozen=True)
class Rates:
    """How often each verdict came up over the repetitions of a repeated (A/A) study.

    Attributes:
        repetitions: complete repetitions, each judged as a separate study.
        different: repetitions with "better" or "worse", at equal gradients or at equal seconds.
        rate, low, high: the rate of the latter with Wilson's 95 % interval.
        verdicts: verdict at equal gradients → number of repetitions.
    """

    repetitions: int
    different: int
    rate: float
    low: float
    high: float
    verdicts: Mapping[Verdict, int]


@dataclass(frozen=True)
class MethodResult:
    """The results of one method on one problem over its complete blocks, and all its comparisons.

    Attributes:
        problem, problem_title, method, title, role: names; the role is baseline, control or candidate.
        metric, unit, censored, budget: the test metric and the gradients of a run, as in `store.facts.ProblemFacts`.
        margin: the stated margin of equivalence, in display units; None if not stated.
        repetitions: of the whole study.
        blocks, planned: complete and planned blocks.
        mean, std: of the test metric over blocks, in display units.
        gradients, seconds, peak_bytes: of a run on average; seconds and memory as calibrated, one run at a time.
        explored, diverged: explore trials, and how many of them diverged.
        confirm_diverged: confirm runs that diverged.
        missed: confirm runs that did not reach a censored metric's tolerance.
        baseline, baseline_title: label and title of the baseline; None and "" without one.
        control, control_title: label and title of the best control; None and "" without one.
        decimals, seconds_decimals: decimals that the metric is shown with, and differences at equal seconds.
        comparisons: at most one per opponent and clock. In a repeated study they are over all blocks and only describe.
        rates: of a repeated study, None for the baseline and in any other study.
    """

    problem: str
    problem_title: str
    method: str
    title: str
    role: str
    metric: str
    unit: str
    censored: bool
    budget: int | None
    margin: float | None
    repetitions: int
    blocks: int
    planned: int
    mean: float
    std: float
    gradients: float
    seconds: float
    peak_bytes: float
    explored: int
    diverged: int
    confirm_diverged: int
    missed: int
    baseline: str | None = None
    baseline_title: str = ""
    control: str | None = None
    control_title: str = ""
    decimals: int = 0
    seconds_decimals: int = 0
    comparisons: tuple[Comparison, ...] = ()
    rates: Rates | None = None

    def against(self, opponent: Opponent, clock: Clock = "gradients") -> Comparison | None:
        """Return one comparison; None if the method is not compared with this opponent."""
        kind = (opponent, clock)
        return next((each for each in self.comparisons if (each.opponent, each.clock) == kind), None)

    @property
    def verdict(self) -> Verdict | Literal["baseline", "repeated"]:
        """The verdict against the baseline at equal gradients, or why there is not a single one."""
        if self.method == self.baseline:
            return "baseline"
        if self.rates is not None:
            return "repeated"
        comparison = self.against("baseline")
        return "no claim" if comparison is None else comparison.verdict

    @property
    def reason(self) -> str:
        """Why there is no claim against the baseline, in a few words; empty where there is one."""
        if self.baseline is None:
            return "no baseline"
        comparison = self.against("baseline")
        return "" if comparison is None else comparison.reason

    @property
    def difference_unit(self) -> str:
        """The unit of differences of the metric: differences of percentages are points."""
        return difference_unit(self.unit)

    @property
    def timed_metric(self) -> str:
        """The metric that is compared at equal seconds."""
        return timed_metric(self.metric)


def difference_unit(unit: str) -> str:
    """Return the unit of differences of values in a unit: differences of percentages are points."""
    return "points" if unit == "%" else unit


def timed_metric(metric: str) -> str:
    """Return the metric that is compared at equal seconds: test data are read once, at the end of a run."""
    return metric.replace("test", "validation")
