"""Learning curves: bands by numpy, axes in seconds and epochs, and panels that show them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from relaxbench.report import StudyFrames
from relaxbench.report.figures.learning_curves import GRID, bands, curves, scales
from relaxbench.report.figures.search_space import reference
from tests.report.figures.looks import DIGITS, look_of


def test_bands_are_the_quartiles_of_the_confirm_runs(digits: StudyFrames) -> None:
    table = bands(digits, DIGITS, "validation_metric")
    assert table.groupby("method").size().to_dict() == dict.fromkeys(digits.methods, GRID)
    runs = digits.curves[digits.curves["trial_id"].isin(digits.blocks.query("method == 'hj'")["confirm"])]
    ends = runs.groupby("trial_id")["validation_metric"].last().to_numpy(dtype=float)
    last = table[table["method"] == "hj"].iloc[-1]
    logs, limit = np.log(ends), np.median(np.log(ends)) + np.log(3)
    level = np.exp(np.minimum(logs, limit).mean())
    expected = [level, ends.mean(), *np.percentile(ends, [50, 25, 75])]
    assert list(last[["level", "mean", "median", "low", "high"]]) == pytest.approx(expected, rel=1e-5)
    assert last["gradients"] == 600 and last["runs"] == 10


def test_a_run_that_diverged_moves_no_level_out_of_sight_and_values_below_zero_have_a_mean(digits: StudyFrames) -> None:
    usual = bands(digits, DIGITS, "validation_loss").query("method == 'hj'")
    frames = replace(digits, curves=digits.curves.copy())
    one = digits.blocks.query("method == 'hj'")["confirm"].iloc[0]
    frames.curves.loc[frames.curves["trial_id"] == one, "validation_loss"] = 1e6
    odd = bands(frames, DIGITS, "validation_loss").query("method == 'hj'")
    assert odd["mean"].iloc[-1] > 5 * usual["mean"].iloc[-1]
    assert odd["level"].iloc[-1] < 2 * usual["level"].iloc[-1]
    frames.curves.loc[frames.curves["trial_id"] == one, "validation_loss"] = 0.0
    exact = bands(frames, DIGITS, "validation_loss").query("method == 'hj'")
    assert 0 < exact["level"].iloc[-1] < exact["mean"].iloc[-1] and (exact["low"] > 0).all()
    frames.curves.loc[frames.curves["trial_id"] == one, "validation_loss"] = -1.0
    below = bands(frames, DIGITS, "validation_loss").query("method == 'hj'")
    assert below["level"].to_numpy() == pytest.approx(below["mean"].to_numpy())


def test_a_diverged_run_is_the_worst_from_its_last_measurement_on(digits: StudyFrames) -> None:
    """Two runs end at 300 of 600 gradients with healthy values; one of them has diverged."""
    ids = digits.blocks.query("method == 'hj'")["confirm"].astype(int).tolist()
    trials = digits.trials.copy()
    trials.loc[trials["id"] == ids[0], "diverged"] = True
    ended = digits.curves["trial_id"].isin(ids[:2]) & (digits.curves["gradients"] > 300)
    frames = replace(digits, trials=trials, curves=digits.curves[~ended].reset_index(drop=True))
    for measure, worst in (("validation_loss", 10.0), ("validation_metric", 100.0)):
        table = bands(frames, DIGITS, measure).query("method == 'hj'")
        last = frames.curves[frames.curves["trial_id"].isin(ids)].groupby("trial_id")[measure].last()
        assert table["mean"].iloc[-1] == pytest.approx((last.drop(ids[0]).sum() + worst) / 10, rel=1e-5)
        before = table[table["gradients"] < 250]
        usual = bands(digits, DIGITS, measure).query("method == 'hj'")["mean"].iloc[: len(before)]
        assert before["mean"].to_numpy() == pytest.approx(usual.to_numpy())


def test_a_gradient_has_seconds_and_where_examples_are_known_epochs(digits: StudyFrames) -> None:
    table = scales(digits, DIGITS)
    assert table["seconds"].to_dict() == {
        method: pytest.approx(3e-4 if method in ("entropy-sgd", "hj", "heat") else 2e-4) for method in digits.methods
    }
    assert table["epochs"].isna().all()  # the synthetic manifest states no number of training examples


def test_every_panel_shows_its_method_and_the_baseline(digits: StudyFrames) -> None:
    views = {"validation loss": bands(digits, DIGITS, "validation_loss")}
    panels = curves(views, scales(digits, DIGITS), look_of(digits), DIGITS)
    others = [method for method in digits.methods if method != "sgd"]
    assert [panel.key for panel in panels] == [f"curve-{DIGITS}-{method}" for method in others]
    for method, panel in zip(others, panels, strict=True):
        rows = views["validation loss"].query("method == @method")
        own = panel.figure.data[-1]
        assert np.asarray(own["y"]) == pytest.approx(rows["level"].to_numpy(), rel=1e-6)
        assert list(panel.axes) == ["gradients", "seconds"] and panel.data is not None
        assert set(panel.data["method"]) == {method, "sgd"}
    assert len({str(panel.figure.layout["yaxis"]["range"]) for panel in panels}) == 1


def test_a_method_without_a_part_is_shown_beside_the_whole(digits: StudyFrames) -> None:
    views = {"validation loss": bands(digits, DIGITS, "validation_loss")}
    look = replace(look_of(digits), opponents={"heat": "hj"})
    panels = {
        panel.key.removeprefix(f"curve-{DIGITS}-"): panel
        for panel in curves(views, scales(digits, DIGITS), look, DIGITS)
    }
    own, other = panels["heat"], panels["hj"]
    assert own.data is not None and set(own.data["method"]) == {"heat", "hj"}
    assert "beside tuned Hamilton" in own.reading and "beside tuned SGD" in other.reading
    level = views["validation loss"].query("method == 'hj'")["level"].to_numpy()
    assert np.asarray(own.figure.data[1]["y"]) == pytest.approx(level, rel=1e-6)
    assert reference(digits, DIGITS, "hj") != reference(digits, DIGITS)
