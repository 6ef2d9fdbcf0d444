"""What tuning costs, against running minima by hand."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from relaxbench.pages.theme import Look
from relaxbench.report import StudyFrames, load_study
from relaxbench.report.figures.incumbents import COLUMNS, history, incumbents
from relaxbench.report.figures.search_space import reference
from tests.synthetic import Writer, memory, spec


def searched(*blocks: list[float | str | None], exploit: list[float | str | None] = ()) -> StudyFrames:
    """SGD's searches: a loss, a status in place of one, "diverged", or None for a trial that is running."""
    writer = Writer(memory(), spec(methods=["sgd"], controls=[], looks=[len(blocks)], trials=3))
    runs = [("explore", block, values) for block, values in enumerate(blocks)] + [("exploit", 0, exploit)]
    for phase, block, values in runs:
        for number, value in enumerate(values):
            status = "running" if value is None else value if value in ("failed", "pruned") else "done"
            loss = 10.0 if value == "diverged" else value if isinstance(value, float) else None
            writer.trial("digits-mlp", "sgd", phase, block, number, loss, status=status, diverged=value == "diverged")
    engine = writer.close()
    try:
        return load_study(engine)
    finally:
        engine.dispose()


def test_median_and_quartiles_of_running_minima() -> None:
    found = incumbents(searched([3.0, 1.0, 2.0], [5.0, 4.0, 0.5], [1.0, 1.0, 1.0]), "digits-mlp")
    assert list(found) == COLUMNS and found["gradients"].tolist() == [600, 1200, 1800]
    best = np.array([[3, 1, 1], [5, 4, 0.5], [1, 1, 1]])
    assert found["median"].tolist() == pytest.approx(np.sort(best, axis=0)[1])
    low, high = np.percentile(best, [25, 75], axis=0)
    assert found["low"].tolist() == pytest.approx(low) and found["high"].tolist() == pytest.approx(high)
    assert found["blocks"].tolist() == [3, 3, 3]


def test_incomplete_blocks_are_left_out() -> None:
    found = incumbents(searched([3.0, 2.0, 1.0], [9.0, 9.0, None], [9.0, 9.0]), "digits-mlp")
    assert found["median"].tolist() == [3, 2, 1] and found["blocks"].tolist() == [1, 1, 1]
    assert incumbents(searched([9.0, 9.0, None]), "digits-mlp").empty


def test_what_fails_costs_its_budget_and_lowers_nothing() -> None:
    found = incumbents(searched(["failed", 3.0, "diverged"], [5.0, "pruned", "diverged"]), "digits-mlp")
    assert found["median"].tolist() == pytest.approx([np.nan, 4, 4], nan_ok=True)
    assert found[["diverged", "failed", "pruned"]].to_numpy().tolist() == [[0, 1, 0], [0, 1, 1], [2, 1, 1]]


def test_tpe_is_one_search_as_far_as_it_is_complete() -> None:
    found = incumbents(searched([2.0, 2.0, 2.0], exploit=[4.0, 1.5, "pruned", 1.0, None, 0.1]), "digits-mlp")
    tpe = found[found["phase"] == "exploit"]
    assert tpe["median"].tolist() == [4, 1.5, 1.5, 1.0] and tpe["pruned"].tolist() == [0, 0, 1, 1]
    pd.testing.assert_frame_equal(tpe[["low", "high"]], tpe[["median", "median"]].set_axis(["low", "high"], axis=1))


def test_nothing_searched() -> None:
    found = incumbents(searched(), "digits-mlp")
    assert found.empty and list(found) == COLUMNS
    assert history(found, Look({"sgd": "SGD"}, {"sgd": "#010203"}, "sgd"), "digits-mlp", None) is None


def test_the_figure_shows_the_frame_with_random_search_and_tpe_apart(digits: StudyFrames) -> None:
    look = Look.of({label: digits.method(label) for label in digits.methods}, digits.baseline)
    frame = incumbents(digits, "digits-mlp")
    figure = history(frame, look, "digits-mlp", reference(digits, "digits-mlp"))
    assert figure is not None and list(figure.views) == ["in blocks", "TPE"]
    for label, phase in zip(figure.views, ("explore", "exploit"), strict=True):
        shown = [
            trace
            for trace, visible in zip(figure.figure.data, figure.views[label]["visible"], strict=True)
            if visible and trace.get("name")
        ]
        assert [trace["name"] for trace in shown] == list(look.titles.values())
        for trace, method in zip(shown, look.titles, strict=True):
            rows = frame[(frame["method"] == method) & (frame["phase"] == phase)]
            assert np.allclose(trace["y"], rows["median"]) and np.allclose(trace["x"], rows["gradients"])
    assert "TPE: a single search beside the blocks" in figure.reading
    alone = history(frame[frame["phase"] == "explore"], look, "digits-mlp", None)
    assert alone is not None and "TPE" not in alone.reading and "in blocks" in alone.reading.lower()
    assert "with their middle half" in figure.reading
    both = np.sum([view["visible"] for view in figure.views.values()], axis=0)
    assert (both == 1).all()


def test_the_bands_of_many_methods_would_hide_each_other(digits: StudyFrames) -> None:
    frame = incumbents(digits, "digits-mlp").query("phase == 'explore'")
    many = pd.concat([frame, *(frame[frame["method"] == "hj"].assign(method=f"hj{at}") for at in range(5))])
    facts = {method: digits.method("hj") | {"title": method} for method in many["method"].unique()}
    for known, bands in ((frame, True), (many, False)):
        figure = history(known, Look.of(facts, "sgd"), "digits-mlp", None)
        assert figure is not None and any("fill" in trace for trace in figure.figure.data) is bands
        assert ("CSV" in figure.reading) is not bands and figure.data is not None
        assert (figure.data["low"] < figure.data["high"]).any()
