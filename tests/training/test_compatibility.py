"""The tests of a problem before it is trained: vectorization, invariance, random numbers."""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from relaxbench.errors import UserError
from relaxbench.problems import SupervisedProblem, problem
from relaxbench.problems.digits import digits_mlp
from relaxbench.problems.supervised import Data
from relaxbench.training.compatibility import invariance_of, try_out
from relaxbench.training.compatibility import why_not_vectorized as obstacle
from relaxbench.training.oracle import Oracle
from tests.training.layers import Branch, Drawing, Item, Mixing, with_layer

CPU = torch.device("cpu")


@pytest.mark.parametrize("name", ["digits-mlp", "rosenbrock", "rosenbrock-noisy", "rugged-1d"])
def test_shipped_problems_vectorize_and_do_not_depend_on_their_neighbours(name: str) -> None:
    assert obstacle(problem(name)) is None
    assert invariance_of(problem(name), 9, CPU) == "bit for bit"


def test_dropout_vectorizes() -> None:
    assert obstacle(digits_mlp(dropout=0.3)) is None
    assert obstacle(with_layer(nn.Dropout(0.5), nn.LayerNorm(8), nn.GELU())) is None


@pytest.mark.parametrize("layer", [Branch(), Item()])
def test_the_layer_that_does_not_vectorize_is_named(layer: nn.Module) -> None:
    note = obstacle(with_layer(nn.ReLU(), nn.Sequential(layer)))
    assert note is not None and note.startswith(f"layer '2.0' ({type(layer).__name__}) does not vectorize")


def test_a_model_that_gives_something_else_when_vectorized_is_noticed() -> None:
    note = obstacle(with_layer(Mixing()))
    assert note is not None and note.endswith("gives other gradients when vectorized")


@pytest.mark.parametrize("layer", [Drawing(), nn.RReLU()])
def test_a_model_that_draws_from_torch_s_generator_is_refused(layer: nn.Module) -> None:
    with pytest.raises(UserError, match=r"'mine' draws random numbers.*relaxbench.problems.Dropout"):
        try_out(with_layer(layer))


def test_a_difference_between_slots_is_measured_and_stated(monkeypatch: pytest.MonkeyPatch) -> None:
    original = Oracle.gradient_on

    def uneven(self: Any, points: Tensor, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        grads, losses = original(self, points, batch)
        return grads * (1 + 1e-5 * len(points)), losses

    monkeypatch.setattr(Oracle, "gradient_on", uneven)
    assert re.fullmatch(r"within [345]e-05 of the largest entry of a gradient", invariance_of(digits_mlp(), 6, CPU))


def test_data_of_any_kind_can_be_measured() -> None:
    """Integer inputs of an embedding."""
    data: Data = {s: (torch.randint(0, 9, (40, 3)), torch.arange(40) % 2) for s in ("train", "validation", "test")}
    model = lambda: nn.Sequential(nn.Embedding(9, 4), nn.Flatten(), nn.Linear(12, 2))  # noqa: E731
    task = SupervisedProblem("words", model, lambda: data, batch_size=8)
    assert obstacle(task) is None
