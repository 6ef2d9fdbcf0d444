"""The table [track] of a study file."""

from __future__ import annotations

from pathlib import Path

import pytest

from relaxbench.errors import UserError
from relaxbench.study.definition.changes import merge
from relaxbench.study.definition.files import load
from relaxbench.study.definition.track import stored_destination
from relaxbench.trackers.tracker import Destination

TEXT = 'name = "s"\nproblems = ["rosenbrock"]\nmethods = ["sgd"]\n'


def read(tmp_path: Path, table: str) -> Destination | None:
    (tmp_path / "s.toml").write_text(f"{TEXT}[track]\n{table}\n")
    spec, _ = load(tmp_path / "s.toml")
    return stored_destination(spec.model_dump()["track"], "s")


def test_a_destination_is_stored_as_stated(tmp_path: Path) -> None:
    assert read(tmp_path, 'to = "mlflow"') == Destination("mlflow", "relaxbench", "winners", "")
    table = 'to = "wandb"\nproject = "team/p"\nruns = "trials"\nwhere = "files"'
    assert read(tmp_path, table) == Destination("wandb", "team/p", "trials", "files")
    assert stored_destination(None, "s") is None


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ('to = "mlfow"', "track: unknown tracker 'mlfow': did you mean 'mlflow'?"),
        ('to = "neptune"', "known: mlflow, tensorboard, trackio, wandb"),
        ('to = "mlflow"\nproject = " "', "track: project ' ': expected a name, such as 'relaxbench'"),
        ('to = "mlflow"\nruns = "all"', "track.runs = 'all': expected 'winners' or 'trials'"),
        ('to = "mlflow"\nwere = "x"', "table [track]: 'were': did you mean 'where'?"),
        ('project = "p"', "'track.to' is missing, such as to = \"mlflow\" (or tensorboard, trackio, wandb)"),
        ('to = "tensorboard"\nproject = "../x"', "track: project '../x': expected the name of a folder, without /"),
        ('to = "mlflow"\nproject = "a\\nb"', "track: project 'a\\nb': expected at most 200 printable"),
        ('to = "tensorboard"\nwhere = "a\\u0000b"', "track: where 'a\\x00b': expected an address or a folder"),
        ("to = 3", "track.to = 3: expected a text in quotes"),
    ],
)
def test_a_mistake_is_one_line(tmp_path: Path, table: str, message: str) -> None:
    with pytest.raises(UserError) as refused:
        read(tmp_path, table)
    assert message in str(refused.value) and "\n" not in str(refused.value)


def test_a_study_may_change_its_tracker_at_any_time(tmp_path: Path) -> None:
    (tmp_path / "s.toml").write_text(TEXT)
    stored = load(tmp_path / "s.toml")[0].model_dump()
    refused, merged = merge(stored, {**stored, "track": {"to": "mlflow"}})
    assert refused == [] and merged["track"] == {"to": "mlflow"}


def test_a_table_of_another_version_is_refused() -> None:
    with pytest.raises(UserError, match=r"study 's' has a table \[track\] that cannot be read"):
        stored_destination({"to": "mlflow", "more": 1}, "s")
