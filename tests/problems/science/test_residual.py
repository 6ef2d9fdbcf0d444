"""The base class of residual problems: its loss, splits, metric, precision, and what it refuses."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from sqlalchemy import select
from torch import Tensor

from relaxbench.errors import UserError
from relaxbench.optim.hyper import defaults
from relaxbench.optim.registry import RULES
from relaxbench.problems import Batch, Params, problem
from relaxbench.problems.samplers import Words
from relaxbench.problems.science.points import split_key, uniforms
from relaxbench.problems.science.poisson import Poisson
from relaxbench.problems.science.residual import ResidualProblem
from relaxbench.store.database import open_database
from relaxbench.store.schema import Curve, Study, Weights
from relaxbench.study.definition.opening import open_study
from relaxbench.study.definition.prepare import prepare
from relaxbench.study.execution.run import StudyRun
from relaxbench.training.compatibility import try_out
from relaxbench.training.engine import choose_engine
from relaxbench.training.oracle import Oracle
from relaxbench.training.population import Population
from relaxbench.training.trial import Job, Outcome
from tests.study.tiny import spec

CPU = torch.device("cpu")


class Line(ResidualProblem):
    """u = w on points: one term with one number of points, and one with another."""

    name, title, budget = "line", "a line", 40
    weights = (4.0, 1.0)
    scale = 2.0

    def layout(self) -> list[tuple[str, torch.Size]]:
        return [("w", torch.Size([1]))]

    def init(self, seed: int) -> Tensor:
        return torch.tensor([1.0 + seed % 7], dtype=torch.float64)

    def draw(self, words: Words, split: str) -> Batch:
        return {"many": uniforms(words, 6, 1), "few": uniforms(words, 2, 1)}

    def terms(self, params: Params, batch: Batch) -> Sequence[Tensor]:
        return params["w"] * batch["many"][:, 0], params["w"] - batch["few"][:, 0]


class Fresh(Line):
    fresh = True


class Tall(Line):
    """Its loss in float64 exceeds float32, and nothing else is wrong with it."""

    def terms(self, params: Params, batch: Batch) -> Sequence[Tensor]:
        return params["w"] * batch["many"][:, 0], 1e30 * (params["w"] - 1) * batch["few"][:, 0]


def test_the_loss_is_the_weighted_sum_of_mean_squares() -> None:
    task, w = Line(), 3.0
    batch = task.sampler([0], [0], 1, CPU).batch(torch.zeros(1, 1, dtype=torch.int64))
    many, few = batch["many"].flatten(), batch["few"].flatten()
    expected = float((4 * (w * many).square().mean() + (w - few).square().mean()) / 2)
    for path in ("direct", "vectorized"):
        grad, loss = Oracle(task, path).gradient_on(torch.tensor([[w]], dtype=torch.float64), batch)
        assert loss.item() == pytest.approx(expected, rel=1e-14)
        slope = (8 * w * many.square().mean() + 2 * (w - few).mean()) / 2
        assert grad.item() == pytest.approx(float(slope), rel=1e-14)
    for training in (True, False):
        outputs = task.outputs({"w": torch.tensor([w]).double()}, {n: v[0] for n, v in batch.items()}, training)
        assert outputs.shape == (1, 8) and float(outputs.square().sum()) == pytest.approx(expected, rel=1e-14)


def test_splits_are_apart_and_fresh_points_are_functions_of_the_seed() -> None:
    task, fresh = Line(), Fresh()
    drawn = [task.split(name, CPU)["many"] for name in ("train", "validation", "test")]
    assert all(not torch.equal(one, other) for one in drawn for other in drawn if one is not other)
    assert torch.equal(fresh.split("train", CPU)["many"], drawn[0])  # fixed, for flatness
    numbers = torch.tensor([[5], [9]])
    batch = fresh.sampler([3, 4], [5, 9], 1, CPU).batch(numbers)["many"]
    assert batch.shape == (2, 1, 6, 1) and batch.dtype == torch.float64
    assert torch.equal(batch[1:], fresh.sampler([4], [0], 1, CPU).batch(numbers[1:])["many"])
    others = [fresh.sampler([3], [0], 1, CPU).batch(torch.tensor([[n]]))["many"] for n in (4, 6)]
    assert all(not torch.equal(batch[:1], other) for other in others)


def test_a_measurement_is_billed_by_its_points() -> None:
    task = problem("pinn-poisson2d-small")
    splits = {name: task.split(name, CPU) for name in ("train", "validation", "test")}
    points = {name: sum(split[part].shape[1] for part in ("inside", "edge")) for name, split in splits.items()}
    assert points["train"] == 64 and task.examples("train") == 1 and splits["test"]["at"].shape[1] == 4096
    assert task.examples("test") == task.examples("validation") == math.ceil((1024 + 256 + 4096 / 4) / 64)
    run, ended = Population(Oracle(task, "direct"), RULES["sgd"](), 30), list[Outcome]()
    run.admit([Job(0, 1, {**defaults(RULES["sgd"].wide), "lr": 1e-3}, test=True)])
    run.run(lambda free: [], ended.extend, 1)
    bill, rounds = ended[0].ledger, ended[0].curve.shape[1]
    assert bill.gradients == bill.total == 30
    assert bill.measurement == pytest.approx((rounds + 1) * task.examples("test") / 3)


@pytest.mark.parametrize("precision", ["tf32", "bf16"])
def test_reduced_precision_is_refused_and_the_usual_one_becomes_float64(precision: str) -> None:
    with pytest.raises(UserError, match=f"precision = '{precision}': problem 'line' is trained in float64"):
        try_out(Line(), precision)  # type: ignore[arg-type]
    engine = choose_engine(Line(), CPU, 4)
    assert (engine.dtype, engine.precision) == ("float64", "float64")


def test_a_study_says_float64_and_stores_float64(tmp_path: Path) -> None:
    study = spec(problems=["pinn-poisson2d-small"], methods=["sgd"], looks=[1], exploit=2, budget=12)
    database = open_database(f"sqlite:///{tmp_path / 's.db'}")
    StudyRun(database).work(open_study(database, study, "", prepare(study)))
    with database.connect() as connection:
        weights = connection.scalars(select(Weights.data)).all()
        manifest = connection.scalar(select(Study.manifest))
        curves = connection.scalars(select(Curve.data)).all()
    assert manifest is not None
    assert manifest["dtype"] == manifest["engines"]["pinn-poisson2d-small"]["dtype"] == "float64"
    tensors = manifest["identity"]["problems"]["pinn-poisson2d-small"]["tensors"]
    assert {tensor["dtype"] for tensor in tensors} == {"float64"}
    values = np.frombuffer(weights[0], dtype=np.float64)
    assert len(values) == Poisson("p", small=True).size and np.isfinite(values).all()
    assert not np.array_equal(values, values.astype(np.float32))
    assert all(np.isfinite(np.frombuffer(curve, dtype=np.float32)[:4]).all() for curve in curves)


@pytest.mark.filterwarnings("error")
def test_a_loss_beyond_float32_has_diverged_and_its_curve_warns_of_nothing() -> None:
    run, ended = Population(Oracle(Tall(), "direct"), RULES["sgd"](), 6), list[Outcome]()
    run.admit([Job(0, 3, {**defaults(RULES["sgd"].wide), "lr": 1e-70, "momentum": 0.0}, test=True)])
    run.run(lambda free: [], ended.extend, 1)
    assert ended[0].diverged and ended[0].value == 1e6 and ended[0].measures["test_metric"] == 10.0
    assert bool(np.isinf(ended[0].curve[1:3]).all()) and bool(torch.isfinite(ended[0].weights).all())


def test_a_metric_is_limited_on_both_sides() -> None:
    class Given(Line):
        value = 0.0

        def error(self, params: Params, batch: Batch) -> Tensor:
            return torch.tensor(self.value, dtype=torch.float64)

    task = Given()
    for given, kept in ((0.5, 0.5), (0.0, 1e-16), (40.0, 10.0), (math.nan, 10.0), (math.inf, 10.0)):
        task.value = given
        measured = Oracle(task, "vectorized").measure(torch.ones(2, 1, dtype=torch.float64), "validation")
        assert measured.metric.tolist() == [kept, kept] and measured.metric.dtype == torch.float64
    plain = Oracle(Line(), "direct").measure(torch.ones(1, 1, dtype=torch.float64), "validation")
    assert torch.equal(plain.metric, plain.loss)  # without an error of its own


class Named(Line):
    def draw(self, words: Words, split: str) -> Batch:
        return {"y": uniforms(words, 6, 1)}


class Complex(Line):
    def terms(self, params: Params, batch: Batch) -> Sequence[Tensor]:
        return params["w"] * batch["many"][:, 0], 1j * params["w"] * batch["few"][:, 0]


class Matrix(Line):
    def terms(self, params: Params, batch: Batch) -> Sequence[Tensor]:
        return params["w"] * batch["many"], params["w"] * batch["few"][:, 0]


class Far(Poisson):
    def draw(self, words: Words, split: str) -> Batch:
        return {name: value + 0.5 for name, value in super().draw(words, split).items()}


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (Named, "draws points named 'y', which least squares would take for a target"),
        (Complex, "residual 1 is complex.*real and its imaginary part as two terms"),
        (Matrix, r"residual 0 has the shape \(6, 1\): expected one number per point"),
        (Far, r"draws the point \(.*\), outside its domain \[0, 1\] × \[0, 1\]"),
    ],
)
def test_what_cannot_be_used_is_refused_before_a_study(make: type[ResidualProblem], message: str) -> None:
    with pytest.raises(UserError, match=message):
        try_out(make())


def test_points_of_a_split_are_those_of_its_key() -> None:
    assert torch.equal(Line().split("validation", CPU)["many"], uniforms(split_key(11), 6, 1))
