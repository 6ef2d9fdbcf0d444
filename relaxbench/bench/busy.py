"""What a gradient costs beside as many busy processes as there are cores, relative to an idle machine."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import torch

from relaxbench.bench.cpu_time import OurPopulation, one_thread
from relaxbench.bench.interleave import median_ratio
from relaxbench.bench.workloads import WORKLOADS
from relaxbench.training.compilers import why_not_here
from relaxbench.util.cores import cores

SIZE = 32
ROUNDS, SECONDS = 15, 0.5
"""Pairs of stretches, and the shortest duration of one in CPU-seconds."""
QUICK = 3, 0.1
TARGET = 1.3
"""Most CPU-seconds of a gradient, relative to those beside no busy process."""
BUSY = """
import os
parent = os.getppid()
while os.getppid() == parent:  # it ends with the process that started it
    for _ in range(10**6):
        pass
"""


def measure(device: torch.device, quick: bool, tell: Callable[[str], object]) -> dict[str, Any]:
    """Measure a population of SGD with one thread, with and without busy processes in turn.

    Returns:
        ``processes`` and ``load``, of the machine when the measurement began; by path the ``rates`` ``idle`` and
        ``busy``, and the ``ratio`` of the CPU-seconds of a gradient, with its interval and target.
    """
    rounds, seconds = QUICK if quick else (ROUNDS, SECONDS)
    paths = ["vectorized"] + ([] if why_not_here(device) else ["compiled"])
    found: dict[str, Any] = {"processes": cores(), "load": os.getloadavg()[0], "paths": {}}
    with one_thread():
        for path in paths:
            tell(f"a {path} population beside {cores()} busy processes")
            ours = OurPopulation(WORKLOADS["digits-mlp"].problem(), "sgd", SIZE, path == "compiled")
            rates: dict[str, list[float]] = {"idle": [], "busy": []}
            for turn in range(rounds):
                for state in ("idle", "busy") if turn % 2 == 0 else ("busy", "idle"):
                    with busy(cores()) if state == "busy" else contextlib.nullcontext():
                        rates[state].append(ours.rate(seconds))
            ratio = median_ratio(rates["idle"], rates["busy"])
            found["paths"][path] = {"rates": rates, **ratio, "target": TARGET}
    return found


@contextlib.contextmanager
def busy(count: int) -> Iterator[None]:
    """Run so many processes that do nothing but count within this block."""
    processes = [subprocess.Popen([sys.executable, "-c", BUSY]) for _ in range(count)]
    try:
        yield
    finally:
        for process in processes:
            process.send_signal(signal.SIGKILL)
        for process in processes:
            process.wait()
