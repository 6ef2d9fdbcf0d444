"""Processes that share a device and are timed together: one per trial, or one per worker of a study."""

from __future__ import annotations

import signal
import time
from multiprocessing.connection import Connection, wait
from multiprocessing.sharedctypes import Synchronized
from multiprocessing.synchronize import Barrier
from types import TracebackType
from typing import Any, NamedTuple

import psutil
import torch

from relaxbench.bench.flight import Flight
from relaxbench.bench.interleave import synchronize
from relaxbench.bench.plain_loop import PlainLoop, in_memory
from relaxbench.bench.processes import fresh
from relaxbench.bench.workloads import WORKLOADS
from relaxbench.training.oracle import Path
from relaxbench.util.cores import cores
from relaxbench.util.malloc import keep_freed_memory

ON_GPU = 4
"""Processes that share a GPU."""
MEMORY = 1.5e9
"""Bytes that a process may need, PyTorch included; short of memory, fewer processes start."""
PATIENCE = 300.0
"""Seconds to wait for an answer of a process."""


class ProcessPoolError(Exception):
    """A process ended, or did not answer in time."""


def pool_size(device: torch.device) -> int:
    """Return the number of CPU cores, or `ON_GPU`; less if memory is short."""
    wanted = ON_GPU if device.type == "cuda" else cores()
    return max(1, min(wanted, int(psutil.virtual_memory().available / 2 / MEMORY)))


class _Gate(NamedTuple):
    """Lets the processes of a pool begin and end a stretch together; `arrived` counts those that have measured."""

    size: int
    barrier: Barrier
    arrived: Synchronized[int]


class ProcessPool:
    """Processes that run the plain loop on data in memory, or ours, timed together. Satisfies `interleave.Contender`.

    They sleep between stretches, and end with the `with` block.

    Args:
        workload: a name in `WORKLOADS`.
        device: shared by all.
        size: number of processes.
        population: path and K of ours in every process; None for the plain loop.
    """

    def __init__(
        self, workload: str, device: torch.device, size: int, population: tuple[Path, int] | None = None
    ) -> None:
        self.size, self.threads = size, max(1, torch.get_num_threads() // size)
        context = fresh(device)
        # Kept alive until the processes have opened it.
        self._gate = _Gate(size, context.Barrier(size), context.Value("i", 0))
        self._pipes, self._processes = list[Connection](), list[Any]()
        for seed in range(size):
            ours, theirs = context.Pipe()
            arguments = (workload, population, seed, self.threads, str(device), theirs, self._gate)
            process = context.Process(target=_work, args=arguments, daemon=True)
            process.start()
            theirs.close()  # so that each side notices when the other ends
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
        """Return steps per second of all processes together.

        Raises:
            ProcessPoolError: if a process ended, or did not answer in time.
        """
        self._gate.arrived.value = 0
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
        raise ProcessPoolError(self._ended() if ready else f"{self.size} processes did not answer for {PATIENCE:.0f} s")

    def _ended(self) -> str:
        for process in self._processes:
            process.join(1.0)
        codes = ", ".join(str(process.exitcode) for process in self._processes if process.exitcode is not None)
        return f"a process of {self.size} ended (exit code {codes})"


def _work(
    workload: str,
    population: tuple[Path, int] | None,
    seed: int,
    threads: int,
    device: str,
    pipe: Connection,
    gate: _Gate,
) -> None:
    """Main function of a process: prepare the loop, then time a stretch for every request."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent process handles Ctrl-C
    keep_freed_memory()
    torch.set_num_threads(threads)
    torch.manual_seed(seed)
    try:
        known, place = WORKLOADS[workload], torch.device(device)
        loop = in_memory(known, place) if population is None else Flight(known.problem(), *population, place)
        while True:
            seconds = pipe.recv()
            if isinstance(loop, Flight):
                loop.fit(seconds)
            pipe.send(_stretch(loop, seconds, gate))
    except (EOFError, BrokenPipeError, ConnectionResetError):  # the parent has closed the pipe
        return
    except Exception as error:
        pipe.send(f"{type(error).__name__}: {next(iter(str(error).splitlines()), '')}")


def _stretch(loop: PlainLoop | Flight, seconds: float, gate: _Gate) -> float:
    """Return steps per second under load: all processes begin together and continue until the last has measured."""
    loop.step()
    synchronize(loop.device)
    gate.barrier.wait(PATIENCE)
    start, done = time.perf_counter(), 0
    while done == 0 or time.perf_counter() - start < seconds:
        done += loop.step()
    synchronize(loop.device)
    rate = done / (time.perf_counter() - start)
    with gate.arrived.get_lock():
        gate.arrived.value += 1
    while gate.arrived.value < gate.size:
        loop.step()
    return rate
