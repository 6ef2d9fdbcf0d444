"""The distribution of random search, by numpy."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from relaxbench.analysis.caveats import dependent
from relaxbench.report import StudyFrames
from relaxbench.report.figures.random_search import search, spreads
from relaxbench.report.figures.tuning_budget import by_budget, medians
from relaxbench.store.facts import SearchFacts
from tests.report.figures.looks import DIGITS, look_of


def test_boxes_have_the_quantiles_of_the_explore_trials(digits: StudyFrames) -> None:
    table = spreads(digits, DIGITS)
    assert table["method"].tolist() == digits.methods and set(table["trials"]) == {72, 120}
    for row in table.itertuples():
        values = digits.trials.query("method == @row.method and phase == 'explore'")["value"]
        assert [row.p5, row.p25, row.p50, row.p75, row.p95] == pytest.approx(np.percentile(values, [5, 25, 50, 75, 95]))
        assert row.best == values.min()
    figure = search(table, look_of(digits), DIGITS)
    assert figure is not None
    boxes = [trace for trace in figure.figure.data if trace["type"] == "box"]
    assert [box["median"][0] for box in boxes] == table["p50"].tolist()[::-1]


def test_exact_minima_lie_at_the_edge_of_a_logarithmic_axis(digits: StudyFrames) -> None:
    table = spreads(digits, DIGITS)
    table.loc[table["method"] == "hj", ["best", "p5", "p25"]] = 0.0
    figure = search(table, look_of(digits), DIGITS)
    assert figure is not None and figure.figure.layout["xaxis"]["type"] == "log"
    smallest = table[["best", "p5", "p25", "p50"]].to_numpy()
    ticks = [trace["x"][0] for trace in figure.figure.data if trace["type"] == "scatter"]
    assert min(ticks) == pytest.approx(smallest[smallest > 0].min(), rel=1e-6)
    assert figure.data is not None and (figure.data["best"] == 0).any()  # the table says what was found


def test_methods_that_a_sampler_tunes_are_in_no_figure_of_random_trials(digits: StudyFrames) -> None:
    label = digits.methods[1]
    search: SearchFacts = {"sampler": "tpe", "options": {}, "generation": 4}
    methods = {**digits.manifest["methods"], label: {**digits.method(label), "search": search}}
    tuned = replace(digits, manifest={**digits.manifest, "methods": methods})
    others = {method for method in digits.methods if method != label and digits.tuning(method)}
    assert set(spreads(tuned, DIGITS)["method"]) == others
    assert set(by_budget(tuned, DIGITS)["method"]) == others and set(medians(tuned, DIGITS)["method"]) == others
    (sentence,) = dependent(tuned)
    title = digits.method(label)["title"]
    assert sentence.startswith(f"The trials of a block depend on each other for {title} (sampler tpe): a verdict on it")
    assert dependent(digits) == []


def test_nothing_is_drawn_without_trials(digits: StudyFrames) -> None:
    assert search(spreads(digits, "another"), look_of(digits), "another") is None
