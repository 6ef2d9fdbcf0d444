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
        if not name.startswith(("char-lstm", "tiny-transformer")):  # their size is that of an alphabet
            assert f"{problem(name).size:,} parameter" in out
    assert "parameters unknown until its data are here" in out
    assert f"{64 * 32 + 32 + 32 * 10 + 10:,} parameters" in out and "1,797" in out


def test_list_shows_the_three_spaces_of_a_method(capsys: pytest.CaptureFixture[str]) -> None:
    out = " ".join(printed(capsys, "list").split())
    entry = out[out.index("hj-implicit Hamilton–Jacobi (implicit)") : out.index("heat Heat equation")]
    assert "searched by default: lr 0.003 to 3 (log); inner_steps 5 or 10; gamma_start 0.01 to 1 (log); " in entry
    assert "kept by default: momentum 0.9; averaging 0.75; gamma_end 0.01; scoping geometric" in entry
    assert "in the wide space: lr 0.001 to 1 (log); inner_steps 6 to 30 in steps of 2; momentum 0 to 0.99; " in entry
    assert "published for fully-connected: lr 0.1*; inner_steps 5; momentum 0.9; " in entry
    assert "(* not given by the source); others for mnist-conv, cifar-10" in entry
    assert "option mpi_code = false: Take the steps of the released parle_mpi.py" in out
    sgd = out[out.index("sgd SGD") : out.index("sgd-ema SGD with EMA")]
    assert "kept by default" not in sgd and "in the wide space" not in sgd


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

    line = ("plan", "--problem", "mnist-mlp-tanh-small", "--method", "sgd", "--population", "2", "--budget", "20")
    line += ("--data-dir", "new")
    new = Path("new").absolute()
    assert "MNIST is not in" in refused(capsys, *line[:-1], ".")
    with monkeypatch.context() as offline:
        offline.setattr(published, "_torchvision", torchvision)
        assert "mnist-mlp-tanh-small" in printed(capsys, *line, "--download")
    assert fetched == [f"mnist {new} True"]
    out = printed(capsys, "list", "--data-dir", "new")  # it is there now
    assert re.search(r"data: MNIST, [\d,/]+ for training", out)
