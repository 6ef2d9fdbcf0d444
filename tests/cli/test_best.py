"""`best` names the trial that the study's page names, in the middle of a study too."""

from __future__ import annotations

from pathlib import Path

import pytest

from relaxbench.analysis.frames import load_study
from relaxbench.cli import main as cli
from relaxbench.store.database import open_database
from tests.synthetic import Writer, manifest, spec


def test_best_and_the_page_agree_amid_ties_and_diverged_trials(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """An extended study: an equal trial of the plan's first block came later than the one that was recommended."""
    storage = str(tmp_path / "study.db")
    asked = spec(methods=["sgd"], controls=[], blocks=2, trials=2, exploit=4, recommend=1)
    about = manifest(asked)
    about["methods"]["sgd"]["options"] = {}
    writer = Writer(open_database(storage), asked, about)
    place = ("digits-mlp", "sgd")
    writer.trial(*place, "explore", 0, 0, 10.0, params={"lr": 0.9}, diverged=True)
    early = writer.trial(*place, "exploit", 0, 0, 0.2, params={"lr": 0.5})
    writer.trial(*place, "exploit", 0, 1, None, status="running")
    second = writer.trial(*place, "explore", 1, 1, 0.2, params={"lr": 0.4})
    first = writer.trial(*place, "explore", 0, 1, 0.2, params={"lr": 0.3})
    for parent, metric in ((early, 0.05), (second, 0.04), (first, 0.02)):
        measures = {"test_loss": 0.3, "test_metric": metric, "validation_loss": 0.3}
        writer.trial(*place, "recommend", 0, 0, 0.3, parent=parent, params={"lr": 0.3}, measures=measures)
    writer.close().dispose()
    assert cli.main(["best", "digits", "sgd", "--storage", storage]) == 0
    shown = capsys.readouterr().out
    frames = load_study(storage)
    assert frames.recommended["source"].tolist() == [first]
    assert f"(trial {first})" in shown and "lr=0.3," in shown
    assert f"{frames.recommended['test_metric'].iloc[0]:.2f}" in shown
