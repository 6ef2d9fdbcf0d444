"""Processes that work in the same stretches, and the report of a lost one."""

from __future__ import annotations

import os
import signal
import threading
import time
from typing import Any

import psutil
import pytest
import torch

from relaxbench.bench import process_pool
from relaxbench.bench.process_pool import ProcessPool, ProcessPoolError, _Gate, _stretch, pool_size
from relaxbench.bench.processes import fresh

CPU = torch.device("cpu")


def test_processes_work_together_and_a_lost_one_is_reported() -> None:
    with ProcessPool("digits-mlp", CPU, 2) as pool:
        assert pool.threads == max(1, torch.get_num_threads() // 2)
        rates = [pool.rate(0.05) for _ in range(2)]
        assert all(10 < rate < 1e6 for rate in rates)
        processes = list(pool._processes)
        os.kill(processes[1].pid, signal.SIGKILL)
        processes[1].join()
        with pytest.raises(ProcessPoolError, match=r"a process of 2 ended \(exit code -9\)"):
            pool.rate(0.05)
    assert not any(process.is_alive() for process in processes)


def test_our_population_works_in_several_processes() -> None:
    with ProcessPool("digits-mlp", CPU, 2, ("vectorized", 4)) as pool:
        assert 10 < pool.rate(0.05) < 1e7


def test_the_error_of_a_process_is_reported() -> None:
    with (
        ProcessPool("no such problem", CPU, 1) as pool,
        pytest.raises(ProcessPoolError, match="KeyError: 'no such problem'"),
    ):
        pool.rate(0.05)


class Loop:
    """A loop whose steps take a known time."""

    device = CPU

    def __init__(self, pause: float) -> None:
        self.pause, self.made = pause, 0

    def step(self) -> int:
        time.sleep(self.pause)
        self.made += 1
        return 1


class Counter:
    """A shared counter for threads, in place of one for processes."""

    def __init__(self) -> None:
        self.value, self._lock = 0, threading.Lock()

    def get_lock(self) -> threading.Lock:
        return self._lock


def test_no_process_is_measured_without_the_others() -> None:
    """A fast loop continues until a slow one has measured, and this does not change its rate."""
    fast, slow, arrived = Loop(0.002), Loop(0.4), Counter()
    gate = _Gate(2, threading.Barrier(2), arrived)  # type: ignore[arg-type]
    rates: dict[str, float] = {}

    def work(name: str, loop: Any) -> None:
        rates[name] = _stretch(loop, 0.1, gate)

    threads = [threading.Thread(target=work, args=each) for each in (("fast", fast), ("slow", slow))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert rates["slow"] <= 1 / 0.4 and slow.made == 2  # one that is not timed, and one that outlasts the stretch
    assert rates["fast"] <= 1 / 0.002 and fast.made > 1.5 * rates["fast"] * 0.1  # it went on after its own tenth
    assert arrived.value == 2


def test_as_many_processes_as_cores_unless_memory_is_short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process_pool, "cores", lambda: 16)
    for free, size in ((100e9, 16), (9e9, 3), (1e9, 1)):
        monkeypatch.setattr(psutil, "virtual_memory", lambda free=free: type("Memory", (), {"available": free}))
        assert pool_size(CPU) == size
    monkeypatch.setattr(psutil, "virtual_memory", lambda: type("Memory", (), {"available": 1e12}))
    assert pool_size(torch.device("cuda")) == 4


def test_a_gpu_is_never_used_by_a_copy_of_a_process() -> None:
    assert fresh(torch.device("cuda")).get_start_method() == "spawn"
    assert fresh(CPU).get_start_method() in ("forkserver", "spawn")
