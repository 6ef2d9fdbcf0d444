"""Schedules of the scope: which trials are drawn, in which fifth, and from where to where."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from relaxbench.report import StudyFrames
from relaxbench.report.figures.scope_schedules import MAX_POINTS, sampled, schedules
from tests.report.figures.looks import DIGITS, look_of


def test_schedules_are_those_of_the_trials_and_end_where_they_end(digits: StudyFrames) -> None:
    table = sampled(digits, DIGITS, "hj")
    explore = digits.trials.query("method == 'hj' and phase == 'explore'").set_index("id")
    assert set(table["trial_id"]) == set(explore.index) and set(table["total"]) == {120}
    winners = digits.blocks.query("method == 'hj'")["winner"]
    assert set(table.loc[table["winner"], "trial_id"]) == set(winners)
    assert table.groupby("trial_id").size().max() <= MAX_POINTS
    last = table.groupby("trial_id").last()
    ends = [explore.loc[trial, "params"]["gamma_end"] for trial in last.index]
    assert last["gamma"].to_numpy() == pytest.approx(ends, rel=1e-4)
    fifths = table.groupby("trial_id")["fifth"].first()
    assert fifths.value_counts().to_dict() == dict.fromkeys(range(5), 24)
    values = explore["value"].loc[fifths.index].groupby(fifths)
    assert (values.max().to_numpy()[:-1] <= values.min().to_numpy()[1:]).all()


def test_winners_are_drawn_over_the_other_lines(digits: StudyFrames) -> None:
    figure = schedules(sampled(digits, DIGITS, "hj"), look_of(digits), DIGITS, "hj", "gamma")
    assert figure is not None
    names = [trace["name"] for trace in figure.figure.data]
    assert names == ["worst fifth", "fourth", "third", "second", "best fifth", "won its block"]
    gaps = sum(int(np.isnan(trace["y"]).sum()) for trace in figure.figure.data)
    assert gaps == 120 - len(names)  # between two lines of a trace


def test_a_method_without_a_scope_has_no_schedules(digits: StudyFrames) -> None:
    table = sampled(digits, DIGITS, "sgd")
    assert table.empty and schedules(table, look_of(digits), DIGITS, "sgd", "gamma") is None


def test_a_run_measured_once_has_no_line(digits: StudyFrames) -> None:
    explore = digits.trials.query("method == 'hj' and phase == 'explore'")["id"]
    curves = digits.curves.sort_values(["trial_id", "gradients"])
    once = curves["trial_id"].isin(explore[:7]) & curves.duplicated("trial_id")
    table = sampled(replace(digits, curves=curves[~once]), DIGITS, "hj")
    assert not set(table["trial_id"]) & set(explore[:7]) and set(table["total"]) == {113}
    assert table.groupby("trial_id").size().min() > 1
