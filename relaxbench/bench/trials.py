"""Trials side by side as the engine runs them, against the same trials one after another, or one process each."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from typing import Any

import torch

from relaxbench.bench.interleave import Contender, in_turn, median_ratio, stretch, synchronize
from relaxbench.bench.plain_loop import PlainLoop, in_memory, loaded
from relaxbench.bench.process_pool import Crew, CrewError, cores, crew_size
from relaxbench.bench.workloads import SUBJECTS, Subject
from relaxbench.optim.hyper import defaults
from relaxbench.optim.registry import RULES
from relaxbench.problems import SupervisedProblem
from relaxbench.training.engine import choose
from relaxbench.training.oracle import Oracle, Path
from relaxbench.training.population import Population
from relaxbench.training.precision import Precision
from relaxbench.training.trial import Job

ROUNDS, SECONDS = 24, 0.3
"""Stretches of every contender, and how long each lasts at least."""
QUICK = 5, 0.1
TARGETS = {
    ("cpu", "digits-mlp"): {"memory": 3.0},
    ("cpu", "mnistfc"): {"memory": 0.95},
    ("cpu", "lenet"): {"memory": 0.95},
    ("cuda", "digits-mlp"): {"memory": 3.0},
    ("cuda", "lenet, K = 64"): {"memory": 20.0, "loader": 100.0},
}
"""On a kind of device, with a problem: at least so many times the rate of another way."""
GPU_SIZE = 64
"""K of the target for LeNet on a GPU; the engine may choose another one, which is measured too."""


class Flight:
    """A population in full flight, measurements excluded. Satisfies `turns.Contender`; counts members' steps.

    Args:
        problem: what is trained, with SGD and its defaults.
        path, size: of the engine.
        device: where.
        lead: steps before a stretch that are not timed.
        precision: in which the model computes.
    """

    def __init__(
        self,
        problem: SupervisedProblem,
        path: Path,
        size: int,
        device: torch.device,
        lead: int = 1,
        precision: Precision = "float32",
    ) -> None:
        rule = RULES["sgd"]()
        self.size, self.device, self.lead, self.chunk = size, device, lead, 1
        self.population = Population(Oracle(problem, path, precision), rule, budget=10**9, device=device)
        self.population.admit([Job(i, i, defaults(rule.space)) for i in range(size)])
        self.longest = -(-problem.budget // problem.rounds)  # steps between two measurements of a study
        self.step()  # the first one allocates

    def step(self) -> int:
        """A part of a round."""
        self.population.advance(self.chunk)
        return self.size * self.chunk

    def rate(self, seconds: float) -> float:
        """Members' steps a second, in rounds as long as a study's unless those outlast the stretch."""
        start = time.perf_counter()
        self.population.advance(1)
        synchronize(self.device)
        self.chunk = max(1, min(self.longest, int(seconds / 2 / (time.perf_counter() - start))))
        return stretch(self.step, seconds, self.device, self.lead)


def measure(device: torch.device, quick: bool, tell: Callable[[str], object]) -> dict[str, Any]:
    """Figures of every problem: the engine's choice, rates of all contenders, and ratios of ours to theirs.

    A problem whose data are not here says so, as ``missing``; a contender that cannot be run says why, as ``reason``.
    """
    found: dict[str, Any] = {}
    for subject, size in _entries(device, quick):
        label = subject.name if size is None else f"{subject.name}, K = {size}"
        problem = subject.problem()
        if reason := problem.missing():
            found[label] = {"missing": reason}
        else:
            targets = TARGETS.get((device.type, label), {})
            found[label] = _contest(subject, problem, device, size, quick, targets, partial(_tell, tell, label))
    return found


def _tell(tell: Callable[[str], object], label: str, what: str) -> None:
    tell(f"{label}: {what}")


def _entries(device: torch.device, quick: bool) -> Iterator[tuple[Subject, int | None]]:
    for name, subject in SUBJECTS.items():
        if not quick or name != "mnistfc":
            yield subject, None
    if device.type == "cuda":
        yield SUBJECTS["lenet"], GPU_SIZE


def _contest(
    subject: Subject,
    problem: SupervisedProblem,
    device: torch.device,
    size: int | None,
    quick: bool,
    targets: dict[str, float],
    tell: Callable[[str], object],
) -> dict[str, Any]:
    rounds, seconds = QUICK if quick else (ROUNDS, SECONDS)
    tell("the engine's choice")
    engine = choose(problem, device, size)
    ours = Flight(problem, engine.path, engine.population, device)
    contenders: dict[str, Contender] = {"ours": ours, "memory": in_memory(subject, device)}
    settings: dict[str, dict[str, Any]] = {"memory": {}}
    tell("settings of a DataLoader")
    contenders["loader"], settings["loader"] = _fastest_loader(subject, problem, device, seconds, quick)
    with ExitStack() as stack:
        count = crew_size(device)
        tell(f"{count} processes are started")
        crew = stack.enter_context(Crew(subject.name, device, count))
        settings["processes"] = {"processes": crew.size, "threads": crew.threads}
        try:
            crew.rate(seconds)
            contenders["processes"] = crew
        except CrewError as error:
            settings["processes"]["reason"] = str(error)
        tell("all in turn")
        rates = in_turn(contenders, rounds, seconds)
    return {
        "engine": engine.as_dict(),
        "batch_size": problem.batch_size,
        "budget": problem.budget,
        "rates": rates,
        "against": {
            name: about | (median_ratio(rates["ours"], rates[name]) if name in rates else {})
            | {"target": targets.get(name)}
            for name, about in settings.items()
        },
    }  # fmt: skip


def _fastest_loader(
    subject: Subject, problem: SupervisedProblem, device: torch.device, seconds: float, quick: bool
) -> tuple[PlainLoop, dict[str, Any]]:
    """A loop fed by a DataLoader, with as many workers as serve it best, and the rates of all that were tried."""
    data = subject.dataset(*problem.tensors["train"])
    loops: dict[int, PlainLoop] = {}
    tried: dict[int, float] = {}
    for workers in (0,) if quick else dict.fromkeys((0, min(4, cores()))):
        batches = loaded(data, problem.batch_size, workers, device)
        loops[workers] = PlainLoop(subject.network(), batches, device, workers)
        try:
            loops[workers].rate(seconds)
            tried[workers] = loops[workers].rate(2 * seconds)
        except (RuntimeError, OSError):  # workers need shared memory, which may be scarce
            if workers == 0:
                raise
    best = max(tried, key=lambda workers: tried[workers])
    return loops[best], {"workers": best, "tried": {str(workers): rate for workers, rate in tried.items()}}
