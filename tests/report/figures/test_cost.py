"""What a run costs, against sums by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from relaxbench.pages.theme import Look
from relaxbench.report import StudyFrames
from relaxbench.report.figures.cost import costs, relative


def test_costs_by_hand(digits: StudyFrames) -> None:
    """600 gradients a run at 0.2 ms, or 0.3 ms with a scope; the trials are those of the table."""
    table = costs(digits, "digits-mlp").set_index("method")
    assert table.index.tolist() == digits.methods
    for method, row in table.iterrows():
        dearer = 1.5 if method in ("entropy-sgd", "hj", "heat") else 1.0
        assert [row["gradients"], row["examples"], row["jvps"], row["measurement"]] == [600, 38_400, 0, 90]
        assert row["measurement_share"] == 90 / 600
        assert [row["seconds"], row["seconds_ratio"]] == pytest.approx([0.12 * dearer, dearer])
        assert [row["peak_bytes"], row["peak_bytes_ratio"]] == [4_000_000, 1]
        count = (digits.trials["method"] == method).sum()
        assert [row["trials"], row["total_gradients"]] == [count, count * 600]


def test_runs_that_ended_early_are_no_cheaper(digits: StudyFrames) -> None:
    runs = digits.confirmations.copy()
    early = runs["method"] == "hj"
    runs.loc[early, ["gradients", "seconds"]] = runs.loc[early, ["gradients", "seconds"]] / 10  # they diverged
    table = costs(replace(digits, confirmations=runs), "digits-mlp").set_index("method")
    assert table.loc["hj", "seconds"] == pytest.approx(0.018) and table.loc["hj", "seconds_ratio"] == pytest.approx(1.5)


def test_the_figure_shows_the_ratios(digits: StudyFrames) -> None:
    look = Look.of({label: digits.method(label) for label in digits.methods}, digits.baseline)
    table = costs(digits, "digits-mlp")
    figure = relative(table, look, "digits-mlp")
    assert figure is not None
    time, memory = figure.figure.data
    others = table[table["method"] != "sgd"][::-1]
    assert np.allclose(time["x"], others["seconds_ratio"]) and np.allclose(memory["x"], others["peak_bytes_ratio"])
    assert figure.figure.layout["yaxis"]["ticktext"] == [look.title(method) for method in others["method"]]
    assert relative(table[table["method"] == "sgd"], look, "digits-mlp") is None


def test_a_method_without_a_block_has_no_row_and_without_the_baseline_there_are_no_ratios(digits: StudyFrames) -> None:
    fewer = replace(digits, confirmations=digits.confirmations[digits.confirmations["method"] != "sgd"])
    table = costs(fewer, "digits-mlp")
    assert "sgd" not in set(table["method"]) and table["seconds_ratio"].isna().all()
    look = Look.of({label: digits.method(label) for label in digits.methods}, digits.baseline)
    assert relative(table, look, "digits-mlp") is None


def test_a_method_without_a_part_costs_a_multiple_of_the_whole(digits: StudyFrames) -> None:
    spec = {**digits.spec, "method": {"heat": {"against": "hj"}}}
    look = Look.of({label: digits.method(label) for label in digits.methods}, "sgd", {"heat": "hj"})
    table = costs(replace(digits, spec=spec), "digits-mlp")  # type: ignore[arg-type]
    own, usual = table.set_index("method"), costs(digits, "digits-mlp").set_index("method")
    gradient = own["seconds_per_gradient"]
    assert own["seconds_ratio"]["heat"] == gradient["heat"] / gradient["hj"] != usual["seconds_ratio"]["heat"]
    assert own["seconds_ratio"]["hj"] == usual["seconds_ratio"]["hj"]
    figure = relative(table, look, "digits-mlp")
    assert figure is not None and "relative to the method that each is compared with" in figure.title
