"""Peak memory per member: the slope between two population sizes, compared with the value in a report."""

from __future__ import annotations

import resource
import sys
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

import torch

from relaxbench.bench.processes import fresh
from relaxbench.bench.workloads import synthetic
from relaxbench.optim.hyper import defaults
from relaxbench.optim.registry import RULES
from relaxbench.training.costs import peak_bytes
from relaxbench.training.oracle import Oracle
from relaxbench.training.population import Population
from relaxbench.training.trial import Job
from relaxbench.util.malloc import keep_freed_memory

SIZES = {"mnistfc": (2, 10), "lenet": (2, 10)}
"""K of the two populations; the memory of PyTorch itself cancels, and jumps of the allocator count little."""
RULES_OF = {
    "mnistfc": tuple(name for name, rule in RULES.items() if not rule.compares_losses),
    "lenet": ("sgd", "entropy-sgd", "parle", "curveball"),
}
QUICK = {"mnistfc": ("sgd", "entropy-sgd")}
INNER_STEPS = 2


def measure(device: torch.device, quick: bool, tell: Callable[[str], object]) -> dict[str, Any]:
    """Measure, per network and rule, peak bytes per member, and the bytes that a report states (`costs.peak_bytes`)."""
    entries: dict[str, Any] = {}
    for network, rules in (QUICK if quick else RULES_OF).items():
        problem = synthetic(network)
        rows: dict[str, Any] = {}
        for name in rules:
            tell(f"memory of a population of {network}: {name}")
            few, many = SIZES[network]
            stated = peak_bytes(problem, RULES[name](), device, path="vectorized")
            rows[name] = {"copies": RULES[name].copies, "stated": stated}
            try:
                low, high = peaks(network, name, (few, many), device)
                rows[name] |= {"peaks": [low, high], "measured": (high - low) / (many - few)}
            except (BrokenProcessPool, torch.OutOfMemoryError):
                rows[name]["reason"] = "not enough memory"
        entries[network] = {
            "sizes": list(SIZES[network]),
            "parameters": problem.size,
            "batch_size": problem.batch_size,
            "rules": rows,
        }
    return entries


def peaks(network: str, rule: str, sizes: tuple[int, ...], device: torch.device) -> list[int]:
    """Return peak bytes of populations; on the CPU each in a fresh process, as a process never resets its peak."""
    if device.type == "cuda":
        return [_peak_on_gpu(network, rule, size, device) for size in sizes]
    with ProcessPoolExecutor(len(sizes), fresh(device), max_tasks_per_child=1) as pool:
        return list(pool.map(_peak_of_process, [network] * len(sizes), [rule] * len(sizes), sizes))


def fly(network: str, rule: str, size: int, device: torch.device) -> None:
    """Run a population for a whole outer step and the first query of the next, all members at once."""
    instance = RULES[rule]()
    population = Population(Oracle(synthetic(network)), instance, budget=10**6, device=device)
    small = {"inner_steps": INNER_STEPS} if "inner_steps" in instance.wide else {}
    population.admit([Job(k, k, defaults(instance.wide) | small) for k in range(size)])
    population.advance(population.slots[0].period + 1)


def _peak_of_process(network: str, rule: str, size: int) -> int:
    keep_freed_memory()  # as the commands do
    torch.set_num_threads(1)
    fly(network, rule, size, torch.device("cpu"))
    return peak_resident()


def _peak_on_gpu(network: str, rule: str, size: int, device: torch.device) -> int:
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats(device)
    fly(network, rule, size, device)
    return int(torch.cuda.max_memory_allocated(device))


def peak_resident() -> int:
    """Return the peak resident memory of this process so far, in bytes.

    On Linux `getrusage` would not do: its value starts from the peak of the parent process.
    """
    status = Path("/proc/self/status")
    if status.exists():
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
