"""`run_study`, `verdicts` and `write_report`: what the commands do, from Python."""

from __future__ import annotations

import threading
import tomllib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

import relaxbench
from relaxbench.cli import from_python, session
from relaxbench.cli.session import Session
from relaxbench.study.execution.run import Summary
from tests import processes
from tests.cli.commands import STUDY, nothing_written, printed, rows
from tests.study import tiny

pytestmark = pytest.mark.usefixtures("folder")

TINY: dict[str, Any] = tomllib.loads(STUDY)
QUIET: dict[str, Any] = {"quiet": True, "population": 8, "workers": None}


@pytest.fixture(autouse=True)
def _engine(monkeypatch: pytest.MonkeyPatch) -> None:
    tiny.set_engine(monkeypatch)


def results(storage: str) -> list[tuple[object, ...]]:
    return [(row.problem, row.method, row.phase, row.seed, row.value) for row in rows(storage)]


def test_a_dict_a_file_and_the_command_give_one_study(capsys: pytest.CaptureFixture[str]) -> None:
    Path("tiny.toml").write_text(STUDY)
    printed(capsys, "study", "tiny.toml", "--storage", "command.db", "--population", "8", "--report", "command")
    study = relaxbench.run_study(TINY, storage="dict.db", report="dict", **QUIET)
    assert capsys.readouterr() == ("", "")  # it is quiet
    also = relaxbench.run_study("tiny.toml", storage=Path("file.db"), population=8)
    said = " ".join(capsys.readouterr().out.split())
    assert "in the study." in said
    assert results("dict.db") == results("file.db") == results("command.db")
    assert study.source and tomllib.loads(study.source) == TINY == tomllib.loads(also.source)
    table, written = relaxbench.verdicts(study), pd.read_csv("command/tiny/verdicts.csv")
    stable = ["problem", "method", "verdict", "ratio", "low", "high", "level", "blocks"]
    pd.testing.assert_frame_equal(table[stable], written[stable], check_dtype=False)
    for line in table["sentence"]:
        assert " ".join(line.split()) in said
    assert Path("dict/tiny.html").exists() and not Path("reports").exists()
    page = relaxbench.write_report(relaxbench.load_study("dict.db#tiny"))
    assert page == Path("reports/tiny.html")
    assert Path("reports/tiny/looks.csv").read_text() == Path("command/tiny/looks.csv").read_text()


def test_arguments_replace_keys_and_the_same_call_again_runs_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    numbers = {"trials": np.int64(2), "budget": torch.tensor(30), "exploit": 0}
    changed = {"methods": ("sgd", "lookahead"), **numbers}
    study = relaxbench.run_study(TINY, **changed, **QUIET)
    assert study.methods == ["sgd", "lookahead"] and study.spec["trials"] == 2 and study.spec["budget"] == 30
    assert set(study.trials["phase"]) == {"explore", "confirm", "recommend"}
    before = rows("relaxbench.db")
    again = relaxbench.run_study(TINY, **changed, population=8, device=torch.device("cpu"))
    assert "nothing was run" in capsys.readouterr().out and rows("relaxbench.db") == before
    assert again.trials.equals(study.trials)
    more = relaxbench.run_study(TINY, **{**changed, "methods": ["sgd", "lookahead", "heat"]}, **QUIET)
    assert more.methods == ["sgd", "lookahead", "heat"] and len(more.trials) > len(study.trials)


def test_studies_of_several_threads_run_one_after_another(monkeypatch: pytest.MonkeyPatch) -> None:
    running, most = list[str](), list[int]()
    run = from_python._run

    def watched(study: Any, values: dict[str, Any]) -> Any:
        running.append(values["name"])
        most.append(len(running))
        try:
            return run(study, values)
        finally:
            running.remove(values["name"])

    monkeypatch.setattr(from_python, "_run", watched)
    small: dict[str, Any] = {"looks": [6], "trials": 1, "recommend": 0, "exploit": 0, "budget": 30, "storage": "all.db"}
    with ThreadPoolExecutor(3) as pool:
        studies = pool.map(lambda name: relaxbench.run_study(TINY, name=name, **small, **QUIET), ("a", "b", "c"))
        assert [study.name for study in studies] == ["a", "b", "c"]
    assert most == [1, 1, 1]


def test_problems_without_a_file_are_those_of_the_default_study(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RELAXBENCH_STORAGE", "sqlite:///elsewhere.db")
    small: dict[str, Any] = {"methods": ["heat"], "looks": [6], "trials": 1, "recommend": 0, "flatness": False}
    study = relaxbench.run_study(problems=["rugged-1d"], budget=40, **small, **QUIET)
    assert (study.name, study.methods, study.spec["description"]) == ("rugged-1d", ["sgd", "heat"], "")
    assert Path("elsewhere.db").exists() and not Path("relaxbench.db").exists()


@pytest.mark.parametrize(
    ("study", "values", "said"),
    [
        (TINY, {"trails": 3}, "unknown argument of run_study: 'trails': did you mean 'trials'?"),
        (TINY, {"storag": 3}, "unknown argument of run_study: 'storag': did you mean 'storage'?"),
        (TINY, {"trials": "x"}, "trials = 'x': expected a whole number"),
        (TINY, {"budget": 1}, "budget = 1: smaller than one outer step of heat on rosenbrock"),
        (TINY, {"seed": None}, "run_study: seed = None: a value of type NoneType has no form in TOML"),
        (TINY, {"space": {"lr": object()}}, "run_study: space = a dict of 1: a value of type object has no form"),
        (TINY, {"methods": ["nothing"]}, "run_study: unknown method 'nothing'"),
        (TINY, {"methods": "sgd"}, "methods = 'sgd': expected a list"),
        (TINY, {"methods": 5}, "methods = 5: expected a list"),
        (TINY, {"methods": {"sgd": 1}}, "methods = {'sgd': 1}: expected a list"),
        (TINY, {"device": 3}, "device = 3: expected a text"),
        (TINY, {"workers": "2"}, "workers = '2': expected a whole number"),
        (TINY, {"workers": True}, "workers = True: expected a whole number"),
        (TINY, {"quiet": 1}, "quiet = 1: expected True or False"),
        (TINY, {"report": 3}, "report = 3: expected a folder"),
        (TINY, {"storage": 3}, "storage = 3: expected a text or a path"),
        (TINY, {"gpus_per_worker": "x"}, "gpus_per_worker = 'x': expected a number"),
        (TINY, {"population": 0}, "population 0: expected 1 to 100,000 trials at a time"),
        (TINY, {"per_device": 0}, "(argument per_device)"),
        (TINY, {"device": "gpu"}, "unknown device 'gpu': expected auto, cpu, cuda or cuda:N"),
        (TINY, {"known": "nothing"}, "has no study 'nothing' whose settings could be taken"),
        ({**TINY, "trials": 0}, {}, "run_study: trials = 0: expected at least 1"),
        ({"name": "x"}, {}, "run_study: the key 'problems' is missing"),
        ({1: 2}, {}, "run_study: 1 = 2: the key 1 is no text"),
        ([1], {}, "study = a list of 1: expected the path of a study file, or a dict of its keys"),
        ("nothing.toml", {}, "study file 'nothing.toml' does not exist: give a TOML file"),
    ],
)
def test_a_mistake_is_one_line_in_the_terms_of_python(study: Any, values: dict[str, Any], said: str) -> None:
    with nothing_written(), pytest.raises(relaxbench.UserError) as refusal:
        relaxbench.run_study(study, **{"quiet": True, **values})
    assert said in str(refusal.value) and "--" not in str(refusal.value) and "\n" not in str(refusal.value)


@pytest.mark.parametrize("read", [relaxbench.verdicts, relaxbench.write_report, lambda s: relaxbench.best(s, "sgd")])
def test_the_name_of_a_study_is_no_study(read: Callable[[Any], object]) -> None:
    with nothing_written(), pytest.raises(relaxbench.UserError, match=r"study = 'tiny': expected what run_study or"):
        read("tiny")


def test_every_option_of_a_session_is_documented() -> None:
    text = " ".join((relaxbench.run_study.__doc__ or "").split())
    for name in Session.__dataclass_fields__:
        assert f"``{name}``" in text or f"{name}: " in text, name


def test_known_settings_are_a_key_or_another_study() -> None:
    trials = relaxbench.run_study(TINY, **QUIET).trials
    params = trials[trials["method"] == "sgd"]["params"].iloc[0]
    key = relaxbench.run_study(TINY, name="key", known=[{"method": "sgd", "params": params}], **QUIET)
    lent = relaxbench.run_study(TINY, name="lent", known="tiny", **QUIET)
    assert [len(key.known["sgd"]), len(lent.known["sgd"])] == [1, 1]
    assert "heat" not in key.known and "heat" in lent.known


def test_trials_that_fail_too_often_are_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    ended = Summary(1, True, ran=6, total=10, missing=4, failed=2, stopped=False, seconds=1.0)
    monkeypatch.setattr(session, "work_on_this_machine", lambda *arguments: ended)
    with pytest.raises(relaxbench.UserError) as refusal:
        relaxbench.run_study(TINY, **QUIET)
    assert str(refusal.value) == (
        "2 trials of study 'tiny' failed too often: see why with python -m relaxbench status tiny, and try again after "
        "python -m relaxbench reap tiny --failed"
    )


def test_ctrl_c_stops_at_the_end_of_a_round_and_the_same_call_goes_on() -> None:
    """A signal comes as soon as the study is open, while its trials run."""
    script = """
import os, pytest, signal, relaxbench
from relaxbench.study.execution import run
from tests.study import tiny
tiny.set_engine(pytest.MonkeyPatch())
work = run.StudyRun.work
def interrupted(self, opened):
    os.kill(os.getpid(), signal.SIGINT)
    return work(self, opened)
run.StudyRun.work = interrupted
try:
    relaxbench.run_study("tiny.toml", trials=2, population=2, quiet=True, workers=None)
except KeyboardInterrupt as error:
    print("stopped:", error)
"""
    Path("tiny.toml").write_text(STUDY)
    out = processes.run(["-c", script]).stdout
    assert out.startswith("stopped: ") and "trials of study 'tiny' are missing: run_study again" in out
    study = relaxbench.run_study("tiny.toml", trials=2, **QUIET)
    assert set(study.trials["status"]) == {"done"}


def test_a_script_without_main_guard_starts_its_study_once() -> None:
    """Workers of multiprocessing import the script that starts them, which would then begin the study again."""
    script = """
print("begun", flush=True)
import relaxbench
study = relaxbench.run_study("tiny.toml", workers=2, quiet=True)
print(len(study.trials), set(study.trials["status"]))
"""
    Path("tiny.toml").write_text(STUDY)
    Path("script.py").write_text(script)
    done = processes.run(["script.py"])
    count = tiny.expected(tiny.spec(looks=[6], trials=1, exploit=2, recommend=2))
    assert done.stdout == f"begun\n{count} {{'done'}}\n", done.stdout + done.stderr


def test_a_study_runs_in_a_thread() -> None:
    studies: list[object] = []
    thread = threading.Thread(target=lambda: studies.append(relaxbench.run_study(TINY, **QUIET)))
    thread.start()
    thread.join()
    assert repr(studies[0]).startswith("<study 'tiny': 1 problem, 2 methods")
