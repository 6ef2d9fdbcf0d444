"""Counts instead of times: FLOPs against closed forms, bills against FLOPs, bytes against allocations."""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Any

import pytest
import torch

from relaxbench.bench import allcnn, ledger, memory
from relaxbench.bench.allcnn import Product, derived, gradient_flops
from relaxbench.bench.memory import peak_resident
from relaxbench.bench.processes import fresh
from relaxbench.bench.tables import allcnn_tables, ledger_tables, memory_tables
from relaxbench.bench.workloads import synthetic
from relaxbench.optim.registry import RULES
from relaxbench.training.costs import peak_bytes

CPU = torch.device("cpu")
QUIET = lambda what: None  # noqa: E731

# Channels in, out, size of the kernel, and places of the output of every layer.
ALLCNN = [
    (3, 96, 9, 32**2), (96, 96, 9, 32**2), (96, 96, 9, 16**2), (96, 192, 9, 16**2), (192, 192, 9, 16**2),
    (192, 192, 9, 8**2), (192, 192, 9, 8**2), (192, 192, 9, 8**2), (192, 10, 1, 8**2),
]  # fmt: skip
LENET = [(1, 20, 25, 24**2), (20, 50, 25, 4**2), (200, 500, 1, 1), (500, 10, 1, 1)]
DEPTH = 6
"""Layers of the deep network here: reading a profile takes a time in proportion."""
DEEP = [(ledger.WIDTH, ledger.WIDTH, 1, 1)] * (DEPTH - 1) + [(ledger.WIDTH, 10, 1, 1)]


def forward(layers: list[tuple[int, int, int, int]]) -> int:
    """FLOPs of one example: a multiplication and an addition per weight and place."""
    return sum(2 * inputs * outputs * size * places for inputs, outputs, size, places in layers)


def gradient(layers: list[tuple[int, int, int, int]]) -> int:
    """Three passes, without the derivatives by the images."""
    return 3 * forward(layers) - forward(layers[:1])


def curveball(layers: list[tuple[int, int, int, int]]) -> float:
    """Values and tangents (dW a + W da, of which the images have no da) twice, back once, values every fifth time.

    And the products of five vectors of outputs with each other, as one product of matrices.
    """
    once, first, outputs = forward(layers), forward(layers[:1]), layers[-1][1]
    return 2 * (once + 2 * once - first) + 2 * once - first + once / 5 + 2 * 5 * 5 * outputs


def orthogonalization(layers: list[tuple[int, int, int, int]]) -> int:
    """FLOPs of Muon's five iterations for matrices of m rows and n columns, m ≤ n: X Xᵀ, the square of it, and B X."""
    shapes = [sorted((outputs, inputs * size)) for inputs, outputs, size, _ in layers]
    return sum(5 * 2 * (2 * m * m * n + m**3) for m, n in shapes)


@pytest.mark.parametrize(("network", "layers"), [("allcnn", ALLCNN), ("lenet", LENET)])
def test_flops_of_a_gradient_are_those_of_its_layers(network: str, layers: list[tuple[int, int, int, int]]) -> None:
    assert gradient_flops(network, 128) == 128 * gradient(layers)


@pytest.mark.parametrize("convolution", [True, False])
def test_a_product_is_that_of_two_square_matrices(convolution: bool) -> None:
    product = Product(CPU, 64, convolution)
    assert product.step() == 2 * 64**3
    if convolution:
        a, b = product.a.view(64, 64), product.b.transpose(0, 1).reshape(64, 64)
        found = torch.nn.functional.conv2d(product.b, product.a).transpose(0, 1).reshape(64, 64)
        assert torch.allclose(found, a @ b, atol=1e-4)
    before = torch.backends.cuda.matmul.allow_tf32
    assert product.rate(0.01) > 1e6 and torch.backends.cuda.matmul.allow_tf32 == before


def test_an_epoch_and_a_share_of_the_peak_follow_from_rates() -> None:
    rates = {"ours": [2.0, 4.0], "plain": [4.0, 8.0], "product": [1e3, 8e3], "convolution": [4e3, 1e3]}
    found = derived(rates, steps=300, flops=1000)
    assert found["ways"]["ours"]["seconds_per_epoch"] == 100 and found["against"]["ratio"] == 0.5
    assert found["ways"]["plain"]["flops_per_second"] == 6000 and found["peak"] == 6000
    assert found["ways"]["ours"]["fraction"]["ratio"] == 0.5  # 2000 of 4000, and 4000 of 8000


def test_allcnn_is_trained_and_its_table_made(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("QUICK_BATCH", 1), ("SECONDS", 0.0), ("SIDE", {"cpu": 64})):
        monkeypatch.setattr(allcnn, name, value)
    found = allcnn.measure(CPU, True, QUIET)
    assert found["steps_per_epoch"] == 45_000 and found["flops_per_step"] == gradient(ALLCNN)
    rows = {row[0]: row for row in allcnn_tables(found)[0].rows}
    assert rows["ours, direct path"][1] == f"{45_000 / found['rates']['ours'][0]:,.1f}"
    assert "100 %" in (rows["product of two matrices, 64 × 64"][3], rows["the same, as a convolution"][3])


@pytest.fixture(scope="module")
def bills() -> dict[str, Any]:
    threads = torch.get_num_threads()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ledger, "DEPTH", DEPTH)
        measured = ledger.measure(QUIET)
    assert torch.get_num_threads() == threads
    return measured


def test_bills_equal_the_products_that_are_computed(bills: dict[str, Any]) -> None:
    assert bills["flops_of_a_gradient"] == {"profiler": 64 * gradient(DEEP), "flop_counter": 16 * gradient(LENET)}
    assert list(bills["rules"]) == list(RULES)
    muon = {
        "profiler": orthogonalization(DEEP) / (64 * gradient(DEEP)),
        "flop_counter": orthogonalization(LENET) / (16 * gradient(LENET)),
    }
    for name, row in bills["rules"].items():
        if not RULES[name].curvature:
            assert row["billed"] == pytest.approx(row["profiler"]) == pytest.approx(row["flop_counter"]), name
        own = muon if name == "muon" else dict.fromkeys(muon, 0.0)
        assert row["own"] == pytest.approx(own), name
    row = bills["rules"]["curveball"]
    assert row["billed"] == pytest.approx(41 / 15)
    assert row["profiler"] == pytest.approx(curveball(DEEP) / gradient(DEEP))
    assert row["flop_counter"] == pytest.approx(curveball(LENET) / gradient(LENET))
    (table,) = ledger_tables(bills)
    assert [row[-1] for row in table.rows] == ["✓"] * len(RULES)


def test_a_bill_that_is_too_low_fails(bills: dict[str, Any]) -> None:
    bills = {**bills, "rules": {"sgd": {**bills["rules"]["sgd"], "billed": 0.9}}}
    assert ledger_tables(bills)[0].rows == (("sgd", "0.9", "1", "1.111", "1", "1.111", "0", "✗"),)


def _allocated(size: int) -> int:
    held = bytearray(size)
    held[::4096] = b"x" * len(held[::4096])
    return peak_resident()


def test_a_peak_is_that_of_its_own_process() -> None:
    """A peak does not include that of another process, and is not below the memory in use."""
    here = _allocated(600_000_000)
    with ProcessPoolExecutor(1, fresh(CPU), max_tasks_per_child=1) as pool:
        little, much = pool.map(_allocated, (1_000_000, 401_000_000))
    assert little < here - 200_000_000
    assert much - little == pytest.approx(400_000_000, rel=0.05)
    assert peak_resident() > 0.99 * here  # a peak is not forgotten


def test_memory_is_the_slope_next_to_the_stated_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "QUICK", {"lenet": ("sgd", "parle")})

    def peaks(network: str, rule: str, sizes: tuple[int, ...], device: torch.device) -> list[int]:
        if rule == "parle":
            raise BrokenProcessPool
        return [500_000_000 + 30_000_000 * size for size in sizes]

    monkeypatch.setattr(memory, "peaks", peaks)
    found = memory.measure(CPU, True, QUIET)
    row = found["lenet"]["rules"]["sgd"]
    assert row["measured"] == 30e6 and found["lenet"]["parameters"] == 131_220
    assert row["stated"] == peak_bytes(synthetic("lenet"), RULES["sgd"](), CPU, path="vectorized") > 3 * 4 * 131_220
    first, second = memory_tables(found)[0].rows
    assert first == ("sgd", "3", f"{row['stated'] / 1e6:.1f}", "30.0", f"{30e6 / row['stated']:.2f} ×")
    assert second[3:] == ("not enough memory", "")


def test_a_member_takes_at_least_its_declared_copies() -> None:
    few, many = memory.peaks("mnistfc", "sgd", (1, 5), CPU)
    assert many - few > 4 * 3 * 4 * 1_867_786
