"""`execution.flatness.duration`: the estimate has the products that a measurement takes."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from relaxbench.problems import problem
from relaxbench.study.execution import flatness as execution
from relaxbench.training import durations as clock
from relaxbench.training.flatness import hessian, spectrum
from relaxbench.training.flatness.measure import flatness

CPU = torch.device("cpu")


@pytest.mark.parametrize("size", [100, 300])
def test_the_products_of_flatness_are_those_that_a_measurement_takes(size: int) -> None:
    class Counted:
        calls, vectors = 0, 0

        def __matmul__(self, vectors: torch.Tensor) -> torch.Tensor:
            self.calls, self.vectors = self.calls + 1, self.vectors + vectors.shape[1]
            return torch.arange(1.0, size + 1)[:, None] * vectors

    matrix = Counted()
    spectrum.spectrum(matrix, torch.ones(size), 0)
    width, times = spectrum.amount(size)
    assert width * times == matrix.vectors


def test_a_model_without_second_derivatives_takes_no_time(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise RuntimeError("not differentiable twice")

    monkeypatch.setattr(execution, "Hessian", refuse)
    assert execution.duration(problem("digits-mlp"), CPU) == 0


def test_the_time_of_flatness_is_about_that_of_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a clock that counts products of a Hessian instead of seconds."""
    digits, products = problem("digits-mlp"), [0]
    multiply = hessian.Hessian.__matmul__

    def counted(self: hessian.Hessian, vectors: torch.Tensor) -> torch.Tensor:
        products[0] += vectors.shape[1]
        return multiply(self, vectors)

    monkeypatch.setattr(hessian.Hessian, "__matmul__", counted)
    monkeypatch.setattr(clock.time, "perf_counter", lambda: products[0])
    estimate = execution.duration(digits, CPU)
    products[0] = 0
    flatness(digits, digits.init(0), 0)
    assert estimate == products[0]
