"""The choice of path and population; no test looks at a clock."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from relaxbench.errors import UserError
from relaxbench.optim.hyper import defaults
from relaxbench.optim.registry import RULES
from relaxbench.problems import Problem, SupervisedProblem, problem
from relaxbench.problems.digits import digits, digits_mlp
from relaxbench.problems.supervised import Data
from relaxbench.training import engine
from relaxbench.training.engine import CANDIDATES, calibrate, choose, invariance_of, machine, torch_device, try_out
from relaxbench.training.engine import why_not_vectorized as obstacle

CPU = torch.device("cpu")


class Branch(nn.Module):
    """Decides by the data: one program cannot serve many members."""

    def forward(self, x: Tensor) -> Tensor:
        return x if bool(x.sum() > 0) else -x


class Item(nn.Module):
    """Leaves the tensors."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.weight.item() + self.weight


class Drawing(nn.Module):
    """Draws from torch's generator in its own code."""

    def forward(self, x: Tensor) -> Tensor:
        return x + torch.randn_like(x) if self.training else x


def with_layer(*layers: nn.Module) -> SupervisedProblem:
    def model() -> nn.Module:
        return nn.Sequential(nn.Linear(64, 8), *layers, nn.Linear(8, 10))

    return SupervisedProblem("mine", model, digits, batch_size=16)


def rates(table: dict[tuple[str, int], float], monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """Pretend that the machine has these rates; returns the list of what was measured."""
    measured: list[tuple[str, int]] = []

    def throughput(task: Problem, rule: object, path: str, size: int, device: torch.device, **_: Any) -> float:
        measured.append((path, size))
        return table[path, size]

    monkeypatch.setattr(engine, "throughput", throughput)
    return measured


# Devices.


def test_cpu_and_auto() -> None:
    assert torch_device("cpu") == CPU
    assert torch_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("gpu", "unknown device 'gpu': expected auto, cpu, cuda or cuda:N"),
        ("", "unknown device ''"),
        ("cuda:x", "unknown device"),
        ("cuda:-1", "unknown device"),
        ("cuda:99", "'cuda:99' is not there .*doctor"),
        ("cuda:256", "'cuda:256' is not there"),
        ("cuda:99999", "'cuda:99999' is not there"),
        (f"cuda:{'9' * 20}", "expected auto, cpu, cuda or cuda:N"),
        ("mps", "'mps' is not supported"),
        ("meta", "'meta' is not supported"),
    ],
)
def test_a_device_that_is_not_there_is_refused_in_one_line(name: str, message: str) -> None:
    with pytest.raises(UserError, match=message) as error:
        torch_device(name)
    assert "\n" not in str(error.value)


def test_no_number_stands_for_another_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert torch_device("cuda") == torch.device("cuda", 0) and torch_device("cuda:1") == torch.device("cuda", 1)
    for name in ("cuda:2", "cuda:255", "cuda:256", "cuda:4294967296"):  # torch keeps eight bits
        with pytest.raises(UserError, match=f"device '{name}'"):
            torch_device(name)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_cuda_without_a_gpu_says_so() -> None:
    with pytest.raises(UserError, match="no CUDA device is usable here"):
        torch_device("cuda")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_cuda_names_its_first_device() -> None:
    assert torch_device("cuda") == torch_device("cuda:0") == torch.device("cuda", 0)


# What vectorizes.


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


class Mixing(nn.Module):
    """Sees whether it is vectorized, and gives something else then."""

    def forward(self, x: Tensor) -> Tensor:
        return x * 2 if torch._C._functorch.is_batchedtensor(x) else x


def test_a_model_that_gives_something_else_when_vectorized_is_noticed() -> None:
    note = obstacle(with_layer(Mixing()))
    assert note is not None and note.endswith("gives other gradients when vectorized")


@pytest.mark.parametrize("layer", [Drawing(), nn.RReLU()])
def test_a_model_that_draws_from_torch_s_generator_is_refused(layer: nn.Module) -> None:
    with pytest.raises(UserError, match=r"'mine' draws random numbers.*relaxbench.problems.Dropout"):
        try_out(with_layer(layer))


# The choice.


def test_the_smallest_population_that_is_nearly_as_fast_as_any_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    speeds = dict(zip(CANDIDATES, (100.0, 200.0, 380.0, 400.0, 410.0, 300.0), strict=True))
    measured = rates({("direct", 1): 150.0, **{("vectorized", k): r for k, r in speeds.items()}}, monkeypatch)
    chosen = choose(digits_mlp(), CPU)
    assert (chosen.path, chosen.population, chosen.note) == ("vectorized", 32, "")
    assert (chosen.device, chosen.dtype, chosen.threads) == ("cpu", "float32", torch.get_num_threads())
    assert chosen.invariance == "bit for bit"
    assert measured == [*(("vectorized", k) for k in CANDIDATES), *3 * [("direct", 1), ("vectorized", 32)]]
    assert json.loads(json.dumps(chosen.as_dict())) == chosen.as_dict()


def test_the_direct_path_is_taken_where_it_is_faster(monkeypatch: pytest.MonkeyPatch) -> None:
    rates({("direct", 1): 500.0, **{("vectorized", k): 400.0 for k in CANDIDATES}}, monkeypatch)
    chosen = choose(digits_mlp(), CPU)
    assert (chosen.path, chosen.population, chosen.note) == ("direct", 1, "the direct path is faster")


def test_the_paths_are_compared_in_turn_so_that_one_lucky_measurement_decides_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    direct = iter([90.0, 300.0, 310.0])  # another program disturbed the first

    def throughput(task: Problem, rule: object, path: str, size: int, device: torch.device, **_: Any) -> float:
        return next(direct) if path == "direct" else 200.0

    monkeypatch.setattr(engine, "throughput", throughput)
    assert choose(digits_mlp(), CPU).path == "direct"


def test_sizes_for_which_memory_does_not_suffice_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    def throughput(task: Problem, rule: object, path: str, size: int, device: torch.device, **_: Any) -> float:
        if size > 16:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return 10.0 * size

    monkeypatch.setattr(engine, "throughput", throughput)
    assert (choose(digits_mlp(), CPU).path, choose(digits_mlp(), CPU).population) == ("vectorized", 16)

    def broken(*_: object, **__: object) -> float:
        raise RuntimeError("something else")

    monkeypatch.setattr(engine, "throughput", broken)
    with pytest.raises(RuntimeError, match="something else"):
        choose(digits_mlp(), CPU)


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
def test_what_says_that_memory_did_not_suffice(error: Exception, is_it: bool) -> None:
    assert engine.out_of_memory(error) is is_it


def test_a_real_refusal_of_memory_is_one() -> None:
    with pytest.raises((RuntimeError, MemoryError)) as refused:
        torch.empty(2**46, dtype=torch.float64)
    assert engine.out_of_memory(refused.value)


def test_half_the_slots_and_a_line_for_one_that_is_too_large() -> None:
    whole = engine.Engine("vectorized", 9, "cuda:0", "float32", "float32", 1, "bit for bit").as_dict()
    half = engine.halved(whole, "p")
    assert half == {**whole, "population": 4, "note": "memory did not suffice for K = 9"}
    with pytest.raises(UserError, match="'p' does not fit into the memory of cuda:0 even with a single trial"):
        engine.halved({**whole, "population": 1}, "p")


def test_a_given_population_is_kept_on_either_path(monkeypatch: pytest.MonkeyPatch) -> None:
    measured = rates({("direct", 1): 100.0, ("vectorized", 5): 400.0}, monkeypatch)
    chosen = choose(digits_mlp(), CPU, population=5)
    assert (chosen.path, chosen.population) == ("vectorized", 5)
    assert ("vectorized", 8) not in measured
    chosen = choose(with_layer(Branch()), CPU, population=5)
    assert (chosen.path, chosen.population) == ("direct", 5) and "Branch" in chosen.note


def test_sizes_that_do_not_fit_into_memory_are_not_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    class Memory:
        available = 0

    monkeypatch.setattr(engine.psutil, "virtual_memory", Memory)
    rates({("direct", 1): 100.0}, monkeypatch)
    chosen = choose(digits_mlp(), CPU)
    assert chosen.path == "direct" and "memory" in chosen.note


def test_a_difference_between_slots_is_measured_and_stated(monkeypatch: pytest.MonkeyPatch) -> None:
    original = engine.Oracle.gradient_on

    def uneven(self: Any, points: Tensor, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        grads, losses = original(self, points, batch)
        return grads * (1 + 1e-5 * len(points)), losses

    monkeypatch.setattr(engine.Oracle, "gradient_on", uneven)
    assert re.fullmatch(r"within [345]e-05 of the largest entry of a gradient", invariance_of(digits_mlp(), 6, CPU))


# What a gradient costs.


@pytest.mark.parametrize("name", RULES)
def test_calibration_counts_the_rule_s_copies_and_the_activations(name: str) -> None:
    task = digits_mlp()
    cost = calibrate(task, RULES[name](), CPU, **({"inner_steps": 6} if "inner_steps" in RULES[name].space else {}))
    assert cost["seconds_per_gradient"] > 0
    kept = cost["peak_bytes"] - RULES[name].copies * task.size * 4
    # The inputs, the hidden layer and the log-probabilities of 64 examples at least; nothing like a second network.
    assert 4 * 64 * (64 + 32 + 10) <= kept < 4 * 64 * (64 + 32 + 10) * 4


def test_the_state_takes_no_more_copies_than_are_declared() -> None:
    """Entries as large as the parameters, the gradient included, and the points of a query where they are new."""
    task = digits_mlp()
    for rule in RULES.values():
        state = rule().init(task.init(0)[None], torch.tensor([[0]]))
        assert sum(value.numel() == task.size for value in state.values()) + 1 <= rule.copies
        assert defaults(rule.space)


def test_the_machine_is_described_in_plain_values() -> None:
    described = machine()
    assert json.loads(json.dumps(described)) == described
    assert described["torch"] == torch.__version__ and described["threads"] >= 1 and described["cpu"]


def test_data_of_any_kind_can_be_measured() -> None:
    """Inputs that are no floats: an embedding."""
    data: Data = {s: (torch.randint(0, 9, (40, 3)), torch.arange(40) % 2) for s in ("train", "validation", "test")}
    model = lambda: nn.Sequential(nn.Embedding(9, 4), nn.Flatten(), nn.Linear(12, 2))  # noqa: E731
    task = SupervisedProblem("words", model, lambda: data, batch_size=8)
    assert obstacle(task) is None
