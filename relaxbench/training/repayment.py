"""Choose the compiled path where a study is long enough to repay it, and say why, or why not.

The rule: steps are compiled where this shortens the training of every worker by at least `CLEARLY` times the seconds
that compiling takes, all steps once to make them and once more in a worker that loads them. One step, that of the
baseline, is compiled to measure both; not even that happens where the training is short. Of the other methods, those
whose compiled steps turn out slower than plain ones keep plain ones.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch

from relaxbench.optim.rule import Rule
from relaxbench.problems import Problem
from relaxbench.training.compilation import compiled_step, first_line, kind_of
from relaxbench.training.compiled import CompiledStep, UnfitError
from relaxbench.training.compilers import why_not_here
from relaxbench.training.engine import PAIRS, Engine, Repayment, compiled_size, throughput
from relaxbench.training.oracle import Oracle
from relaxbench.training.precision import Precision
from relaxbench.util.text import counted, duration

CLEARLY = 3.0
"""The least ratio of the seconds that are saved to those that compiling takes."""
LONG = 120.0
"""Seconds of a worker's training, per step that would be compiled and one more, below which nothing is compiled to find
out: a step takes 10 to 40 s."""


@dataclass(frozen=True)
class Work:
    """What is to be trained on a problem.

    Attributes:
        gradients: of all trials that are certain, in gradient equivalents.
        workers: processes that share them.
        shared: whether other machines may join, whose compilers may differ.
        ready: trials that are ready together; None: any number.
    """

    gradients: float
    workers: int
    shared: bool
    ready: int | None = None


def repaid(
    problem: Problem,
    engine: Engine,
    rules: Sequence[Rule],
    work: Work,
    population: int | None = None,
    compiling: Callable[[], object] = lambda: None,
) -> Engine:
    """Return the engine of a problem with the path that repays: the given one, or the compiled one in its place.

    Whatever goes wrong while the first step is made, the given engine stays. Where the question arises, the engine
    then has the answer in `repayment`.

    Args:
        problem: what is trained.
        engine: as chosen between the other paths.
        rules: of the study's methods, that of the baseline first.
        work: what is to be trained.
        population: K that a person asks for.
        compiling: called before a step is compiled.
    """
    if engine.path != "vectorized" or engine.device != "cpu" or not engine.rate or not rules:
        return engine
    training = work.gradients / engine.rate / work.workers
    kinds = len({kind_of(rule) for rule in rules if rule.capturable})
    if training < LONG * (1 + kinds):
        return replace(engine, repayment=Repayment("", training))
    reason = why_not_here(torch.device("cpu"))
    if work.shared:
        reason = "workers on other machines may join, with other compilers; --path compiled asks for it"
    if reason is None:
        compiling()
        try:
            size = population or compiled_size(problem, torch.device("cpu"), engine.precision, rules, work.ready)
            return _measured(problem, engine, rules, training, kinds, size)
        except Exception as error:  # of a compiler, of a user's model, or of memory
            reason = str(error) if isinstance(error, (UnfitError, UnrepaidError)) else first_line(error)
    return replace(engine, repayment=Repayment(reason, training))


class UnrepaidError(Exception):
    """Raised where steps are not to be compiled; the message says why."""


def _measured(
    problem: Problem,
    engine: Engine,
    rules: Sequence[Rule],
    training: float,
    kinds: int,
    size: int | None,
) -> Engine:
    """Compile the step of the baseline, compare the paths in turn, and return the engine that the rule chooses."""
    baseline = rules[0]
    if size is None:
        raise UnrepaidError("a population would not fit into memory")
    step = compiled_step(problem, baseline, size, engine.precision)
    if step.note:  # every worker would compile everything anew
        raise UnrepaidError(step.note)
    gain = gain_of(step, problem, baseline, engine.precision, engine.population, size)
    compilation = 2 * kinds * step.seconds
    estimate = (
        f"{duration(training)} of training in every worker would take {duration(training / gain)} "
        f"compiled ({gain:.1f} ×), and compiling {counted(kinds, 'step')} about {duration(compilation)}"
    )
    repays = training * (1 - 1 / gain) >= CLEARLY * compilation
    reason = f"{'that repays' if repays else 'that would not clearly repay'}: {estimate}"
    found = replace(engine, repayment=Repayment(reason, training, gain, compilation))
    return replace(found, path="compiled", population=size) if repays else found


def gain_of(step: CompiledStep, problem: Problem, rule: Rule, precision: Precision, plain: int, size: int) -> float:
    """Measure how many times as fast compiled steps are as plain ones, the median of alternating measurements.

    Args:
        step: the compiled step of this rule on this problem.
        problem: what is trained.
        rule: the mathematics of the method.
        precision: see `precision.PRECISIONS`.
        plain, size: K of the plain and of the compiled population.
    """
    oracle, device, ratios = Oracle(problem, "vectorized", precision), torch.device("cpu"), list[float]()
    for _ in range(PAIRS):
        rate = throughput(oracle, rule, plain, device)
        ratios.append(throughput(oracle, rule, size, device, compiled=step) / rate)
    return statistics.median(ratios)
