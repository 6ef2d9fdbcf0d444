"""Optimizers, options and ranges that cannot be: each is one line of a study file, refused before the study begins."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
import torch

from relaxbench.cli.main import main
from relaxbench.errors import UserError
from relaxbench.optim.wrapped import wrap
from relaxbench.optim.wrapped.make import require_that_many_steps_can_be_stored, wrapped_class
from relaxbench.study.definition.identity import identify_method
from relaxbench.study.definition.prepare import prepare
from relaxbench.study.definition.unsearched import unsearched
from tests.study.tiny import spec

BAD = """
import abc, random
import torch
from torch.optim import Optimizer


class Plain(Optimizer):
    def __init__(self, params, lr=0.1):
        super().__init__(params, {"lr": lr})

    def rate(self, group):
        return group["lr"]

    def step(self, closure=None):
        for group in self.param_groups:
            for p in group["params"]:
                self.move(p, self.rate(group))

    def move(self, p, lr):
        p.data.add_(p.grad, alpha=-lr)


class Abstract(Plain, abc.ABC):
    @abc.abstractmethod
    def move(self, p, lr): ...


class Stepless(Optimizer):
    def __init__(self, params, lr=0.1):
        super().__init__(params, {"lr": lr})


class Wants(Plain):
    def __init__(self, params, radius, lr=0.1):
        super().__init__(params, lr)


class Swallows(Plain):
    def __init__(self, params, **settings):
        super().__init__(params, **settings)


class Hides(Plain):
    def __init__(self, params, lr=0.1):
        super().__init__(params, lr)
        self.count = 0

    def rate(self, group):
        self.count += 1
        return group["lr"] / self.count


class Reads(Plain):
    def __init__(self, params, lr=0.1):
        super().__init__(params, lr)
        self.secret = lr

    def rate(self, group):
        return self.secret


class Draws(Plain):
    def move(self, p, lr):
        p.data.add_(torch.randn_like(p), alpha=-lr)


class DrawsInPython(Plain):
    def move(self, p, lr):
        p.data.mul_(random.random())


CALLS = [0]


class Differs(Plain):
    def move(self, p, lr):
        CALLS[0] += 1
        p.data.add_(p.grad, alpha=-lr * CALLS[0])


class Reshapes(Plain):
    def move(self, p, lr):
        p.data = p.data.flatten()


class Grows(Plain):
    def move(self, p, lr):
        past = self.state[p].setdefault("past", [])
        past.append(p.grad.clone())
        p.data.add_(sum(past), alpha=-lr)


class KeepsObjects(Plain):
    def move(self, p, lr):
        self.state[p]["set"] = {1, 2}


class Raises(Plain):
    def move(self, p, lr):
        raise NotImplementedError("not yet")


class Closes(Plain):
    def step(self, closure):
        closure()
        super().step()


class Late(Plain):
    # Does something else from its 41st step on.

    def move(self, p, lr):
        state = self.state[p]
        state["t"] = state.get("t", 0) + 1
        late = state["t"] > 40
        p.data.add_(p.grad + (self.other(p, state) if late else 0), alpha=-lr)


class DrawsLate(Late):
    def other(self, p, state):
        return 0.1 * torch.randn_like(p)


class DiffersLate(Late):
    def other(self, p, state):
        CALLS[0] += 1
        return 0.1 * (CALLS[0] % 7)


class HidesLate(Late):
    count = 0

    def other(self, p, state):
        self.count += 1
        return 0.1 * (self.count % 7)


class SpeaksLate(Late):
    def other(self, p, state):
        state["mode"] = "late"
        return 0.1


class SlowsLate(Late):
    def other(self, p, state):
        self.param_groups[0]["lr"] *= 0.99
        return 0


class Whispers(Plain):
    # Its text is the same in all steps.

    def move(self, p, lr):
        self.state[p].setdefault("mode", "fast")
        super().move(p, lr if self.state[p]["mode"] == "fast" else 0)


class Speaks(Plain):
    def move(self, p, lr):
        state = self.state[p]
        super().move(p, lr * len(state.get("mode", "")))
        state["mode"] = "x" + state.get("mode", "")


class Slows(Plain):
    def move(self, p, lr):
        super().move(p, lr)
        self.param_groups[0]["lr"] *= 0.99


class Rests(Plain):
    def move(self, p, lr):
        pass


class Sums(Plain):
    # Moves with every eighth gradient alone.

    def move(self, p, lr):
        state = self.state[p]
        state["n"] = state.get("n", 0) + 1
        super().move(p, lr if state["n"] % 8 == 0 else 0)


class Exits(Plain):
    def move(self, p, lr):
        raise SystemExit(0)


class Idle(torch.optim.LBFGS):
    def step(self, closure):
        pass


class Rate(Plain):
    def __init__(self, params, rate=0.1):
        Optimizer.__init__(self, params, {"rate": rate})

    def rate(self, group):
        return group["rate"]


def function():
    pass


class Nothing(Optimizer):
    def __init__(self, params, sign: bool = True):
        super().__init__(params, {})

    def step(self, closure=None):
        for p in self.param_groups[0]["params"]:
            p.data.sub_(p.grad.sign())
"""

FILE = "bad_optimizers.py"
CASES: list[tuple[str, dict[str, Any], str]] = [
    ("torch.optim.Adm", {}, "unknown optimizer of torch.optim: 'Adm': did you mean 'Adam'?"),
    ("torch.optm.Adam", {}, "there is no module 'torch.optm'"),
    ("no_such_package.Adam", {}, "the package 'no_such_package' is not installed"),
    ("Adam", {}, 'expected "torch:MODULE.CLASS"'),
    (FILE, {}, 'expected "torch:MODULE.CLASS"'),
    ("torch.optim.lr_scheduler.StepLR", {}, "no subclass of torch.optim.Optimizer"),
    ("torch.nn.functional.relu", {}, "'torch.nn.functional.relu' is a function: expected a subclass"),
    ("torch.optim", {}, "'torch.optim' is a module: expected a subclass of torch.optim.Optimizer"),
    (f"{FILE}:function", {}, "is a function: expected a subclass of torch.optim.Optimizer"),
    (f"{FILE}:CALLS", {}, "is a list of 1: expected a subclass of torch.optim.Optimizer"),
    ("torch.optim.Optimizer", {}, "is abstract, it lacks step"),
    (f"{FILE}:Closes", {}, "needs a closure, with which a step takes any number of gradients: of such optimizers only"),
    ("torch.optim.LBFGS", {"options": {"line_search_fn": "wolfe"}}, "only 'strong_wolfe' is supported"),
    (
        "torch.optim.LBFGS",
        {"options": {"max_iter": 0.5}},
        "option max_iter of torch.optim.LBFGS = 0.5: expected",
    ),
    ("torch.optim.SparseAdam", {}, "SparseAdam does not support dense gradients"),
    ("nowhere.py:Adam", {}, "optimizer file 'nowhere.py' does not exist"),
    (f"{FILE}:Hide", {}, f"unknown optimizer of {FILE}: 'Hide': did you mean 'Hides'?"),
    (f"{FILE}:Abstract", {}, "is abstract, it lacks move"),
    (f"{FILE}:Stepless", {}, "is abstract, it lacks step"),
    (f"{FILE}:Wants", {}, "has arguments without a default, radius: give each a value in `options`"),
    (f"{FILE}:Hides", {}, "keeps state outside `state`"),
    (f"{FILE}:Reads", {}, "reads hyperparameters elsewhere"),
    (f"{FILE}:Draws", {}, "draws from a global generator"),
    (f"{FILE}:DrawsInPython", {}, "draws from a global generator"),
    (f"{FILE}:Differs", {}, "is not deterministic"),
    (f"{FILE}:Reshapes", {}, "changes the shapes of parameters"),
    (f"{FILE}:Grows", {}, "changes the form of its state from step to step (past."),
    (f"{FILE}:KeepsObjects", {}, "keeps set = set in its state"),
    (f"{FILE}:Raises", {}, "cannot take a step: NotImplementedError: not yet"),
    (f"{FILE}:Speaks", {}, "changes the form of its state from step to step (mode)"),
    (f"{FILE}:Slows", {}, "changes lr itself, which the study's schedule sets"),
    (f"{FILE}:Rests", {}, "moves no parameter in 128 steps whose gradients are not zero"),
    (f"{FILE}:Exits", {}, "cannot take a step: SystemExit: 0"),
    (f"{FILE}:Idle", {}, "its step() does not call the closure"),
    (f"{FILE}:Nothing", {}, "has no real number that could be tuned"),
    (
        f"{FILE}:Swallows",
        {},
        "takes **settings in its __init__, whose names cannot be read: write them out, with defaults",
    ),
    ("torch.optim.Adam", {"options": {"amsgrd": True}}, "unknown option of torch.optim.Adam: 'amsgrd'"),
    ("torch.optim.Adam", {"options": {"amsgrad": 3}}, "option amsgrad of torch.optim.Adam = 3: expected true or false"),
    ("torch.optim.Adam", {"options": {"lr": 0.1}}, "option lr of torch.optim.Adam may differ between trials"),
    ("torch.optim.Adam", {"options": {"companion": "torch:torch.optim.SGD"}}, "it takes all parameters itself"),
    ("torch.optim.Muon", {"options": {"companion": "torch:torch.optim.Muon"}}, "it takes matrices alone"),
    ("torch.optim.Muon", {"options": {"companion": "torch:torch.optim.Adm"}}, "did you mean 'Adam'?"),
    ("torch.optim.Muon", {"options": {"companion_amsgrd": True}}, "unknown option of torch.optim.AdamW: 'amsgrd'"),
    ("torch.optim.Muon", {"space": {"ns_steps": [3, 5]}}, "ns_steps is an option, equal in all trials"),
    ("torch.optim.Adam", {"space": {"learning_rate": [0.1, 1.0]}}, "unknown hyperparameter of [method.mine]"),
    ("torch.optim.Adam", {"fixed": {"beta2": 1.0}}, "method.mine.fixed.beta2 = 1.0: expected"),
    ("torch.optim.Adadelta", {"fixed": {"rho": 0.5, "eps": -1.0}}, "fixed.eps = -1.0: expected a number"),
    (
        "torch.optim.SGD",
        {"options": {"nesterov": True}, "space": {"momentum": [0.0, 0.9]}},
        "method.mine.space.momentum = 0.0: torch:torch.optim.SGD refuses it "
        "(ValueError: Nesterov momentum requires a momentum and zero dampening)",
    ),
    ("torch.optim.ASGD", {"arm": "published"}, "has no such settings"),
]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / FILE).write_text(BAD)
    return tmp_path


@pytest.mark.parametrize(("path", "method", "words"), CASES)
def test_a_wrong_optimizer_is_one_line(folder: Path, path: str, method: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError) as error:
        spec(methods=["sgd", "mine"], method={"mine": {"rule": f"torch:{path}", **method}})
    line = str(error.value)
    assert words in line and "\n" not in line and "mine" in line


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("DrawsLate", "draws from a global generator, PyTorch's"),
        ("DiffersLate", "is not deterministic"),
        ("HidesLate", "keeps state outside `state`"),
        ("SpeaksLate", "changes the form of its state from step to step (mode)"),
        ("SlowsLate", "changes lr itself"),
    ],
)
def test_an_optimizer_that_is_good_for_forty_steps_is_refused_before_a_study(
    folder: Path, name: str, words: str
) -> None:
    study = spec(methods=["sgd", "mine"], method={"mine": {"rule": f"torch:{FILE}:{name}"}})
    with pytest.raises(UserError) as error:
        identify_method("mine", study, [], None)
    line = str(error.value)
    assert words in line and "\n" not in line and line.startswith("method.mine: ")


@pytest.mark.parametrize("name", ["Plain", "Sums", "Whispers"])
def test_a_good_optimizer_may_run_for_long(folder: Path, name: str) -> None:
    require_that_many_steps_can_be_stored(wrapped_class(f"torch:{FILE}:{name}"))


class Sleeper(torch.optim.Optimizer):
    """Draws when it is told to."""

    draw: Any = None

    def __init__(self, params: Any, lr: float = 0.1) -> None:
        super().__init__(params, {"lr": lr})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:
        for group in self.param_groups:
            for p in group["params"]:
                p.sub_(p.grad, alpha=group["lr"])
        if self.draw:
            self.draw()


@pytest.mark.parametrize(
    ("draw", "whose"),
    [(lambda self: torch.rand(1), "PyTorch's"), (lambda self: random.random(), "Python's")],
    ids=["torch", "random"],
)
def test_a_draw_at_any_time_ends_the_run(monkeypatch: pytest.MonkeyPatch, draw: Any, whose: str) -> None:
    rule = wrap(Sleeper)()
    state = rule.init(torch.ones(2, 4), torch.zeros(2, 1, dtype=torch.int64))

    def steps() -> None:
        for _ in range(20):
            rule.update(state, torch.ones(2, 4), torch.zeros(2, 1), {"lr": torch.full((2, 1), 0.1).double()})

    steps()
    monkeypatch.setattr(Sleeper, "draw", draw)
    with pytest.raises(UserError, match=f"draws from a global generator, {whose}"):
        steps()


def test_it_is_told_that_a_step_size_of_another_name_is_not_searched(folder: Path) -> None:
    def told(**method: Any) -> list[str]:
        study = spec(methods=["sgd", "mine"], method={"mine": {"rule": f"torch:{FILE}:Rate", **method}})
        return unsearched(study, prepare(study))

    assert told() == [
        f"method 'mine': of {FILE}:Rate nothing is searched: state ranges, such as space = {{ rate = [low, high] }}"
    ]
    assert told(space={"rate": [0.01, 0.1]}) == []
    assert told(fixed={"rate": 0.05}) == [
        "method 'mine': nothing is searched, so that all of its trials have the same settings"
    ]


def test_a_good_optimizer_of_a_file_is_taken(folder: Path) -> None:
    """The one that all the bad ones are made of."""
    rule = spec(methods=["sgd", "mine"], method={"mine": {"rule": f"torch:{FILE}:Plain"}}).rule_of("mine")
    assert (rule.title, rule.source, set(rule.wide)) == ("Plain", f"{FILE}:Plain, wrapped", {"lr", "schedule"})


def test_a_model_without_matrices_is_no_problem_for_muon() -> None:
    study = spec(methods=["sgd", "mine"], method={"mine": {"rule": "torch:torch.optim.Muon"}})
    with pytest.raises(UserError, match=r"torch\.optim\.Muon takes matrices alone, of which the model has none"):
        prepare(study)


def test_the_command_exits_with_2(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = 'name = "a"\nproblems = ["rosenbrock"]\nmethods = ["sgd", "mine"]\n'
    lines += '[method.mine]\nrule = "torch:torch.optim.Adm"'
    (folder / "a.toml").write_text(lines)
    assert main(["study", "a.toml"]) == 2
    printed = capsys.readouterr().err.strip()
    assert printed == ("relaxbench: a.toml: method.mine: unknown optimizer of torch.optim: 'Adm': did you mean 'Adam'?")
    assert not [*folder.glob("*.db")]
