"""The types of the atlas: a study, its rows (problems at a budget) and its cells (a method on a row)."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from relaxbench.analysis.comparison import NAN, Comparison, MethodResult
from relaxbench.analysis.findings import Findings
from relaxbench.analysis.frames import StudyFrames

NOT_RUN = "not run"
"""The verdict of a cell that is planned and that no study has run."""


@dataclass(frozen=True)
class Row:
    """A problem at a budget, as one study has it. Numbers that are not known are NaN.

    Attributes:
        study: the study's label in the atlas.
        problem: the name in the study; base: the problem's own name, without the rung of a ladder.
        title: in words. metric, unit, censored: of the verdicts.
        budget: gradients of a run. batch: examples per gradient. parameters: of the model. examples: for training.
        level: geometric mean of the baseline's metric.
        sharpness: median of the largest eigenvalue of the Hessian at the baseline's solutions.
        missed: share of the baseline's runs that missed the tolerance; 0 for a metric that is not censored.
    """

    study: str
    problem: str
    base: str
    title: str
    metric: str = ""
    unit: str = ""
    censored: bool = False
    budget: float = NAN
    batch: float = NAN
    parameters: float = NAN
    examples: float = NAN
    level: float = NAN
    sharpness: float = NAN
    missed: float = NAN

    @property
    def key(self) -> tuple[str, float]:
        """What makes it the same problem in another study: its own name and the budget."""
        return self.base, self.budget

    @property
    def epochs(self) -> float:
        """Passes over the training examples within the budget; NaN where the data are not stored examples."""
        return self.budget * self.batch / self.examples


@dataclass(frozen=True)
class Cell:
    """A method on a row: its primary comparison with the baseline, at equal gradients. Unknown numbers are NaN.

    Attributes:
        study, problem, base, budget: of its row.
        method, title, role, arm, space: as in `MethodResult`.
        verdict: of the study, or `NOT_RUN`; "baseline" for the baseline. reason: why there is no claim.
        waiting: whether the study goes on with this comparison.
        ratio, low, high: to the baseline, with the interval of the verdict. error, freedom: of the ratio's logarithm.
        band_low, band_high: the ratios that are equivalent.
        family, looks, look: the comparisons and looks that share the study's level; the look of the verdict.
        blocks: behind the method's side. trials: T, per block; 0 as published.
        needed: blocks that would decide an undecided comparison if ratio and spread stayed the same.
        metric, unit: that are compared. level: geometric mean of the method's metric.
        missed, reference_missed: runs of both that did not reach the tolerance, of `runs` of the method.
        disasters, disaster_runs, disaster_bound: runs far above the baseline's median.
        gradients: of a run on average. cost: seconds of a run in terms of the baseline's, calibrated one at a time.
        outer_steps: of a run of a relaxation rule, the median.
        seconds_verdict, control_verdict: of the secondary comparisons; "" without one.
        hours, runs: planned, of a cell that was not run: up to the first look; hours_last: up to the last one.
        p: of the difference, valid at whatever look it stopped; p_equivalent: of the equivalence.
        q, q_equivalent: adjusted over the atlas, see `discovery`.
    """

    study: str
    problem: str
    base: str
    budget: float
    method: str
    title: str
    role: str = "candidate"
    arm: str = "tuned"
    space: str = "default"
    verdict: str = NOT_RUN
    reason: str = ""
    waiting: bool = False
    ratio: float = NAN
    low: float = NAN
    high: float = NAN
    error: float = NAN
    freedom: float = NAN
    band_low: float = NAN
    band_high: float = NAN
    family: int = 0
    looks: int = 0
    look: int = 0
    blocks: int = 0
    trials: int = 0
    needed: float = NAN
    metric: str = ""
    unit: str = ""
    level: float = NAN
    runs: int = 0
    missed: int = 0
    reference_missed: int = 0
    disasters: int = 0
    disaster_runs: int = 0
    disaster_bound: float = NAN
    gradients: float = NAN
    cost: float = NAN
    outer_steps: float = NAN
    seconds_verdict: str = ""
    control_verdict: str = ""
    hours: float = NAN
    hours_last: float = NAN
    p: float = NAN
    p_equivalent: float = NAN
    q: float = NAN
    q_equivalent: float = NAN

    @property
    def claimed(self) -> bool:
        """Whether there is an interval, from which the verdict is read."""
        return math.isfinite(self.low) and math.isfinite(self.high)

    @property
    def known(self) -> bool:
        """Whether there is a ratio, claimed or only described."""
        return math.isfinite(self.ratio)


def rows_of(findings: Findings, study: str) -> list[Row]:
    """Return the rows of a study, one per problem.

    Args:
        findings: of the study.
        study: its label in the atlas.
    """
    frames = findings.frames
    rows = []
    for problem in frames.problems:
        about = frames.problem(problem)
        baseline = next((each for each in findings.on(problem) if each.method == frames.baseline), None)
        batch, budget = _setting(frames, problem, "batch size"), _number(about["budget"])
        rows.append(
            Row(
                study=study,
                problem=problem,
                base=about["base"],
                # The title of a rung of a ladder of budgets ends with its own.
                title=about["title"].removesuffix(f", {budget:,.0f} gradients"),
                metric=about["metric"],
                unit=about["unit"],
                censored=about["censored"],
                budget=budget,
                batch=batch,
                parameters=_number(about["parameters"]),
                examples=_number(about["train_examples"]),
                level=baseline.level if baseline else NAN,
                sharpness=_sharpness(frames, problem),
                missed=baseline.missed / baseline.confirmed if baseline and baseline.confirmed else NAN,
            )
        )
    return rows


def cells_of(findings: Findings, study: str) -> list[Cell]:
    """Return the cells of a study, one per problem and method, without p-values.

    Args:
        findings: of the study.
        study: its label in the atlas.
    """
    seconds = {result.problem: result.seconds for result in findings.results if result.method == result.baseline}
    return [_cell(result, study, seconds.get(result.problem, NAN)) for result in findings.results]


def _cell(result: MethodResult, study: str, baseline_seconds: float) -> Cell:
    comparison = result.against("baseline")
    timed, control = result.against("baseline", "seconds"), result.against("control")
    cell = Cell(
        study=study,
        problem=result.problem,
        base=result.base,
        budget=_number(result.budget),
        method=result.method,
        title=result.title,
        role=result.role,
        arm=result.arm,
        space=result.space,
        verdict=result.verdict,
        reason=result.reason,
        trials=result.trials,
        blocks=result.blocks,
        metric=result.metric,
        unit=result.unit,
        level=result.level,
        runs=result.confirmed,
        missed=result.missed,
        gradients=result.gradients,
        cost=result.seconds / baseline_seconds,
        outer_steps=result.outer_steps,
        seconds_verdict=timed.verdict if timed else "",
        control_verdict=control.verdict if control else "",
    )
    if result.disasters:
        failed = result.disasters
        cell = replace(cell, disasters=failed.count, disaster_runs=failed.runs, disaster_bound=failed.bound)
    return cell if comparison is None else _compared(cell, comparison)


def _compared(cell: Cell, comparison: Comparison) -> Cell:
    """The cell with the numbers of its primary comparison."""
    return replace(
        cell,
        waiting=comparison.following is not None or (comparison.look == 0 and comparison.verdict == "no claim"),
        ratio=comparison.ratio,
        low=comparison.low,
        high=comparison.high,
        error=comparison.error,
        freedom=comparison.freedom,
        band_low=comparison.band_low,
        band_high=comparison.band_high,
        family=comparison.family,
        looks=comparison.looks,
        look=comparison.look,
        blocks=comparison.blocks,
        needed=_number(comparison.needed),
        runs=comparison.runs or cell.runs,
        missed=comparison.missed,
        reference_missed=comparison.reference_missed,
        level=comparison.level if math.isfinite(comparison.level) else cell.level,
    )


def _sharpness(frames: StudyFrames, problem: str) -> float:
    """The median largest eigenvalue of the Hessian at the baseline's solutions."""
    flat = frames.flatness
    own = flat[(flat["problem"] == problem) & (flat["method"] == frames.baseline)] if len(flat) else flat
    return float(own["hessian_top_1"].median()) if len(own) else NAN


def _setting(frames: StudyFrames, problem: str, name: str) -> float:
    """A setting of the problem's stored identity; NaN where it has none."""
    identity = frames.manifest.get("identity")
    known = identity["problems"].get(problem) if identity else None
    return _number(known.get("settings", {}).get(name)) if known else NAN


def _number(value: object) -> float:
    return float(value) if isinstance(value, int | float) else NAN
