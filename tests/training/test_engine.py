"""The choice of path and population; no test depends on a clock."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
import torch

from relaxbench.optim.registry import RULES
from relaxbench.problems.digits import digits_mlp
from relaxbench.training import engine, memory
from relaxbench.training.engine import CANDIDATES, choose_engine
from relaxbench.training.memory import sizes_that_fit
from relaxbench.training.oracle import Oracle
from tests.training.layers import Branch, with_layer

CPU = torch.device("cpu")
pytestmark = pytest.mark.usefixtures("at_length")


def rates(table: dict[tuple[str, int], float], monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """Replace the machine's rates by these; return the list of measurements."""
    measured: list[tuple[str, int]] = []

    def throughput(oracle: Oracle, rule: object, size: int, device: torch.device, **_: Any) -> float:
        measured.append((oracle.path, size))
        return table[oracle.path, size]

    monkeypatch.setattr(engine, "throughput", throughput)
    return measured


# The choice.


def test_the_smallest_population_that_is_nearly_as_fast_as_any_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    speeds = dict(zip(CANDIDATES, (100.0, 200.0, 380.0, 400.0, 410.0, 300.0), strict=True))
    measured = rates({("direct", 1): 150.0, **{("vectorized", k): r for k, r in speeds.items()}}, monkeypatch)
    chosen = choose_engine(digits_mlp(), CPU)
    assert (chosen.path, chosen.population, chosen.note) == ("vectorized", 32, "")
    assert (chosen.device, chosen.dtype, chosen.threads) == ("cpu", "float32", torch.get_num_threads())
    assert chosen.invariance == "bit for bit"
    assert measured == [*(("vectorized", k) for k in CANDIDATES), *3 * [("direct", 1), ("vectorized", 32)]]
    assert json.loads(json.dumps(chosen.as_dict())) == chosen.as_dict()


@pytest.mark.parametrize(("speed", "pairs"), [(50.0, 1), (299.0, 3), (301.0, 1)])
def test_one_pair_of_measurements_suffices_where_it_is_clear(
    speed: float, pairs: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured = rates({("direct", 1): 100.0 if speed > 100 else 151.0, ("vectorized", 4): speed}, monkeypatch)
    assert choose_engine(digits_mlp(), CPU, population=4).path == ("vectorized" if speed > 100 else "direct")
    assert measured.count(("direct", 1)) == pairs


@pytest.mark.parametrize(
    ("ready", "sizes", "chosen"),
    [(40, (8, 16, 32, 40), 40), (32, (8, 16, 32), 32), (5, (5,), 5), (896, CANDIDATES, 64)],
)
def test_no_more_slots_are_tried_than_trials_are_ready_together(
    ready: int, sizes: tuple[int, ...], chosen: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured = rates({("direct", 1): 1.0, **{("vectorized", k): 10.0 * min(k, 64) for k in range(1, 257)}}, monkeypatch)
    assert choose_engine(digits_mlp(), CPU, ready=ready).population == chosen
    assert [k for path, k in measured if path == "vectorized"][: len(sizes)] == list(sizes)
    assert max(k for _, k in measured) == sizes[-1]


@pytest.mark.parametrize(
    ("ready", "chosen"),
    # 110 trials take 2.72 ms in parts of 64 and 46 (between 32 and 64, 1.22), and 2.58 in one; 66 trials take 2.13 in
    # parts of 64 and 2 (as long as 8), and 1.55 in one; 128 take 3.0 in two parts, as in one.
    [(110, 110), (128, 64), (66, 66), (72, 72), (64, 64), (None, 64)],
)
def test_what_is_ready_is_trained_in_few_and_full_parts(
    ready: int | None, chosen: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Steps of up to 64 members take 0.5 + K / 64 milliseconds, larger ones K times what a member of 64 takes."""
    steps = {k: 0.5 + k / 64 if k <= 64 else 1.5 * k / 64 for k in range(1, 257)}
    rates({("direct", 1): 1.0, **{("vectorized", k): 1000 * k / step for k, step in steps.items()}}, monkeypatch)
    assert choose_engine(digits_mlp(), CPU, ready=ready).population == chosen


def test_the_direct_path_is_taken_where_it_is_faster(monkeypatch: pytest.MonkeyPatch) -> None:
    rates({("direct", 1): 500.0, **{("vectorized", k): 400.0 for k in CANDIDATES}}, monkeypatch)
    chosen = choose_engine(digits_mlp(), CPU)
    assert (chosen.path, chosen.population, chosen.note) == ("direct", 1, "the direct path is faster")


def test_the_paths_are_compared_in_turn_so_that_one_lucky_measurement_decides_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    direct = iter([90.0, 300.0, 310.0])  # another program disturbed the first

    def throughput(oracle: Oracle, rule: object, size: int, device: torch.device, **_: Any) -> float:
        return next(direct) if oracle.path == "direct" else 200.0

    monkeypatch.setattr(engine, "throughput", throughput)
    assert choose_engine(digits_mlp(), CPU).path == "direct"


@pytest.mark.parametrize(("step", "stretches"), [(0.001, 5), (0.15, 3), (0.5, 2), (3.0, 1)])
def test_a_long_step_that_is_disturbed_once_is_measured_again(
    step: float, stretches: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock, steps = [0.0], [0]

    def advance(self: engine.Population, count: int) -> None:
        steps[0] += count
        clock[0] += count * step + (5.0 if steps[0] == count else 0.0)  # the first call allocates, untimed

    monkeypatch.setattr(engine.Population, "advance", advance)
    monkeypatch.setattr(engine.time, "perf_counter", lambda: clock[0])
    rule = RULES["sgd"]()
    rate = engine.throughput(Oracle(digits_mlp(), "direct"), rule, 1, CPU)
    assert rate == pytest.approx(1 / step)
    if step > 0.1:
        assert steps[0] - 1 == stretches
    else:
        assert clock[0] - 5.0 < 0.2


def test_sizes_for_which_memory_does_not_suffice_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    def throughput(oracle: Oracle, rule: object, size: int, device: torch.device, **_: Any) -> float:
        if size > 16:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return 10.0 * size

    monkeypatch.setattr(engine, "throughput", throughput)
    assert (choose_engine(digits_mlp(), CPU).path, choose_engine(digits_mlp(), CPU).population) == ("vectorized", 16)

    def broken(*_: object, **__: object) -> float:
        raise RuntimeError("something else")

    monkeypatch.setattr(engine, "throughput", broken)
    with pytest.raises(RuntimeError, match="something else"):
        choose_engine(digits_mlp(), CPU)


def test_a_given_population_is_kept_on_either_path(monkeypatch: pytest.MonkeyPatch) -> None:
    measured = rates({("direct", 1): 100.0, ("vectorized", 5): 400.0}, monkeypatch)
    chosen = choose_engine(digits_mlp(), CPU, population=5)
    assert (chosen.path, chosen.population) == ("vectorized", 5)
    assert ("vectorized", 8) not in measured
    chosen = choose_engine(with_layer(Branch()), CPU, population=5)
    assert (chosen.path, chosen.population) == ("direct", 5) and "Branch" in chosen.note


def test_processes_that_share_the_cores_share_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    task, largest = digits_mlp(), {}
    for processes in (1, 4):
        monkeypatch.setattr(memory, "cores", lambda processes=processes: processes * torch.get_num_threads())
        monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=2e8))
        largest[processes] = max(sizes_that_fit(task, range(1, 2000), CPU))
    assert largest[1] // 4 == largest[4] > 1


def test_sizes_that_do_not_fit_into_memory_are_not_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    class Memory:
        available = 0

    monkeypatch.setattr(psutil, "virtual_memory", Memory)
    rates({("direct", 1): 100.0}, monkeypatch)
    chosen = choose_engine(digits_mlp(), CPU)
    assert chosen.path == "direct" and "memory" in chosen.note
