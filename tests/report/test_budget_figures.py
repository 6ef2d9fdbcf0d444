"""The figures of tuning budgets and targets show the numbers of their frames."""

from __future__ import annotations

import numpy as np
import pytest

from relaxbench.report import StudyFrames
from relaxbench.report.budget_collect import arrivals, by_budget, medians, to_target
from relaxbench.report.budget_figures import EXPECTED, MEDIAN, best, differences
from relaxbench.report.look import Look
from relaxbench.report.target_figures import target

PROBLEM = "digits-mlp"


@pytest.fixture(scope="module")
def look(digits: StudyFrames) -> Look:
    return Look.of({label: digits.method(label) for label in digits.methods}, digits.baseline)


def test_differences(digits: StudyFrames, look: Look) -> None:
    table = by_budget(digits, PROBLEM)
    panels = differences(table, look, PROBLEM)
    assert [panel.key for panel in panels] == [f"budget-{PROBLEM}-{method}" for method in digits.methods[1:]]
    for panel, method in zip(panels, digits.methods[1:], strict=True):
        rows, (band, line) = table[table["method"] == method], panel.figure.data
        assert np.allclose(line["x"], rows["n"]) and np.allclose(line["y"], rows["difference"])
        assert np.allclose(line["customdata"], rows[["gradients", "p_holm"]])
        filled = [symbol == "circle" for symbol in line["marker"]["symbol"]]
        assert filled == rows["verdict"].isin(["better", "worse"]).tolist() and line["text"] == rows["verdict"].tolist()
        edges = np.concatenate([rows["difference_high"], rows["difference_low"][::-1]])
        assert np.allclose(band["y"], edges) and panel.data is not None and len(panel.data) == len(rows)
    ranges = {tuple(panel.figure.layout["yaxis"]["range"]) for panel in panels}
    assert len(ranges) == 1  # a difference in height is one in result


def test_best(digits: StudyFrames, look: Look) -> None:
    frames = {EXPECTED: by_budget(digits, PROBLEM), MEDIAN: medians(digits, PROBLEM)}
    for panel, method in zip(best(*frames.values(), look, PROBLEM), digits.methods[1:], strict=True):
        for label, column in ((EXPECTED, "expected"), (MEDIAN, "median")):
            chosen = panel.views[label]["visible"]
            lines = [each for each, on in zip(panel.figure.data, chosen, strict=True) if on and "customdata" in each]
            for line, each in zip(lines, ("sgd", method), strict=True):
                rows = frames[label][frames[label]["method"] == each]
                assert line["name"] == look.titles[each] and np.allclose(line["y"], rows[column])
                assert np.allclose(line["x"], rows["n"]) and np.allclose(line["customdata"], rows["gradients"])


def test_target(digits: StudyFrames, look: Look) -> None:
    table = to_target(digits, PROBLEM)
    figure = target(table, look, PROBLEM)
    assert figure is not None and table["method"].tolist() == digits.methods
    marks = {trace["name"]: float(trace["x"][0]) for trace in figure.figure.data if trace["mode"] == "markers"}
    reached = table[np.isfinite(table["median"])]
    assert marks == pytest.approx(dict(zip(reached["method"].map(look.titles), reached["median"], strict=True)))
    missed = [text["text"] for text in figure.figure.layout.get("annotations", [])]
    assert [int(text.split()[0]) for text in missed] == table["misses"][table["misses"] > 0].tolist()[::-1]


def test_arrivals_by_a_loop(digits: StudyFrames) -> None:
    """The first measured point at or below the median loss that the baseline has at three quarters of its budget."""
    times, goal = arrivals(digits, PROBLEM)
    runs = dict(tuple(digits.curves.groupby("trial_id")))
    base = digits.blocks.loc[digits.blocks["method"] == "sgd", "confirm"]
    assert goal == pytest.approx(
        np.median([runs[run].query("gradients <= 450")["validation_loss"].iloc[-1] for run in base])
    )
    assert len(times) == 60
    for row, run in zip(times.itertuples(), digits.blocks["confirm"], strict=True):
        found = np.inf
        for point in runs[run].itertuples():
            if found == np.inf and point.validation_loss <= goal:
                found = point.gradients
        assert row.gradients == found


def test_of_a_censored_metric_a_miss_takes_forever(both: StudyFrames) -> None:
    times, goal = arrivals(both, "rosenbrock")
    metric = both.blocks.loc[both.blocks["problem"] == "rosenbrock", "test_metric"].to_numpy()
    assert np.isnan(goal) and (np.isinf(times["gradients"]) == (metric >= 2000)).all() and (metric >= 2000).any()
    assert (times["gradients"] == metric)[metric < 2000].all()
