"""Solutions in the report: validation chooses whose, the figures have the stored numbers, the page stays small."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from relaxbench.analysis.findings import Findings
from relaxbench.analysis.frames import StudyFrames, load_study
from relaxbench.errors import UserError
from relaxbench.pages.theme import Look
from relaxbench.problems import problem
from relaxbench.report import write_report
from relaxbench.report.figures.solution import chosen, solutions
from relaxbench.store.schema import Trial
from relaxbench.store.solutions import pack_solution
from relaxbench.study.execution.trainer import _solution
from relaxbench.training.ledger import Ledger
from relaxbench.training.trial import Job, Outcome
from tests.synthetic import Writer, memory, spec

LEVELS = {"sgd": 0.5, "hj": 0.3, "heat": 0.2}


def study(axes: str = "xt", damaged: bool = False) -> Writer:
    """Three methods with two recommended runs each; the first run has the lower validation loss and its own error."""
    asked = spec(methods=list(LEVELS), controls=[], looks=[6], trials=1, exploit=0, recommend=2)
    writer = Writer(memory(), asked)
    side = [8] * len(axes)
    exact = np.linspace(0, 1, 8 ** len(axes)).reshape(side)
    for method, level in LEVELS.items():
        winners = [writer.trial("digits-mlp", method, "explore", block, 0, 0.5 + block) for block in range(6)]
        for block, winner in enumerate(winners):
            writer.trial("digits-mlp", method, "confirm", block, 0, 0.5, parent=winner, measures={"test_metric": 0.1})
        for number in range(2):
            error = np.full(side, level + number)
            packed = pack_solution("u", axes, [0.0] * len(axes), [1.0] * len(axes), exact, error)
            measures: dict[str, Any] = {
                # The test metric is lowest for the run that is not chosen.
                "validation_loss": level + number / 10, "test_metric": level / 10 - number / 1000,
                "solution": {} if damaged else packed,
            }  # fmt: skip
            writer.trial("digits-mlp", method, "recommend", 0, number, 0.4, parent=winners[0], measures=measures)
    return writer


def read(axes: str = "xt") -> StudyFrames:
    return load_study(study(axes).close())


def test_validation_chooses_the_method_and_the_run() -> None:
    frames = read()
    runs = chosen(frames, "digits-mlp")
    assert [run.method for run in runs] == ["sgd", "heat"]
    assert [float(run.solution.error[0, 0]) for run in runs] == pytest.approx([0.5, 0.2], rel=1e-3)
    assert [run.metric for run in runs] == pytest.approx([5, 2])  # %, of the same runs
    assert chosen(replace(frames, solutions={}), "digits-mlp") == []


def test_heat_maps_show_the_stored_numbers() -> None:
    frames = read()
    runs, look = chosen(frames, "digits-mlp"), Look.of({m: frames.method(m) for m in frames.methods}, "sgd")
    exact, found, away, *best = solutions(runs, look, "digits-mlp", frames.problem("digits-mlp"))
    values = runs[0].solution.exact
    assert np.allclose(exact.figure.data[0]["z"][2], values[:, 2])  # a row of the map has one t
    assert np.allclose(found.figure.data[0]["z"], (values + runs[0].solution.error).T, atol=1e-6)
    trace = away.figure.data[0]
    assert trace["zmin"] == -trace["zmax"] == pytest.approx(-0.5, rel=1e-3) and np.allclose(trace["z"], 0.5, rtol=1e-3)
    assert len(best) == 2 and found.figure.data[0]["zmax"] == exact.figure.data[0]["zmax"]


def test_one_coordinate_gives_curves() -> None:
    frames = read("x")
    runs, look = chosen(frames, "digits-mlp"), Look.of({m: frames.method(m) for m in frames.methods}, "sgd")
    values, errors = solutions(runs, look, "digits-mlp", frames.problem("digits-mlp"))
    assert [trace["name"] for trace in values.figure.data] == ["exact", "SGD", "HEAT"]
    assert np.allclose(values.figure.data[2]["y"], runs[1].solution.trained)
    assert np.allclose(errors.figure.data[0]["y"], 0.5, rtol=1e-3)


def test_the_page_has_them_and_a_damaged_study_is_refused(tmp_path: Path) -> None:
    page = write_report(Findings.of(read()), tmp_path).read_text()
    assert 'id="solution"' in page and page.count('class="canvas" id="solution-') == 5
    with pytest.raises(UserError, match=r"damaged.*a stored solution lacks parts"):
        load_study(study(damaged=True).close())


@pytest.mark.parametrize(
    ("phase", "ending"), [("recommend", "complete"), ("confirm", "complete"), ("recommend", "diverged")]
)
def test_recommended_runs_keep_their_solution(phase: str, ending: str) -> None:
    task = problem("pinn-poisson2d-small")
    weights = task.init(3)
    outcome = Outcome(Job(1, 3, {}), 0.1, ending, {}, Ledger(), np.zeros((5, 1)), None, weights)  # type: ignore[arg-type]
    kept = _solution(task, outcome, Trial(phase=phase))
    assert bool(kept) == (phase == "recommend" and ending == "complete")
    nan = replace(outcome, weights=torch.full_like(weights, torch.nan))
    assert _solution(task, nan, Trial(phase="recommend")) == {}
