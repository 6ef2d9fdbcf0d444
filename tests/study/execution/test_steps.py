"""Studies on the compiled path: what is stored of their steps, which workers may train them, and equal results.

The steps are recorded, and the recordings run by plain operations: the compiler itself is tested in `tests/training`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from relaxbench.errors import UserError
from relaxbench.optim.rule import Rule
from relaxbench.problems import problem
from relaxbench.store.database import open_database
from relaxbench.store.engines import describe_engine
from relaxbench.study.coordination.manifest import edit_manifest
from relaxbench.study.definition.opening import open_study
from relaxbench.study.definition.paths import parse_path, refuse_problems
from relaxbench.study.definition.prepare import prepare
from relaxbench.study.execution.options import RunOptions, parse_device
from relaxbench.study.execution.run import StudyRun, Summary
from relaxbench.training import compilation, repayment
from relaxbench.training import engine as engines
from relaxbench.training.engine import Engine
from tests.study import tiny
from tests.study.results import study_row

ADAM = {"adam": {"rule": "torch:torch.optim.Adam", "space": {"lr": [1e-3, 0.1]}}}
SPEC = tiny.spec(methods=["sgd", "heat", "adam"], method=ADAM, exploit=0, recommend=1, flatness=False)


@pytest.fixture(autouse=True)
def interpreted(monkeypatch: pytest.MonkeyPatch, steady: None) -> None:
    monkeypatch.setattr(compilation, "_compile", lambda graph, arguments: lambda tensors: graph(*tensors))


def run(
    folder: Path,
    stopping: Callable[[], bool] = lambda: False,
    path: Any = "auto",
    size: Any = None,
) -> Summary:
    database = open_database(str(folder / "study.db"))
    try:
        device = parse_device("cpu")
        options = RunOptions(device, size, folder / "checkpoints", stopping=stopping)
        opened = open_study(database, SPEC, "source", prepare(SPEC), device, path=path)
        return StudyRun(database, options).work(opened)
    finally:
        database.dispose()


@pytest.fixture
def begun(tmp_path: Path) -> Path:
    """A study that was stopped soon after its steps had been compiled."""
    assert run(tmp_path, stopping=tiny.After(14), path="compiled").missing > 0
    return tmp_path


def test_a_study_stores_its_steps_and_an_interruption_changes_nothing(begun: Path, tmp_path_factory: Any) -> None:
    engine = study_row(begun).manifest["engines"]["rosenbrock"]
    assert (engine["path"], engine["population"]) == ("compiled", 8)
    known = engine["compiled"]
    assert {name: bool(facts["digest"]) for name, facts in known.items()} == {"sgd": True, "heat": True, "adam": False}
    assert known["sgd"]["seconds"] > 0 and known["sgd"]["digest"] != known["heat"]["digest"]
    assert known["adam"]["reason"].startswith("its step cannot be recorded")
    first, second, third = describe_engine("rosenbrock", engine)
    assert first.startswith("rosenbrock: compiled path, K = 8, float32 on cpu")
    assert second.startswith("rosenbrock: 2 steps compiled in ") and "heat" in second and "sgd" in second
    assert third.startswith("rosenbrock: not compiled: adam: its step cannot be recorded")

    while run(begun, stopping=tiny.After(60)).missing:
        pass
    other = tmp_path_factory.mktemp("whole")
    assert run(other, path="compiled").missing == 0
    assert tiny.results(begun) == tiny.results(other)


def test_a_study_keeps_its_path_and_its_number_of_slots(begun: Path) -> None:
    before = tiny.results(begun)
    with pytest.raises(UserError, match="trains rosenbrock on the compiled path since it began, not on the direct one"):
        run(begun, path="direct")
    with pytest.raises(UserError, match="compiled for K = 8, which the study keeps: leave population 5 out"):
        run(begun, size=5)
    assert tiny.results(begun) == before
    assert run(begun, stopping=tiny.After(3), path="compiled", size=8).missing > 0


def test_a_worker_that_cannot_make_the_step_is_refused_and_trials_stay(
    begun: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a compiler, and where the compiled step computes other digits."""
    with monkeypatch.context() as patch:
        patch.setattr(compilation, "_made", {})
        patch.setattr(compilation, "why_not_here", lambda device: "no C++ compiler (g++) is found")
        with pytest.raises(UserError, match="has compiled steps in this study, which this worker cannot make: no C"):
            run(begun)
    database = open_database(str(begun / "study.db"))
    edit_manifest(
        database, 1, lambda manifest: [f.update(digest="0" * 16) for f in steps_of(manifest).values() if f["digest"]]
    )
    database.dispose()
    with pytest.raises(UserError, match="compute other last digits than where it began"):
        run(begun)
    assert {row.status for row in tiny.rows(begun)} <= {"waiting", "done"}


def steps_of(manifest: Any) -> Any:
    return manifest["engines"]["rosenbrock"]["compiled"]


@pytest.fixture
def long(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine on which training takes very long, and a quarter of that if it is compiled."""

    def choose(*given: Any) -> Engine:
        path = "compiled" if "compiled" in given else "vectorized"
        return replace(tiny.engine(8, path), rate=1e-3)

    monkeypatch.setattr(engines, "choose_engine", choose)
    monkeypatch.setattr(repayment, "compiled_size", lambda *_: 8)
    monkeypatch.setattr(repayment, "throughput", lambda *_, compiled=None: 4.0 if compiled else 1.0)


def test_a_long_study_chooses_compiled_steps_and_says_why(
    long: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert run(tmp_path, stopping=tiny.After(14)).missing > 0
    manifest = study_row(tmp_path).manifest
    engine = manifest["engines"]["rosenbrock"]
    assert engine["path"] == "compiled" and "path" not in manifest
    assert {m for m, facts in engine["compiled"].items() if facts["digest"]} == {"sgd", "heat"}
    assert engine["repayment"]["gain"] == 4 and engine["repayment"]["compilation"] > 0
    said = describe_engine("rosenbrock", engine)[1]
    assert said.startswith("rosenbrock: steps are compiled: that repays: ") and "2 steps about" in said
    monkeypatch.setattr(compilation, "_made", {})
    monkeypatch.setattr(compilation, "why_not_here", lambda device: "no C++ compiler (g++) is found")
    with pytest.raises(UserError, match=r"begin another study with --path vectorized \(this one chose to compile"):
        run(tmp_path)


def test_a_method_whose_compiled_steps_are_slower_is_not_compiled(
    long: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """L-BFGS, say: the few members that begin a new direction take that step alone, unless all are one graph."""

    def throughput(oracle: Any, rule: Rule, *_: Any, compiled: Any = None) -> float:
        return 1.0 if compiled is None else 0.25 if rule.name == "heat" else 4.0

    monkeypatch.setattr(repayment, "throughput", throughput)
    assert run(tmp_path, stopping=tiny.After(14)).missing > 0
    engine = study_row(tmp_path).manifest["engines"]["rosenbrock"]
    assert engine["path"] == "compiled" and engine["compiled"]["heat"]["digest"] == ""
    slower = "rosenbrock: not compiled: heat: its compiled steps take 4 times as long as plain ones"
    assert slower in describe_engine("rosenbrock", engine)
    assert run(tmp_path).missing == 0
    plain = tmp_path / "plain"
    plain.mkdir()
    assert run(plain, path="vectorized").missing == 0
    both = [{key: row for key, row in tiny.results(folder).items() if "heat" in key} for folder in (tmp_path, plain)]
    assert both[0] and both[0] == both[1]


def test_a_study_goes_on_on_its_path_however_long_it_is(long: None, tmp_path: Path) -> None:
    assert run(tmp_path, stopping=tiny.After(14), path="vectorized").missing > 0
    assert run(tmp_path, stopping=tiny.After(3)).missing > 0
    engine = study_row(tmp_path).manifest["engines"]["rosenbrock"]
    assert engine["path"] == "vectorized" and not engine["repayment"] and "compiled" not in engine


def test_a_long_study_without_a_compiler_trains_as_a_short_one_and_says_so(
    long: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(repayment, "why_not_here", lambda device: "no C++ compiler (g++) is found")
    assert run(tmp_path, stopping=tiny.After(14)).missing > 0
    engine = study_row(tmp_path).manifest["engines"]["rosenbrock"]
    assert engine["path"] == "vectorized"
    assert describe_engine("rosenbrock", engine)[1:] == [
        "rosenbrock: steps are not compiled: no C++ compiler (g++) is found"
    ]


def test_a_path_that_is_not_possible_is_refused_before_a_study_begins(monkeypatch: pytest.MonkeyPatch) -> None:
    device, problems = torch.device("cpu"), [problem("rosenbrock")]
    assert parse_path("compiled") == "compiled"
    with pytest.raises(UserError, match="unknown path 'compild': did you mean 'compiled'"):
        parse_path("compild")
    refuse_problems(SPEC, problems, device, "compiled")
    with pytest.raises(UserError, match="compiled path: the compiled path is for the CPU"):
        refuse_problems(SPEC, problems, torch.device("cuda:0"), "compiled")
    wrapped = SPEC.model_copy(update={"baseline": "adam"})
    with pytest.raises(UserError, match="the step of 'adam' on problem 'rosenbrock' cannot be compiled"):
        refuse_problems(wrapped, problems, device, "compiled")
