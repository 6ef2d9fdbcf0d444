"""How long the runs of a study take on this machine: training, evaluation and flatness, measured for a plan."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from relaxbench.util.text import counted

if TYPE_CHECKING:
    from relaxbench.optim.rule import Rule
    from relaxbench.problems import Problem
    from relaxbench.store.facts import SpecFacts
    from relaxbench.study.coordination.size import Size
    from relaxbench.study.definition.spec import StudySpec
    from relaxbench.training.oracle import Oracle


CALIBRATION_SECONDS = 1.5
"""Per method and problem: about thirty stretches of 0.02 to 0.1 s, see `training.costs.calibrate`."""


@dataclass(frozen=True)
class Pace:
    """A method on a problem: how many runs it needs, and how fast they are on this machine.

    Runs train together in slots, in waves: those of a phase begin together, and the next phase waits for their results.
    A wave costs time however few runs it has.

    Attributes:
        problem: its name.
        method: its label.
        size: of the study.
        budget: gradients per run.
        slots: runs that train together.
        wave: seconds of a wave, beside those of its runs.
        run: seconds that a run adds to its wave, measurements included.
        workers: processes that share the runs.
        testing: seconds of the measurement of a run on test data.
        flatness: seconds of the measurement of a run's flatness; 0 where none is planned.
    """

    problem: str
    method: str
    size: Size
    budget: int
    slots: int
    wave: float
    run: float
    workers: int = 1
    testing: float = 0.0
    flatness: float = 0.0

    def runs(self, blocks: float) -> float:
        """The runs of all repetitions that go through this many blocks, and those that do not depend on them."""
        searched = blocks * self.size.trials + self.size.confirmed(math.ceil(blocks))
        return self.size.repetitions * searched + self.size.exploit + self.size.recommend

    def waves(self, blocks: float) -> int:
        """The waves of these runs, one after another: trials and confirmations of every look, with those of TPE."""
        from relaxbench.study.coordination.tpe import GENERATION

        size, counts = self.size, list[float]()
        before, confirmed = 0, 0
        for look in [*(look for look in size.looks if look < blocks), math.ceil(blocks)]:
            counts += [(look - before) * size.trials, size.confirmed(look) - confirmed]
            before, confirmed = look, size.confirmed(look)
        looks = sum(math.ceil(size.repetitions * count / self.slots) for count in counts)
        # Generations wait for each other, and train next to the other trials.
        return max(looks, math.ceil(size.exploit / GENERATION)) + math.ceil(size.recommend / self.slots)

    def seconds(self, blocks: float) -> float:
        """The time of these runs."""
        again = self.size.repetitions
        tested = again * self.size.confirmed(math.ceil(blocks)) + self.size.recommend
        flat = again * min(blocks, self.size.looks[0]) + self.size.recommend  # as Plan.is_flatness_planned
        training = self.waves(blocks) * self.wave + self.runs(blocks) * self.run
        return (training + tested * self.testing + flat * self.flatness) / self.workers


def paces_of(
    spec: StudySpec, stored: SpecFacts, problems: Sequence[Problem], place: Any, population: int | None
) -> tuple[list[Pace], float, list[str]]:
    """Measure the speed of every method on every problem as `study` runs it.

    Returns:
        one pace per method and problem; the seconds before the first trial, in which every worker starts and one of
        them chooses the engines and calibrates the methods; how the trials would be run, in words.
    """
    import torch

    from relaxbench.problems.measurements import say_expensive
    from relaxbench.study.coordination.size import Size
    from relaxbench.study.definition.facts import describe_method
    from relaxbench.study.execution.flatness import duration
    from relaxbench.study.execution.processes import cpu_threads, workers_for
    from relaxbench.training import durations
    from relaxbench.training import engine as engines
    from relaxbench.training.oracle import Oracle

    paces, notes, workers, how = [], [], 1, ""
    start = time.process_time()  # of this process, which has imported what a worker imports
    usual = torch.get_num_threads()
    sizes = {label: Size.of(stored, describe_method(label, spec, problems), {}) for label in spec.methods}
    if place.type == "cpu":
        threads = cpu_threads()
        first = sum(sum(size.planned(size.first).values()) for size in sizes.values())
        workers = workers_for([(p, first, spec.budget_of(p)) for p in problems], threads)
        how = f", by {counted(workers, 'worker')} of {counted(threads, 'thread')}"
        torch.set_num_threads(threads)
    for p in problems:
        begin = time.perf_counter()
        engine = engines.choose_engine(p, place, population, spec.precision)
        start += time.perf_counter() - begin + CALIBRATION_SECONDS * len(spec.methods)
        why = f" ({engine.note})" if engine.note else ""
        notes.append(f"{p.name}: {engine.path} path, K = {engine.population} on {place}{how}{why}")
        if expensive := say_expensive(p.name, p.measurements):
            notes.append(expensive)
        oracle = Oracle(p, engine.path, spec.precision)
        flatness = duration(p, place) if spec.flatness else 0.0
        testing = durations.measuring(oracle, engine.population, place, "test") / engine.population
        measured: dict[int, float] = {}
        for label in spec.methods:
            size = sizes[label]
            most = max(size.looks[0] * max(1, size.trials) * size.repetitions, size.recommend)
            slots = min(engine.population, most)  # no more trials are ready at once
            wave, run = _wave(spec, label, oracle, slots, place, measured)
            budget = spec.budget_of(p)
            paces.append(Pace(p.name, label, size, budget, slots, wave, run, workers, testing, flatness))
    torch.set_num_threads(usual)
    return paces, start, notes


def _wave(
    spec: StudySpec, label: str, oracle: Oracle, slots: int, place: Any, measured: dict[int, float]
) -> tuple[float, float]:
    """Measure the time of a wave and of each of its runs, from one of few runs and one that fills the slots.

    Args:
        spec: the study.
        label: of the method.
        oracle: the problem, with the path and precision of its gradients.
        slots: runs that train together.
        place: the device.
        measured: seconds of a measurement by number of runs, which is the same for all methods.
    """
    from relaxbench.study.coordination.tpe import GENERATION
    from relaxbench.study.definition.spaces import typical
    from relaxbench.training import durations

    problem, rule = oracle.problem, spec.make_rule(label, oracle.problem)
    params, budget = typical(spec.search_of(label), problem), spec.budget_of(problem)
    times = {}
    for count in {min(GENERATION, slots), slots}:
        if count not in measured:
            measured[count] = durations.measuring(oracle, count, place, "validation")
        training = durations.running(oracle, rule, budget, count, place, params)
        times[count] = training + _rounds(problem, rule, budget) * measured[count]
    few, most = min(times), max(times)
    if few == most:
        return (0.0, times[most] / most) if most == 1 else (times[most], 0.0)
    run = max(0.0, (times[most] - times[few]) / (most - few))
    return max(0.0, times[few] - few * run), run


def _rounds(problem: Problem, rule: Rule, budget: int) -> int:
    """The number of measurements on the validation split in a run of a rule."""
    return min(problem.rounds, math.ceil(budget / (rule.price * rule.replicas)))
