"""`list`: every problem and method, and where their data lie."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from relaxbench.optim.registry import RULES
from relaxbench.problems import PROBLEMS, problem
from relaxbench.problems.data import published
from tests.cli.commands import nothing_written, printed, refused

pytestmark = pytest.mark.usefixtures("folder")


def test_list_names_everything(capsys: pytest.CaptureFixture[str]) -> None:
    with nothing_written():
        out = printed(capsys, "list")
    for name in (*PROBLEMS, *RULES):
        after = ": [0-9,]+ gradients" if name.endswith("-small") else "  "
        assert re.search(rf"^\s+{re.escape(name)}{after}", out, re.MULTILINE), name
    for name in PROBLEMS:
        if not name.startswith("char-lstm"):  # its size is that of an alphabet
            assert f"{problem(name).size:,} parameter" in out
    assert "parameters unknown until its data are here" in out
    assert f"{64 * 32 + 32 + 32 * 10 + 10:,} parameters" in out and "1,797" in out


def test_data_come_from_where_they_are_said_to_be(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    here = Path(os.environ["RELAXBENCH_CACHE"]).parent / "data"  # of these tests, see conftest
    assert "MNIST (MNIST/raw), not here" in printed(capsys, "list")
    out = printed(capsys, "list", "--data-dir", str(here))
    assert re.search(r"data: MNIST, [\d,/]+ for training", out) and f"Data lie in {here}" in out
    fetched: list[str] = []

    def torchvision(source: published.Published, folder: Path, download: bool = False) -> None:
        fetched.append(f"{source.name} {folder} {download}")
        (folder / "MNIST").symlink_to(here / "MNIST")
        offline.undo()  # what is there is read as ever

    line = ("plan", "--problem", "mnist-mlp-tanh-small", "--method", "sgd", "--population", "2", "--data-dir", "new")
    new = Path("new").absolute()
    assert "MNIST is not in" in refused(capsys, *line[:-1], ".")
    with monkeypatch.context() as offline:
        offline.setattr(published, "_torchvision", torchvision)
        assert "mnist-mlp-tanh-small" in printed(capsys, *line, "--download")
    assert fetched == [f"mnist {new} True"]
    assert "mnist-mlp-tanh-small" in printed(capsys, *line)  # it is there now
