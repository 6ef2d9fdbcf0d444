"""What two methods are compared on at equal seconds, read by hand from curves that are known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from relaxbench.analysis.at_seconds import COST_TOLERANCE, Reading, at_seconds
from relaxbench.analysis.comparison import Comparison, MethodResult
from relaxbench.analysis.verdicts import verdicts
from relaxbench.report import StudyFrames, load_study, seconds_sentence
from tests.synthetic import Writer, manifest, memory, spec

BLOCKS = 8
GRADIENTS = np.array([100.0, 200, 300, 400, 500, 600])


def study(
    costs: tuple[float | None, float | None],
    ends: tuple[float, float] = (0.05, 0.04),
    problem: str = "digits-mlp",
    first: float = 100.0,
    diverged: int = 0,
    spread: float = 0.0,
) -> StudyFrames:
    """SGD and HJ, whose validation error falls along a straight line to its end in every block."""
    asked = spec(
        methods=["sgd", "hj"], controls=[], problems=[problem], looks=[BLOCKS], trials=1, exploit=0, recommend=0
    )
    about = manifest(asked)
    for method, cost in zip(("sgd", "hj"), costs, strict=True):
        about["methods"][method]["calibration"] = (
            {problem: {"seconds_per_gradient": cost, "seconds_spread": spread}} if cost else {}
        )
    writer = Writer(memory(), asked, about)
    for method, end in zip(("sgd", "hj"), ends, strict=True):
        for block in range(BLOCKS):
            parent = writer.trial(problem, method, "explore", block, 0, 0.3)
            broken = method == "hj" and block < diverged
            error = end + 0.001 * np.sin(block) + 0.4 * (1 - GRADIENTS / 600)
            if broken:
                error = np.where(GRADIENTS > 200, np.nan, error)
            curve = np.stack([GRADIENTS, error, error, error, np.full(6, np.nan)])[:, first <= GRADIENTS]
            metric = 1.0 if broken else end + 0.001 * np.sin(block)
            tested = metric if problem == "digits-mlp" else 10_000 * end
            writer.trial(
                problem,
                method,
                "confirm",
                block,
                0,
                0.3,
                parent=parent,
                curve=curve,
                diverged=broken,
                measures={"test_metric": tested, "validation_metric": metric},
            )
    return load_study(writer.close())


def readings(frames: StudyFrames, problem: str = "digits-mlp") -> Reading:
    ours, theirs = (
        frames.confirmations[frames.confirmations["method"] == method].set_index("id", drop=False).sort_values("block")
        for method in ("hj", "sgd")
    )
    return at_seconds(frames, problem, ours, theirs)


def timed(result: MethodResult) -> Comparison:
    comparison = result.against("baseline", "seconds")
    assert comparison is not None
    return comparison


def test_the_dearer_method_is_read_when_the_cheaper_has_ended() -> None:
    found = readings(study((1e-3, 1.5e-3)))
    assert found.seconds == pytest.approx(0.6) and not found.obstacle  # SGD's 600 gradients of 1 ms
    wiggle = 0.1 * np.sin(np.arange(BLOCKS))
    assert found.theirs.to_numpy() == pytest.approx(5 + wiggle, abs=1e-4)
    assert found.ours.to_numpy() == pytest.approx(4 + wiggle + 40 / 3, abs=1e-4)  # after 400 of its 600 gradients


def test_a_cheaper_method_is_read_at_its_end_and_the_baseline_before() -> None:
    found = readings(study((1e-3, 0.5e-3)))
    assert found.seconds == pytest.approx(0.3)
    assert found.ours.mean() == pytest.approx(4, abs=0.1) and found.theirs.mean() == pytest.approx(25, abs=0.1)


@pytest.mark.parametrize("ratio", [1.0, 1 + 0.9 * COST_TOLERANCE, 1 - 0.9 * COST_TOLERANCE])
def test_costs_that_a_calibration_cannot_tell_apart_are_equal(ratio: float) -> None:
    found = readings(study((1e-3, ratio * 1e-3)))
    assert found.ours.mean() == pytest.approx(4, abs=0.1) and found.theirs.mean() == pytest.approx(5, abs=0.1)


def test_the_spread_of_a_calibration_decides_which_costs_are_equal() -> None:
    """Two spreads of 12 % are one of 17 % of their ratio: costs that are 15 % apart are equal, 25 % are not."""
    for ratio, seconds in ((1.15, 0.6 * 1.075), (1.25, 0.6)):
        assert readings(study((1e-3, ratio * 1e-3), spread=0.12)).seconds == pytest.approx(seconds)
    assert readings(study((1e-3, 1.15e-3), spread=0.01)).seconds == pytest.approx(0.6)


def test_gradients_to_a_tolerance_become_seconds() -> None:
    frames = study((1e-3, 2e-3), problem="rosenbrock")  # 500 and 400 gradients
    found = readings(frames, "rosenbrock")
    assert found.ours.tolist() == pytest.approx([0.8] * BLOCKS)
    assert found.theirs.tolist() == pytest.approx([0.5] * BLOCKS)
    result = verdicts(frames)[1]
    assert result.verdict == "better" and timed(result).verdict == "worse"  # fewer gradients, more time
    assert timed(result).ratio == pytest.approx(0.8 / 0.5) and timed(result).metric == "seconds to tolerance"
    words = seconds_sentence(result)
    assert words.startswith("At equal seconds against SGD: worse. 1.60 times SGD's seconds to tolerance, 1.60 to 1.60")
    assert words.endswith("(+0.30 s at SGD's 0.50 s).")


def test_seconds_to_a_tolerance_count_as_those_of_the_cheaper_method_s_budget_at_most() -> None:
    """SGD misses the tolerance at 2,000 gradients of 1 ms; HJ reaches it at 1,500 of 1.5 ms, which is later."""
    frames = study((1e-3, 1.5e-3), (0.2, 0.15), problem="rosenbrock")
    found = readings(frames, "rosenbrock")
    assert found.seconds == 2.0 and set(found.ours) == set(found.theirs) == {2.0}
    result = verdicts(frames)[1]
    assert result.verdict == "better" and timed(result).verdict == "no claim" and not timed(result).claimed
    assert timed(result).reason == "no run of either reached the tolerance"
    assert "8 of its 8 runs and 8 of SGD's 8 missed the tolerance" in seconds_sentence(result)


def test_who_reaches_a_tolerance_in_the_time_of_a_cheaper_method_is_better_than_one_who_does_not() -> None:
    result = verdicts(study((1e-3, 1.5e-3), (0.2, 0.1), problem="rosenbrock"))[1]
    assert timed(result).verdict == "better" and timed(result).ratio == pytest.approx(1.5 / 2)
    words = seconds_sentence(result)
    assert "0 of its 8 runs and 8 of SGD's 8 missed" in words and "the cheaper method 2.00 s" in words


def test_a_diverged_run_counts_as_the_worst_metric() -> None:
    found = readings(study((1e-3, 1e-3), diverged=3))
    assert found.ours.tolist()[:3] == [100.0] * 3 and found.ours.max() == 100


def test_a_run_that_diverged_after_healthy_measurements_counts_as_the_worst_metric() -> None:
    """Its last measurement, after 500 of 600 gradients, is finite: a parameter was not."""
    frames = study((1e-3, 1e-3))
    one = int(frames.confirmations.query("method == 'hj'")["id"].iloc[0])
    trials, curves = frames.trials.copy(), frames.curves
    trials.loc[trials["id"] == one, "diverged"] = True
    curves = curves[(curves["trial_id"] != one) | (curves["gradients"] < 600)].reset_index(drop=True)
    found = readings(replace(frames, trials=trials, curves=curves))
    assert found.ours[one] == 100 and found.ours.drop(one).max() < 5 and found.theirs.max() < 6


@pytest.mark.parametrize("costs", [(None, 1e-3), (1e-3, None)])
def test_without_a_calibration_there_is_no_claim(costs: tuple[float | None, float | None]) -> None:
    frames = study(costs)
    assert readings(frames).obstacle == "the cost of a gradient was not measured"
    result = verdicts(frames)[1]
    assert timed(result).verdict == "no claim" and not timed(result).known
    gradients = result.against("baseline")
    assert gradients is not None and gradients.verdict == "better"


def test_a_run_that_had_not_been_measured_yet_is_no_result() -> None:
    frames = study((1e-3, 4e-3), first=200.0)  # read after 150 gradients
    assert readings(frames).obstacle == "8 runs had not been measured when the cheaper method ended"
    assert timed(verdicts(frames)[1]).verdict == "no claim"


def test_the_comparison_is_of_the_logarithms_of_the_readings() -> None:
    """One trial per block: the estimate is the mean of the logarithms, and scipy's Welch test has the interval."""
    frames = study((1e-3, 1e-3))
    found = timed(verdicts(frames)[1])
    logs = [np.log(side.to_numpy()) for side in (readings(frames).ours, readings(frames).theirs)]
    test = stats.ttest_ind(*logs, equal_var=False).confidence_interval(0.95)
    assert found.verdict == "better" and (found.level, found.reference_level) == pytest.approx(
        [np.exp(each.mean()) for each in logs]
    )
    assert (found.low, found.high) == pytest.approx((np.exp(test.low), np.exp(test.high)))


def test_without_runs_of_both_nothing_is_read() -> None:
    frames = study((1e-3, 1e-3))
    ours = frames.confirmations[frames.confirmations["method"] == "hj"].set_index("id", drop=False)
    assert at_seconds(frames, "digits-mlp", ours, ours.iloc[:0]).obstacle == "no confirming run of both yet"
