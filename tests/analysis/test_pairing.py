"""What two methods are compared on, at equal seconds: read by hand from curves that are known."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from relaxbench.analysis.comparison import Comparison, MethodResult
from relaxbench.analysis.pairing import COST_TOLERANCE, at_gradients, at_seconds
from relaxbench.analysis.verdicts import verdicts
from relaxbench.report import StudyFrames, load_study, seconds_sentence
from tests.synthetic import Writer, manifest, memory, spec

BLOCKS = 8
GRADIENTS = np.array([100.0, 200, 300, 400, 500, 600])


def study(
    costs: tuple[float | None, float | None], ends: tuple[float, float] = (0.05, 0.04), problem: str = "digits-mlp",
    first: float = 100.0, diverged: int = 0,
) -> StudyFrames:  # fmt: skip
    """SGD and HJ, whose validation error falls along a straight line to its end in every block."""
    asked = spec(
        methods=["sgd", "hj"], controls=[], problems=[problem], blocks=BLOCKS, trials=1, exploit=0, recommend=0
    )
    about = manifest(asked)
    for method, cost in zip(("sgd", "hj"), costs, strict=True):
        about["methods"][method]["calibration"] = {problem: {"seconds_per_gradient": cost}} if cost else {}
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
                problem, method, "confirm", block, 0, 0.3, parent=parent, curve=curve, diverged=broken,
                measures={"test_metric": tested, "validation_metric": metric},
            )  # fmt: skip
    return load_study(writer.close())


def pairs(frames: StudyFrames, problem: str = "digits-mlp") -> tuple[pd.DataFrame, float, str]:
    ours, theirs = (frames.blocks[frames.blocks["method"] == method] for method in ("hj", "sgd"))
    found = at_seconds(frames, problem, ours, theirs)
    return found.table, found.seconds, found.obstacle


def timed(result: MethodResult) -> Comparison:
    comparison = result.against("baseline", "seconds")
    assert comparison is not None
    return comparison


def test_the_dearer_method_is_read_when_the_cheaper_has_ended() -> None:
    table, seconds, obstacle = pairs(study((1e-3, 1.5e-3)))
    assert seconds == pytest.approx(0.6) and not obstacle  # SGD's 600 gradients of 1 ms
    wiggle = 0.1 * np.sin(np.arange(BLOCKS))
    assert table["theirs"].to_numpy() == pytest.approx(5 + wiggle, abs=1e-4)
    assert table["ours"].to_numpy() == pytest.approx(4 + wiggle + 40 / 3, abs=1e-4)  # after 400 of its 600 gradients


def test_a_cheaper_method_is_read_at_its_end_and_the_baseline_before() -> None:
    table, seconds, _ = pairs(study((1e-3, 0.5e-3)))
    assert seconds == pytest.approx(0.3)
    assert table["ours"].mean() == pytest.approx(4, abs=0.1) and table["theirs"].mean() == pytest.approx(25, abs=0.1)


@pytest.mark.parametrize("ratio", [1.0, 1 + 0.9 * COST_TOLERANCE, 1 - 0.9 * COST_TOLERANCE])
def test_costs_that_a_calibration_cannot_tell_apart_are_equal(ratio: float) -> None:
    table, *_ = pairs(study((1e-3, ratio * 1e-3)))
    assert table["ours"].mean() == pytest.approx(4, abs=0.1) and table["theirs"].mean() == pytest.approx(5, abs=0.1)


def test_gradients_to_a_tolerance_become_seconds() -> None:
    frames = study((1e-3, 2e-3), problem="rosenbrock")  # 500 and 400 gradients
    table, *_ = pairs(frames, "rosenbrock")
    assert table["ours"].tolist() == pytest.approx([0.8] * BLOCKS)
    assert table["theirs"].tolist() == pytest.approx([0.5] * BLOCKS)
    result = verdicts(frames)[1]
    assert result.verdict == "better" and timed(result).verdict == "worse"  # fewer gradients, more time
    words = seconds_sentence(result)
    assert "It takes 0.30 s more to the tolerance" in words and "against SGD: worse" in words


def test_a_diverged_run_counts_as_the_worst_metric() -> None:
    table, *_ = pairs(study((1e-3, 1e-3), diverged=3))
    assert table["ours"].tolist()[:3] == [100.0] * 3 and table["ours"].max() == 100


@pytest.mark.parametrize("costs", [(None, 1e-3), (1e-3, None)])
def test_without_a_calibration_there_is_no_claim(costs: tuple[float | None, float | None]) -> None:
    frames = study(costs)
    assert pairs(frames)[2] == "the cost of a gradient was not measured"
    result = verdicts(frames)[1]
    assert timed(result).verdict == "no claim" and not timed(result).known
    gradients = result.against("baseline")
    assert gradients is not None and gradients.verdict == "better" and gradients.family == 1


def test_a_run_that_had_not_been_measured_yet_is_no_result() -> None:
    frames = study((1e-3, 4e-3), first=200.0)  # read after 150 gradients
    assert pairs(frames)[2] == "8 runs had not been measured when the cheaper method ended"
    assert timed(verdicts(frames)[1]).verdict == "no claim"


def test_pairs_are_of_common_blocks() -> None:
    frames = study((1e-3, 1e-3))
    ours, theirs = (frames.blocks[frames.blocks["method"] == method] for method in ("hj", "sgd"))
    assert at_gradients(ours.iloc[2:], theirs.iloc[:-1]).table["block"].tolist() == [2, 3, 4, 5, 6]
    assert at_seconds(frames, "digits-mlp", ours.iloc[:0], theirs).obstacle == "no complete block of both yet"
