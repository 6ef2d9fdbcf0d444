"""Choose a problem's training path and number of slots by measuring, and time a gradient of each method.

The choice is made once per study, on its machine, and stored with the study.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch

from relaxbench.optim.hyper import defaults
from relaxbench.optim.registry import RULES
from relaxbench.optim.rule import Rule
from relaxbench.problems import Problem
from relaxbench.training.compatibility import invariance_of, why_not_vectorized
from relaxbench.training.memory import does_not_fit, gradient_bytes, out_of_memory, sizes_that_fit
from relaxbench.training.oracle import Oracle, Path
from relaxbench.training.population import Population
from relaxbench.training.precision import Precision
from relaxbench.training.trial import Job

CANDIDATES = (8, 16, 32, 64, 128, 256)
"""Population sizes that are tried for the vectorized path."""
MORE = (512, 1024, 2048)
"""Further ones on a GPU."""
PAIRS = 3
"""Measurements of either path, in turn, before one is chosen."""
STRETCH_SECONDS = 0.02
"""A stretch of steps is timed when it lasts at least this long."""


@dataclass(frozen=True)
class Engine:
    """How a problem's trials are run.

    Attributes:
        path: ``"vectorized"`` or ``"direct"``.
        population: K, slots.
        device: ``"cpu"`` or ``"cuda:0"``.
        dtype: of the parameters.
        precision: in which models compute, see `precision.PRECISIONS`.
        threads: CPU threads of torch.
        invariance: how much a trial's gradient depends on K and its slot: ``"bit for bit"``, or the difference found.
        note: why the direct path was taken, or K is smaller than it was, or "".
    """

    path: Path
    population: int
    device: str
    dtype: str
    precision: Precision
    threads: int
    invariance: str
    note: str = ""

    def as_dict(self) -> dict[str, Any]:
        """For the manifest."""
        return asdict(self)


def choose(
    problem: Problem, device: torch.device, population: int | None = None, precision: Precision = "float32"
) -> Engine:
    """The fastest engine for a problem on a device: member-steps a second of plain SGD decide.

    Args:
        problem: what will be trained.
        device: where.
        population: K if it is given; then the path alone is measured.
        precision: in which models compute.
    """
    obstacle = why_not_vectorized(problem)
    path: Path = "direct"
    size = population or 1
    if obstacle is None:
        sizes = (population,) if population else sizes_that_fit(problem, _candidates(device), device)
        rates = _rates(problem, sizes, device, precision)
        if not rates:
            obstacle = "a population would not fit into memory"
        else:
            # The smallest that is nearly as fast as any: its slots are refilled more often.
            best = min(k for k in rates if rates[k] >= 0.9 * max(rates.values()))
            if _gain(problem, best, device, precision) > 1:
                path, size = "vectorized", best
            else:
                obstacle = "the direct path is faster"
    invariance = "bit for bit" if path == "direct" else invariance_of(problem, size, device)
    return Engine(path, size, str(device), "float32", precision, torch.get_num_threads(), invariance, obstacle or "")


def _candidates(device: torch.device) -> tuple[int, ...]:
    return CANDIDATES + MORE if device.type == "cuda" else CANDIDATES


def _rates(problem: Problem, sizes: Sequence[int], device: torch.device, precision: Precision) -> dict[int, float]:
    """Member-steps a second of the vectorized path; sizes that do not fit or would take seconds a step are left out."""
    rates: dict[int, float] = {}
    for k in sizes:
        if rates and k / max(rates.values()) > 1.0:
            break
        try:
            rates[k] = throughput(Oracle(problem, "vectorized", precision), RULES["sgd"](), k, device)
        except (RuntimeError, MemoryError) as error:
            if not out_of_memory(error):
                raise
            break
    return rates


def _gain(problem: Problem, size: int, device: torch.device, precision: Precision) -> float:
    """How many times as fast as the direct path a population is: the median of pairs that are measured in turn."""
    ratios = []
    for _ in range(PAIRS):
        direct = throughput(Oracle(problem, "direct", precision), RULES["sgd"](), 1, device)
        together = throughput(Oracle(problem, "vectorized", precision), RULES["sgd"](), size, device)
        ratios.append(together / direct)
    return statistics.median(ratios)


def throughput(
    oracle: Oracle, rule: Rule, size: int, device: torch.device, seconds: float = 0.15, **params: float
) -> float:
    """Member-steps (gradient equivalents) a second of a population in full flight, measuring and starting excluded.

    The fastest of many short stretches counts: the one that other programs on the machine did not disturb.
    """
    population = Population(oracle, rule, budget=10**9, device=device)
    values = {**defaults(rule.space), **params}
    population.admit([Job(i, i, values) for i in range(size)])
    chunk, spent, fastest = 1, 0.0, 0.0
    population.advance(chunk)  # the first call allocates
    while spent < seconds or fastest == 0:
        start = time.perf_counter()
        population.advance(chunk)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        elapsed = time.perf_counter() - start
        if elapsed < STRETCH_SECONDS and chunk < 4096:
            chunk *= 2  # too short to be timed well
        else:
            fastest = max(fastest, size * chunk * population.price / elapsed)
        spent += elapsed
    return fastest


def calibrate(
    problem: Problem, rule: Rule, device: torch.device, precision: Precision = "float32", **params: float
) -> dict[str, float]:
    """What one gradient of a rule costs alone (K = 1, direct path), so that methods are compared on equal terms.

    Returns:
        ``seconds_per_gradient``, the rule's own arithmetic included; ``peak_bytes``: the rule's declared copies of the
        parameters plus what is held while a gradient is computed, see `footprint`.

    Raises:
        UserError: if memory does not suffice.
    """
    try:
        rate = throughput(Oracle(problem, "direct", precision), rule, 1, device, seconds=0.1, **params)
        held = gradient_bytes(problem, device, precision)
    except (RuntimeError, MemoryError) as error:
        if out_of_memory(error):
            raise does_not_fit(problem.name, device) from None
        raise
    return {
        "seconds_per_gradient": 1 / rate,
        # The gradient is one of the copies, and of what is held while it is computed.
        "peak_bytes": (rule.copies - 1) * problem.size * 4 + held,
    }
