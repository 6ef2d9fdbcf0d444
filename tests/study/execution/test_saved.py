"""A checkpoint is used for the trial that wrote it, and for no other; one that is not used is no failure."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from relaxbench.store.database import open_database
from relaxbench.study.coordination.manifest import edit_manifest
from tests.study import tiny
from tests.study.checkpoint_files import content, rewrite

SMALL: dict[str, Any] = {
    "methods": ["sgd"],
    "exploit": 0,
    "recommend": 0,
    "looks": [1],
    "trials": 3,
    "flatness": False,
}
Damage = Callable[[Any], Any]


def said_by(folder: Path, s: Any) -> list[str]:
    """Run a study to its end; what is said of checkpoints."""
    said: list[str] = []
    assert tiny.run(folder, s, announce=said.append).missing == 0
    assert {(row.failures, row.status) for row in tiny.rows(folder)} == {(0, "done")}
    return [line for line in said if "checkpoint" in line]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("undisturbed")
    with pytest.MonkeyPatch.context() as patch:
        tiny.set_engine(patch)
        tiny.run(folder, tiny.spec(**SMALL))
    return tiny.results(folder)


def change(**values: Any) -> Damage:
    """Other values in the checkpoint itself."""
    return lambda found: {**found, "checkpoint": {**found["checkpoint"], **values}}


def grown(found: Any) -> Any:
    """A counter beyond the end, with a curve that fits it."""
    curve = found["checkpoint"]["curve"]
    return change(done=40, curve=[curve[0]] * 8)(found)


DAMAGES: dict[str, Damage] = {
    "a list": lambda found: [1, 2],
    "none": lambda found: None,
    "a number for the checkpoint": lambda found: {**found, "checkpoint": 3},
    "no state": lambda found: {**found, "checkpoint": {"done": 5}},
    "state none": change(state=None),
    "a state of lists": lambda found: change(state={name: [1.0] for name in found["checkpoint"]["state"]})(found),
    "another type": lambda found: change(state={n: v.double() for n, v in found["checkpoint"]["state"].items()})(found),
    "a counter beyond the end": grown,
    "a counter within a round": change(done=3),
    "a counter below zero": change(done=-5),
    "a counter that is text": change(done="5"),
    "a ledger with other keys": change(ledger={"gradients": 5}),
    "a ledger that is not finite": lambda found: change(ledger={**found["checkpoint"]["ledger"], "jvps": float("nan")})(
        found
    ),
    "a ragged curve": lambda found: change(curve=[row[:-1] for row in found["checkpoint"]["curve"]])(found),
    "a short curve": change(curve=[]),
    "a curve of text": lambda found: change(curve=[["x"] * 5 for _ in found["checkpoint"]["curve"]])(found),
    "reached is text": change(reached="soon"),
    "another seed": lambda found: {**found, "stamp": {**found["stamp"], "seed": 1}},
    "other params": lambda found: {**found, "stamp": {**found["stamp"], "params": {}}},
    "another problem": lambda found: {**found, "stamp": {**found["stamp"], "identity": "0"}},
    "a later claim": lambda found: {**found, "claim": 99},
}


@pytest.mark.usefixtures("steady")
def test_what_is_damaged_or_of_another_trial_is_not_used_said_once_and_no_failure(tmp_path: Path) -> None:
    """One trial for each damage. With weights from elsewhere, a trial that takes them up has other results."""
    size = len(DAMAGES) + 12  # some diverge in their first round, and leave no file
    s = tiny.spec(**{**SMALL, "trials": size})
    (tmp_path / "whole").mkdir()
    tiny.run(tmp_path / "whole", s, population=size)
    tiny.run(tmp_path, s, tiny.After(3), population=size)
    files = sorted((tmp_path / "checkpoints").glob("*.pt"))
    damaged = dict(zip(DAMAGES, files, strict=False))
    assert damaged.keys() == DAMAGES.keys()
    for name, file in damaged.items():
        found = content(file)
        found["checkpoint"]["state"]["x"] += 0.25
        rewrite(file, DAMAGES[name](found))
    (line,) = said_by(tmp_path, s)
    assert line.startswith("the checkpoint of trial ") and "begins anew" in line and "\n" not in line
    value, expected = ({row.id: row.value for row in tiny.rows(folder)} for folder in (tmp_path, tmp_path / "whole"))
    ids = {name: int(file.stem.rpartition("-")[2]) for name, file in damaged.items()}
    assert [name for name, trial in ids.items() if value[trial] != expected[trial]] == []
    assert tiny.results(tmp_path) == tiny.results(tmp_path / "whole")


@pytest.mark.usefixtures("steady")
def test_a_flipped_bit_and_a_file_of_an_earlier_version_are_not_used(tmp_path: Path, undisturbed: Any) -> None:
    s = tiny.spec(**SMALL)
    tiny.run(tmp_path, s, tiny.After(3))
    flipped, earlier, empty = sorted((tmp_path / "checkpoints").glob("*.pt"))
    data = bytearray(flipped.read_bytes())
    data[len(data) // 2] ^= 1
    flipped.write_bytes(bytes(data))
    torch.save(content(earlier)["checkpoint"], earlier)
    empty.write_bytes(b"")
    assert len(said_by(tmp_path, s)) == 1
    assert tiny.results(tmp_path) == undisturbed


@pytest.mark.usefixtures("steady")
def test_what_is_whole_is_used_and_nothing_is_said(tmp_path: Path, undisturbed: Any) -> None:
    s = tiny.spec(**SMALL)
    tiny.run(tmp_path, s, tiny.After(3))
    for file in (tmp_path / "checkpoints").glob("*.pt"):
        found = content(file)
        found["checkpoint"]["ledger"]["jvps"] += 1.0  # to see that it was taken up
        rewrite(file, found)
    assert said_by(tmp_path, s) == []
    bills = [dict(row[6])["jvps"] for key, row in tiny.results(tmp_path).items() if key[2] == "explore"]
    assert bills == [1.0, 1.0, 1.0]


@pytest.mark.usefixtures("steady")
def test_checkpoints_of_another_life_of_the_database_are_not_used(tmp_path: Path) -> None:
    """A backup is restored and extended otherwise: the same numbers are now other trials of the same shape."""
    small = tiny.spec(**SMALL)
    tiny.run(tmp_path, small)
    backup = tmp_path / "backup.db"
    shutil.copy(tmp_path / "study.db", backup)
    tiny.run(tmp_path, tiny.spec(**{**SMALL, "problems": ["rosenbrock", "rosenbrock-mild"]}), tiny.After(3))
    left = {file.name for file in (tmp_path / "checkpoints").glob("*.pt")}
    assert len(left) == 3
    shutil.copy(backup, tmp_path / "study.db")
    other = tiny.spec(**{**SMALL, "problems": ["rosenbrock", "rosenbrock-noisy"]})
    assert len(said_by(tmp_path, other)) == 1
    fresh = tmp_path / "fresh"
    fresh.mkdir()
    tiny.run(fresh, other)
    assert tiny.results(tmp_path) == tiny.results(fresh)


@pytest.mark.usefixtures("steady")
def test_a_checkpoint_of_another_engine_is_not_used(tmp_path: Path) -> None:
    """Its sums were added in another order."""
    s = tiny.spec(**SMALL)
    tiny.run(tmp_path, s, tiny.After(3))
    database = open_database(str(tmp_path / "study.db"))

    def edit(manifest: Any) -> None:
        manifest["engines"]["rosenbrock"]["path"] = "direct"

    edit_manifest(database, 1, edit)
    database.dispose()
    (line,) = said_by(tmp_path, s)
    assert "method or engine" in line
