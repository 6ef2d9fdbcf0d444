"""Choose a problem's training path and number of slots by measuring.

The choice is made once per study, on its machine, and stored with the study.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

import numpy as np
import torch

from relaxbench.errors import UserError
from relaxbench.optim.hyper import defaults
from relaxbench.optim.registry import RULES
from relaxbench.optim.rule import Rule
from relaxbench.problems import Problem
from relaxbench.training.compatibility import invariance_of, why_not_vectorized
from relaxbench.training.compiled import CompiledStep
from relaxbench.training.compilers import why_not_here
from relaxbench.training.memory import out_of_memory, sizes_that_fit
from relaxbench.training.oracle import Oracle, Path
from relaxbench.training.population import Population
from relaxbench.training.precision import Precision, dtype_of, precision_of
from relaxbench.training.trial import Job

EnginePath = Literal["vectorized", "direct", "compiled"]
"""How the steps of an engine are taken."""
Wish = Literal["auto", "vectorized", "direct", "compiled"]
"""A path that a person asks for; ``"auto"``: the faster one of the vectorized and the direct path, or in a long study
the compiled one, see `repayment`."""
WISHES: tuple[Wish, ...] = get_args(Wish)
COMPILED_SIZE = 32
"""K of the compiled path, unless a person chooses it: larger ones are not faster on the CPU, and are refilled less."""
CANDIDATES = (8, 16, 32, 64, 128, 256)
"""Population sizes that are tried for the vectorized path."""
MORE = (512, 1024, 2048)
"""Further sizes on a GPU."""
NEARLY, NEARLY_READY = 0.9, 0.95
"""A smaller size that is so near the fastest is taken, because its slots are refilled more often: of any number of
trials, and of trials that are ready together, most of which end together."""
PAIRS = 3
"""Number of alternating measurements of both paths before one is chosen."""
CLEAR = 3.0
"""Ratio of speeds, or its inverse, from which one pair of measurements suffices: no disturbance is so large."""
SECONDS = 0.06
"""Duration of a measurement of speed: a first study waits for some ten of them before its first trial."""
STRETCH_SECONDS = 0.01
"""Minimum duration of a timed stretch of steps."""
STRETCHES, LONGEST_SECONDS = 3, 0.6
"""So many stretches are timed, unless they take longer than this: a single long step may be disturbed."""


@dataclass(frozen=True)
class Repayment:
    """Whether compiling the steps of a problem repays; see `repayment`.

    Attributes:
        reason: why steps are compiled, or not; "" where the training is too short to ask.
        training: seconds of a worker on the vectorized path.
        gain: speed of the compiled path relative to the vectorized one; None if it was not measured.
        compilation: seconds of all steps, in a worker that makes them and in one that loads them; None if unknown.
    """

    reason: str
    training: float
    gain: float | None = None
    compilation: float | None = None


@dataclass(frozen=True)
class Engine:
    """The path on which a problem's trials are trained, and its settings.

    Attributes:
        path: ``"vectorized"``, ``"direct"``, or ``"compiled"``, see `compilation`.
        population: K, the number of slots.
        device: ``"cpu"`` or ``"cuda:0"``.
        dtype: type of the parameters.
        precision: of a model's matrix products, see `precision.PRECISIONS`.
        threads: CPU threads of torch.
        invariance: how much a gradient depends on K and the slot: ``"bit for bit"``, or the largest difference.
        note: why the path was chosen, if it is not the vectorized one, or why K was reduced, or "".
        rate: gradients per second of SGD, where paths and sizes were compared by it; else 0.
        repayment: whether compiling repays, where that was asked; see `repayment`.
        measured: day on which paths and sizes were compared, if that was for an earlier study; else "".
    """

    path: EnginePath
    population: int
    device: str
    dtype: str
    precision: Precision
    threads: int
    invariance: str
    note: str = ""
    rate: float = 0.0
    repayment: Repayment | None = None
    measured: str = ""

    def as_dict(self) -> dict[str, Any]:
        """Return the engine as a manifest stores it."""
        return asdict(self)


def oracle_path(path: EnginePath) -> Path:
    """Return the path of gradients and measurements: on the compiled path, measurements are vectorized."""
    return "direct" if path == "direct" else "vectorized"


def choose_engine(
    problem: Problem,
    device: torch.device,
    population: int | None = None,
    precision: Precision = "float32",
    rules: Sequence[Rule] = (),
    wish: Wish = "auto",
    ready: int | None = None,
) -> Engine:
    """Choose the engine with the most member-steps per second of plain SGD, or make the one that a person asks for.

    Args:
        problem: the problem that will be trained.
        device: where it will be trained.
        population: K, or None to choose it as well.
        precision: see `precision.PRECISIONS`.
        rules: of the study's methods, whose states must fit into memory.
        wish: the path, or ``"auto"``.
        ready: how many trials are ever ready to be trained together; None for any number. More slots would stay empty.

    Raises:
        UserError: if the problem cannot be trained on the path that is asked for.
    """
    precision = precision_of(problem, precision)
    obstacle = why_not_vectorized(problem)
    path: EnginePath = "direct"
    size, rate = population or 1, 0.0
    if wish != "auto":
        cannot_be_trained(problem, device, wish)
        path, obstacle = wish, "as asked for"
        if path != "direct" and not population:
            size = _size(problem, device, precision, rules, wish, ready)
    elif obstacle is None:
        tried = candidates(device, ready)
        sizes = (population,) if population else sizes_that_fit(problem, tried, device, precision, rules)
        rates = _rates(problem, sizes, device, precision)
        if not rates:
            obstacle = "a population would not fit into memory"
        else:
            best = _best(rates, ready)
            if _gain(problem, best, device, precision) > 1:
                path, size, rate = "vectorized", best, rates[best]
            else:
                obstacle = "the direct path is faster"
    invariance = "bit for bit" if path == "direct" else invariance_of(problem, size, device, precision)
    dtype = str(dtype_of(precision)).removeprefix("torch.")
    threads = torch.get_num_threads()
    return Engine(path, size, str(device), dtype, precision, threads, invariance, obstacle or "", rate)


def cannot_be_trained(problem: Problem, device: torch.device, wish: Wish) -> None:
    """Raise if a problem cannot be trained on a path that is asked for.

    Raises:
        UserError: if it cannot.
    """
    reason = why_not_vectorized(problem) if wish in ("vectorized", "compiled") else None
    if reason is None and wish == "compiled":
        reason = why_not_here(device)
    if reason:
        raise UserError(
            f"problem {problem.name!r} cannot be trained on the {wish} path: {reason}: leave the path out", "path"
        )


def _size(
    problem: Problem, device: torch.device, precision: Precision, rules: Sequence[Rule], wish: Wish, ready: int | None
) -> int:
    """Return K for a path that is asked for.

    Raises:
        UserError: if no population fits into memory.
    """
    if wish == "compiled":
        best = compiled_size(problem, device, precision, rules, ready)
    else:
        sizes = sizes_that_fit(problem, candidates(device, ready), device, precision, rules)
        rates = _rates(problem, sizes, device, precision)
        best = _best(rates, ready) if rates else None
    if best is None:
        raise UserError(f"problem {problem.name!r}: a population would not fit into memory: leave the path out", "path")
    return best


def compiled_size(
    problem: Problem, device: torch.device, precision: Precision, rules: Sequence[Rule], ready: int | None = None
) -> int | None:
    """Return K of the compiled path; None if no population fits into memory."""
    sizes = [k for k in candidates(device, ready) if k <= COMPILED_SIZE]
    return max(sizes_that_fit(problem, sizes, device, precision, rules), default=None)


def candidates(device: torch.device, ready: int | None) -> tuple[int, ...]:
    """Return the population sizes to try: none with more slots than trials that are ready together, and that number."""
    sizes = CANDIDATES + MORE if device.type == "cuda" else CANDIDATES
    if ready is None or ready >= sizes[-1]:
        return sizes
    return (*(k for k in sizes if k < ready), ready)


def _best(rates: Mapping[int, float], ready: int | None) -> int:
    """Return the smallest size that is nearly as fast as the fastest.

    With 64 slots, 110 trials that are ready together are trained in two parts, the second one on 46 slots.

    Args:
        rates: member-steps per second by size.
        ready: how many trials are ready to be trained together; None for any number.
    """
    if ready is None:
        return min(k for k in rates if rates[k] >= NEARLY * max(rates.values()))
    sizes = sorted(rates)
    steps = [k / rates[k] for k in sizes]  # seconds per step
    spent = {}
    for k, step in zip(sizes, steps, strict=True):
        parts, rest = divmod(ready, k)
        spent[k] = parts * step + (float(np.interp(rest, sizes, steps)) if rest else 0.0)
    return min(k for k in sizes if NEARLY_READY * spent[k] <= min(spent.values()))


def _rates(problem: Problem, sizes: Sequence[int], device: torch.device, precision: Precision) -> dict[int, float]:
    """Measure member-steps per second of the vectorized path by population size.

    Sizes that do not fit into memory, or would take more than a second per step, are left out.
    """
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
    """Return the speed of a population relative to the direct path.

    It is the median of alternating measurements, or the first one where that is clear.
    """
    ratios: list[float] = []
    for _ in range(PAIRS):
        direct = throughput(Oracle(problem, "direct", precision), RULES["sgd"](), 1, device)
        together = throughput(Oracle(problem, "vectorized", precision), RULES["sgd"](), size, device)
        ratios.append(together / direct)
        if max(ratios[0], 1 / ratios[0]) >= CLEAR:
            break
    return statistics.median(ratios)


def throughput(
    oracle: Oracle,
    rule: Rule,
    size: int,
    device: torch.device,
    seconds: float | None = None,
    compiled: CompiledStep | None = None,
    **params: float,
) -> float:
    """Measure member-steps (gradient equivalents) per second, without initialization and measurements.

    The fastest of many short stretches counts, because other programs on the machine disturb it least.

    Args:
        oracle: problem, path and precision.
        rule: the mathematics of the method.
        size: K, the number of members.
        device: where they are trained.
        seconds: total duration of the measurement; by default `SECONDS`, and longer for `STRETCHES` of long steps.
        compiled: takes the steps, if it is given.
        params: hyperparameters that differ from the defaults.
    """
    population = Population(oracle, rule, budget=10**9, device=device, compiled=compiled)
    values = {**defaults(rule.wide), **params}
    population.admit([Job(i, i % 8, values) for i in range(size)])  # eight seeds: drawing weights is not timed
    chunk, spent, fastest, timed = 1, 0.0, 0.0, 0
    population.advance(chunk)  # the first call allocates
    enough = SECONDS if seconds is None else seconds
    while spent < enough or timed == 0 or (timed < STRETCHES and seconds is None and spent < LONGEST_SECONDS):
        start = time.perf_counter()
        population.advance(chunk)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        elapsed = time.perf_counter() - start
        if elapsed < STRETCH_SECONDS and chunk < 4096:
            chunk *= 2  # too short to be timed well
        else:
            timed += 1
            fastest = max(fastest, size * chunk * population.price / elapsed)
        spent += elapsed
    return fastest
