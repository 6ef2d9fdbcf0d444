"""Gradients and measurements against plain PyTorch, and their bill."""

from __future__ import annotations

import math
from typing import cast, get_args

import pytest
import torch
from torch import Tensor, nn

from relaxbench.optim.hyper import defaults
from relaxbench.optim.registry import RULES
from relaxbench.optim.rule import Query
from relaxbench.optim.rules.levenberg_marquardt import LevenbergMarquardt
from relaxbench.problems import Problem, SupervisedProblem, problem
from relaxbench.problems.digits import digits, digits_mlp, mlp
from relaxbench.problems.measurements import FORWARD
from relaxbench.training.ledger import Ledger
from relaxbench.training.oracle import Oracle, Path
from relaxbench.training.population import Population
from relaxbench.training.trial import Job, Outcome

CPU = torch.device("cpu")
PATHS: tuple[Path, ...] = get_args(Path)


def double_digits() -> SupervisedProblem:
    data = {split: (x.double(), y) for split, (x, y) in digits().items()}
    return SupervisedProblem("digits-64", lambda: mlp().double(), lambda: data)


def tiny() -> SupervisedProblem:
    """A network whose products PyTorch computes otherwise for a single member."""
    x = torch.linspace(-1, 1, 240).reshape(120, 2)
    splits = {"train": slice(60), "validation": slice(60, 90), "test": slice(90, 120)}
    data = {name: (x[at], x[at].sum(1, keepdim=True)) for name, at in splits.items()}

    def model() -> nn.Module:
        return nn.Sequential(nn.Linear(2, 4), nn.ReLU(), nn.Linear(4, 1))

    return SupervisedProblem("tiny", model, lambda: data, loss="least-squares", batch_size=20)


@pytest.mark.parametrize("path", PATHS)
def test_gradients_are_those_of_a_plain_training_loop(path: Path) -> None:
    task, seeds, numbers = double_digits(), [3, 4, 2**40], torch.tensor([[0], [7], [20]])
    points = torch.stack([task.init(seed) for seed in seeds])
    oracle = Oracle(task, path)
    oracle.sampler = task.sampler(seeds, [0, 7, 20], 1, CPU)
    grads, losses = oracle.gradient(Query(points, numbers))
    assert grads.shape == points.shape and losses.shape == (3, 1) and not grads.requires_grad
    for k in range(3):
        model = mlp().double()
        nn.utils.vector_to_parameters(points[k], model.parameters())
        batch = task.sampler([seeds[k]], [int(numbers[k])], 1, CPU).batch(numbers[k : k + 1])
        loss = nn.functional.cross_entropy(model(batch["x"][0]), batch["y"][0])
        loss.backward()
        expected = torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])
        assert torch.allclose(grads[k], expected, rtol=1e-11, atol=1e-14)
        assert losses[k].item() == pytest.approx(loss.item(), rel=1e-12)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("members", [1, 3])
@pytest.mark.parametrize("replicas", [None, 2])
def test_gradients_in_parts_are_the_same(path: Path, members: int, replicas: int | None) -> None:
    """Of a model that does not use one of its parameters, and has an empty one."""

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = mlp(dropout=0.3)
            self.unused, self.empty = nn.Parameter(torch.ones(3, 2)), nn.Parameter(torch.ones(0, 4))

        def forward(self, x: Tensor) -> Tensor:
            return cast(Tensor, self.body(x))

    task = SupervisedProblem("unused", Model, digits, batch_size=16)
    points = torch.stack([task.init(seed) for seed in range(members)])
    numbers = torch.arange(members)[:, None]
    if replicas:
        points = torch.stack([points, 2 * points], dim=1)
        numbers = torch.cat([numbers, numbers + 1], dim=1)
    oracle = Oracle(task, path)
    oracle.sampler = task.sampler(range(members), list(range(members)), 3, CPU)
    grads, losses = oracle.gradient(Query(points, numbers))
    parts, again = oracle.gradient_parts(Query(points, numbers))
    assert torch.equal(torch.cat(parts, dim=-1), grads) and torch.equal(again, losses)
    assert not any(part.requires_grad for part in parts) and losses.shape == (members, replicas or 1)


@pytest.mark.parametrize("path", PATHS)
def test_gradients_are_those_of_torch_func_with_dropout_and_by_finite_differences(path: Path) -> None:
    data = {split: (x.double(), y) for split, (x, y) in digits().items()}
    task = SupervisedProblem("digits-64", lambda: mlp(dropout=0.3).double(), lambda: data, batch_size=16)
    points = torch.stack([task.init(0), task.init(1)])
    batch = task.sampler([0, 1], [5, 5], 1, CPU).batch(torch.tensor([[5], [5]]))
    grads, losses = Oracle(task, path).gradient_on(points, batch)

    def loss(x: Tensor, k: int) -> Tensor:
        one = {name: value[k] for name, value in batch.items()}
        return task.loss.value(task.outputs(task.unflatten(x), one, True), one)

    generator = torch.Generator().manual_seed(0)
    for k in range(2):
        expected = torch.func.grad(loss)(points[k], k)
        assert torch.allclose(grads[k], expected, rtol=1e-11, atol=1e-14)
        direction = torch.randn(task.size, dtype=torch.float64, generator=generator)
        direction /= direction.norm()
        slope = (loss(points[k] + 1e-6 * direction, k) - loss(points[k] - 1e-6 * direction, k)) / 2e-6
        assert slope.item() == pytest.approx((grads[k] @ direction).item(), rel=1e-5, abs=1e-7)
        assert losses[k].item() == pytest.approx(loss(points[k], k).item(), rel=1e-12)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("name", ["rosenbrock", "rosenbrock-noisy", "rugged-1d"])
def test_landscapes_by_both_paths(name: str, path: Path) -> None:
    task = problem(name)
    points = torch.stack([task.init(seed) for seed in range(5)]).double()
    oracle = Oracle(task, path)
    oracle.sampler = task.sampler(range(5), [3] * 5, 1, CPU)
    number = torch.full((5, 1), 3)
    grads, losses = oracle.gradient(Query(points, number))
    epsilon = oracle.sampler.batch(number)["draw"][:, 0].double()
    if name == "rugged-1d":
        expected = points / 20 + 2 * torch.sin(2 * points)
        value = points[:, 0] ** 2 / 40 + 1 - torch.cos(2 * points[:, 0])
    else:
        u, v = points.T
        valley = 100 * epsilon * (v - u**2)
        expected = torch.stack([-2 * (1 - u) - 4 * u * valley, 2 * valley], dim=1)
        value = (1 - u) ** 2 + valley * (v - u**2)
    # The noise is drawn in float32.
    assert torch.allclose(grads, expected, rtol=1e-6) and torch.allclose(losses[:, 0], value, rtol=1e-6)


@pytest.mark.parametrize("path", PATHS)
def test_a_query_changes_neither_the_points_nor_the_model(path: Path) -> None:
    task = digits_mlp(dropout=0.2)
    points = torch.stack([task.init(seed) for seed in range(3)])
    kept, model = points.clone(), {n: p.detach().clone() for n, p in task.model.named_parameters()}
    oracle = Oracle(task, path)
    oracle.sampler = task.sampler(range(3), [0] * 3, 2, CPU)
    query = Query(points, torch.ones(3, 1, dtype=torch.int64))
    first = oracle.gradient(query)
    oracle.measure(points, "validation")
    second = oracle.gradient(query)
    assert torch.equal(first[0], second[0]) and torch.equal(first[1], second[1])
    assert torch.equal(points, kept) and not points.requires_grad
    assert all(torch.equal(p, model[n]) and p.grad is None for n, p in task.model.named_parameters())


@pytest.mark.parametrize("path", PATHS)
def test_a_measurement_is_that_of_the_model_in_evaluation_mode(path: Path) -> None:
    task = digits_mlp(dropout=0.5)
    points = torch.stack([task.init(seed) * 2 for seed in range(4)])
    for split in ("validation", "test"):
        x, y = digits()[split]
        got = Oracle(task, path).measure(points, split)
        assert got.correct is not None and got.correct.shape == (4, len(y))
        for k in range(4):
            model = mlp()
            nn.utils.vector_to_parameters(points[k], model.parameters())
            with torch.no_grad():
                outputs = model(x)
            assert got.loss[k].item() == pytest.approx(nn.functional.cross_entropy(outputs, y).item(), rel=1e-5)
            right = outputs.argmax(1) == y
            assert torch.equal(got.correct[k], right)
            assert got.metric[k].item() == pytest.approx(1 - right.double().mean().item(), abs=1e-6)


def test_measurements_do_not_depend_on_other_members() -> None:
    for task in (digits_mlp(), problem("rosenbrock"), tiny()):
        points = torch.stack([task.init(seed) for seed in range(37)])
        oracle = Oracle(task, "vectorized")
        together = oracle.measure(points, "validation")
        for rows in (*([row] for row in range(37)), [36, 0, 5]):
            part = oracle.measure(points[rows], "validation")
            assert torch.equal(part.loss, together.loss[rows]) and torch.equal(part.metric, together.metric[rows])
            assert part.correct is None or torch.equal(part.correct, together.correct[rows])


def test_gradients_do_not_depend_on_other_members() -> None:
    """Across population sizes for which kernels and threads divide the work differently."""
    task = digits_mlp(dropout=0.2)
    count = 70
    points = torch.stack([task.init(seed) for seed in range(count)])
    batch = task.sampler(range(count), [0] * count, 1, CPU).batch(torch.zeros(count, 1, dtype=torch.int64))
    for path in PATHS:
        oracle = Oracle(task, path)
        grads, losses = oracle.gradient_on(points, batch)
        for rows in ([0], [69], [3, 2], list(range(10, 43)), list(range(69, -1, -1))):
            part = oracle.gradient_on(points[rows], {name: value[rows] for name, value in batch.items()})
            assert torch.equal(part[0], grads[rows]) and torch.equal(part[1], losses[rows])


@pytest.mark.parametrize("path", PATHS)
def test_one_member_s_nan_stays_with_it(path: Path) -> None:
    task = digits_mlp()
    points = torch.stack([task.init(seed) for seed in range(4)])
    batch = task.sampler(range(4), [0] * 4, 1, CPU).batch(torch.zeros(4, 1, dtype=torch.int64))
    oracle = Oracle(task, path)
    clean, sick = oracle.gradient_on(points, batch)[0], points.clone()
    sick[1] = float("nan")
    sick[2] *= 1e30
    others = oracle.gradient_on(sick, batch)[0]
    assert torch.equal(others[[0, 3]], clean[[0, 3]]) and others[1].isnan().all()


# The bill.


def test_a_ledger_adds_up() -> None:
    ledger = Ledger()
    ledger.bill_gradient(64)
    ledger.bill_gradient(64, 9)
    ledger.bill_measurement(359, 64)
    assert ledger.as_dict() == {
        "gradients": 10, "jvps": 0.0, "examples": 640, "measurement": pytest.approx(359 / 64 / 3)
    }  # fmt: skip
    assert Ledger(**ledger.as_dict()) == ledger  # type: ignore[arg-type]


class Counting(SupervisedProblem):
    """Counts its forward passes."""

    def __init__(self, like: Problem) -> None:
        self.__dict__.update(like.__dict__)
        self.trained = self.measured = 0

    def outputs(self, params: dict[str, Tensor], batch: dict[str, Tensor], training: bool) -> Tensor:
        if training:
            self.trained += 1
        else:
            self.measured += len(batch["x"])
        return super().outputs(params, batch, training)


@pytest.mark.parametrize("name", RULES)
def test_the_bill_equals_the_computed_passes(name: str) -> None:
    """One member, directly: every forward pass in training is a billed gradient, every held-out example is billed."""
    task, rule, got = Counting(digits_mlp()), RULES[name](), list[Outcome]()
    population = Population(Oracle(task, "direct"), rule, 100)
    population.admit([Job(0, 0, {**defaults(rule.wide), **({"inner_steps": 14} if "inner_steps" in rule.wide else {})}, test=True)])  # fmt: skip # noqa: E501
    population.run(lambda free: [], got.extend, 1)
    bill = got[0].ledger
    if isinstance(rule, LevenbergMarquardt):  # at x, with a tangent for each conjugate gradient, and at x + p
        assert task.trained == bill.gradients * (1 + rule.cg_steps + 1) and bill.total <= 100
        assert bill.total == pytest.approx(bill.gradients * (4 + 5 * rule.cg_steps) / 3)
        return
    if rule.curvature:
        # In passes forward: two with tangents of three each and one back of two a step; every fifth looks again.
        steps, looks = bill.gradients, task.trained - 2 * bill.gradients
        assert looks == math.ceil(steps / 5) and bill.examples == 64 * steps
        assert bill.total == pytest.approx(steps * (3 + 3 + 2) / 3 + looks / 3, abs=1 / 3) and bill.total <= 100
        return
    assert bill.gradients == task.trained and bill.examples == 64 * task.trained
    assert bill.measurement == pytest.approx(FORWARD * task.measured / 64)
    assert bill.gradients <= 100
