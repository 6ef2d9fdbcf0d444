"""Memory of a gradient, where it can be counted by hand, and errors that report a lack of memory."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from relaxbench.errors import UserError
from relaxbench.problems import SupervisedProblem
from relaxbench.training.engine import Engine
from relaxbench.training.memory import gradient_bytes, half_the_slots, out_of_memory

CPU = torch.device("cpu")
EXAMPLES, WIDTH = 1000, 50


def task(model: nn.Module, batch_size: int = EXAMPLES) -> SupervisedProblem:
    x, y = torch.rand(2 * EXAMPLES, WIDTH), torch.arange(2 * EXAMPLES) % WIDTH
    return SupervisedProblem(
        "p", lambda: model, lambda: dict.fromkeys(("train", "validation", "test"), (x, y)), batch_size=batch_size
    )


class Squares(nn.Module):
    """Layers that keep their input for the backward pass, and temporaries that are freed."""

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
def test_tensors_kept_for_the_backward_pass_count_and_temporaries_do_not(kept: int) -> None:
    one = EXAMPLES * WIDTH * 4
    bare = gradient_bytes(task(Squares(0, 0)), CPU)
    assert gradient_bytes(task(Squares(kept, 0)), CPU) == pytest.approx(bare + kept * one, abs=2.1 * one)
    assert gradient_bytes(task(Squares(kept, 20)), CPU) == pytest.approx(bare + kept * one, abs=2.1 * one)


def test_activations_grow_with_the_batch_and_the_gradient_with_the_network() -> None:
    small, large = (gradient_bytes(task(Squares(5, 0), size), CPU) for size in (100, 1000))
    assert large == pytest.approx(10 * small, rel=0.1)
    wide = gradient_bytes(task(nn.Sequential(nn.Linear(WIDTH, 4000), nn.Linear(4000, WIDTH)), 2), CPU)
    assert wide >= 4 * 2 * 4000 * WIDTH


@pytest.mark.parametrize(
    ("error", "is_it"),
    [
        (torch.OutOfMemoryError("CUDA out of memory"), True),
        (MemoryError(), True),
        (
            RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"),
            True,
        ),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling cublasCreate(handle)"), True),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), False),
        (ValueError("out of memory"), False),
    ],
)
def test_messages_about_a_lack_of_memory_are_recognized(error: Exception, is_it: bool) -> None:
    assert out_of_memory(error) is is_it


def test_a_real_allocation_failure_is_recognized() -> None:
    with pytest.raises((RuntimeError, MemoryError)) as refused:
        torch.empty(2**46, dtype=torch.float64)
    assert out_of_memory(refused.value)


def test_half_the_slots_or_an_error_for_a_single_one() -> None:
    whole = Engine("vectorized", 9, "cuda:0", "float32", "float32", 1, "bit for bit").as_dict()
    half = half_the_slots(whole, "p")
    assert half == {**whole, "population": 4, "note": "memory did not suffice for K = 9"}
    with pytest.raises(UserError, match="'p' does not fit into the memory of cuda:0 even with a single trial"):
        half_the_slots({**whole, "population": 1}, "p")
