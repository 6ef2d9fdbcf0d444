"""The suite for rules: the built-in ones pass, and every check fails on a rule that breaks this check only."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from torch import Tensor

from relaxbench.optim.hyper import LR, Hyper
from relaxbench.optim.published import Published
from relaxbench.optim.registry import RULES
from relaxbench.optim.rule import Oracle, Query, Rule, State, counters
from relaxbench.optim.wrapped import wrap
from relaxbench.space import Float, Int
from relaxbench.testing import RuleConformance, run_checks
from tests.testing.single import check_alone


@pytest.mark.parametrize("name", RULES)
def test_every_rule_that_is_built_in_passes(name: str) -> None:
    few = {"cg_steps": 4} if name == "levenberg-marquardt" else {}  # conjugate gradients per step: as of twenty
    suite = type("Suite", (RuleConformance,), {"rule": RULES[name], "options": few})()
    checks = list(run_checks(suite))
    assert len(checks) == 15
    assert [(check.name, check.reason) for check in checks if check.failed] == []


class Good(Rule):
    """Heavy ball with outer steps of two queries; the broken rules derive from it."""

    name, title, source = "good", "Good", "this test"
    space = {"lr": Float(1e-3, 1.0, 0.05, log=True), "inner_steps": Int(2, 8, 2, step=2)}
    elementwise = True
    copies = 4

    def init(self, x: Tensor, seed: Tensor) -> State:
        return {"x": x.clone(), "y": x.clone(), "v": torch.zeros_like(x), **counters(x, seed)}

    def query(self, state: State, hyper: Hyper) -> Query:
        return Query(state["y"], state["t"])

    def update(self, state: State, grad: Tensor, loss: Tensor, hyper: Hyper) -> State:
        state["v"].mul_(0.5).add_(grad)
        state["y"].sub_(hyper["lr"] * state["v"])
        state["t"] += 1
        due = state["t"] % self.period(hyper) == 0
        state["x"].copy_(torch.where(due, state["y"], state["x"]))
        return state

    def period(self, hyper: Hyper) -> Tensor:
        return hyper["inner_steps"].to(torch.int64)


class BadName(Good):
    name = "Good Rule"


class BadDefault(Good):
    space = {**Good.space, "lr": Float(1e-3, 1.0, 2.0)}


class Taken(Good):
    name = "sgd"


class Lacking(Good):
    """A default space that neither searches nor fixes a hyperparameter of the wide one."""

    wide = Good.space
    space = {"lr": Good.space["lr"]}


class Both(Good):
    wide = Good.space
    space = Good.space
    default_fixed = {"inner_steps": 4}


class Narrow(Good):
    wide = {"lr": Good.space["lr"], "inner_steps": Good.space["inner_steps"]}
    space = {**wide, "momentum": Float(0.0, 0.9, 0.5)}


class KeptAtNothing(Good):
    wide = Good.space
    space = {"lr": Good.space["lr"]}
    default_fixed = {"inner_steps": 0}


class Incomplete(Good):
    space = Good.space
    publications = (Published("fully-connected", {"lr": 0.1}, "a paper"),)


class Unsourced(Good):
    space = Good.space
    publications = (Published("fully-connected", {"lr": 0.1, "inner_steps": 4}, ""),)


class AssumesMore(Good):
    space = Good.space
    publications = (Published("fully-connected", {"lr": 0.1, "inner_steps": 4}, "a paper", {"beta": "why"}),)


class UnknownKind(Good):
    space = Good.space
    publications = (Published("poems", {"lr": 0.1, "inner_steps": 4}, "a paper"),)


class Idle(Good):
    """Declares a hyperparameter that it does not use."""

    space = {**Good.space, "momentum": Float(0.0, 0.9, 0.5)}


class WithoutSource(Good):
    source = ""


class Narrowing(Good):
    """Its velocity becomes float32 in a float64 population."""

    def update(self, state: State, grad: Tensor, loss: Tensor, hyper: Hyper) -> State:
        state = super().update(state, grad, loss, hyper)
        return {**state, "v": state["v"].float()}


class Shared(Good):
    """A state whose first axis is not the members."""

    def init(self, x: Tensor, seed: Tensor) -> State:
        return {**super().init(x, seed), "count": torch.zeros(1)}


class FlatBatch(Good):
    def query(self, state: State, hyper: Hyper) -> Query:
        return Query(state["y"], state["t"].float())


class InPlace(Good):
    def init(self, x: Tensor, seed: Tensor) -> State:
        return {**super().init(x, seed), "x": x}


class Elsewhere(Good):
    def init(self, x: Tensor, seed: Tensor) -> State:
        state = super().init(x, seed)
        state["x"] += 1e-3
        return state


class Mixing(Good):
    """Uses the mean over the members."""

    def update(self, state: State, grad: Tensor, loss: Tensor, hyper: Hyper) -> State:
        return super().update(state, grad + 1e-3 * grad.mean(dim=0), loss, hyper)


class Clipping(Good):
    """Clips the norm of the whole population's gradient, which is small in most tests."""

    def update(self, state: State, grad: Tensor, loss: Tensor, hyper: Hyper) -> State:
        return super().update(state, grad / max(100.0, float(grad.norm())), loss, hyper)


class MixingWhereItIsFlat(Good):
    """Uses the mean over the members when all of them are nearly done."""

    def update(self, state: State, grad: Tensor, loss: Tensor, hyper: Hyper) -> State:
        return super().update(state, grad.mean(0).expand_as(grad) if float(loss.mean()) < 1e-3 else grad, loss, hyper)


class Leaking(Good):
    """Uses the first member's step size for all."""

    def update(self, state: State, grad: Tensor, loss: Tensor, hyper: Hyper) -> State:
        return super().update(state, grad, loss, {**hyper, "lr": hyper["lr"][:1]})


class Drawing(Good):
    def update(self, state: State, grad: Tensor, loss: Tensor, hyper: Hyper) -> State:
        return super().update(state, grad + 1e-3 * torch.randn(1), loss, hyper)


class Remembering(Good):
    """Keeps a part of its state outside the state dict."""

    def update(self, state: State, grad: Tensor, loss: Tensor, hyper: Hyper) -> State:
        self.count = getattr(self, "count", 0) + 1
        return super().update(state, grad * (1 + 0.1 * self.count), loss, hyper)


class Multiplying(Good):
    """Masks by multiplication, so that NaN spreads over the whole population."""

    def update(self, state: State, grad: Tensor, loss: Tensor, hyper: Hyper) -> State:
        return super().update(state, grad + 0.0 * grad.sum(dim=0), loss, hyper)


class Hiding(Good):
    """Hides divergences."""

    def update(self, state: State, grad: Tensor, loss: Tensor, hyper: Hyper) -> State:
        return super().update(state, torch.nan_to_num(grad), loss, hyper)


class Bounding(Good):
    """Scales all members by the largest gradient."""

    def update(self, state: State, grad: Tensor, loss: Tensor, hyper: Hyper) -> State:
        return super().update(state, grad * (0.5 if float(grad.abs().max()) > 1e5 else 1.0), loss, hyper)


class Greedy(Good):
    """Requests two gradients and is billed for one."""

    def step(self, state: State, oracle: Oracle, hyper: Hyper) -> tuple[State, Tensor]:
        oracle.gradient(self.query(state, hyper))
        return super().step(state, oracle, hyper)


class Ahead(Good):
    """Uses mini-batches that it has not announced."""

    def query(self, state: State, hyper: Hyper) -> Query:
        return Query(state["y"], state["t"] + 1)


class Restless(Good):
    def iterate(self, state: State) -> Tensor:
        return state["y"]


class Heavy(Good):
    copies = 3


class Double(Good):
    """Half of its state in float64."""

    def init(self, x: Tensor, seed: Tensor) -> State:
        return {**super().init(x, seed), "v": torch.zeros_like(x, dtype=torch.float64)}


class Hoarding(Good):
    """Keeps a history outside its state."""

    def update(self, state: State, grad: Tensor, loss: Tensor, hyper: Hyper) -> State:
        self.history = [*getattr(self, "history", []), grad.clone()]
        return super().update(state, grad, loss, hyper)


class Joining(Good):
    """Every element depends on the first one of its member."""

    elementwise = True

    def update(self, state: State, grad: Tensor, loss: Tensor, hyper: Hyper) -> State:
        return super().update(state, grad + 1e-3 * state["y"][:, :1], loss, hyper)


class Overwriting(Good):
    """Uses the memory of the gradient for a result."""

    elementwise = True

    def update(self, state: State, grad: Tensor, loss: Tensor, hyper: Hyper) -> State:
        return super().update(state, grad.mul_(0.5), loss, hyper)


class Climbing(Good):
    def update(self, state: State, grad: Tensor, loss: Tensor, hyper: Hyper) -> State:
        return super().update(state, -grad, loss, hyper)


class LossReading(Good):
    """Uses the loss, which a custom training loop does not pass on."""

    def update(self, state: State, grad: Tensor, loss: Tensor, hyper: Hyper) -> State:
        return super().update(state, grad * (1 + loss), loss, hyper)


BROKEN: list[tuple[type[Rule], str, str]] = [
    (BadName, "it declares itself", "words-with-dashes"),
    (BadDefault, "it declares itself", "lies outside"),
    (Lacking, "it declares itself", "inner_steps must be either in space or in default_fixed, is in none"),
    (Both, "it declares itself", "inner_steps must be either in space or in default_fixed, is in both"),
    (Narrow, "it declares itself", "momentum is not in wide: declare it there"),
    (KeptAtNothing, "it declares itself", "default_fixed: inner_steps = 0 should be an integer of at least 1"),
    (Incomplete, "it declares itself", "published for 'fully-connected' lacks inner_steps"),
    (Unsourced, "it declares itself", "published for 'fully-connected' has no source"),
    (AssumesMore, "it declares itself", "assumed has beta, which has no value"),
    (UnknownKind, "it declares itself", "published for 'poems': expected a kind, one of fully-connected"),
    (Taken, "it declares itself", "'sgd' is that of a built-in"),
    (WithoutSource, "it declares itself", "source is missing"),
    (Idle, "every hyperparameter does something", "momentum changes nothing"),
    (Narrowing, "shapes and types do not change", "changed names, shapes or types"),
    (Shared, "shapes and types do not change", "first axis"),
    (FlatBatch, "shapes and types do not change", "int64"),
    (InPlace, "it starts at the given parameters", "copy them"),
    (Elsewhere, "it starts at the given parameters", "not the initial"),
    (Mixing, "a member is the same alone and in any slot", "differs when"),
    (Clipping, "a member is the same alone and in any slot", "10000 times as large"),
    (MixingWhereItIsFlat, "a member is the same alone and in any slot", "0.0001 times as large"),
    (Leaking, "neighbours with other settings change nothing", "leak"),
    (Drawing, "the seed fixes everything", "generator"),
    (Remembering, "the state is complete in the middle of an inner loop", "keep everything in the state"),
    (Multiplying, "nan stays with its member", "reaches"),
    (Bounding, "nan stays with its member", "a large gradient of member 2 reaches"),
    (Hiding, "nan stays with its member", "hidden"),
    (Greedy, "every request is billed", "were requested"),
    (Ahead, "every request is billed", "announced"),
    (Restless, "the iterate changes with outer steps only", "in the middle of a period"),
    (Heavy, "it takes no more memory than it declares", "4 copies"),
    (Double, "it takes no more memory than it declares", "5 copies"),
    (Hoarding, "it takes no more memory than it declares", "next to its state the rule keeps"),
    (Joining, "elements stay apart where it says so", "do not declare elementwise"),
    (Overwriting, "elements stay apart where it says so", "writes into the gradient"),
    (Climbing, "it descends", "the loss goes from"),
    (LossReading, "the drop in class takes the same steps", "away from the population"),
]


@pytest.mark.parametrize(("rule", "check", "reason"), BROKEN, ids=lambda value: getattr(value, "__name__", ""))
def test_a_broken_rule_is_caught_by_the_check_for_it(rule: type[Rule], check: str, reason: str) -> None:
    result = check_alone(rule, check)
    assert result.name == check and result.failed and reason in result.reason


def test_the_intact_rule_passes_and_every_check_has_a_broken_one() -> None:
    checks = list(run_checks(type("Suite", (RuleConformance,), {"rule": Good})()))
    assert all(check.passed for check in checks), [check for check in checks if not check.passed]
    assert {check.name for check in checks} == {check for _, check, _ in BROKEN}


def test_a_wrapped_optimizer_answers_for_what_is_searched_of_it() -> None:
    """ASGD's t0 moves an average that nobody evaluates, and Adafactor refuses a small d: neither is searched."""
    words, asgd = "every hyperparameter does something", wrap("torch.optim.ASGD")
    assert check_alone(asgd, words).passed and check_alone(wrap("torch.optim.Adafactor"), words).passed
    searched = type("Searched", (asgd,), {"space": {**asgd.space, "t0": asgd.wide["t0"]}})
    assert "t0 changes nothing" in check_alone(searched, words).reason


class TestInPytest(RuleConformance):
    """The use by another package, with an option and custom settings."""

    rule = RULES["parle"]
    options = {"replicas": 2}
    settings = {"outer_lr": 0.3}


def test_a_crash_is_a_failure_with_its_reason() -> None:
    class Crashing(Good):
        def update(self, state: State, grad: Tensor, loss: Tensor, hyper: Hyper) -> State:
            raise RuntimeError("no idea\nat all")

    checks = list(run_checks(type("Suite", (RuleConformance,), {"rule": Crashing})()))
    (crashed,) = [check for check in checks if check.failed]  # the others are skipped, and say where it is told
    assert crashed.reason == "RuntimeError: no idea"
    assert checks[-1].skipped and checks[-1].reason == f"see {crashed.name!r}"
    assert checks[0].passed


def test_custom_choices_are_numbered_and_must_not_contradict() -> None:
    from relaxbench.optim.hyper import OPTIONS, encode
    from relaxbench.space import Choice

    names = itertools.count()
    kind = f"kind_{next(names)}"

    def rule(choice: Choice) -> Any:
        return type("Choosing", (Good,), {"space": {"lr": LR, kind: choice}})

    rule(Choice(("a", "b"), "a"))
    assert OPTIONS[kind] == ("a", "b") and encode(kind, "b") == 1.0
    rule(Choice(("b",), "b"))  # fewer of them is a narrower search
    with pytest.raises(ValueError, match="choose another name"):
        rule(Choice(("a", "c"), "a"))
    del OPTIONS[kind]
