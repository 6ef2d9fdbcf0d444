"""The ratio against the budget: one panel per method, one mark per rung."""

from __future__ import annotations

import pytest

from relaxbench.analysis.verdicts import verdicts
from relaxbench.report import StudyFrames, load_study
from relaxbench.report.figures.ladder import ladder, rungs
from tests import synthetic
from tests.report.figures.looks import look_of
from tests.synthetic import Writer, memory, spec

RUNGS = (600, 2000, 6000)


@pytest.fixture(scope="module")
def frames() -> StudyFrames:
    problems = [f"p@{rung}" for rung in RUNGS]
    asked = spec(problems=problems, methods=["sgd", "hj", "heat"], controls=[], trials=1, exploit=0, recommend=0)
    about = synthetic.manifest(spec())
    usual = about["problems"].pop("digits-mlp")
    for rung in RUNGS:
        about["problems"][f"p@{rung}"] = usual | {"budget": rung, "base": "p", "rung": rung}
    return load_study(synthetic.fill(Writer(memory(), asked, about), {"hj": -2.0}, spread=0.3))


def test_a_panel_per_method_has_a_mark_per_rung(frames: StudyFrames) -> None:
    results = verdicts(frames)
    panels = ladder(results, look_of(frames), "p")
    assert [panel.key for panel in panels] == ["ladder-p-hj", "ladder-p-heat"]
    for method, panel in zip(("hj", "heat"), panels, strict=True):
        known = [each for result in results if result.method == method and (each := result.against("baseline"))]
        assert panel.data is not None and panel.data["rung"].tolist() == list(RUNGS)
        for column in ("ratio", "low", "high", "band_low", "band_high", "verdict"):
            assert panel.data[column].tolist() == [getattr(each, column) for each in known]
        marks = [trace for trace in panel.figure.data if trace["mode"] == "markers"]
        assert [float(mark["x"][0]) for mark in marks] == list(RUNGS)
        assert [float(mark["y"][0]) for mark in marks] == pytest.approx([each.ratio for each in known], rel=1e-6)
    first, second = (panel.figure.layout for panel in panels)
    assert first["yaxis"]["range"] == second["yaxis"]["range"] and first["xaxis"]["range"] == second["xaxis"]["range"]


def test_without_a_ladder_there_is_no_panel(digits: StudyFrames) -> None:
    results = verdicts(digits)
    assert rungs(results, "digits-mlp").empty and ladder(results, look_of(digits), "digits-mlp") == []
