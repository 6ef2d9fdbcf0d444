"""Frames as files: `relaxbench.load_study(...).save(...)`."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import relaxbench
from relaxbench.analysis.frames import StudyFrames
from relaxbench.errors import UserError
from relaxbench.store.database import open_database
from tests import synthetic


@pytest.fixture(scope="module")
def digits() -> StudyFrames:
    return relaxbench.load_study(synthetic.fill(synthetic.Writer(synthetic.memory(), synthetic.spec(looks=[3]))))


# The file holds every digit; pandas 3.0 would round the last one, Python reads it.
exact_csv = partial(pd.read_csv, dtype=object)


@pytest.mark.parametrize(("format", "read"), [("csv", exact_csv), ("parquet", pd.read_parquet)], ids=["csv", "parquet"])
def test_every_frame_is_saved_and_read_back(digits: StudyFrames, tmp_path: Path, format: str, read: object) -> None:
    paths = digits.save(tmp_path / "new" / "folder", format)
    assert {path.name for path in paths} == {f"{name}.{format}" for name in digits.tables()}
    assert {path.name for path in (tmp_path / "new" / "folder").iterdir()} == {path.name for path in paths}
    for path in paths:
        table, frame = read(path), digits.tables()[path.stem]  # type: ignore[operator]
        assert len(table) == len(frame) and list(table) == list(frame)
        for column in frame.select_dtypes("number"):
            kept = frame[column].to_numpy()
            assert np.array_equal(table[column].to_numpy(dtype=kept.dtype), kept, equal_nan=kept.dtype.kind == "f")
    trials = read(tmp_path / "new" / "folder" / f"trials.{format}")  # type: ignore[operator]
    assert [json.loads(text) for text in trials["params"]] == list(digits.trials["params"])


def test_an_unknown_format_and_an_unwritable_folder_are_refused(digits: StudyFrames, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="format 'xlsx' is unknown: expected parquet or csv"):
        digits.save(tmp_path, "xlsx")
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"cannot write to .*file'"):
        digits.save(tmp_path / "file", "csv")


def test_a_study_is_loaded_by_path_or_url(tmp_path: Path) -> None:
    path = tmp_path / "some.db"
    engine = open_database(f"sqlite:///{path}")
    synthetic.fill(synthetic.Writer(engine, synthetic.spec(looks=[1], trials=2, exploit=0, recommend=1)))
    engine.dispose()
    for storage in (path, str(path), f"sqlite:///{path}", f"{path}#digits", f"sqlite:///{path}#digits"):
        study = relaxbench.load_study(storage)
        assert len(study.trials) == 6 * 4 and study.name == "digits"
    with pytest.raises(UserError, match="does not exist"):
        relaxbench.load_study(tmp_path / "other.db", "digits")
    assert relaxbench.load_study(f"{path}#digits", "digits").name == "digits"
    with pytest.raises(UserError, match="names the study 'digits', and name is 'other': leave one out"):
        relaxbench.load_study(f"{path}#digits", "other")
    with pytest.raises(AttributeError, match="no attribute 'loads_study'"):
        relaxbench.loads_study  # noqa: B018
