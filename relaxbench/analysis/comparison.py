"""The types of a study's answers: one comparison, and the results of one method on one problem."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from relaxbench.analysis.disasters import Disasters
from relaxbench.analysis.simultaneous import Judgement

Verdict = Literal["better", "worse", "equivalent", "undecided", "no claim", "not tested"]
"""The verdict of one comparison. Secondary comparisons of methods that are not "better" are "not tested"."""

Opponent = Literal["baseline", "control", "longer"]
"""A method is compared with the baseline; a candidate also with the best control and, on a ladder of budgets, with
the baseline at the next larger budget ("longer")."""

Clock = Literal["gradients", "seconds"]
"""A method is compared with the baseline at equal gradients and at equal seconds."""

KINDS: tuple[tuple[Opponent, Clock], ...] = (
    ("baseline", "gradients"),
    ("baseline", "seconds"),
    ("control", "gradients"),
    ("longer", "gradients"),
)
"""The comparisons that are made: the primary one, then the secondary ones."""

VERDICTS: tuple[Verdict, ...] = ("better", "worse", "equivalent", "undecided", "no claim")
"""The verdicts of a primary comparison."""

FARTHEST = 100
"""Blocks needed for a decision are looked for up to this multiple of the present ones."""
SHORT = 300
"""With fewer outer steps in a run, the result of a relaxation rule is one of a short budget."""

NAN = math.nan


@dataclass(frozen=True)
class Comparison:
    """A method against one opponent on one problem. Lower metrics, and ratios below 1, are better.

    Numbers are NaN where they do not exist.

    Attributes:
        problem, method: names.
        opponent, clock: the kind of comparison.
        reference, reference_title: the opponent's label and title.
        metric: the compared metric. At equal seconds it is the validation metric: test data are read once, at the end.
        unit: of the metric.
        censored: whether the metric counts gradients (or seconds) to a tolerance.
        decimals: number of decimals with which the metric is shown.
        budget: gradients of a run, or seconds to a tolerance at which a run has missed it; None if not known.
        margin: of equivalence, as text; "" where nothing is equivalent.
        family: k, the comparisons that share the level.
        looks: J, the declared looks; look: the one that this is from, from 1; 0 before the first.
        following: blocks of the next look of an undecided comparison; None after the last one.
        trials: T, random trials per block.
        verdict: the verdict; reason: why there is no claim, in a few words; empty where there is one.
        advice: what would make a claim possible, as a sentence; empty where nothing is known to.
        ratio: e^D, the method's metric in terms of the opponent's.
        low, high: the repeated simultaneous interval of the ratio, the only one that is shown.
        error, freedom: standard error and degrees of freedom of D, the logarithm of the ratio.
        band_low, band_high: the ratios that are equivalent; from 0 where the margin exceeds the opponent's level.
        level, reference_level: geometric means of the metric of both.
        blocks, reference_blocks: blocks behind both.
        runs: confirm runs of the method at this look.
        reference_runs: confirm runs of the opponent.
        missed, reference_missed: confirm runs of the method and of the opponent that did not reach the tolerance.
        history: the judgements of all looks up to this one, on the logarithmic scale.
        disasters: how often the method failed badly; None for secondary comparisons.
        needed: blocks at which the comparison would be decided if ratio and spread stayed the same; None if none would.
        smallest_margin: the smallest ratio, as a share, that would count as equivalent.
        wrong: bound of the chance of any wrong verdict in the study; above 0.05 beyond the declared looks.
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
    margin: str = ""
    family: int = 1
    looks: int = 1
    look: int = 0
    following: int | None = None
    trials: int = 0
    verdict: Verdict = "no claim"
    reason: str = ""
    advice: str = ""
    ratio: float = NAN
    low: float = NAN
    high: float = NAN
    error: float = NAN
    freedom: float = NAN
    band_low: float = NAN
    band_high: float = NAN
    level: float = NAN
    reference_level: float = NAN
    blocks: int = 0
    reference_blocks: int = 0
    runs: int = 0
    missed: int = 0
    reference_missed: int = 0
    reference_runs: int = 0
    history: tuple[Judgement, ...] = ()
    disasters: Disasters | None = None
    needed: int | None = None
    smallest_margin: float = NAN
    wrong: float = NAN
    read_at: float = NAN

    @property
    def known(self) -> bool:
        """Whether there is a ratio, claimed or only described."""
        return math.isfinite(self.ratio)

    @property
    def claimed(self) -> bool:
        """Whether there is an interval, from which the verdict is read."""
        return math.isfinite(self.low) and math.isfinite(self.high)

    @property
    def points(self) -> float:
        """The ratio as a difference of the metric at the opponent's level, in `difference_unit`."""
        return self.reference_level * (self.ratio - 1)

    @property
    def difference_unit(self) -> str:
        """The unit of differences of the metric: differences of percentages are points."""
        return difference_unit(self.unit)


@dataclass(frozen=True)
class Rates:
    """How often each verdict came up over the repetitions of a repeated (A/A) study.

    Attributes:
        repetitions: complete repetitions: each is a separate study and goes through its looks alone.
        different: repetitions with "better" or "worse".
        rate, low, high: the rate of the latter with Wilson's 95 % interval.
        verdicts: verdict → number of repetitions.
    """

    repetitions: int
    different: int
    rate: float
    low: float
    high: float
    verdicts: Mapping[Verdict, int]


@dataclass(frozen=True)
class MethodResult:
    """The results of one method on one problem, and all its comparisons.

    Attributes:
        problem, problem_title, method, title, role: names; the role is baseline, control or candidate.
        base, rung: the problem's own name, and the budget where it is a rung of a ladder of budgets.
        relaxing: whether its rule smooths the loss over a scope γ or σ.
        arm: tuned, or published: the authors' settings without tuning.
        space, dimensions: the name of the searched space, and how many hyperparameters it has; None if not known.
        settings, borrowed: where published settings come from, in words; whether from another kind of problem.
        metric, unit, censored, budget: the test metric and the gradients of a run, as in `store.facts.ProblemFacts`.
        margin: the stated margin of equivalence, as text; "" if not stated.
        repetitions: of the whole study.
        looks: the numbers of blocks at which the study is looked at; protocol: 1 or 2.
        trials: T, trials per block; 0 for a method as published.
        sampler: that chose them: random, or another one, of which a block is used whole; "known, random" where known
            settings come first, and a block is used whole too.
        blocks: complete blocks at the latest complete look, over all repetitions; planned: blocks to which it goes.
        level: geometric mean of the test metric of the best of T trials; NaN before the first look.
        mean, std: of the test metric over the confirm runs of block winners.
        gradients, seconds, peak_bytes: of a run on average; seconds and memory as calibrated, one run at a time.
        cost_spread: relative half-width of the 95 % interval of the calibrated seconds; NaN if not known.
        outer_steps: median outer steps of a run of a relaxation rule; NaN for others.
        explored, diverged: explore trials, and how many of them diverged.
        confirmed, confirm_diverged: confirm runs, and how many of them diverged.
        missed: confirm runs that did not reach a censored metric's tolerance.
        disasters: confirm runs far above the baseline's median.
        baseline, baseline_title: label and title of the method that it is compared with: the baseline, or another one;
            of the baseline its own. None and "" without one.
        control, control_title: label and title of the best control; None and "" without one.
        decimals: number of decimals of the metric.
        without, instead: the part that it leaves out of the other method, and what stands in its place; "" for none.
        comparisons: at most one per kind of `KINDS`; empty in a repeated study.
        rates: of a repeated study, None for the baseline and in any other study.
    """

    problem: str
    problem_title: str
    method: str
    title: str
    role: str
    base: str
    rung: int | None
    arm: str
    space: str
    dimensions: int | None
    settings: str
    borrowed: bool
    metric: str
    unit: str
    censored: bool
    budget: int | None
    margin: str
    repetitions: int
    looks: tuple[int, ...]
    protocol: int
    trials: int
    sampler: str
    blocks: int
    planned: int
    level: float
    mean: float
    std: float
    gradients: float
    seconds: float
    cost_spread: float
    peak_bytes: float
    outer_steps: float
    explored: int
    diverged: int
    confirmed: int
    confirm_diverged: int
    missed: int
    disasters: Disasters | None = None
    baseline: str | None = None
    baseline_title: str = ""
    control: str | None = None
    control_title: str = ""
    decimals: int = 0
    without: str = ""
    instead: str = ""
    relaxing: bool = False
    comparisons: tuple[Comparison, ...] = ()
    rates: Rates | None = None

    def against(self, opponent: Opponent, clock: Clock = "gradients") -> Comparison | None:
        """Return one comparison; None if the method is not compared with this opponent."""
        for comparison in self.comparisons:
            if (comparison.opponent, comparison.clock) == (opponent, clock):
                return comparison
        return None

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
    def short(self) -> bool:
        """Whether this is the result of a relaxation rule at a short budget."""
        return self.outer_steps < SHORT

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
