"""How long the runs of a study take on this machine: training, evaluation and flatness, measured for a plan."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from relaxbench.util.text import counted

if TYPE_CHECKING:
    from relaxbench.problems import Problem
    from relaxbench.store.facts import SpecFacts
    from relaxbench.study.coordination.size import Size
    from relaxbench.study.definition.spec import StudySpec


CALIBRATION_SECONDS = 1.5
"""Per method and problem: about thirty stretches of 0.02 to 0.1 s, see `training.costs.calibrate`."""


@dataclass(frozen=True)
class Pace:
    """A method on a problem: how many runs it needs, and how fast they are on this machine.

    Attributes:
        problem: its name.
        method: its label.
        size: of the study.
        budget: gradients per run.
        fast: gradients per second with all slots full.
        slow: with as many slots as a generation of TPE fills.
        workers: processes that share the runs.
        measuring: seconds of one measurement of a run on held-out data.
        rounds: such measurements per run.
        testing: seconds of the measurement of a run on test data.
        flatness: seconds of the measurement of a run's flatness; 0 where none is planned.
    """

    problem: str
    method: str
    size: Size
    budget: int
    fast: float
    slow: float
    workers: int = 1
    measuring: float = 0.0
    rounds: int = 0
    testing: float = 0.0
    flatness: float = 0.0

    def runs(self, blocks: float) -> float:
        """The runs of all repetitions that go through this many blocks, and those that do not depend on them."""
        searched = blocks * self.size.trials + self.size.confirmed(math.ceil(blocks))
        return self.size.repetitions * searched + self.size.exploit + self.size.recommend

    def seconds(self, blocks: float) -> float:
        """The time of these runs."""
        few, again = self.size.exploit, self.size.repetitions
        tested = again * self.size.confirmed(math.ceil(blocks)) + self.size.recommend
        flat = again * min(blocks, self.size.looks[0]) + self.size.recommend  # as Plan.is_flatness_planned
        training = self.budget * ((self.runs(blocks) - few) / self.fast + few / self.slow)
        measuring = self.runs(blocks) * self.rounds * self.measuring + tested * self.testing + flat * self.flatness
        return (training + measuring) / self.workers


def paces_of(
    spec: StudySpec, stored: SpecFacts, problems: Sequence[Problem], place: Any, population: int | None
) -> tuple[list[Pace], float, list[str]]:
    """Measure the speed of every method on every problem as `study` runs it.

    Returns:
        one pace per method and problem; the seconds before the first trial, in which every worker starts and one of
        them chooses the engines and calibrates the methods; how the trials would be run, in words.
    """
    import torch

    from relaxbench.study.coordination.size import Size
    from relaxbench.study.coordination.tpe import GENERATION
    from relaxbench.study.definition.facts import describe_method
    from relaxbench.study.definition.spaces import typical
    from relaxbench.study.execution.flatness import duration
    from relaxbench.study.execution.processes import cpu_threads, most_workers
    from relaxbench.training import durations
    from relaxbench.training import engine as engines
    from relaxbench.training.oracle import Oracle

    paces, notes, workers, how = [], [], 1, ""
    start = time.process_time()  # of this process, which has imported what a worker imports
    usual = torch.get_num_threads()
    if place.type == "cpu":
        threads = cpu_threads()
        workers = most_workers(threads)
        how = f", by {counted(workers, 'worker')} of {counted(threads, 'thread')}"
        torch.set_num_threads(threads)
    for p in problems:
        begin = time.perf_counter()
        engine = engines.choose_engine(p, place, population, spec.precision)
        start += time.perf_counter() - begin + CALIBRATION_SECONDS * len(spec.methods)
        why = f" ({engine.note})" if engine.note else ""
        notes.append(f"{p.name}: {engine.path} path, K = {engine.population} on {place}{how}{why}")
        oracle, few = Oracle(p, engine.path, spec.precision), min(GENERATION, engine.population)
        measuring, testing = (
            durations.measuring(oracle, engine.population, place, split) for split in ("validation", "test")
        )
        flatness = duration(p, place) if spec.flatness else 0.0
        for label in spec.methods:
            rule, size = spec.make_rule(label, p), Size.of(stored, describe_method(label, spec, problems), {})
            params: dict[str, Any] = typical(spec.search_of(label), p)
            slots = min(engine.population, size.looks[0] * max(1, size.trials))  # no more trials are ready at once
            fast = engines.throughput(oracle, rule, slots, place, **params)
            slow = engines.throughput(oracle, rule, few, place, **params) if size.exploit else fast
            budget = spec.budget_of(p)
            rounds = min(p.rounds, math.ceil(budget / (rule.price * rule.replicas)))
            pace = Pace(p.name, label, size, budget, fast, slow, workers)
            paces.append(replace(pace, measuring=measuring, rounds=rounds, testing=testing, flatness=flatness))
    torch.set_num_threads(usual)
    return paces, start, notes
