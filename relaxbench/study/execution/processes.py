"""How many worker processes a session on the CPU is worth.

Trials do not depend on each other, so processes of one thread use all cores fully. Threads within an operation do not:
the operations of small networks are short, and threads that wait for each other burn their cores. But a process needs
seconds to start.
"""

from __future__ import annotations

import math
import os
import re
import time
from collections.abc import Sequence

import psutil
import torch

from relaxbench.problems import Problem
from relaxbench.store.facts import Manifest
from relaxbench.study.coordination.progress import tally
from relaxbench.study.definition.opening import OpenStudy
from relaxbench.study.definition.script_problem import LoopProblem
from relaxbench.training.oracle import Oracle
from relaxbench.util.cores import cores

WORTH_SECONDS = 10.0
"""Work of one process below which no other is started."""
TOGETHER = 20.0
"""How many times as many gradients per second a population computes as a single trial: about the most, on digits."""
WORKER_BYTES = 1.5e9
"""Memory that a worker is granted; PyTorch alone takes a third of it."""


def cpu_threads(manifest: Manifest | None = None) -> int:
    """Return the threads of a process that shares the CPU with others: one, unless a study or a person chose otherwise.

    Results depend on the number of threads in the last digits, so a study keeps the number with which it began. For a
    new study (None), ``OMP_NUM_THREADS`` says it.
    """
    stored = [engine["threads"] for engine in (manifest or {}).get("engines", {}).values()]
    wished = re.match(r"[1-9]\d{0,4}", os.environ.get("OMP_NUM_THREADS", ""))
    return max(stored) if stored else int(wished[0]) if wished else 1


def most_workers(threads: int) -> int:
    """Return how many processes of this many threads the cores and half of the free memory can hold, at least one."""
    room = int(psutil.virtual_memory().available / 2 / WORKER_BYTES)
    return max(1, min(cores() // threads, room))


def cpu_workers(opened: OpenStudy, threads: int) -> int:
    """Return the number of worker processes for the trials that a study lacks: 1 if this process will soon be done.

    Args:
        opened: the study.
        threads: of each process.
    """
    missing = {problem.name: 0 for problem in opened.problems}
    for progress in tally(opened.plans):
        missing[progress.problem] += progress.total - progress.done
    return workers_for([(p, missing[p.name], opened.spec.budget_of(p)) for p in opened.problems], threads)


def workers_for(missing: Sequence[tuple[Problem, float, int]], threads: int) -> int:
    """Return the number of worker processes for some trials: 1 if one will soon be done.

    The time that one process would need is estimated from a gradient of every problem, which is timed here.

    Args:
        missing: each problem with the number of its trials and the budget of one.
        threads: of each process.
    """
    most = min(most_workers(threads), math.ceil(sum(trials for _, trials, _ in missing)))
    if most <= 1:
        return 1
    seconds = sum(
        trials * budget * gradient_seconds(problem) / TOGETHER for problem, trials, budget in missing if trials
    )
    return most if seconds >= WORTH_SECONDS else 1


def gradient_seconds(problem: Problem) -> float:
    """Time one gradient of one member on the CPU: the shorter of two, because the first one allocates."""
    if isinstance(problem, LoopProblem):
        known = [cost.seconds_per_gradient + cost.start_seconds / problem.budget for cost in problem.measured.values()]
        return TOGETHER * max(known, default=WORTH_SECONDS)  # its trials do not train together
    batch = problem.sampler([0], [0], 1, torch.device("cpu")).batch(torch.zeros(1, 1, dtype=torch.int64))
    points, oracle, times = problem.init(0)[None], Oracle(problem, "direct"), []
    for _ in range(2):
        begin = time.perf_counter()
        oracle.gradient_on(points, batch)
        times.append(time.perf_counter() - begin)
    return min(times)
