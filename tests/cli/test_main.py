"""Every command answers --help and refuses bad options in one line; so does the process."""

from __future__ import annotations

import os
import subprocess
import sys
import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from relaxbench import run_study
from relaxbench.cli.main import main
from relaxbench.errors import UserError
from relaxbench.store.database import open_database
from tests.cli.commands import environment, nothing_written, printed, refused

pytestmark = pytest.mark.usefixtures("folder")


COMMANDS = (
    *(
        "study",
        "ablate",
        "log",
        "worker",
        "status",
        "reap",
        "plan",
        "report",
        "atlas",
        "dashboard",
        "list",
        "show",
        "best",
    ),
    *("copy", "export", "import", "upgrade"),
    *("doctor", "bench", "check", "theory", "reproduce"),
)


BAD_OPTIONS: list[tuple[tuple[str, ...], tuple[str, ...]]] = [
    (("study", "--report", "/dev/null/x"), ("--report '/dev/null/x'", "'/dev/null' is not a folder")),
    (("study", "--checkpoints", "/dev/null"), ("--checkpoints", "is not a folder")),
    (("study", "--method", "sdg"), ("unknown method 'sdg'", "did you mean 'sgd'?")),
    (("study", "--problem", "digits-mpl"), ("unknown problem 'digits-mpl'", "did you mean 'digits-mlp'?")),
    (("study", "--budget", "0"), ("--budget 0", "at least 1")),
    (("study", "--budget", "-3"), ("--budget -3", "at least 1")),
    (("study", "--budget", "many"), ("--budget", "integer")),
    (("study", "--looks", "0"), ("--looks 0", "expected at least 1")),
    (("study", "--looks", "ten"), ("--looks 'ten'", "such as 10,20,40")),
    (("study", "--looks", "5,10"), ("relaxbench: --looks [5, 10]: a look at 5 blocks comes too early",)),
    (("study", "--looks", "20,10"), ("relaxbench: --looks [20, 10]: 10 blocks come after 20",)),
    (("study", "--more-blocks", "0"), ("--more-blocks 0", "at least 1")),
    (("study", "--blocks", "10"), ("--blocks",)),
    (("study", "--trials", "0"), ("--trials 0",)),
    (("study", "--population", "0"), ("--population 0", "expected 1 to 100,000")),
    (("study", "--name", ""), ("relaxbench: --name '': ", "at least 1 character")),
    (("study", "--budget", "9" * 20), (f"relaxbench: --budget {'9' * 20}: ", "expected at most 1,000,000,000,000")),
    (("study", "--trials", "999999999"), ("relaxbench: --trials 999999999: ", "expected at most 10,000,000")),
    (("study", "--workers", "2.5"), ("--workers", "valid integer", "given '2.5'")),
    (("study", "--checkpoints", ""), ("'--checkpoints'", "'' names no file or folder")),
    (("study", "--report", ""), ("'--report'", "'' names no file or folder")),
    (("study", "--data-dir", ""), ("'--data-dir'", "'' names no file or folder")),
    (("bench", "--json", ""), ("'--json'", "'' names no file or folder")),
    (("best", "tiny", "sgd", "--weights", ""), ("'--weights'", "'' names no file or folder")),
    (("study", "missing.toml"), ("'missing.toml' does not exist", "such as studies/", "relaxbench's own are in")),
    (
        ("study", "studies/digit.toml"),
        ("digit.toml", "does not exist", "such as studies/digits.toml, studies/aa-digits.toml, "),
    ),
    (("study", "--device", "cuda:77"), ("cuda:77", "not there", "use cpu")),
    (("study", "--device", "cuda:99999"), ("'cuda:99999' is not there",)),
    (("study", "--device", "gpu"), ("'gpu'", "auto, cpu, cuda or cuda:N")),
    (("study", "--device", "mps"), ("mps", "auto, cpu, cuda or cuda:N")),
    (("study", "--problem", "mine.py"), ("mine.py", "does not exist")),
    (("study", "--storage", "no/such/folder/x.db"), ("no/such/folder", "does not exist")),
    (("study", "--storage", "."), ("folder",)),
    (("study", "--storage", ""), ("storage",)),
    (("study", "--storage", "sqlite://"), ("storage",)),
    (("study", "--storage", "nosuchdb://x/y"), ("nosuchdb", "driver")),
    (("study", "--storage", "postgresql+psycopg://me:geheim@127.0.0.1:1/db"), ("cannot be used",)),
    (("study", "--methods", "sgd"), ("--methods",)),
    (("study", "a.toml", "b.toml"), ("b.toml",)),
    (("study", "--seed", "-1"), ("--seed -1", "0 or more")),
    (("study", "--data-dir", "no/such/folder"), ("--data-dir 'no/such/folder' is not a folder",)),
    (("study", "--data-dir", "/dev/null/x", "--download"), ("--data-dir '/dev/null/x'", "'/dev/null' is not a folder")),
    (("study", "--problem", "allcnn-bn", "--data-dir", "."), ("CIFAR-10 is not in", "--data-dir", "--download")),
    (("study", "--problem", "lenet:cifar10", "--data-dir", "."), ("CIFAR-10 is not in",)),
    (
        ("study", "--problem", "allcnn-bn:pets.zip", "--data-dir", "."),
        ("pets.zip' does not exist", "train/CLASS/*.jpg"),
    ),
    (("study", "--problem", "vggf", "--download"), ("vggf:FOLDER",)),
    (("plan", "--problem", "char-lstm:novel.txt"), ("novel.txt' does not exist",)),
    (("list", "--data-dir", "/dev/null"), ("is not a folder",)),
    (("check", "lenett:mnist"), ("unknown method or problem 'lenett:mnist'",)),
    (("study", "--seed", str(2**63)), ("--seed", "less than 2⁶³")),
    (("stduy",), ("stduy",)),
    (("plan", "--device", "cuda:77"), ("cuda:77",)),
    (("plan", "--budget", "0"), ("--budget 0",)),
    (
        ("plan", "--problem", "rugged-1d", "--method", "sgd", "--population", "8", "--spread", "-1"),
        ("--spread -1", "positive"),
    ),
    (("plan", "--population", "-1"), ("--population -1",)),
    (("show",), ("relaxbench.db", "does not exist")),
    (("report",), ("relaxbench.db", "does not exist")),
    (("best", "tiny", "sgd"), ("relaxbench.db", "does not exist")),
    (("best", "tiny"), ("'method'",)),
    (("bench", "--device", "cuda:77"), ("cuda:77",)),
    (
        ("bench", "--json", "/proc/nowhere/x.json"),
        ("/proc/nowhere/x.json", "the folder '/proc/nowhere' does not exist"),
    ),
    (("bench", "--report", "/proc/nowhere"), ("--report '/proc/nowhere'", "'/proc' is not writable")),
    (("study", "--report", "/proc/nowhere"), ("--report '/proc/nowhere'", "'/proc' is not writable")),
    (("study", "--checkpoints", "/proc/nowhere"), ("--checkpoints '/proc/nowhere'", "'/proc' is not writable")),
    (("study", "--problem", "allcnn-bn:"), ("'allcnn-bn:' names no data after the colon",)),
    (("bench", "--only", "step"), ("unknown part 'step'", "did you mean 'steps'?")),
    (("bench", "--only", "nope"), ("unknown part 'nope': known: allcnn, alone, busy",)),
    (("bench", "--only", "ledger", "--compile"), ("the parts 'residual' and 'steps'", "(options --compile, --only)")),
]


@pytest.mark.parametrize(("arguments", "parts"), BAD_OPTIONS, ids=lambda value: " ".join(value))
def test_bad_options_are_one_line_and_code_2(
    arguments: tuple[str, ...], parts: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    line = refused(capsys, *arguments)
    assert "geheim" not in line
    for part in parts:
        assert part in line


@pytest.mark.parametrize(
    ("arguments", "command"),
    [
        (("study", "--nope"), "study "),
        (("study", "a.toml", "b.toml"), "study "),
        (("study", "--trials", "x"), "study "),
        (("best", "tiny"), "best "),
        (("bench", "--device"), "bench "),
        (("stduy",), ""),
        (("--nope",), ""),
    ],
)
def test_a_usage_error_names_the_help_of_the_command_that_was_typed(
    arguments: tuple[str, ...], command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    line = refused(capsys, *arguments)
    assert line.rstrip().endswith(f"(see python -m relaxbench {command}--help)") and "--name" not in line


def test_without_a_command_the_help_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    out, err = capsys.readouterr()
    assert "Usage: relaxbench" in out and "study" in out and err == ""


def test_a_newer_storage_is_refused_and_left_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    from sqlalchemy import text

    database = open_database("relaxbench.db")
    with database.begin() as connection:
        connection.execute(text("UPDATE relaxbench_version SET version_num = '9999'"))
    database.dispose()
    for arguments in (("study",), ("show",), ("best", "digits", "sgd"), ("report",)):
        line = refused(capsys, *arguments)
        assert "newer version" in line and "upgrade" in line


def test_a_junk_storage_is_refused_and_left_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    Path("relaxbench.db").write_text("not a database, but somebody's diary")
    for arguments in (("study",), ("show",), ("report",)):
        assert "not a SQLite database" in refused(capsys, *arguments)


def test_on_windows_commands_and_studies_are_refused_in_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A supervisor has no signals there, and a trial of a script cannot be forked."""
    monkeypatch.setattr("relaxbench.errors.os", SimpleNamespace(name="nt"))
    line = "studies need Linux or macOS: on Windows, run relaxbench in WSL, the Linux within Windows"
    assert refused(capsys, "study") == f"relaxbench: {line}\n"
    with pytest.raises(UserError, match=line):
        run_study()


def test_unknown_studies_methods_and_problems_are_named(capsys: pytest.CaptureFixture[str], storage: str) -> None:
    at = ("--storage", storage)
    assert "did you mean 'small'?" in refused(capsys, "show", "smal", *at)
    assert "did you mean 'small'?" in refused(capsys, "report", "smal", *at)
    assert "did you mean 'small'?" in refused(capsys, "best", "smal", "sgd", *at)
    assert "did you mean 'heat'?" in refused(capsys, "best", "small", "haet", *at)
    assert "did you mean 'digits-mlp'?" in refused(capsys, "best", "small", "sgd", "--problem", "digit-mlp", *at)
    assert "cannot be written" in refused(capsys, "best", "small", "sgd", "--weights", "no/such/x.pt", *at)


def test_help_version_and_exit_codes_of_the_process(folder: Path) -> None:
    """In one process each, as a person starts them: --help is quick since nothing heavy is imported for it."""
    python = [sys.executable, "-m", "relaxbench"]
    options: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "env": environment()}
    helped = subprocess.Popen([*python, "--help"], cwd=folder, **options)
    bad = subprocess.Popen([*python, "study", "missing.toml"], cwd=folder, **options)
    out, _ = helped.communicate(timeout=120)
    assert helped.returncode == 0 and all(name in out for name in COMMANDS)
    out, err = bad.communicate(timeout=120)
    assert (bad.returncode, out, err.count("\n")) == (2, "", 1) and "missing.toml" in err
    assert not list(folder.iterdir())


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_explains_itself(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with nothing_written():
        out = printed(capsys, name, "--help")
        assert printed(capsys, name, "-h") == out
    assert "Usage: relaxbench" in out and name in out
    options = out[out.index("Options") :]
    assert not any(f"<{kind}" in options for kind in ("bool", "str", "int", "float", "list", "Path"))


@pytest.mark.parametrize(
    ("line", "word", "proposed"),
    [
        ("relaxbench ", 1, [*COMMANDS, "stress"]),
        ("relaxbench sho", 1, ["show"]),
        ("relaxbench best --w", 2, ["--weights"]),
    ],
)
def test_a_shell_completes_commands_and_options(
    line: str, word: int, proposed: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COMP_WORDS", line)
    monkeypatch.setenv("COMP_CWORD", str(word))
    monkeypatch.setenv("_RELAXBENCH_COMPLETE", "complete_bash")
    with nothing_written(), pytest.raises(SystemExit) as ended:
        main([])
    out, err = capsys.readouterr()
    assert (ended.value.code, sorted(out.split()), err) == (0, sorted(proposed), "")


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    import relaxbench

    assert printed(capsys, "--version") == f"relaxbench {relaxbench.__version__}\n"


@pytest.mark.parametrize("wish", [None, "ACTIVE"])
def test_threads_do_not_spin_unless_a_person_wants_it(
    wish: str | None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("OMP_WAIT_POLICY", wish or "")  # so that monkeypatch restores it
    if wish is None:
        monkeypatch.delenv("OMP_WAIT_POLICY")
    assert main(["--help"]) == 0 and capsys.readouterr().out
    assert os.environ["OMP_WAIT_POLICY"] == (wish or "PASSIVE")


def test_check_keeps_pytorchs_hints_on_speed_to_itself(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def looping(suite: object) -> list[object]:
        warnings.warn("There is a performance drop because of aten::attention", UserWarning, stacklevel=1)
        return []

    monkeypatch.setattr("relaxbench.testing.runner.run_checks", looping)
    assert "method sgd: 0 of 0 checks passed" in printed(capsys, "check", "sgd")


def test_check_all_names_broken_packages_and_goes_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    info = tmp_path / "broken-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: broken\nVersion: 1.0\n")
    points = "[relaxbench.rules]\naaa = no_such_module:Rule\nsgd9 = json:JSONDecoder\n"
    (info / "entry_points.txt").write_text(f"{points}[relaxbench.problems]\nno-problem = json:JSONDecoder\n")
    monkeypatch.syspath_prepend(tmp_path)
    checked: list[object] = []
    monkeypatch.setattr("relaxbench.testing.runner.run_checks", lambda suite: checked.append(suite) or [])
    monkeypatch.setenv("RELAXBENCH_DATA", str(tmp_path / "nowhere"))
    assert main(["check", "--all"]) == 1
    out, err = capsys.readouterr()
    told = [line for line in out.splitlines() if line.startswith("✗")]
    assert [line.split(":")[0] for line in told] == ["✗ method aaa", "✗ method sgd9", "✗ problem no-problem"]
    assert "package broken cannot be imported" in told[0] and err == ""
    assert "✓ method sgd: 0 of 0 checks passed" in out and "✓ problem digits-mlp: 0 of 0 checks passed" in out
    assert len(checked) > 25
