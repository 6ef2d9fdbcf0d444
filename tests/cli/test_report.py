"""The commands that show studies: what they print and write, how they refuse, and that Ctrl-C ends them."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from relaxbench.cli.console import console
from relaxbench.cli.main import main
from relaxbench.store.database import open_database
from tests import synthetic
from tests.cli.commands import refused
from tests.processes import Forked
from tests.server.test_dashboard import fill
from tests.server.test_wsgi import ask


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a database of two studies, before and after."""
    engine = open_database(str(tmp_path / "relaxbench.db"))
    for seed, name in enumerate(("before", "after")):
        spec = synthetic.spec(name=name, methods=["sgd", "hj"], controls=[], trials=2, exploit=0, recommend=0)
        synthetic.fill(synthetic.Writer(engine, spec), {"hj": -2.0}, spread=0.35, seed=seed)
    engine.dispose()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(console, "width", 300)
    return tmp_path


def test_two_studies_are_compared(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", "--compare", "before", "after"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "before says better (" in lines[1] and "; after says better (" in lines[1] and "They agree." in lines[1]
    assert lines[-1] == "Comparison: reports/compare-before-after.html"
    assert (folder / "reports" / "compare-before-after.html").is_file()


def test_all_studies_are_listed(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", "--all"]) == 0
    out = capsys.readouterr().out
    assert "before: 46 of 46 trials; reports/before.html\n" in out and out.endswith("\nIndex: reports/index.html\n")
    assert {file.name for file in (folder / "reports").glob("*.html")} == {"before.html", "after.html", "index.html"}


def test_one_study_is_reported_as_ever(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", "before"]) == 0
    assert capsys.readouterr().out.endswith("\nReport: reports/before.html\n")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--all", "--compare", "before", "after"], "--compare and --all exclude each other"),
        (["--all", "--watch"], "--all and --watch exclude each other"),
        (["before", "--all"], "study 'before' and --all exclude each other"),
        (["before", "--compare", "before", "after"], "study 'before' and --compare exclude each other"),
        (["before", "--port", "8000"], "--port goes with --watch"),
        (["--all", "--every", "3"], "--every goes with --watch"),
        (["before", "--no-browser"], "--no-browser goes with --watch"),
        (["before", "--watch", "--every", "0"], "--every 0: expected a positive number of seconds"),
        (["before", "--watch", "--every", "nan"], "--every nan: expected a positive number of seconds"),
        (["before", "--watch", "--port", "-1"], "port -1: expected 1 to 65535, or 0 for a free one (option --port)"),
        (["--watch"], "which study? there are 2"),
        (["--compare", "before"], "requires 2 arguments"),
    ],
)
def test_what_does_not_go_together_is_refused_in_one_line(
    arguments: list[str], said: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["report", *arguments]) == 2
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1
    assert not (folder / "reports").exists()


@pytest.fixture
def served(folder: Path) -> Iterator[tuple[Forked, str, str]]:
    """`report --watch` as a process: it, its first line and its address."""
    yield from _serve("report", "before", "--watch", "--no-browser")


@pytest.fixture
def shown(folder: Path) -> Iterator[tuple[Forked, str, str]]:
    """`dashboard` as a process."""
    fill(str(folder / "trials.db"))
    yield from _serve("dashboard", "--storage", "trials.db")


def _serve(*arguments: str) -> Iterator[tuple[Forked, str, str]]:
    command = ["-u", "-m", "relaxbench", *arguments]
    process = Forked(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert "http://" in line, process.communicate()[1]
        yield process, line, f"http{line.partition('http')[2].split()[0]}"
    finally:
        process.kill()
        process.communicate()


def test_a_study_is_watched_up_to_ctrl_c(served: tuple[Forked, str, str], folder: Path) -> None:
    process, line, address = served
    assert process.stdout is not None
    assert line.startswith("Study before: http://127.0.0.1:")
    assert process.stdout.readline() == "Study before is finished; its page stays until Ctrl-C.\n"
    assert b"Verdicts so far" in ask(address)[2] and b'"finished": true' in ask(address, "/state.json")[2]
    assert (folder / "reports" / "before.html").is_file()
    process.send_signal(signal.SIGINT)
    assert process.communicate(timeout=60) == ("", "") and process.returncode == 0


def test_the_dashboard_is_served_up_to_ctrl_c(shown: tuple[Forked, str, str]) -> None:
    process, line, address = shown
    assert line.startswith("optuna-dashboard, read-only: http://127.0.0.1:")
    assert b"s/digits-mlp/sgd/explore" in ask(address, "/api/studies")[2]
    process.send_signal(signal.SIGINT)
    assert process.communicate(timeout=60) == ("", "") and process.returncode == 0


def test_a_report_folder_that_is_a_file_is_refused(capsys: pytest.CaptureFixture[str], storage: str) -> None:
    Path("reports").write_text("")
    assert "reports" in refused(capsys, "report", "--storage", storage)
