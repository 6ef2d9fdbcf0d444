"""Lower precision in the model's matrix products and full precision elsewhere; double precision throughout."""

from __future__ import annotations

from pathlib import Path as Path_

import numpy as np
import pytest
import torch
from sqlalchemy import select
from torch import nn

from relaxbench.errors import UserError
from relaxbench.optim.hyper import defaults
from relaxbench.optim.registry import RULES
from relaxbench.problems import SupervisedProblem
from relaxbench.problems.digits import digits, digits_mlp, mlp
from relaxbench.store.database import open_database
from relaxbench.store.schema import Study, Weights
from relaxbench.study.definition.opening import open_study
from relaxbench.study.definition.prepare import prepare
from relaxbench.study.definition.validation import parse
from relaxbench.study.execution.run import StudyRun
from relaxbench.training.costs import peak_bytes
from relaxbench.training.oracle import Oracle, Path
from relaxbench.training.population import Population
from relaxbench.training.precision import PRECISIONS, Precision, products
from relaxbench.training.trial import Job, Outcome
from tests.study.tiny import spec

CPU = torch.device("cpu")


def normalized() -> SupervisedProblem:
    def model() -> nn.Module:
        return nn.Sequential(nn.Linear(64, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Dropout(0.1), nn.Linear(32, 10))

    return SupervisedProblem("norms", model, digits, batch_size=32, budget=200)


@pytest.mark.parametrize("path", ["direct", "vectorized"])
@pytest.mark.parametrize("task", [digits_mlp(), normalized()], ids=lambda task: task.name)
def test_gradients_in_bf16_are_float32_vectors_near_those_in_float32(task: SupervisedProblem, path: Path) -> None:
    points = torch.stack([task.init(seed) for seed in (1, 2)])
    batch = task.sampler([1, 2], [0, 0], 1, CPU).batch(torch.zeros(2, 1, dtype=torch.int64))
    exact, loss = Oracle(task, path).gradient_on(points, batch)
    rough, near = Oracle(task, path, "bf16").gradient_on(points, batch)
    assert rough.dtype == near.dtype == torch.float32
    error = float((rough - exact).norm() / exact.norm())
    assert 1e-5 < error < 0.1, error  # eight bits of mantissa, and really fewer than float32's
    assert torch.allclose(near, loss, rtol=0.02)
    assert not torch.is_autocast_enabled("cpu")


@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_model_learns_and_is_measured_in_any_precision(precision: Precision) -> None:
    task, ended = normalized(), list[Outcome]()
    population = Population(Oracle(task, "direct", precision), RULES["sgd"](), 200)
    population.admit([Job(0, 1, {**defaults(RULES["sgd"].wide), "lr": 0.05}, test=True)])
    population.run(lambda free: [], ended.extend, 1)
    double = precision == "float64"
    assert ended[0].measures["test_metric"] < 0.15
    assert ended[0].weights.dtype == (torch.float64 if double else torch.float32)


@pytest.mark.parametrize("path", ["direct", "vectorized"])
def test_a_run_in_float64_is_that_of_a_plain_loop_in_float64(path: Path) -> None:
    task, steps, ended = digits_mlp(), 20, list[Outcome]()
    params = {"lr": 0.1, "momentum": 0.9, "weight_decay": 1e-3, "schedule": "constant"}
    population = Population(Oracle(task, path, "float64"), RULES["sgd"](), steps)
    population.admit([Job(0, 3, params)])
    population.run(lambda free: [], ended.extend, 1)
    model = mlp().double()
    nn.utils.vector_to_parameters(task.init(3).double(), model.parameters())
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-3, nesterov=True)
    sampler = task.sampler([3], [0], steps, CPU)
    for step in range(steps):
        batch = sampler.batch(torch.tensor([[step]]))
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(batch["x"][0].double()), batch["y"][0]).backward()
        optimizer.step()
    expected = nn.utils.parameters_to_vector(model.parameters()).detach()
    assert torch.allclose(ended[0].weights, expected, rtol=1e-12, atol=1e-14)
    assert not torch.equal(ended[0].weights, ended[0].weights.float().double())


def test_a_study_in_float64_stores_its_weights_and_says_so(tmp_path: Path_) -> None:
    study = spec(precision="float64", methods=["sgd"], looks=[1], exploit=2, budget=20)
    database = open_database(f"sqlite:///{tmp_path / 's.db'}")
    StudyRun(database).work(open_study(database, study, "", prepare(study)))
    with database.connect() as connection:
        (weights,) = connection.scalars(select(Weights.data)).all()
        manifest = connection.scalar(select(Study.manifest))
    assert np.isfinite(np.frombuffer(weights, dtype=np.float64)).all() and len(weights) == 2 * 8
    assert manifest is not None and manifest["dtype"] == manifest["engines"]["rosenbrock"]["dtype"] == "float64"


def test_memory_of_float64_is_twice_that_of_float32() -> None:
    task, rule = digits_mlp(), RULES["sgd"]()
    single, double = (peak_bytes(task, rule, CPU, precision) for precision in ("float32", "float64"))
    assert 1.9 < double / single < 2.3  # the images, held in float32, are copied to float64


def test_settings_of_the_process_are_as_they_were_after_a_block() -> None:
    """The settings exist on a machine without a GPU, too."""
    before = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    for precision, wanted in (
        ("float32", ("highest", False)),
        ("float64", ("highest", False)),
        ("tf32", ("high", True)),
        ("bf16", ("high", True)),
    ):
        with products(precision, torch.device("cuda")):  # type: ignore[arg-type]
            assert (torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32) == wanted
        assert (torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32) == before


def test_a_study_file_names_a_known_precision() -> None:
    values = {"name": "s", "problems": ["digits-mlp"], "methods": ["sgd"]}
    assert parse(values, "s.toml").precision == "float32"
    assert parse({**values, "precision": "bf16"}, "s.toml").precision == "bf16"
    with pytest.raises(UserError, match=r"precision = 'fp8': expected 'float32', 'float64', 'tf32' or 'bf16'"):
        parse({**values, "precision": "fp8"}, "s.toml")
