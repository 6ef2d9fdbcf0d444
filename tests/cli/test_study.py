"""`study`: bad study and problem files, from the command line to the report, and Ctrl-C."""

from __future__ import annotations

import contextlib
import re
import signal
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from relaxbench.cli.spec import Overrides, read_spec
from tests.cli.commands import PROBLEM, STUDY, command, nothing_written, printed, refused, rows

pytestmark = pytest.mark.usefixtures("folder")


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
        ("'mine': the inputs of 40 training examples hold NaN or infinity", "leave the examples out"),
    ),
    (
        PROBLEM
        + "class Noisy(torch.nn.Linear):\n    def forward(self, x):\n"
        + "        return super().forward(x + torch.rand(()))\n"
        + "problem = SupervisedProblem('mine', lambda: Noisy(3, 2), lambda: splits, batch_size=8)",
        ("'mine' draws random numbers", "Dropout"),
    ),
    (
        PROBLEM
        + "class Ends(torch.nn.Linear):\n    def forward(self, x):\n        raise SystemExit(0)\n"
        + "problem = SupervisedProblem('mine', lambda: Ends(3, 2), lambda: splits, batch_size=8)",
        ("SystemExit(0) is raised in line", "of mine.py", "as if all were done"),
    ),
    (
        PROBLEM
        + "net = lambda: torch.nn.Linear(3, 2)\n"
        + "problem = SupervisedProblem('mine', net, lambda: splits, batch_size=8, metric=torch)",
        ("metric = a module: expected a name, or (title, function)",),
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


def test_a_changed_study_is_refused_with_what_to_do(capsys: pytest.CaptureFixture[str], storage: str) -> None:
    Path("small.toml").write_text(STUDY.replace("tiny", "small"))
    line = refused(capsys, "study", "small.toml", "--storage", storage)
    assert "budget: 75 → 40" in line and "--storage" in line


@pytest.mark.usefixtures("database")
def test_a_changed_range_is_offered_as_a_variant(capsys: pytest.CaptureFixture[str]) -> None:
    changed = f"{Path('tiny.toml').read_text()}\n[method.heat]\nspace = {{ lr = [1e-4, 1e-3] }}\n"
    Path("range.toml").write_text(changed)
    advice = """leave 'heat' as it was and add the change as a variant, [method.heat-2] with rule = "heat"; or change"""
    assert advice in refused(capsys, "study", "range.toml", "--storage", "study.db")
    assert "variant" not in refused(capsys, "study", "range.toml", "--storage", "study.db", "--budget", "50")


@pytest.mark.usefixtures("database")
def test_more_trials_of_one_method_are_refused_before_anything_grows(capsys: pytest.CaptureFixture[str]) -> None:
    """The number of trials holds for all methods: it would grow them all, and take away verdicts that rest on it."""
    before = rows("study.db")
    line = refused(capsys, "study", "tiny.toml", "--trials", "40", "--method", "sgd", "--storage", "study.db")
    assert "is already in this storage and differs (trials: 1 → 40 (declared before the study began)): " in line
    assert "change `name`" in line and rows("study.db") == before


def test_study_has_the_options_that_were_promised(capsys: pytest.CaptureFixture[str]) -> None:
    out = printed(capsys, "study", "--help")
    promised = "storage looks more-blocks trials budget method problem population device seed report no-report quiet "
    promised += "workers devices per-device retries checkpoints"
    assert {f"--{name}" for name in promised.split()} <= set(re.findall(r"--[a-z-]+", out))


def test_the_default_study_s_description_is_not_that_of_other_problems() -> None:
    none = Overrides(None, None, None, None, None, None, None, None)
    assert read_spec(None, replace(none, problems=["rosenbrock"]))[0].description == ""
    assert "handwritten digits" in read_spec(None, none)[0].description


def test_a_study_from_the_command_line_to_its_report(capsys: pytest.CaptureFixture[str]) -> None:
    """Runs, says so, writes the report; again: nothing is run; extended: only what is missing."""
    Path("mine.toml").write_text(STUDY.replace("rosenbrock", "rugged-1d"))  # where some runs reach the tolerance
    out = printed(capsys, "study", "mine.toml", "--population", "8")
    assert "32 trials in" in out and "Report:" in out
    page = Path(out.rsplit("Report: ", 1)[1].strip())
    assert page.is_file() and page.resolve().is_relative_to(Path("reports").resolve())
    assert "Stochastic" in out or "SGD" in out
    out = printed(capsys, "study", "mine.toml", "--no-report")
    assert "nothing was run" in out and "Report:" not in out
    out = printed(capsys, "study", "mine.toml", "--more-blocks", "3", "--report", "elsewhere/deep")
    assert "of study" not in out and "44 in the study" in out and list(Path("elsewhere/deep").rglob("*.html"))
    out = printed(capsys, "study", "mine.toml", "--more-blocks", "3", "--quiet", "--no-report")
    assert "trials in" not in out and "nothing was run" not in out and out.strip()
    out = printed(capsys, "show")
    assert "9/9" in out and "2/2" in out and "K = 8" in out


def test_sgd_always_takes_part(capsys: pytest.CaptureFixture[str]) -> None:
    """`--method heat` alone compares heat with SGD: the baseline is what everything is compared with."""
    Path("mine.toml").write_text(STUDY.replace('["sgd", "heat"]', '["sgd", "heat", "hj"]'))
    options = ("--method", "heat", "--population", "8", "--no-report")
    printed(capsys, "study", "mine.toml", *options)
    assert {row.method for row in rows("relaxbench.db")} == {"sgd", "heat"}


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


def test_ctrl_c_keeps_everything_and_says_how_to_continue(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("mine.toml").write_text(STUDY.replace("trials = 1", "trials = 12"))
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
    assert re.search(rf"{done} of 200 trials", out)

    out = printed(capsys, "study", "mine.toml", "--population", "64", "--no-report")
    assert f"{200 - done} trials in" in out and "200 in the study" in out
    assert {row.status for row in rows("relaxbench.db")} == {"done"} and len(rows("relaxbench.db")) == 200
    assert not list(Path("checkpoints").glob("*"))
