"""The suite for problems: the built-in ones pass, and every check fails on a problem that breaks this check only."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from relaxbench import random
from relaxbench.problems import PROBLEMS, Batch, Loss, Params, Problem, SupervisedProblem, problem
from relaxbench.problems.digits import digits_mlp
from relaxbench.problems.losses import LeastSquares, loss
from relaxbench.testing import ProblemConformance, run_checks

HERE = [name for name in PROBLEMS if f"{name}-small" not in PROBLEMS and not problem(name).missing()]


@pytest.mark.parametrize("name", HERE)
def test_every_problem_that_is_built_in_passes(name: str) -> None:
    """With mini-batches of at most 16 examples: what is required holds for any."""

    def small() -> Problem:
        task = problem(name)
        if isinstance(task, SupervisedProblem):
            task.batch_size = min(task.batch_size, 16)
        return task

    checks = list(run_checks(type("Suite", (ProblemConformance,), {"problem": staticmethod(small)})()))
    assert len(checks) == 11
    assert [(check.name, check.reason) for check in checks if check.failed] == []


class Draws:
    def __init__(self, seeds: Sequence[int], first: Sequence[int]) -> None:
        self.seeds, self.first = torch.tensor(list(seeds))[:, None], torch.tensor(list(first))[:, None]

    def batch(self, number: Tensor) -> Batch:
        return {"y": random.normal(random.key(self.seeds, random.DATA, number), 4)}


class Good(Problem):
    """Least squares (without ½) towards a target that is drawn anew for every gradient."""

    name, title, metric, unit = "good", "a good problem", "loss", ""
    budget, rounds, worst, worst_metric, margin, metric_scale = 60, 5, 1e3, 1e3, 0.1, 1.0

    def __init__(self) -> None:
        self.loss: Loss = loss("least-squares")
        self.space = {"lr": (1e-3, 0.1)}

    def layout(self) -> list[tuple[str, torch.Size]]:
        return [("w", torch.Size([4]))]

    def init(self, seed: int) -> Tensor:
        return random.normal(random.key(torch.tensor([seed]), random.INIT, torch.tensor([0])), 4).flatten()

    def sampler(self, seeds: Sequence[int], first: Sequence[int], steps: int, device: torch.device) -> Draws:
        return Draws(seeds, first)

    def split(self, name: str, device: torch.device) -> Batch:
        return {"y": torch.zeros(1, 4)}

    def outputs(self, params: Params, batch: Batch, training: bool) -> Tensor:
        return params["w"].expand_as(batch["y"])


class Untitled(Good):
    title = ""


class Free(Good):
    budget = 0


class Turned(Good):
    def __init__(self) -> None:
        super().__init__()
        self.space = {"lr": (1.0, 0.1)}


class OfNoKnownKind(Good):
    kind = "poems"


class Fickle(Good):
    def fingerprint(self) -> str:
        return str(id(self)) + str(torch.rand(1).item())


class Hopeless(Good):
    def split(self, name: str, device: torch.device) -> Batch:
        return {"y": torch.full((1, 4), float("nan"))}


class Lost(Good):
    worst = 1e-9


class Short(Good):
    def init(self, seed: int) -> Tensor:
        return super().init(seed)[:2]


class Flat(Good):
    def sampler(self, seeds: Sequence[int], first: Sequence[int], steps: int, device: torch.device) -> Any:
        class One(Draws):
            def batch(self, number: Tensor) -> Batch:
                return {"y": super().batch(number)["y"][0]}

        return One(seeds, first)


class Unsure(Good):
    test_examples = 7

    def correct(self, outputs: Tensor, batch: Batch) -> Tensor | None:
        return outputs[:, 0] > 0


class Generator(Good):
    def sampler(self, seeds: Sequence[int], first: Sequence[int], steps: int, device: torch.device) -> Any:
        class Random(Draws):
            def batch(self, number: Tensor) -> Batch:
                return {"y": torch.randn(len(number), 4)}

        return Random(seeds, first)


class Same(Good):
    def init(self, seed: int) -> Tensor:
        return torch.ones(4)


class Unseeded(Good):
    def init(self, seed: int) -> Tensor:
        return torch.randn(4)


class Neighbourly(Good):
    """Mini-batches by slot, not by seed."""

    def sampler(self, seeds: Sequence[int], first: Sequence[int], steps: int, device: torch.device) -> Draws:
        return Draws(range(len(seeds)), first)


class FromTheRound(Good):
    """Mini-batches that depend on where a round begins."""

    def sampler(self, seeds: Sequence[int], first: Sequence[int], steps: int, device: torch.device) -> Any:
        class Relative(Draws):
            def batch(self, number: Tensor) -> Batch:
                return super().batch(number - self.first)

        return Relative(seeds, first)


class Noisy(Good):
    def outputs(self, params: Params, batch: Batch, training: bool) -> Tensor:
        noise = 0.0 if training else torch.randn(1)
        return params["w"].expand_as(batch["y"]) + noise


class Undefined(Good):
    """NaN among the test examples, which no training run sees."""

    def split(self, name: str, device: torch.device) -> Batch:
        return {"y": torch.full((1, 4), torch.nan if name == "test" else 0.0)}


class Infectious(Good):
    """A cache shared by all members: NaN in one of them reaches the others."""

    lost = False

    def outputs(self, params: Params, batch: Batch, training: bool) -> Tensor:
        out = super().outputs(params, batch, training)
        try:
            lost = self.lost
            self.lost = bool(torch.isnan(params["w"]).any())
        except RuntimeError:  # under vmap
            return out
        return 2 * out if lost else out


class TwoFaced(Good):
    """Computes another function when vectorized, which it notices because tensors cannot be read as numbers."""

    def outputs(self, params: Params, batch: Batch, training: bool) -> Tensor:
        try:
            float(params["w"][0].detach())
        except RuntimeError:
            return 1.0002 * super().outputs(params, batch, training)  # too little for a look, enough to be wrong
        return super().outputs(params, batch, training)


class WrongCurvature(LeastSquares):
    def curvature(self, outputs: Tensor, batch: Batch, v: Tensor) -> Tensor:
        return 0.5 * super().curvature(outputs, batch, v)


class Bent(Good):
    def __init__(self) -> None:
        super().__init__()
        self.loss = WrongCurvature()


class Forgetful(Good):
    """Counts its own calls, so that a resumed trial sees another function."""

    calls = 0

    def outputs(self, params: Params, batch: Batch, training: bool) -> Tensor:
        self.calls += training
        return super().outputs(params, batch, training) * (1 + 1e-3 * self.calls * training)


class OnlyFirst(Good):
    """Its second mini-batch is lost, which a rule with replicas asks for at once."""

    def sampler(self, seeds: Sequence[int], first: Sequence[int], steps: int, device: torch.device) -> Any:
        class Lost(Draws):
            def batch(self, number: Tensor) -> Batch:
                return Batch() if bool((number == 1).any()) else Batch(super().batch(number))

        return Lost(seeds, first)


BROKEN: list[tuple[type[Problem], str, str]] = [
    (Untitled, "it declares itself", "title is missing"),
    (Free, "it declares itself", "budget = 0"),
    (Turned, "it declares itself", "expected low < high"),
    (OfNoKnownKind, "it declares itself", "kind 'poems': expected one of fully-connected"),
    (Fickle, "it declares itself", "different data"),
    (Hopeless, "it can be trained and measured", "look for NaN"),
    (Lost, "it can be trained and measured", "no better than worst"),
    (Short, "shapes equal the layout", "init gives (2,)"),
    (Flat, "shapes equal the layout", "first axis = members"),
    (Unsure, "shapes equal the layout", "not bool [7]"),
    (Generator, "seeds fix weights and mini batches", "generator"),
    (Same, "seeds fix weights and mini batches", "same start"),
    (Unseeded, "seeds fix weights and mini batches", "not a function of the seed"),
    (Neighbourly, "mini batches depend on their member only", "other examples"),
    (FromTheRound, "mini batches depend on their member only", "other examples"),
    (Infectious, "nan stays with its member", "reaches member"),
    (Undefined, "measurements are repeatable", "the test loss is not a number: look for NaN"),
    (Noisy, "measurements are repeatable", "changes from one"),
    (TwoFaced, "both paths give the same gradients", "differ by"),
    (Bent, "the loss has its declared derivatives", "curvature is not"),
    (OnlyFirst, "every method takes a step on it", "elastic-sgd cannot take a step"),
    (Forgetful, "an interrupted trial continues with the same bits", "after an interruption"),
]


@pytest.mark.parametrize(("problem", "check", "reason"), BROKEN, ids=lambda value: getattr(value, "__name__", ""))
def test_a_broken_problem_is_caught_by_the_check_for_it(problem: type[Problem], check: str, reason: str) -> None:
    checks = run_checks(type("Suite", (ProblemConformance,), {"problem": problem})())
    result = next(result for result in checks if result.name == check)  # those after it are not run
    assert result.failed and reason in result.reason, result


def test_the_intact_problem_passes_and_every_check_has_a_broken_one() -> None:
    checks = list(run_checks(type("Suite", (ProblemConformance,), {"problem": Good})()))
    assert all(check.passed for check in checks), [check for check in checks if not check.passed]
    assert {check.name for check in checks} == {check for _, check, _ in BROKEN}


def dropout_digits() -> Problem:
    return digits_mlp(dropout=0.3)


class TestInPytest(ProblemConformance):
    """The use by another package, with a function that makes the problem."""

    problem = dropout_digits


def test_a_model_that_does_not_vectorize_passes_on_the_direct_path() -> None:
    class Reading(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(3, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.layer(x) * (2.0 if self.layer.weight.sum().item() > 0 else 1.0)

    def data() -> dict[str, tuple[Tensor, Tensor]]:
        x = torch.arange(60.0).view(20, 3).sin()
        return dict.fromkeys(("train", "validation", "test"), (x, (x.sum(1) > 0).long()))

    def made() -> Problem:
        return SupervisedProblem("reading", Reading, data, batch_size=5, budget=40)

    checks = list(run_checks(type("Suite", (ProblemConformance,), {"problem": staticmethod(made)})()))
    assert [(check.name, check.reason) for check in checks if check.failed] == []
    (skipped,) = (check for check in checks if check.skipped)
    assert skipped.name == "both paths give the same gradients"
    assert "only the direct path: layer" in skipped.reason or "only the direct path: the model" in skipped.reason


def test_dropout_of_a_layer_fails_one_check_and_no_other() -> None:
    class Recurrent(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.cells, self.last = nn.LSTM(2, 3, num_layers=2, dropout=0.1, batch_first=True), nn.Linear(3, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.last(self.cells(x)[0][:, -1])

    def data() -> dict[str, tuple[Tensor, Tensor]]:
        x = torch.arange(120.0).view(20, 3, 2).sin()
        return dict.fromkeys(("train", "validation", "test"), (x, (x.sum((1, 2)) > 0).long()))

    def made() -> Problem:
        return SupervisedProblem("recurrent", Recurrent, data, batch_size=5, budget=20)

    checks = list(run_checks(type("Suite", (ProblemConformance,), {"problem": staticmethod(made)})()))
    (failed,) = (check for check in checks if check.failed)
    assert failed.name == "it can be trained and measured" and "'cells' (LSTM)" in failed.reason
    (last,) = (check for check in checks if check.name == "an interrupted trial continues with the same bits")
    assert last.skipped and failed.name in last.reason


def test_derivatives_of_a_loss_that_declares_none_are_skipped_not_passed() -> None:
    checks = {
        check.name: check for check in run_checks(type("Suite", (ProblemConformance,), {"problem": "rugged-1d"})())
    }
    check = checks["the loss has its declared derivatives"]
    assert check.outcome == "skipped" and check.reason.startswith("the loss 'none' declares no derivatives")


class Tangentless(torch.autograd.Function):
    """A function without a derivative in forward mode."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return 2 * x

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        return 2 * grads[0]


class Twice(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.as_tensor(Tangentless.apply(x))


def test_check_says_that_curveball_needs_forward_mode_and_names_the_layer() -> None:
    def data() -> dict[str, tuple[Tensor, Tensor]]:
        x = torch.arange(60.0).view(20, 3).sin()
        return dict.fromkeys(("train", "validation", "test"), (x, (x.sum(1) > 0).long()))

    def made() -> Problem:
        model = lambda: nn.Sequential(nn.Linear(3, 2), Twice())  # noqa: E731
        return SupervisedProblem("tangentless", model, data, batch_size=5, budget=40)

    checks = {c.name: c for c in run_checks(type("Suite", (ProblemConformance,), {"problem": staticmethod(made)})())}
    check = checks["every method takes a step on it"]
    assert check.skipped and "layer '1' (Twice) has no derivative in forward mode" in check.reason
    assert not any(c.failed for c in checks.values())
