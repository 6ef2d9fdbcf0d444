"""The comparison of ways to run trials, with known rates and without data."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from relaxbench.bench import trials
from relaxbench.bench.process_pool import ProcessPoolError
from relaxbench.bench.tables import trials_tables
from relaxbench.bench.workloads import WORKLOADS
from relaxbench.training.engine import Engine

CPU = torch.device("cpu")


class Fixed:
    """A contender with a fixed rate, in place of all classes."""

    size, threads = 2, 1

    def __init__(self, rate: float) -> None:
        self.known = rate

    def __enter__(self) -> Fixed:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def rate(self, seconds: float) -> float:
        if self.known < 0:
            raise ProcessPoolError("a process of 2 ended (exit code -9)")
        return self.known


@pytest.fixture
def known(monkeypatch: pytest.MonkeyPatch) -> dict[str, float]:
    """Rates of the contenders, which a test may change."""
    rates = {"ours": 300.0, "memory": 100.0, "loader": 50.0, "processes": 150.0, "workers": 450.0}
    engine = Engine("vectorized", 16, "cpu", "float32", "float32", 2, "bit for bit")
    monkeypatch.setattr(trials, "choose_engine", lambda problem, device, size: engine)
    monkeypatch.setattr(trials, "Flight", lambda *_: Fixed(rates["ours"]))
    monkeypatch.setattr(trials, "in_memory", lambda *_: Fixed(rates["memory"]))
    monkeypatch.setattr(trials, "_fastest_loader", lambda *_: (Fixed(rates["loader"]), {"workers": 2}))
    monkeypatch.setattr(trials, "ProcessPool", lambda *a: Fixed(rates["workers" if a[-1] else "processes"]))
    return rates


def test_ratios_are_ours_to_theirs_and_trials_are_counted_by_the_budget(known: dict[str, float]) -> None:
    messages: list[str] = []
    found = trials.measure(CPU, False, messages.append)
    assert list(found) == ["digits-mlp", "mnistfc", "lenet"]
    digits = found["digits-mlp"]
    assert {name: row["ratio"] for name, row in digits["against"].items()} == {"memory": 3, "loader": 6, "processes": 2}
    assert [len(rates) for rates in digits["rates"].values()] == [trials.ROUNDS] * 5
    table = trials_tables(found)[0]
    assert "vectorized path, K = 16" in table.title
    cells = {row[0]: row[1:] for row in table.rows}
    assert cells["ours, 16 at once"] == ("1.00 ×", "", "", "300", f"{300 * 3600 / 600:,.0f}")
    assert cells["plain loop, data in memory"][:3] == ("3.00 ×", "", "≥ 3.00 × ✓")
    assert cells["plain loop, DataLoader, 2 workers"][3] == "50.0"
    assert cells["2 processes of 1 thread"][0] == "2.00 ×"
    assert all(any(line.startswith(name) for line in messages) for name in found)


def test_workers_by_default_are_compared_with_the_faster_loop_that_needs_no_loader(known: dict[str, float]) -> None:
    known["loader"] = 1e6
    found = trials.measure(CPU, False, lambda what: None)
    workers = {name: row["workers"] for name, row in found.items()}
    assert [(row["best"], row["ratio"]) for row in workers.values()] == [("processes", 3.0)] * 3
    assert [row["target"] for row in workers.values()] == [None, 0.98, 0.98]
    table = trials_tables(found)[2]
    cells = {row[0]: row[1:] for row in table.rows}
    assert cells["ours by default, 2 processes of 1 thread"][:4] == ("3.00 ×", "", "≥ 0.98 × ✓", "450")
    assert "starts these workers (vectorized path, K = 16); their ratio is that to the 2 processes of 1 thread" in (
        table.reading
    )
    known.update(memory=500.0, processes=-1)
    (row,) = [found for name, found in trials.measure(CPU, True, lambda what: None).items() if name == "lenet"]
    assert (row["workers"]["best"], row["workers"]["ratio"]) == ("memory", 0.9)
    known["workers"] = -1
    found = trials.measure(CPU, True, lambda what: None)
    (cells,) = [row for row in trials_tables(found)[1].rows if "by default" in row[0]]
    assert cells[2] == "not measured, a process of 2 ended (exit code -9)"


def test_a_gpu_has_one_worker_by_default(known: dict[str, float]) -> None:
    found = trials.measure(torch.device("cuda"), True, lambda what: None)
    assert [row["workers"] for row in found.values()] == [None] * len(found)
    assert not any("by default" in row[0] for table in trials_tables(found) for row in table.rows)


def test_targets_are_those_of_the_kind_of_device(known: dict[str, float]) -> None:
    on_cpu = trials.measure(CPU, True, lambda what: None)
    assert list(on_cpu) == ["digits-mlp", "lenet"]
    known["ours"] = 5000.0
    on_gpu = trials.measure(torch.device("cuda"), False, lambda what: None)
    targets = {
        (label, name): about["target"]
        for found in (on_cpu, on_gpu)
        for label, row in found.items()
        for name, about in row["against"].items()
        if about["target"]
    }
    assert targets == {
        ("digits-mlp", "memory"): 3.0, ("lenet", "memory"): 0.95,
        ("lenet, K = 64", "memory"): 20.0, ("lenet, K = 64", "loader"): 100.0,
    }  # fmt: skip
    rows = {row[0]: row[3] for row in trials_tables(on_gpu)[-1].rows}
    assert (
        rows["plain loop, data in memory"] == "≥ 20.00 × ✓"
        and "100.00 × ✓" in rows["plain loop, DataLoader, 2 workers"]
    )


def test_failed_processes_are_reported_and_the_others_measured(known: dict[str, float]) -> None:
    known["processes"] = -1
    found = trials.measure(CPU, True, lambda what: None)
    assert found["lenet"]["against"]["memory"]["ratio"] == 3
    (row,) = [row for row in trials_tables(found)[1].rows if row[0].startswith("2 processes")]
    assert row[0] == "2 processes of 1 thread: not measured, a process of 2 ended (exit code -9)"
    assert not any(row[1:])


def test_without_mnist_the_table_says_so(
    known: dict[str, float], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("RELAXBENCH_DATA", str(tmp_path))
    found = trials.measure(CPU, False, lambda what: None)
    assert found["digits-mlp"]["against"]["memory"]["ratio"] == 3
    for name in ("mnistfc", "lenet"):
        assert list(found[name]) == ["missing"]
        (row,) = next(table for table in trials_tables(found) if table.title == name).rows
        assert "not measured: MNIST is not in" in row[0]


def test_the_faster_setting_of_a_loader_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trials, "cores", lambda: 3)
    made: dict[int, Fixed] = {}

    def loop(network: object, batches: object, device: object, workers: int) -> Fixed:
        if workers == 3:
            made[workers] = Fixed(9.0)
        return made.setdefault(workers, Fixed(4.0))

    monkeypatch.setattr(trials, "PlainLoop", loop)
    workload = WORKLOADS["digits-mlp"]
    found, about = trials._fastest_loader(workload, workload.problem(), CPU, 0.1, False)
    assert found is made[3] and about == {"workers": 3, "tried": {"0": 4.0, "3": 9.0}}  # type: ignore[comparison-overlap]
    _, about = trials._fastest_loader(workload, workload.problem(), CPU, 0.1, True)
    assert about["workers"] == 0


def test_a_loader_with_workers_loads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trials, "cores", lambda: 1)
    workload = WORKLOADS["digits-mlp"]
    _, about = trials._fastest_loader(workload, workload.problem(), CPU, 0.01, False)
    assert set(about["tried"]) == {"0", "1"} and min(about["tried"].values()) > 0
