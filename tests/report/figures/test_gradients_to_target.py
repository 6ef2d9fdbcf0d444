"""Gradients to a target and performance profiles, by hand, and the figures that show them."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from relaxbench.pages.html import embed
from relaxbench.report import StudyFrames, load_study
from relaxbench.report.figures import gradients_to_target
from tests import synthetic
from tests.report.figures.looks import DIGITS, TWO, look_of, texts
from tests.report.test_study_page import HOSTILE
from tests.synthetic import Writer, memory, spec


@pytest.fixture(scope="module")
def six() -> StudyFrames:
    """Six problems; Entropy-SGD learns ten times as fast as SGD, HEAT never reaches the target, on all of them."""
    names = [f"p{index}" for index in range(6)]
    asked = spec(problems=names, methods=["sgd", "entropy-sgd", "heat"], controls=[], looks=[6], trials=1, exploit=0)
    about = synthetic.manifest(asked)
    about["problems"] = {name: synthetic.manifest(spec())["problems"][DIGITS] for name in names}
    writer = Writer(memory(), asked, about)
    x = np.arange(1, 61) * 10.0
    losses = {"sgd": 1 / x, "entropy-sgd": 0.1 / x, "heat": np.full(60, 2.0)}
    for name in names:
        for method, loss in losses.items():
            for block in range(6):
                winner = writer.trial(name, method, "explore", block, 0, float(loss[-1]))
                curve = np.stack([x, loss, loss, loss, np.full(60, np.nan)])
                writer.trial(
                    name,
                    method,
                    "confirm",
                    block,
                    0,
                    float(loss[-1]),
                    parent=winner,
                    curve=curve,
                    measures={"test_metric": 0.1},
                )
    return load_study(writer.close())


def test_arrivals_against_the_baseline(six: StudyFrames) -> None:
    """SGD's loss is 1 / x at x gradients and sets the target at 450; a tenth of it is there at the first 50."""
    table = gradients_to_target.to_target(six, "p0").set_index("method")
    assert table["target"].unique() == pytest.approx(1 / 450)
    assert table["median"].to_dict() == {"sgd": 450, "entropy-sgd": 50, "heat": np.inf}
    assert table["misses"].to_dict() == {"sgd": 0, "entropy-sgd": 0, "heat": 6}
    assert table["ratio"].to_dict() == {"sgd": 1, "entropy-sgd": pytest.approx(1 / 9), "heat": np.inf}
    figure = gradients_to_target.target(table.reset_index(), look_of(six), "p0")
    assert figure is not None
    assert [note["text"] for note in figure.figure.layout["annotations"]] == ["6 of 6 missed →"]


def test_runs_that_diverged_before_the_target_was_set_are_no_healthy_ones(six: StudyFrames) -> None:
    """Half of SGD's runs end at 300 gradients: there is no median loss at 450 if these have diverged."""
    ids = six.blocks.query("problem == 'p0' and method == 'sgd'")["confirm"].astype(int).tolist()[:3]
    ended = six.curves["trial_id"].isin(ids) & (six.curves["gradients"] > 300)
    frames = replace(six, curves=six.curves[~ended].reset_index(drop=True), trials=six.trials.copy())
    assert gradients_to_target.arrivals(frames, "p0")[1] == pytest.approx((1 / 300 + 1 / 450) / 2)
    frames.trials.loc[frames.trials["id"].isin(ids), "diverged"] = True
    assert np.isnan(gradients_to_target.arrivals(frames, "p0")[1])


def test_a_tolerance_is_its_own_target(both: StudyFrames) -> None:
    times, target = gradients_to_target.arrivals(both, "rosenbrock")
    metric = both.blocks.query("problem == 'rosenbrock'")["test_metric"]
    assert np.isnan(target)
    assert times["gradients"].tolist() == [np.inf if each >= 2000 else each for each in metric]
    assert np.isinf(times["gradients"]).any() and np.isfinite(times["gradients"]).any()


def test_no_target_without_baseline_or_curves(digits: StudyFrames) -> None:
    alone = replace(digits, spec={**digits.spec, "baseline": None})
    for frames in (alone, replace(digits, curves=digits.curves[:0])):
        table = gradients_to_target.to_target(frames, DIGITS)
        assert table.empty and gradients_to_target.target(table, look_of(frames), DIGITS) is None


def test_an_empty_study_has_no_targets() -> None:
    frames = load_study(Writer(memory(), spec(methods=["sgd", "hj"], controls=[])).close())
    table = gradients_to_target.to_target(frames, DIGITS)
    assert table.empty and gradients_to_target.target(table, TWO, DIGITS) is None
    profiles = gradients_to_target.profiles(frames)
    assert profiles[0].empty and gradients_to_target.profile(*profiles, TWO) is None


def test_infinite_times_do_not_break_the_table(six: StudyFrames) -> None:
    table = gradients_to_target.to_target(six, "p0")
    lost: pd.DataFrame = table.assign(median=np.inf, low=np.inf, high=np.inf)
    assert gradients_to_target.target(lost, look_of(six), "p0") is None


def test_profiles_from_five_problems_on(six: StudyFrames, both: StudyFrames) -> None:
    steps, scores = gradients_to_target.profiles(six)
    known = {"sgd": 0.0, "entropy-sgd": 1.0, "heat": 0.0}  # SGD takes 9 times as many gradients: beyond the profile
    assert scores.set_index("method")["score"].to_dict() == known and set(scores["problems"]) == {6}
    figure = gradients_to_target.profile(steps, scores, look_of(six))
    assert figure is not None and figure.figure.data[0]["name"] == "Entropy-SGD 1.00"
    assert all(line["line"]["shape"] == "hv" for line in figure.figure.data)
    few = gradients_to_target.profiles(both)
    assert few[0].empty and gradients_to_target.profile(*few, look_of(both)) is None


def test_hostile_names_are_shown_as_they_are() -> None:
    for name in HOSTILE:
        asked = spec(problems=[DIGITS], methods=["sgd", name], controls=[], looks=[6], trials=2, exploit=0, recommend=0)
        about = synthetic.manifest(asked)
        about["methods"][name] |= {"title": name}
        frames = load_study(synthetic.fill(Writer(memory(), asked, about)))
        table = gradients_to_target.to_target(frames, DIGITS)
        for figure in [gradients_to_target.target(table, look_of(frames), DIGITS)]:
            assert figure is not None and re.fullmatch(r"[A-Za-z0-9._-]+", figure.key)
            assert "<" not in embed(figure)
            for text in texts([figure.figure.data, figure.figure.layout]):
                assert "<script" not in text and "<img" not in text and "<b>bold" not in text
