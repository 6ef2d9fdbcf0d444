"""How long the runs of a study take on this machine: training, evaluation and flatness, measured for a plan."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from relaxbench.util.text import counted

if TYPE_CHECKING:
    from relaxbench.optim.rule import Rule
    from relaxbench.problems import Problem
    from relaxbench.store.facts import EngineFacts, SpecFacts
    from relaxbench.study.coordination.size import Size
    from relaxbench.study.definition.spec import StudySpec
    from relaxbench.training.compiled import CompiledStep
    from relaxbench.training.engine import Engine, Wish
    from relaxbench.training.oracle import Oracle


PARTS = ("training", "evaluation", "flatness")
"""What the runs of a study spend their time on."""


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
        evaluation: seconds of the measurements of a run on validation data, which are contained in `wave` and `run`.
        testing: seconds of the measurement of a run on test data.
        flatness: seconds of the measurement of a run's flatness; 0 where none is planned.
        flat: runs whose flatness is measured at most, see `flat_runs`; None for no limit.
    """

    problem: str
    method: str
    size: Size
    budget: int
    slots: int
    wave: float
    run: float
    workers: int = 1
    evaluation: float = 0.0
    testing: float = 0.0
    flatness: float = 0.0
    flat: int | None = None

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
        return sum(self.parts(blocks).values())

    def parts(self, blocks: float) -> dict[str, float]:
        """The time of these runs, by `PARTS`."""
        from relaxbench.study.definition.flatness_share import flat_runs

        tested = self.size.repetitions * self.size.confirmed(math.ceil(blocks)) + self.size.recommend
        flat = flat_runs(self.size, blocks, self.flat) * self.flatness
        evaluated = self.runs(blocks) * self.evaluation
        training = self.waves(blocks) * self.wave + self.runs(blocks) * self.run - evaluated
        seconds = (training, evaluated + tested * self.testing, flat)
        return {part: value / self.workers for part, value in zip(PARTS, seconds, strict=True)}


def paces_of(
    spec: StudySpec,
    stored: SpecFacts,
    problems: Sequence[Problem],
    place: Any,
    population: int | None,
    wish: Wish = "auto",
    shared: bool = False,
) -> tuple[list[Pace], dict[str, float], list[str]]:
    """Measure the speed of every method on every problem as `study` runs it.

    Returns:
        one pace per method and problem; the seconds before the first trial, by what they are spent on; how the trials
        would be run, in words.
    """
    import torch

    from relaxbench.cli.script_pace import calibration_seconds, script_paces
    from relaxbench.problems.measurements import say_expensive
    from relaxbench.store.engines import describe_repayment
    from relaxbench.study.coordination.size import Size
    from relaxbench.study.definition.facts import describe_method
    from relaxbench.study.definition.flatness_share import planned_flatness, say_left_out
    from relaxbench.study.definition.script_problem import LoopProblem
    from relaxbench.study.execution.flatness import duration
    from relaxbench.training import costs, durations
    from relaxbench.training import engine as engines
    from relaxbench.training.oracle import Oracle

    paces, notes, workers, how = [], [], 1, ""
    start = {"programs and data": time.process_time(), "choice of engines": 0.0, "calibration": 0.0}
    usual = torch.get_num_threads()
    sizes = {label: Size.of(stored, describe_method(label, spec, problems), {}) for label in spec.methods}
    if place.type == "cpu":
        workers, how = _workers(spec, problems, sizes)
        if workers > 1:  # they are started by a process that has loaded all this itself
            start["programs and data"] *= 2
    for p in problems:
        if isinstance(p, LoopProblem):
            start["calibration"] += calibration_seconds(p)
            notes.append(f"{p.name}: a script, one trial at a time in every worker{how}")
            paces += script_paces(p, sizes, workers)
            continue
        begin = time.perf_counter()
        rules = [spec.make_rule(label, p) for label in spec.methods]
        ready = max(size.ready for size in sizes.values())
        engine = engines.choose_engine(p, place, population, spec.precision, rules, wish, ready)
        if wish == "auto":
            engine = _repaid(spec, p, engine, sizes, shared, population)
        start["choice of engines"] += time.perf_counter() - begin
        rate = engines.throughput(Oracle(p, "direct", spec.precision), spec.make_rule(spec.baseline, p), 1, place, 0.0)
        kinds, allowed = _kinds(spec, p), math.inf
        if engine.rate:
            first = sum(sum(size.planned(size.first).values()) for size in sizes.values())
            allowed = costs.SHARE * first * spec.budget_of(p) / engine.rate
        start["calibration"] += costs.expected_seconds(1 / rate, allowed / kinds) * kinds
        why = f" ({engine.note})" if engine.note else ""
        notes.append(f"{p.name}: {engine.path} path, K = {engine.population} on {place}{how}{why}")
        notes += describe_repayment(p.name, cast("EngineFacts", engine.as_dict()))
        if expensive := say_expensive(p.name, p.measurements):
            notes.append(expensive)
        oracle, measured = Oracle(p, engines.oracle_path(engine.path), spec.precision), dict[int, float]()
        steps, seconds, lines = _compiled(spec, p, engine)
        if seconds:
            start["compilation"] = start.get("compilation", 0.0) + seconds
        notes += lines
        flat, flatness = planned_flatness(p, spec, list(sizes.values())), 0.0
        if spec.flatness and (flat is None or flat["runs"]):
            flatness = duration(p, place, flat["examples"] if flat else None)
            if not flatness:
                notes.append(f"{p.name}: flatness cannot be measured for this model, or not here; its runs count.")
        elif spec.flatness and flat:
            notes.append(say_left_out(p.name, {p.name: flat}))
        testing = durations.measuring(oracle, engine.population, place, "test") / engine.population
        for label in spec.methods:
            size = sizes[label]
            slots = min(engine.population, size.ready)
            wave, run, evaluation = _wave(spec, label, oracle, slots, place, measured, steps.get(label))
            known = (spec.budget_of(p), slots, wave, run, workers, evaluation, testing, flatness)
            paces.append(Pace(p.name, label, size, *known, flat["runs"] if flat else None))
    torch.set_num_threads(usual)
    return paces, start, notes


def _repaid(
    spec: StudySpec, problem: Problem, engine: Engine, sizes: Mapping[str, Size], shared: bool, population: int | None
) -> Engine:
    """Choose the compiled path where the study is long enough to repay it, as `study` does."""
    from relaxbench.study.execution.processes import most_workers
    from relaxbench.training.repayment import Work, repaid

    labels = sorted(spec.methods, key=lambda label: label != spec.baseline)
    rules = {label: spec.make_rule(label, problem) for label in labels}
    trials = sum(sum(sizes[label].planned(sizes[label].first).values()) for label in labels if rules[label].capturable)
    ready = max(size.ready for size in sizes.values())
    work = Work(trials * spec.budget_of(problem), most_workers(engine.threads), shared, ready)
    return repaid(problem, engine, list(rules.values()), work, population)


def _compiled(spec: StudySpec, problem: Problem, engine: Engine) -> tuple[dict[str, CompiledStep], float, list[str]]:
    """Compile the steps of the methods, on the compiled path; return also the seconds, and what to say of it."""
    from relaxbench.store.engines import describe_steps
    from relaxbench.study.execution.steps import describe_step, step_of

    if engine.path != "compiled":
        return {}, 0.0, []
    facts = cast("EngineFacts", {**engine.as_dict(), "compiled": {}})
    begin, notes = time.perf_counter(), list[str]()
    for label in spec.methods:
        facts["compiled"][label], note = describe_step(spec, problem, label, facts)
        notes += [f"{problem.name}, {label}: {note}"] if note else []
    made = {label: step_of(spec, problem, label, facts) for label in spec.methods}
    steps = {label: step for label, step in made.items() if step is not None}
    return steps, time.perf_counter() - begin, [*describe_steps(problem.name, facts), *notes]


def _workers(spec: StudySpec, problems: Sequence[Problem], sizes: Mapping[str, Size]) -> tuple[int, str]:
    """Set the threads of a worker on the CPU; return how many workers `study` would start, and the same in words."""
    import torch

    from relaxbench.study.execution.processes import cpu_threads, workers_for

    threads = cpu_threads()
    first = sum(sum(size.planned(size.first).values()) for size in sizes.values())
    workers = workers_for([(p, first, spec.budget_of(p)) for p in problems], threads)
    torch.set_num_threads(threads)
    return workers, f", by {counted(workers, 'worker')} of {counted(threads, 'thread')}"


def _kinds(spec: StudySpec, problem: Problem) -> int:
    """How many methods of a study are calibrated: rules that differ."""
    return len({(spec.rule_of(m), repr(sorted(spec.options_of(m, problem).items()))) for m in spec.methods})


def _wave(
    spec: StudySpec,
    label: str,
    oracle: Oracle,
    slots: int,
    place: Any,
    measured: dict[int, float],
    step: CompiledStep | None = None,
) -> tuple[float, float, float]:
    """Measure the time of a wave and of each of its runs, from one of few runs and one that fills the slots.

    Returns:
        both, and what the evaluation of a run has of them.

    Args:
        spec: the study.
        label: of the method.
        oracle: the problem, with the path and precision of its gradients.
        slots: runs that train together.
        place: the device.
        measured: seconds of a measurement by number of runs, which is the same for all methods.
        step: the compiled step of the method, if it has one.
    """
    from relaxbench.study.coordination.tpe import GENERATION
    from relaxbench.study.definition.spaces import typical
    from relaxbench.training import durations

    problem, rule = oracle.problem, spec.make_rule(label, oracle.problem)
    params, budget = typical(spec.search_of(label), problem), spec.budget_of(problem)
    times, rounds = {}, _rounds(problem, rule, budget)
    for count in {min(GENERATION, slots), slots}:
        if count not in measured:
            measured[count] = durations.measuring(oracle, count, place, "validation")
        training = durations.running(oracle, rule, budget, count, place, params, step)
        times[count] = training + rounds * measured[count]
    evaluation = rounds * measured[slots] / slots
    few, most = min(times), max(times)
    if few == most:
        return (0.0, times[most] / most, evaluation) if most == 1 else (times[most], 0.0, evaluation)
    run = max(0.0, (times[most] - times[few]) / (most - few))
    return max(0.0, times[few] - few * run), run, evaluation


def _rounds(problem: Problem, rule: Rule, budget: int) -> int:
    """The number of measurements on the validation split in a run of a rule."""
    return min(problem.rounds, math.ceil(budget / (rule.price * rule.replicas)))
