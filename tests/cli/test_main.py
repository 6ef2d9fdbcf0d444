"""The commands as a person meets them: what they print, and how they refuse."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console

from relaxbench.analysis.paired import detectable_effect
from relaxbench.cli import main as cli
from relaxbench.cli import options as cli_options
from relaxbench.optim.registry import RULES
from relaxbench.problems import PROBLEMS, problem
from relaxbench.problems.data import published
from relaxbench.problems.digits import digits_mlp, mlp
from tests.study import tiny

STUDY = """
name = "tiny"
problems = ["rosenbrock"]
methods = ["sgd", "heat"]
blocks = 2
trials = 2
exploit = 2
recommend = 2
budget = 40
"""
COMMANDS = (
    *("study", "worker", "status", "reap", "plan", "report", "dashboard", "list", "show", "best"),
    *("copy", "export", "import", "upgrade"),
    *("doctor", "bench", "check", "theory", "reproduce"),
)

PROBLEM = """
import torch
from relaxbench.problems import SupervisedProblem

x = torch.arange(120.0).view(40, 3).sin()
y = (x.sum(1) > 0).long()
splits = {s: (x, y) for s in ("train", "validation", "test")}
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to run in, with a wide console that is no terminal."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(cli_options, "console", Console(width=300, highlight=False))
    monkeypatch.delenv("RELAXBENCH_DATA", raising=False)
    return tmp_path


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the database of a finished study of digits."""
    place = tmp_path_factory.mktemp("finished")
    s = tiny.spec(name="small", problems=["digits-mlp"], methods=list(RULES), blocks=2, trials=1, exploit=1, budget=90)
    with pytest.MonkeyPatch.context() as patch:
        from relaxbench.training import engine as engines

        patch.setattr(engines, "choose", lambda problem, place, k=None, precision="float32": tiny.engine(k or 8))
        patch.setattr(engines, "calibrate", lambda *arguments, **options: dict(tiny.COST))
        tiny.run(place, s, population=16)
    return place


@pytest.fixture
def storage(finished: Path) -> str:
    return f"sqlite:///{finished / 'study.db'}"


@contextlib.contextmanager
def nothing_written() -> Iterator[None]:
    """The folder, its files and their contents stay as they were."""

    def contents() -> dict[Path, bytes | None]:
        hidden = ("__pycache__", "-wal", "-shm")  # SQLite's own, while a connection is open
        found = [path for path in Path().rglob("*") if not str(path).endswith(hidden) and hidden[0] not in path.parts]
        return {path: path.read_bytes() if path.is_file() else None for path in found}

    before = contents()
    yield
    assert contents() == before


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """The one line on the error stream of a command that is refused; it leaves nothing behind."""
    with nothing_written():
        assert cli.main(list(arguments)) == 2
    out, err = capsys.readouterr()
    assert err.count("\n") == 1 and err.startswith("relaxbench: ") and "Traceback" not in err + out
    return err


def printed(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """What a command that must succeed prints."""
    code = cli.main(list(arguments))
    out, err = capsys.readouterr()
    assert code == 0, err
    assert err == ""
    return out


def command(*arguments: str, **options: Any) -> subprocess.Popen[str]:
    """A command in a process of its own."""
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), "NO_COLOR": "1", "COLUMNS": "300"}
    line = [sys.executable, "-m", "relaxbench", *arguments]
    return subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env, **options)


# --- bad input --------------------------------------------------------------------------------------------------------

BAD_OPTIONS: list[tuple[tuple[str, ...], tuple[str, ...]]] = [
    (("study", "--report", "/dev/null/x"), ("--report '/dev/null/x'", "'/dev/null' is not a folder")),
    (("study", "--checkpoints", "/dev/null"), ("--checkpoints", "is not a folder")),
    (("study", "--method", "sdg"), ("unknown method 'sdg'", "did you mean 'sgd'?")),
    (("study", "--problem", "digits-mpl"), ("unknown problem 'digits-mpl'", "did you mean 'digits-mlp'?")),
    (("study", "--budget", "0"), ("--budget 0", "at least 1")),
    (("study", "--budget", "-3"), ("--budget -3", "at least 1")),
    (("study", "--budget", "many"), ("--budget", "integer")),
    (("study", "--blocks", "0"), ("--blocks 0",)),
    (("study", "--trials", "0"), ("--trials 0",)),
    (("study", "--population", "0"), ("--population 0", "at least 1")),
    (("study", "--name", ""), ("relaxbench: --name '': ", "at least 1 character")),
    (("study", "--budget", "9" * 20), (f"relaxbench: --budget {'9' * 20}: ", "less than or equal to 1000000000000")),
    (("study", "--blocks", "999999999"), ("relaxbench: --blocks 999999999: ", "less than or equal to 10000000")),
    (("study", "--workers", "2.5"), ("--workers", "valid integer", "given '2.5'")),
    (("study", "--checkpoints", ""), ("'--checkpoints'", "'' names no file or folder")),
    (("study", "--report", ""), ("'--report'", "'' names no file or folder")),
    (("study", "--data-dir", ""), ("'--data-dir'", "'' names no file or folder")),
    (("bench", "--json", ""), ("'--json'", "'' names no file or folder")),
    (("best", "tiny", "sgd", "--weights", ""), ("'--weights'", "'' names no file or folder")),
    (("study", "missing.toml"), ("'missing.toml' does not exist", "studies/digits.toml")),
    (("study", "studies/digit.toml"), ("digit.toml", "does not exist")),
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
    (("plan", "--problem", "rugged-1d", "--method", "sgd", "--population", "8", "--std", "-1"), ("std",)),
    (("plan", "--population", "-1"), ("--population -1",)),
    (("show",), ("relaxbench.db", "does not exist")),
    (("report",), ("relaxbench.db", "does not exist")),
    (("best", "tiny", "sgd"), ("relaxbench.db", "does not exist")),
    (("best", "tiny"), ("'method'",)),
    (("bench", "--device", "cuda:77"), ("cuda:77",)),
    (("bench", "--json", "/proc/nowhere/x.json"), ("/proc/nowhere/x.json", "cannot be written")),
    (("bench", "--report", "/proc/nowhere"), ("--report '/proc/nowhere'", "'/proc' is not writable")),
    (("study", "--report", "/proc/nowhere"), ("--report '/proc/nowhere'", "'/proc' is not writable")),
    (("study", "--checkpoints", "/proc/nowhere"), ("--checkpoints '/proc/nowhere'", "'/proc' is not writable")),
    (("study", "--problem", "allcnn-bn:"), ("'allcnn-bn:' names no data after the colon",)),
    (("bench", "--only", "step"), ("unknown part 'step'", "did you mean 'steps'?")),
    (("bench", "--only", "ledger", "--compile"), ("--compile", "--only steps")),
]


@pytest.mark.parametrize(("arguments", "parts"), BAD_OPTIONS, ids=lambda value: " ".join(value))
def test_bad_options_are_one_line_and_code_2(
    arguments: tuple[str, ...], parts: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    line = refused(capsys, *arguments)
    assert "geheim" not in line
    for part in parts:
        assert part in line


BAD_FILES: list[tuple[str, tuple[str, ...]]] = [
    (STUDY.replace("budget", "bugdet"), ("'bugdet'", "did you mean 'budget'?")),
    (STUDY.replace('"heat"', '"haet"'), ("'haet'", "did you mean 'heat'?")),
    (STUDY.replace('"rosenbrock"', '"rosenbrok"'), ("'rosenbrok'", "did you mean 'rosenbrock'?")),
    (STUDY.replace("budget = 40", "budget = -40"), ("budget = -40",)),
    (STUDY + "[space]\nlr = [0.1, 0.01]\n", ("lr = [0.1, 0.01]", "turned around")),
    (STUDY + "[space]\nlr = [1e-3, inf]\n", ("lr", "inf")),
    (STUDY + "[space]\nschedule = []\n", ("schedule",)),
    (STUDY + "[method.mine]\nrule = 'heat'\nfixed = {inner_steps = 0}\n", ("inner_steps", "0")),
    (STUDY.replace("budget = 40", "budget = 5"), ("budget",)),
    (STUDY.replace("= 40", "= = 40"), ("cannot be read", "line")),
    (STUDY.replace('name = "tiny"', ""), ("'name'", "missing")),
    ("", ("'name'", "missing")),
]


@pytest.mark.parametrize(("text", "parts"), BAD_FILES, ids=lambda value: "" if isinstance(value, str) else value[0])
def test_bad_study_files_are_one_line_and_code_2(
    text: str, parts: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    Path("mine.toml").write_text(text)
    line = refused(capsys, "study", "mine.toml", "--quiet")
    assert len(parts) == sum(part in line for part in parts), line


BAD_PROBLEMS: list[tuple[str, tuple[str, ...]]] = [
    ("x = 1", ("mine.py", "`problem`")),
    ("problem = 5", ("mine.py", "int", "expected a relaxbench Problem")),
    ("1/0", ("mine.py", "ZeroDivisionError")),
    ("def f(:", ("mine.py", "SyntaxError")),
    ("import sys; sys.exit(3)", ("mine.py",)),
    ("import nosuchmodule", ("mine.py", "nosuchmodule")),
    (
        PROBLEM + "SupervisedProblem('mine', lambda: None, lambda: splits, loss='l1')",
        ("mine.py': unknown loss 'l1'", "cross-entropy"),
    ),
    (
        PROBLEM + "problem = SupervisedProblem('rosenbrock', lambda: torch.nn.Linear(3, 2), lambda: splits)",
        ("mine.py", "'rosenbrock', which is built in"),
    ),
    (
        PROBLEM
        + "bad = {s: (x / 0, y) for s, (x, y) in splits.items()}\n"
        + "problem = SupervisedProblem('mine', lambda: torch.nn.Linear(3, 2), lambda: bad, batch_size=8)",
        ("'mine' has a training loss of nan", "its data"),
    ),
    (
        PROBLEM
        + "class Noisy(torch.nn.Linear):\n    def forward(self, x):\n"
        + "        return super().forward(x + torch.rand(()))\n"
        + "problem = SupervisedProblem('mine', lambda: Noisy(3, 2), lambda: splits, batch_size=8)",
        ("'mine' draws random numbers", "Dropout"),
    ),
    (
        PROBLEM + "problem = SupervisedProblem('mine', lambda: 5, lambda: splits, batch_size=8)",
        ("int", "torch.nn.Module"),
    ),
    (
        PROBLEM + "problem = SupervisedProblem('mine', lambda: torch.nn.Linear(3, 2), lambda: {'train': (x, y)})",
        ("'validation'",),
    ),
    (
        PROBLEM + "problem = SupervisedProblem('mine', lambda: torch.nn.Linear(3, 2), lambda: splits, batch_size=99)",
        ("batch_size 99", "40 examples"),
    ),
    (
        PROBLEM
        + "flat = {s: (x, x[:, 0]) for s, (x, y) in splits.items()}\n"
        + "net = lambda: torch.nn.Linear(3, 1)\n"
        + "problem = SupervisedProblem('mine', net, lambda: flat, batch_size=8, loss='least-squares')",
        ("outputs of shape (8, 1) and targets of shape (8,)", "the same shape"),
    ),
    (
        PROBLEM
        + "net = lambda: torch.nn.Sequential(torch.nn.Linear(3, 1), torch.nn.Flatten(0))\n"
        + "flat = {s: (x, x[:, 0]) for s, (x, y) in splits.items()}\n"
        + "problem = SupervisedProblem('mine', net, lambda: flat, batch_size=8, loss='least-squares')",
        ("shape (8,)", "(examples, outputs)"),
    ),
    (PROBLEM + "problem = SupervisedProblem('mine', lambda: torch.nn.Linear(4, 2), lambda: splits, batch_size=8)", ()),
    (
        PROBLEM
        + "net = lambda: torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.SyncBatchNorm(4), torch.nn.Linear(4, 2))\n"
        + "problem = SupervisedProblem('mine', net, lambda: splits, batch_size=8)",
        ("SyncBatchNorm", "running statistics"),
    ),
]


@pytest.mark.parametrize(
    ("text", "parts"), BAD_PROBLEMS, ids=lambda value: "" if isinstance(value, str) else " ".join(value)
)
def test_bad_problem_files_are_one_line_and_code_2(
    text: str, parts: tuple[str, ...], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    Path("mine.py").write_text(text)
    try:
        line = refused(capsys, "study", "--problem", "mine.py", "--method", "sgd", "--quiet")
    except SystemExit:
        pytest.fail("the file ended relaxbench")
    assert len(parts) == sum(part in line for part in parts), line


def test_without_a_command_the_help_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([]) == 0
    out, err = capsys.readouterr()
    assert "Usage: relaxbench" in out and "study" in out and err == ""


def test_a_newer_storage_is_refused_and_left_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    from sqlalchemy import text

    from relaxbench.store.database import open_database

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


def test_a_changed_study_is_refused_with_what_to_do(capsys: pytest.CaptureFixture[str], storage: str) -> None:
    Path("small.toml").write_text(STUDY.replace("tiny", "small"))
    line = refused(capsys, "study", "small.toml", "--storage", storage)
    assert "budget: 90 → 40" in line and "--storage" in line


def test_unknown_studies_methods_and_problems_are_named(capsys: pytest.CaptureFixture[str], storage: str) -> None:
    at = ("--storage", storage)
    assert "did you mean 'small'?" in refused(capsys, "show", "smal", *at)
    assert "did you mean 'small'?" in refused(capsys, "report", "smal", *at)
    assert "did you mean 'small'?" in refused(capsys, "best", "smal", "sgd", *at)
    assert "did you mean 'heat'?" in refused(capsys, "best", "small", "haet", *at)
    assert "did you mean 'digits-mlp'?" in refused(capsys, "best", "small", "sgd", "--problem", "digit-mlp", *at)
    assert "cannot be written" in refused(capsys, "best", "small", "sgd", "--weights", "no/such/x.pt", *at)


def test_a_report_folder_that_is_a_file_is_refused(capsys: pytest.CaptureFixture[str], storage: str) -> None:
    Path("reports").write_text("")
    assert "reports" in refused(capsys, "report", "--storage", storage)


# --- the commands -----------------------------------------------------------------------------------------------------


def test_help_version_and_exit_codes_of_the_process(folder: Path) -> None:
    """In one process each, as a person starts them: --help is quick since nothing heavy is imported for it."""
    helped = command("--help", cwd=folder)
    bad = command("study", "missing.toml", cwd=folder)
    out, _ = helped.communicate(timeout=120)
    assert helped.returncode == 0 and all(name in out for name in COMMANDS)
    out, err = bad.communicate(timeout=120)
    assert (bad.returncode, out, err.count("\n")) == (2, "", 1) and "missing.toml" in err
    assert not list(folder.iterdir())


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_explains_itself(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with nothing_written():
        out = printed(capsys, name, "--help")
    assert "Usage: relaxbench" in out and name in out


def test_study_has_the_options_that_were_promised(capsys: pytest.CaptureFixture[str]) -> None:
    out = printed(capsys, "study", "--help")
    promised = "storage blocks trials budget method problem population device seed report no-report quiet "
    promised += "workers devices per-device retries checkpoints"
    assert {f"--{name}" for name in promised.split()} <= set(re.findall(r"--[a-z-]+", out))


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    import relaxbench

    assert printed(capsys, "--version") == f"relaxbench {relaxbench.__version__}\n"


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
        assert cli.main(["doctor", "--storage", storage]) == 1
    (line,) = (line for line in capsys.readouterr().out.splitlines() if line.startswith("storage"))
    assert "✗ broken" in line


def test_doctor_names_a_data_folder_that_is_not_there(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RELAXBENCH_DATA", "/no/such/folder")
    assert cli.main(["doctor"]) == 1
    assert "/no/such/folder is not a folder" in capsys.readouterr().out


def test_plan_counts_gradients_and_writes_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    Path("mine.toml").write_text(STUDY)
    with nothing_written():
        out = printed(capsys, "plan", "mine.toml", "--population", "8")
    count = 2 * (2 + 1) + 2 + 2  # a method
    for method in ("sgd", "heat"):
        assert re.search(rf"rosenbrock\s+{method}\s+{count}\s+{count * 40}\s", out)
    assert re.search(rf"total\s+{2 * count * 40}\s", out)
    assert "at least 6 blocks: with 2 the report describes" in " ".join(out.split())


def test_plan_says_what_the_blocks_can_detect(capsys: pytest.CaptureFixture[str]) -> None:
    Path("mine.toml").write_text(STUDY)
    for blocks in (1, 5, 6):
        arguments = ("plan", "mine.toml", "--population", "8", "--std", "2", "--blocks", str(blocks))
        out = " ".join(printed(capsys, *arguments).split())
        if blocks < 6:
            assert f"at least 6 blocks: with {blocks} the report describes, and claims nothing" in out
        else:
            effect = f"{2 * detectable_effect(6):.3g}"
            assert f"6 blocks detect (80 % power, 5 % level) a difference of {effect}" in out


def test_a_study_from_the_command_line_to_its_report(capsys: pytest.CaptureFixture[str]) -> None:
    """Runs, says so, writes the report; again: nothing is run; extended: only what is missing."""
    Path("mine.toml").write_text(STUDY)
    out = printed(capsys, "study", "mine.toml", "--population", "8")
    assert "20 trials in" in out and "Report:" in out
    page = Path(out.rsplit("Report: ", 1)[1].strip())
    assert page.is_file() and page.resolve().is_relative_to(Path("reports").resolve())
    assert "Stochastic" in out or "SGD" in out
    out = printed(capsys, "study", "mine.toml", "--no-report")
    assert "nothing was run" in out and "Report:" not in out
    out = printed(capsys, "study", "mine.toml", "--blocks", "3", "--report", "elsewhere/deep")
    assert "of study" not in out and "26 in the study" in out and list(Path("elsewhere/deep").rglob("*.html"))
    out = printed(capsys, "study", "mine.toml", "--blocks", "3", "--quiet", "--no-report")
    assert "trials in" not in out and "nothing was run" not in out and out.strip()
    out = printed(capsys, "show")
    assert "6/6" in out and "3/3" in out and "K = 8" in out


def test_sgd_always_takes_part(capsys: pytest.CaptureFixture[str]) -> None:
    """`--method heat` alone compares heat with SGD: the baseline is what everything is compared with."""
    Path("mine.toml").write_text(STUDY.replace('["sgd", "heat"]', '["sgd", "heat", "hj"]'))
    options = ("--method", "heat", "--population", "8", "--no-report")
    printed(capsys, "study", "mine.toml", *options)
    assert {row.method for row in rows("relaxbench.db")} == {"sgd", "heat"}


def rows(file: str) -> list[Any]:
    from sqlalchemy import select

    from relaxbench.store.database import open_database
    from relaxbench.store.schema import Trial

    database = open_database(file, create=False, read_only=True)
    with database.connect() as connection:
        found = list(connection.execute(select(Trial.__table__).order_by(Trial.id)))
    database.dispose()
    return found


def test_a_problem_of_ones_own_works_from_day_one(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """From a path, with a layer that does not vectorize: the direct path is taken, and the study says which layer."""
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    Path("own.py").write_text(
        PROBLEM
        + "class Branch(torch.nn.Module):\n"
        + "    def forward(self, x):\n        return x if x.sum() > 0 else -x\n"
        + "net = lambda: torch.nn.Sequential(torch.nn.Linear(3, 4), Branch(), torch.nn.Linear(4, 2))\n"
        + "problem = SupervisedProblem('mine', net, lambda: splits, batch_size=8, budget=30)\n"
    )
    Path("s.toml").write_text(STUDY.replace("budget = 40", "").replace("exploit = 2", "exploit = 0"))
    out = printed(capsys, "study", "s.toml", "--problem", "own.py", "--method", "sgd")
    assert "Report:" in out
    assert {row.problem for row in rows("relaxbench.db")} == {"mine"}
    out = printed(capsys, "show")
    assert "direct path" in out
    with nothing_written():
        out = printed(capsys, "plan", "s.toml", "--problem", "own.py", "--method", "sgd")
    assert "Branch" in out and "does not vectorize" in out


@pytest.mark.parametrize("method", RULES)
def test_best_prints_code_that_runs(
    method: str, capsys: pytest.CaptureFixture[str], storage: str, tmp_path: Path
) -> None:
    """Pasted into a training loop: it takes a step on a real model; the weights load into it and repeat the result."""
    out = printed(capsys, "best", "small", method, "--storage", storage, "--weights", "best.pt")
    torch.manual_seed(0)
    model = mlp()
    names: dict[str, Any] = {"model": model}
    exec(out, names)
    optimizer, start = names["optimizer"], [p.detach().clone() for p in model.parameters()]
    batch = digits_mlp().split("train", torch.device("cpu"))

    def backward() -> float:
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(model(batch["x"][:64]), batch["y"][:64])
        torch.autograd.backward(loss)
        return loss.item()

    for _ in range(optimizer.total_steps):
        if method == "curveball":
            optimizer.step(
                lambda: model(batch["x"][:64]), lambda out: torch.nn.functional.cross_entropy(out, batch["y"][:64])
            )
        elif optimizer.closures:
            optimizer.step(backward)
        else:
            backward()
            optimizer.step()
    optimizer.eval()
    assert any(not torch.equal(a, b) for a, b in zip(start, model.parameters(), strict=True))
    model.load_state_dict(torch.load("best.pt", weights_only=True))
    found = [r for r in rows(storage.removeprefix("sqlite:///")) if (r.method, r.phase) == (method, "recommend")]
    held_out = digits_mlp().split("validation", torch.device("cpu"))
    loss = torch.nn.functional.cross_entropy(model(held_out["x"]), held_out["y"]).item()
    assert loss == pytest.approx(min(r.value for r in found), rel=1e-4)


def test_best_names_the_settings_of_the_best_trial(capsys: pytest.CaptureFixture[str], storage: str) -> None:
    out = printed(capsys, "best", "small", "heat", "--storage", storage)
    found = [
        r for r in rows(storage.removeprefix("sqlite:///")) if r.method == "heat" and r.phase in ("explore", "exploit")
    ]
    winner = min(found, key=lambda r: (r.value, r.id))
    given: dict[str, Any] = {}
    for name, value in re.findall(r"^    (\w+)=([^,]+),", out, re.MULTILINE):
        given[name] = eval(value)
    assert given.pop("total_steps") == 90
    assert given == {
        name: pytest.approx(value, rel=1e-5) if isinstance(value, float) else value
        for name, value in winner.params.items()
    }


def test_a_finished_study_can_be_read_by_report_and_show(
    capsys: pytest.CaptureFixture[str], storage: str, finished: Path
) -> None:
    before = (finished / "study.db").read_bytes()
    out = printed(capsys, "show", "small", "--storage", storage)
    assert all(name in out for name in RULES) and "bit for bit" in out
    out = printed(capsys, "report", "small", "--storage", storage, "--report", "r")
    assert list(Path("r").rglob("*.html")) and list(Path("r").rglob("*.csv"))
    assert (finished / "study.db").read_bytes() == before


# --- stopped ----------------------------------------------------------------------------------------------------------


def test_ctrl_c_keeps_everything_and_says_how_to_continue(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("mine.toml").write_text(STUDY.replace("trials = 2", "trials = 30").replace("blocks = 2", "blocks = 3"))
    process = command("study", "mine.toml", "--population", "2", "--no-report", cwd=folder)
    limit = time.monotonic() + 60
    while time.monotonic() < limit and process.poll() is None:
        with contextlib.suppress(Exception):
            if any(row.status == "done" for row in rows("relaxbench.db")):
                break
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    sent = time.monotonic()
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert time.monotonic() - sent < 20 and err == ""
    assert "python -m relaxbench study mine.toml --population 2 --no-report" in out and "kept" in out
    left = rows("relaxbench.db")
    done = sum(row.status == "done" for row in left)
    assert 0 < done < len(left) and {row.status for row in left} == {"done", "waiting"}
    assert re.search(rf"{done} of 194 trials", out)

    out = printed(capsys, "study", "mine.toml", "--population", "64", "--no-report")
    assert f"{194 - done} trials in" in out and "194 in the study" in out
    assert {row.status for row in rows("relaxbench.db")} == {"done"} and len(rows("relaxbench.db")) == 194
    assert not list(Path("checkpoints").glob("*"))
