"""One process a trial, all sharing the device: what people do who have one loop and many settings."""

from __future__ import annotations

import os
import signal
import time
from multiprocessing.connection import Connection, wait
from types import TracebackType
from typing import Any

import psutil
import torch

from relaxbench.bench.interleave import synchronize
from relaxbench.bench.plain_loop import PlainLoop, in_memory
from relaxbench.bench.processes import fresh
from relaxbench.bench.workloads import WORKLOADS
from relaxbench.util.malloc import keep_freed_memory

ON_GPU = 4
"""Processes that share a GPU."""
MEMORY = 1.5e9
"""Bytes that a process may need, PyTorch included: fewer are started where that is not there."""
PATIENCE = 300.0
"""Seconds until processes that say nothing are given up."""


class ProcessPoolError(Exception):
    """A process ended, or said nothing for too long."""


def pool_size(device: torch.device) -> int:
    """As many processes as there are cores, or `ON_GPU`; fewer where memory is short."""
    wanted = ON_GPU if device.type == "cuda" else cores()
    return max(1, min(wanted, int(psutil.virtual_memory().available / 2 / MEMORY)))


def cores() -> int:
    """CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class ProcessPool:
    """Processes that each run the plain loop on data in memory, all in the same stretches. A `interleave.Contender`.

    Between stretches they wait and use no time. Leave the `with` block to end them.

    Args:
        workload: a name in `WORKLOADS`.
        device: which they share.
        size: processes.
    """

    def __init__(self, workload: str, device: torch.device, size: int) -> None:
        self.size, self.threads = size, max(1, torch.get_num_threads() // size)
        context = fresh(device)
        barrier, arrived = context.Barrier(size), context.Value("i", 0)
        self._barrier, self._arrived = barrier, arrived  # kept until the processes have found them, too
        self._pipes, self._processes = list[Connection](), list[Any]()
        for seed in range(size):
            ours, theirs = context.Pipe()
            arguments = (workload, seed, self.threads, str(device), size, theirs, barrier, arrived)
            process = context.Process(target=_work, args=arguments, daemon=True)
            process.start()
            theirs.close()  # so that either side learns of the other's end
            self._pipes.append(ours)
            self._processes.append(process)

    def __enter__(self) -> ProcessPool:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for process, pipe in zip(self._processes, self._pipes, strict=True):
            pipe.close()
            process.terminate()
        for process in self._processes:
            process.join()

    def rate(self, seconds: float) -> float:
        """Steps a second of all processes together.

        Raises:
            ProcessPoolError: if one of them ended, or said nothing for too long.
        """
        self._arrived.value = 0
        try:
            for pipe in self._pipes:
                pipe.send(seconds)
        except OSError:
            raise ProcessPoolError(self._ended()) from None
        return sum(self._answer(pipe) for pipe in self._pipes)

    def _answer(self, pipe: Connection) -> float:
        ready = wait([pipe, *(process.sentinel for process in self._processes)], PATIENCE)
        if pipe in ready and pipe.poll():
            try:
                answer = pipe.recv()
            except (EOFError, OSError):
                raise ProcessPoolError(self._ended()) from None
            if isinstance(answer, str):
                raise ProcessPoolError(answer)
            return float(answer)
        raise ProcessPoolError(self._ended() if ready else f"{self.size} processes said nothing for {PATIENCE:.0f} s")

    def _ended(self) -> str:
        for process in self._processes:
            process.join(1.0)
        codes = ", ".join(str(process.exitcode) for process in self._processes if process.exitcode is not None)
        return f"a process of {self.size} ended (exit code {codes})"


def _work(
    workload: str, seed: int, threads: int, device: str, size: int, pipe: Connection, barrier: Any, arrived: Any
) -> None:
    """A process: prepare the loop, then run a stretch whenever it is told to."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that started this one
    keep_freed_memory()
    torch.set_num_threads(threads)
    torch.manual_seed(seed)
    try:
        loop = in_memory(WORKLOADS[workload], torch.device(device))
        while True:
            pipe.send(_stretch(loop, pipe.recv(), size, barrier, arrived))
    except (EOFError, BrokenPipeError, ConnectionResetError):  # nobody asks any more
        return
    except Exception as error:
        pipe.send(f"{type(error).__name__}: {next(iter(str(error).splitlines()), '')}")


def _stretch(loop: PlainLoop, seconds: float, size: int, barrier: Any, arrived: Any) -> float:
    """Steps a second while all others work, too: they begin together, and go on until the last one has measured."""
    loop.step()
    synchronize(loop.device)
    barrier.wait(PATIENCE)
    start, done = time.perf_counter(), 0
    while done == 0 or time.perf_counter() - start < seconds:
        done += loop.step()
    synchronize(loop.device)
    found = done / (time.perf_counter() - start)
    with arrived.get_lock():
        arrived.value += 1
    while arrived.value < size:
        loop.step()
    return found
