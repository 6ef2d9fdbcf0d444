"""`doctor`: what works, what is broken, and no password."""

from __future__ import annotations

from pathlib import Path

import pytest

from relaxbench.cli.doctor import _storage
from relaxbench.cli.main import main
from relaxbench.store.database import open_database
from tests.cli.commands import nothing_written, printed
from tests.postgres import Server

pytestmark = pytest.mark.usefixtures("folder")


def test_doctor_tells_what_works_and_writes_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with nothing_written():
        out = printed(capsys, "doctor")
    for part in ("Python", "PyTorch", "torchvision", "GPU", "storage", "data folder", "population engine"):
        assert part in out
    assert "will be created" in out and "✗ broken" not in out


@pytest.mark.parametrize("storage", ["no/such/x.db", "junk.db", "."])
def test_doctor_tells_of_a_storage_that_cannot_work(storage: str, capsys: pytest.CaptureFixture[str]) -> None:
    Path("junk.db").write_text("this is not a database at all")
    with nothing_written():
        assert main(["doctor", "--storage", storage]) == 1
    (line,) = (line for line in capsys.readouterr().out.splitlines() if line.startswith("storage"))
    assert "✗ broken" in line


def test_doctor_names_a_data_folder_that_is_not_there(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a pipe lines are not wrapped, however long: a path can be copied."""
    folder = f"/no/such/{'long/' * 60}folder"
    monkeypatch.setenv("RELAXBENCH_DATA", folder)
    assert main(["doctor"]) == 1
    assert f"{folder} is not a folder" in capsys.readouterr().out


def test_doctor_shows_no_password_among_the_parameters(server: Server) -> None:
    url = f"{server.new_url()}&password=geheim"
    open_database(url).dispose()
    finding = _storage(url)
    assert finding.state == "works" and "password=***, 0 studies" in finding.what and "geheim" not in finding.what
