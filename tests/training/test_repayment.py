"""The compiled path is chosen where it clearly repays, by measured gain and seconds, and not where it could hurt."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from relaxbench.optim.rules.sgd import SGD
from relaxbench.problems import problem
from relaxbench.training import repayment
from relaxbench.training.compiled import UnfitError
from relaxbench.training.engine import Engine
from relaxbench.training.repayment import Work, repaid

ENGINE = Engine("vectorized", 128, "cpu", "float32", "float32", 1, "bit for bit", rate=1000.0)
RULES = [SGD(), SGD(), SGD(nesterov=False)]
"""Two kinds: two of them share a step."""


class Step:
    def __init__(self, seconds: float, note: str = "") -> None:
        self.seconds, self.note = seconds, note


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """A machine on which a step is compiled in 20 s and trains four times as fast; the sizes that were asked for."""
    asked: list[int] = []

    def compiled_step(task: Any, rule: Any, size: int, precision: str) -> Step:
        asked.append(size)
        return Step(20.0)

    monkeypatch.setattr(repayment, "why_not_here", lambda device: None)
    monkeypatch.setattr(repayment, "compiled_size", lambda *_: 32)
    monkeypatch.setattr(repayment, "compiled_step", compiled_step)
    monkeypatch.setattr(repayment, "throughput", lambda *_, compiled=None: 4000.0 if compiled else 1000.0)
    return asked


def choose(seconds: float, engine: Engine = ENGINE, population: int | None = None, **more: Any) -> Engine:
    """The engine for so many seconds of training in each of two workers."""
    work = Work(2 * 1000.0 * seconds, 2, more.pop("shared", False))
    return repaid(problem("rosenbrock"), engine, RULES, work, population)


def test_the_rule_is_three_times_what_compiling_takes(made: list[int]) -> None:
    """Two steps of 20 s, twice, are 80 s; a fourth of the training remains: 320 s of it repay them three times."""
    repays = choose(361.0)
    assert (repays.path, repays.population) == ("compiled", 32) and repays.repayment is not None
    assert repays.repayment.gain == 4 and repays.repayment.compilation == 80
    assert repays.repayment.training == pytest.approx(361)
    assert repays.repayment.reason == (
        "that repays: 6.0 min of training in every worker would take 90 s compiled (4.0 ×), and compiling 2 steps "
        "about 80 s"
    )
    assert choose(400.0, population=7).population == 7 and made == [32, 7]


def test_a_slower_compiler_or_a_smaller_gain_does_not_repay(made: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(repayment, "compiled_step", lambda *_: Step(26.0))
    engine = choose(400.0)
    assert (engine.path, engine.population) == ("vectorized", 128) and engine.repayment is not None
    assert engine.repayment.reason.startswith("that would not clearly repay: 6.7 min of training")
    assert choose(420.0).path == "compiled"
    monkeypatch.setattr(repayment, "throughput", lambda *_, compiled=None: 0.9 if compiled else 1.0)
    assert choose(1e9).path == "vectorized"


def test_a_short_study_compiles_nothing_to_find_out(made: list[int]) -> None:
    engine = choose(repayment.LONG * 3 - 1)
    assert engine == replace(ENGINE, repayment=engine.repayment) and made == []
    assert engine.repayment is not None and engine.repayment.reason == ""


@pytest.mark.parametrize(
    "engine",
    [replace(ENGINE, path="direct"), replace(ENGINE, device="cuda:0"), replace(ENGINE, rate=0.0)],
)
def test_other_engines_stay_as_they_are(engine: Engine, made: list[int]) -> None:
    assert choose(1e9, engine) is engine and made == []


def fails(error: Exception) -> Any:
    def compiled_step(*_: Any) -> Step:
        raise error

    return compiled_step


def test_whatever_is_in_the_way_is_named_and_the_engine_stays(made: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    found = {"shared": choose(1e9, shared=True)}
    for name, compiled_step in (
        ("unfit", fails(UnfitError("its step cannot be recorded (IndexError: of the model)"))),
        ("memory", fails(MemoryError())),
        ("cache", lambda *_: Step(20.0, "compiled without the cache in /x, which failed: delete that folder")),
    ):
        monkeypatch.setattr(repayment, "compiled_step", compiled_step)
        found[name] = choose(1e9)
    monkeypatch.setattr(repayment, "why_not_here", lambda device: "no C++ compiler (g++) is found")
    found["compiler"] = choose(1e9)
    for name, said in (
        ("shared", "workers on other machines may join, with other compilers; --path compiled asks for it"),
        ("unfit", "its step cannot be recorded (IndexError: of the model)"), ("memory", "MemoryError"),
        ("cache", "compiled without the cache in /x, which failed: delete that folder"),
        ("compiler", "no C++ compiler (g++) is found"),
    ):  # fmt: skip
        engine = found[name]
        assert engine.repayment is not None and engine.repayment.reason == said
        assert replace(engine, repayment=None) == ENGINE
