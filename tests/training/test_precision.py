"""Lower precision in the model's matrix products, full precision elsewhere."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from relaxbench.errors import UserError
from relaxbench.optim.hyper import defaults
from relaxbench.optim.registry import RULES
from relaxbench.problems import SupervisedProblem
from relaxbench.problems.digits import digits, digits_mlp
from relaxbench.study.definition.validation import parse
from relaxbench.training.oracle import Oracle, Path
from relaxbench.training.population import Population
from relaxbench.training.precision import PRECISIONS, Precision, products
from relaxbench.training.trial import Job, Outcome

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
    assert ended[0].measures["test_metric"] < 0.15 and ended[0].weights.dtype == torch.float32


def test_settings_of_the_process_are_as_they_were_after_a_block() -> None:
    """The settings exist on a machine without a GPU, too."""
    before = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    for precision, wanted in (("float32", ("highest", False)), ("tf32", ("high", True)), ("bf16", ("high", True))):
        with products(precision, torch.device("cuda")):  # type: ignore[arg-type]
            assert (torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32) == wanted
        assert (torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32) == before


def test_a_study_file_names_a_known_precision() -> None:
    values = {"name": "s", "problems": ["digits-mlp"], "methods": ["sgd"]}
    assert parse(values, "s.toml").precision == "float32"
    assert parse({**values, "precision": "bf16"}, "s.toml").precision == "bf16"
    with pytest.raises(UserError, match=r"precision = 'fp8': expected 'float32', 'tf32' or 'bf16'"):
        parse({**values, "precision": "fp8"}, "s.toml")
