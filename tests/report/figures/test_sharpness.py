"""Flatness as read, as a table and as a figure: of the runs that count, with gaps where there is none."""

from __future__ import annotations

import base64
import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from relaxbench.analysis.findings import Findings
from relaxbench.analysis.tidy import FLATNESS
from relaxbench.report import StudyFrames, load_study, write_report
from relaxbench.store.facts import Manifest
from tests.report.test_study_page import Page
from tests.synthetic import Writer, memory, spec


def measured(top: float, metric: float, **changes: Any) -> dict[str, Any]:
    flat = {
        "hessian_top": [top, top / 2, top / 4, top / 5, top / 8],
        "hessian_trace": 3 * top,
        "hessian_trace_error": 0.1,
        "local_entropy": {"0.1": None, "0.001": 0.3, "0.01": 0.4},
    }
    return {"train_loss": 0.1, "test_loss": 0.2, "test_metric": metric, **flat, **changes}


def study(without: str = "") -> Writer:
    """Two methods, 7 blocks of 1 trial, 2 fresh seeds; the eigenvalue is 10 + block for SGD, twice that for HJ."""
    asked = spec(methods=["sgd", "hj"], controls=[], looks=[7], trials=1, exploit=0, recommend=2)
    writer = Writer(memory(), asked)
    for factor, method in ((1, "sgd"), (2, "hj")):
        explored = []
        for block in range(7):
            winner = writer.trial("digits-mlp", method, "explore", block, 0, 0.5 + block)
            measures = measured(factor * (10.0 + block), 0.01 * (1 + block))
            measures = {"test_metric": 0.05} if without in (method, "all") else measures
            writer.trial("digits-mlp", method, "confirm", block, 0, 0.5, parent=winner, measures=measures)
            explored.append(winner)
        for number in range(2):
            measures = {"test_metric": 0.05} if without in (method, "all") else measured(5.0, 0.02)
            writer.trial("digits-mlp", method, "recommend", 0, number, 0.4, parent=explored[0], measures=measures)
    return writer


def read(writer: Writer) -> StudyFrames:
    return load_study(writer.close())


def test_one_row_a_run_that_counts() -> None:
    frames = read(study())
    flat = frames.flatness
    assert len(flat) == 2 * (7 + 2) and set(flat["trial_id"]) == {
        *frames.confirmations["id"],
        *frames.recommended["id"],
    }
    names = ["local_entropy_0.001", "local_entropy_0.01", "local_entropy_0.1"]
    assert list(flat.columns)[-10:] == [*FLATNESS, *names]
    hj = flat[(flat["method"] == "hj") & (flat["phase"] == "confirm")].set_index("block")
    assert hj.loc[3, "hessian_top_1"] == 26 and hj.loc[3, "hessian_top_5"] == 26 / 8
    assert hj.loc[3, "hessian_trace"] == 78 and hj.loc[3, "hessian_trace_error"] == pytest.approx(0.1)
    assert hj.loc[3, "test_metric"] == pytest.approx(4.0)  # stored as a fraction, shown in %
    assert (flat["local_entropy_0.01"] == 0.4).all() and flat["local_entropy_0.1"].isna().all()


def test_fewer_eigenvalues_than_five_and_other_gammas() -> None:
    writer = study("sgd")
    winner = writer.trials[0]["id"]
    changes: dict[str, Any] = {"hessian_top": [3.0, -1.0], "local_entropy": {"1e-05": 1.0}}
    writer.trial("digits-mlp", "sgd", "recommend", 0, 9, 0.4, parent=winner, measures=measured(0, 0.1, **changes))
    flat = read(writer).flatness
    row = flat[flat["method"] == "sgd"].iloc[0]
    assert [row[f"hessian_top_{i}"] for i in (1, 2)] == [3, -1] and np.isnan(row["hessian_top_3"])
    assert row["local_entropy_1e-05"] == 1 and np.isnan(row["local_entropy_0.01"])


def test_a_study_without_it_has_an_empty_table_and_no_figure(tmp_path: Path, digits: StudyFrames) -> None:
    for frames in (read(study("all")), digits):
        assert frames.flatness.empty and {"trial_id", "test_metric", *FLATNESS} <= set(frames.flatness.columns)
    page = write_report(Findings.of(read(study("all"))), tmp_path)
    assert len(pd.read_csv(tmp_path / "digits" / "flatness.csv")) == 0
    assert not any(figure["key"].startswith("sharpness") for figure in Page(page.read_text()).figures)


def test_the_page_shows_it_and_carries_the_table(tmp_path: Path) -> None:
    frames = read(study())
    stated: Manifest = {**frames.manifest, "flatness": {"digits-mlp": {"examples": 376, "runs": 7}}}
    page = Page(write_report(Findings.of(replace(frames, manifest=stated)), tmp_path).read_text())
    table = pd.read_csv(io.StringIO(page.packed["digits-flatness.csv"]))
    assert np.allclose(table["hessian_top_1"], frames.flatness["hessian_top_1"]) and len(table) == 18
    (figure,) = [f["figure"] for f in page.figures if f["key"].startswith("sharpness")]
    drawn = {
        trace["name"]: [
            np.frombuffer(base64.b64decode(trace[axis]["bdata"]), dtype=trace[axis]["dtype"]) for axis in "xy"
        ]
        for trace in figure["data"]
    }
    assert set(drawn) == {"SGD", "Hamilton–Jacobi"}
    assert drawn["Hamilton–Jacobi"][0].tolist() == [20, 22, 24, 26, 28, 30, 32]
    assert drawn["SGD"][1].tolist() == pytest.approx([1, 2, 3, 4, 5, 6, 7])
    assert figure["layout"]["xaxis"]["type"] == "log" and "Flatness and generalization" in page.text
    assert "Its loss is that of 376 training examples." in page.text
    assert "All measurements of this problem together cost 15 % of its training." in page.text  # 90 of 600


@pytest.mark.parametrize("tops", [[0.0, -1.0], [2.0, -1.0], [2.0, 2.0]])
def test_eigenvalues_that_have_no_logarithm_are_left_out(tmp_path: Path, tops: list[float]) -> None:
    asked = spec(methods=["sgd"], controls=[], looks=[2], trials=1, exploit=0, recommend=0)
    writer = Writer(memory(), asked)
    for block, top in enumerate(tops):
        winner = writer.trial("digits-mlp", "sgd", "explore", block, 0, 0.5)
        writer.trial("digits-mlp", "sgd", "confirm", block, 0, 0.5, parent=winner, measures=measured(top, 0.1))
    page = Page(write_report(Findings.of(read(writer)), tmp_path).read_text())
    figures = [figure for figure in page.figures if figure["key"].startswith("sharpness")]
    assert len(figures) == (1 if max(tops) > 0 else 0)


def test_gradients_to_a_tolerance_are_not_drawn_against_it(tmp_path: Path) -> None:
    asked = spec(problems=["rosenbrock"], methods=["sgd"], controls=[], looks=[2], trials=1, exploit=0, recommend=0)
    writer = Writer(memory(), asked)
    for block in range(2):
        winner = writer.trial("rosenbrock", "sgd", "explore", block, 0, 0.5)
        writer.trial("rosenbrock", "sgd", "confirm", block, 0, 0.5, parent=winner, measures=measured(3.0, 700))
    frames = read(writer)
    assert len(frames.flatness) == 2
    page = Page(write_report(Findings.of(frames), tmp_path).read_text())
    assert not any(figure["key"].startswith("sharpness") for figure in page.figures)
