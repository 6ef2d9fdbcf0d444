"""Tuning budgets and targets from a study's frames, recomputed from its rows, and what is drawn of them."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from relaxbench.analysis.best_of_n import medians_by_budget, verdict_by_budget
from relaxbench.pages.figure import Figure
from relaxbench.pages.html import embed
from relaxbench.pages.theme import Look
from relaxbench.report import StudyFrames, load_study
from relaxbench.report.figures import gradients_to_target, tuning_budget
from tests import synthetic
from tests.report.test_study_page import HOSTILE
from tests.synthetic import Writer, memory, spec

DIGITS = "digits-mlp"


def look_of(frames: StudyFrames) -> Look:
    return Look.of({label: frames.method(label) for label in frames.methods}, frames.baseline)


def budget_panels(frames: StudyFrames, problem: str = DIGITS) -> tuple[list[Figure], list[Figure]]:
    table, look = tuning_budget.by_budget(frames, problem), look_of(frames)
    medians = tuning_budget.medians(frames, problem)
    return tuning_budget.differences(table, look, problem), tuning_budget.best(table, medians, look, problem)


@pytest.fixture(scope="module")
def six() -> StudyFrames:
    """Six problems; Entropy-SGD learns ten times as fast as SGD, HEAT never reaches the target, on all of them."""
    names = [f"p{index}" for index in range(6)]
    asked = spec(problems=names, methods=["sgd", "entropy-sgd", "heat"], controls=[], blocks=6, trials=1, exploit=0)
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
                writer.trial(name, method, "confirm", block, 0, float(loss[-1]), parent=winner, curve=curve,
                             measures={"test_metric": 0.1})  # fmt: skip
    return load_study(writer.close())


def test_explored_is_every_trial_in_its_place(digits: StudyFrames) -> None:
    found = tuning_budget.explored(digits, DIGITS)
    explore = digits.trials.query("phase == 'explore'").set_index(["method", "block", "number"])["value"]
    assert list(found) == digits.methods
    for method, table in found.items():
        assert table.tolist() == explore[method].unstack().to_numpy().tolist() and table.shape == (10, 12)


def test_unfinished_blocks_are_left_out(digits: StudyFrames) -> None:
    trials = digits.trials.copy()
    chosen = trials.query("method == 'hj' and phase == 'explore' and block == 3 and number == 5").index
    trials.loc[chosen, "status"] = "running"
    table = tuning_budget.by_budget(replace(digits, trials=trials), DIGITS)
    assert set(table.query("method == 'hj'")["compared"].dropna()) == {9}
    assert set(table.query("method == 'heat'")["compared"].dropna()) == {10}
    kept = trials.query("method == 'hj' and phase == 'explore' and block != 3")["value"]
    assert table.query("method == 'hj' and n == 1")["expected"].item() == pytest.approx(kept.mean())


def test_budgets_of_a_repeated_study_are_not_judged(repeated: StudyFrames) -> None:
    assert tuning_budget.by_budget(repeated, DIGITS).empty
    assert budget_panels(repeated) == ([], [])


def test_filled_marks_are_decided(digits: StudyFrames) -> None:
    panels, _ = budget_panels(digits)
    table = tuning_budget.by_budget(digits, DIGITS)
    assert [panel.key for panel in panels] == [f"budget-{DIGITS}-{m}" for m in digits.methods if m != "sgd"]
    marks = 0
    for method, panel in zip([m for m in digits.methods if m != "sgd"], panels, strict=True):
        rows = table[table["method"] == method]
        line = panel.figure.data[-1]
        assert np.asarray(line["y"]) == pytest.approx(rows["difference"].to_numpy(), rel=1e-6)
        filled = [symbol == "circle" for symbol in line["marker"]["symbol"]]
        assert filled == ((rows["p_holm"] <= 0.05) & (rows["difference"] != 0)).tolist()
        marks += sum(filled)
        assert panel.data is not None and panel.data["n"].tolist() == rows["n"].tolist()
    assert marks  # Entropy-SGD and HEAT differ by far


def test_every_panel_shows_one_view_at_a_time(digits: StudyFrames) -> None:
    _, panels = budget_panels(digits)
    ranges = set()
    for panel in panels:
        assert list(panel.views) == [tuning_budget.EXPECTED, tuning_budget.MEDIAN]
        first, second = (np.array(view["visible"]) for view in panel.views.values())
        assert len(first) == len(panel.figure.data) and np.all(first ^ second)
        assert [trace["visible"] for trace in panel.figure.data] == first.tolist()
        ranges.add(json.dumps([view["layout"]["yaxis.range"] for view in panel.views.values()], default=float))
        dotted = [trace for trace in panel.figure.data if trace["line"].get("dash") == "dot"]
        assert len(dotted) == 2  # the baseline's, in either view
        assert panel.data is not None and set(panel.data["view"]) == set(panel.views)
    assert len(ranges) == 1  # panels can be compared by height


def test_every_vertical_axis_has_ticks() -> None:
    """A logarithmic axis from 0.105 to 0.19 would have none."""
    rng = np.random.default_rng(1)
    look = Look({"sgd": "SGD", "hj": "HJ"}, {"sgd": "#010203", "hj": "#0072b2"}, "sgd")
    for low, high in ((0.105, 0.19), (0.1, 0.6), (1e-6, 2.0)):
        blocks = {name: np.exp(rng.uniform(np.log(low), np.log(high), (10, 12))) for name in ("sgd", "hj")}
        table, medians = verdict_by_budget(blocks, "sgd", 1.0), medians_by_budget(blocks, 1.0)
        for view in tuning_budget.best(table, medians, look, "p")[0].views.values():
            bottom, top = view["layout"]["yaxis.range"]
            if view["layout"]["yaxis.type"] == "log":
                ticks = np.log10(view["layout"]["yaxis.tickvals"])
                assert np.sum((bottom < ticks) & (ticks < top)) >= 2
            else:
                assert high < 6 * low and bottom < top


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
    panels, best = budget_panels(alone)
    assert panels == [] and len(best) == len(digits.methods)


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
        asked = spec(problems=[DIGITS], methods=["sgd", name], controls=[], blocks=6, trials=2, exploit=0, recommend=0)
        about = synthetic.manifest(asked)
        about["methods"][name] |= {"title": name}
        frames = load_study(synthetic.fill(Writer(memory(), asked, about)))
        look, (panels, best) = look_of(frames), budget_panels(frames)
        target = gradients_to_target.target(gradients_to_target.to_target(frames, DIGITS), look, DIGITS)
        for figure in [*panels, *best, target]:
            assert figure is not None and re.fullmatch(r"[A-Za-z0-9._-]+", figure.key)
            assert "<" not in embed(figure)
            for text in texts([figure.figure.data, figure.figure.layout]):
                assert "<script" not in text and "<img" not in text and "<b>bold" not in text


def texts(node: Any) -> list[str]:
    """All strings of a figure that plotly would read as markup."""
    if isinstance(node, dict):
        return [text for each in node.values() for text in texts(each)]
    if isinstance(node, (list, tuple)):
        return [text for each in node for text in texts(each)]
    return [node] if isinstance(node, str) else []


def test_losses_below_zero_and_single_blocks_can_be_drawn() -> None:
    rng = np.random.default_rng(0)
    tables = {
        "negative": {"sgd": rng.normal(-3, 1, (8, 6)), "hj": rng.normal(-3, 1, (8, 6))},
        "single": {"sgd": rng.normal(3, 1, (1, 6)), "hj": rng.normal(3, 1, (1, 6))},
        "constant": {"sgd": np.ones((8, 6)), "hj": np.ones((8, 6))},
    }
    look = Look({"sgd": "SGD", "hj": "HJ"}, {"sgd": "#010203", "hj": "#0072b2"}, "sgd")
    for name, blocks in tables.items():
        table = verdict_by_budget(blocks, "sgd", 10.0)
        medians = medians_by_budget(blocks, 10.0)
        drawn = [*tuning_budget.differences(table, look, name), *tuning_budget.best(table, medians, look, name)]
        assert len(drawn) == (1 if name == "single" else 2)
        for figure in drawn:
            assert np.all(np.diff(figure.figure.layout["yaxis"]["range"]) > 0)
            for trace in figure.figure.data:
                assert np.isfinite(np.asarray(trace["y"], dtype=float)).all()


def test_infinite_times_do_not_break_the_table(six: StudyFrames) -> None:
    table = gradients_to_target.to_target(six, "p0")
    lost: pd.DataFrame = table.assign(median=np.inf, low=np.inf, high=np.inf)
    assert gradients_to_target.target(lost, look_of(six), "p0") is None
