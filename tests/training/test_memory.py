"""Memory of a gradient, where it can be counted by hand."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from relaxbench.problems import SupervisedProblem
from relaxbench.training.memory import gradient_bytes

CPU = torch.device("cpu")
EXAMPLES, WIDTH = 1000, 50


def task(model: nn.Module, batch_size: int = EXAMPLES) -> SupervisedProblem:
    x, y = torch.rand(2 * EXAMPLES, WIDTH), torch.arange(2 * EXAMPLES) % WIDTH
    return SupervisedProblem(
        "p", lambda: model, lambda: dict.fromkeys(("train", "validation", "test"), (x, y)), batch_size=batch_size
    )


class Squares(nn.Module):
    """Layers that keep their input for the backward pass, or temporaries that nothing keeps."""

    def __init__(self, kept: int, passing: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(WIDTH))
        self.kept, self.passing = kept, passing

    def forward(self, x: Tensor) -> Tensor:
        x = x * self.weight
        for _ in range(self.kept):
            x = x.square()
        with torch.no_grad():
            for _ in range(self.passing):
                x.exp()
        return x


@pytest.mark.parametrize("kept", [1, 10, 30])
def test_what_is_kept_for_the_backward_pass_counts_and_what_passes_does_not(kept: int) -> None:
    one = EXAMPLES * WIDTH * 4
    bare = gradient_bytes(task(Squares(0, 0)), CPU)
    assert gradient_bytes(task(Squares(kept, 0)), CPU) == pytest.approx(bare + kept * one, abs=2.1 * one)
    assert gradient_bytes(task(Squares(kept, 20)), CPU) == pytest.approx(bare + kept * one, abs=2.1 * one)


def test_activations_grow_with_the_batch_and_the_gradient_with_the_network() -> None:
    small, large = (gradient_bytes(task(Squares(5, 0), size), CPU) for size in (100, 1000))
    assert large == pytest.approx(10 * small, rel=0.1)
    wide = gradient_bytes(task(nn.Sequential(nn.Linear(WIDTH, 4000), nn.Linear(4000, WIDTH)), 2), CPU)
    assert wide >= 4 * 2 * 4000 * WIDTH
