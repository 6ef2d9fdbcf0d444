"""Probe a problem and a rule: a few numbers that any change of their code changes, and no other machine does.

They are computed at seeded points in float64 and compared with a relative tolerance, never by a hash, because another
machine or number of threads adds in another order.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any, NamedTuple

import torch
from torch import Tensor

from relaxbench.optim.hyper import stack
from relaxbench.optim.rule import Rule
from relaxbench.problems import Batch, Problem, problem
from relaxbench.problems.seeding import torch_seeded
from relaxbench.space import Value
from relaxbench.training.oracle import Oracle
from relaxbench.training.population import Population
from relaxbench.training.trial import Job

Numbers = dict[str, list[float | None]]
"""Numbers of a probe by what they are; None for one that is not finite."""
Measure = Callable[[], list[Tensor]]
SEED = 20_000_003
EXAMPLES = 8
"""Examples of the mini-batch: enough for any layer, and few enough for a large network on one core."""
SCORED = 256
"""Validation examples on which a metric of the user's own is tried."""
SPREADS = (0.3, 3.0, 30.0)
"""Sizes by which outputs are disturbed: a loss or a metric may have a threshold anywhere."""
FACTORS = (3.0, 10.0)
"""Factors of all weights: a model may have a limit that its first weights do not reach."""
LONGEST = 160
"""Longest quotation of an error, in characters."""
OUTER_STEPS = 4
"""Outer steps of a rule: its schedules then run from their beginning to their end."""
PRECISIONS = ("float64", "mixed", "float32")
"""Of a probe, the finest first; "mixed" is a model in float64 with a loss that only takes float32."""
TOLERANCE = {"float64": 1e-6, "mixed": 1e-5, "float32": 1e-3}
"""Largest difference of equal numbers, relative to the larger one."""
FLOOR = {"float64": 1e-9, "mixed": 1e-7, "float32": 1e-5}
"""The same, relative to the largest number of its list: a gradient that vanishes is rounding noise."""


class Probe(NamedTuple):
    """What a probe gave.

    Attributes:
        precision: of its numbers.
        numbers: none where they cannot be computed, or differ from one time to the next.
        failure: why they cannot be computed, one line; else "".
    """

    precision: str
    numbers: Numbers
    failure: str = ""


def probe_problem(task: Problem, known: str | None = None) -> Probe:
    """Measure a problem at a seeded point: in float64 if its model can.

    Args:
        task: the problem; its data are here.
        known: the precision of the numbers with which it will be compared. None: there are none yet, so it is also
            checked which numbers can be repeated; the others are left out.

    Returns:
        of the initial weights and of every gradient the length of each tensor; the loss in training and in evaluation;
        see also `_further`.
    """
    for name in (known,) if known else PRECISIONS:
        probe = _repeatable(lambda name=name: _numbers_of(task, name, known is None), name, known is None)  # type: ignore[misc]
        if not probe.failure:
            break
    return probe


def probe_rule(rule: type[Rule], options: Mapping[str, Any], params: Mapping[str, Value], twice: bool) -> Probe:
    """Take a few outer steps of a rule on a quadratic in float64, and return where they lead."""
    kind: Any = rule
    return _probed(kind, tuple(sorted(options.items())), tuple(params.items()), twice)


@lru_cache(maxsize=256)
def _probed(rule: Any, options: tuple[Any, ...], params: tuple[Any, ...], twice: bool) -> Probe:
    """Probe a rule once per process: several methods may be one rule."""
    return _repeatable(lambda: _steps_of(rule(**dict(options)), dict(params)), "float64", twice)


def differs(was: list[float | None], now: list[float | None], precision: str) -> bool:
    """Return whether two lists of numbers are different beyond rounding."""
    if len(was) != len(now):
        return True
    largest = max((abs(number) for number in (*was, *now) if number is not None), default=0.0)
    for old, new in zip(was, now, strict=True):
        if old is None or new is None:
            if old is not new:
                return True
        elif abs(old - new) > TOLERANCE[precision] * max(abs(old), abs(new)) + FLOOR[precision] * largest:
            return True
    return False


def _repeatable(measure: Callable[[], Numbers], precision: str, twice: bool) -> Probe:
    """Return the numbers of a measurement; none at all if a second one differs, or if it fails."""
    numbers: list[Numbers] = []
    for _ in range(2 if twice else 1):
        with torch_seeded(SEED):
            try:
                numbers.append(measure())
            except Exception as error:  # what a model of a person, or a rule, raises may be of any kind
                reason = " ".join(str(error).split())[:LONGEST]
                return Probe(precision, {}, f"{type(error).__name__}: {reason}")
    first, last = numbers[0], numbers[-1]
    same = not any(differs(first[name], last.get(name, []), precision) for name in first)
    return Probe(precision, first if same else {})


def _numbers_of(task: Problem, precision: str, first: bool) -> Numbers:
    dtype = torch.float32 if precision == "float32" else torch.float64

    def loss_of(outputs: Tensor, batch: Batch) -> Tensor:
        return task.loss.value(outputs.float() if precision == "mixed" else outputs, batch)

    start = task.init(SEED).to(dtype)
    # Off the start, where whole layers may be zero: then no gradient would reach the others.
    wave = torch.sin(1.7 * torch.arange(len(start), dtype=torch.float64)).to(dtype)
    point = start + 0.05 * (0.1 + start.square().mean().sqrt()) * wave
    batch = _few(task)
    params = {name: value.detach().clone().requires_grad_() for name, value in task.unflatten(point).items()}
    loss = loss_of(task.outputs(params, {**batch}, True), batch)
    gradient = torch.autograd.grad(loss, list(params.values()), allow_unused=True, materialize_grads=True)
    batch = _few(task)  # anew: a model may write into its input

    def outputs_at(x: Tensor, of: Batch) -> Tensor:
        own = task.unflatten(x)
        return task.outputs({**own, **task.statistics(own, _few(task))}, {**of}, False)

    with torch.no_grad():
        outputs = outputs_at(point, batch)
        evaluated = loss_of(outputs, batch)
        numbers = {
            "start": _finite([value.norm() for value in task.unflatten(start).values()]),
            "training": _finite([loss]),
            "gradient": _finite([value.norm() for value in gradient]),
            "evaluation": _finite([evaluated]),
        }
        further = {
            "outside": lambda: [loss_of(_spread(outputs, size), batch) for size in SPREADS],
            "metric": lambda: _scores(task, lambda of: outputs_at(point, of)),
            "far": lambda: [loss_of(outputs_at(factor * point, _few(task)), batch) for factor in FACTORS],
        }
        if dtype == torch.float64:
            nudged = point * (1 + 1e-11 * wave)
            again = {"far": lambda: [loss_of(outputs_at(factor * nudged, _few(task)), batch) for factor in FACTORS]}
            numbers |= _further(further, again if first else {}, precision)
    return numbers


def _further(measures: Mapping[str, Measure], again: Mapping[str, Measure], precision: str) -> Numbers:
    """Look where the usual numbers do not: at outputs that are far off, at a metric of a user, at large weights.

    There a model may fail, or be so sensitive that another machine would differ: such numbers are left out.
    """
    numbers: Numbers = {}
    for name, measure in measures.items():
        with contextlib.suppress(Exception):  # what a model of a person raises may be of any kind
            found = _finite(measure())
            if name not in again or not differs(found, _finite(again[name]()), precision):
                numbers[name] = found
    return numbers


def _scores(task: Problem, outputs_on: Callable[[Batch], Tensor]) -> list[Tensor]:
    """Return what a metric of a user gives for outputs on validation data, and for outputs that are disturbed."""
    batch = task.part("validation", slice(0, SCORED), torch.device("cpu"))
    outputs = outputs_on(batch).float()
    scores = [task.score(each, batch) for each in (outputs, *(_spread(outputs, size) for size in SPREADS))]
    return [torch.tensor(score, dtype=torch.float64) for score in scores if score is not None]


def _spread(outputs: Tensor, size: float) -> Tensor:
    """Disturb outputs by numbers of a size, which are the same for all models."""
    wave = torch.sin(2.3 * torch.arange(outputs.numel(), dtype=torch.float64)).to(outputs.dtype)
    return outputs + size * wave.view_as(outputs)


def _few(task: Problem) -> Batch:
    """Return the first examples of the first mini-batch."""
    sampler = task.sampler([SEED], [0], 1, torch.device("cpu"))
    batch = {name: value[0] for name, value in sampler.batch(torch.zeros(1, 1, dtype=torch.int64)).items()}
    whole = task.batch_size
    return {name: value[:EXAMPLES] if value.dim() and len(value) == whole else value for name, value in batch.items()}


def _steps_of(rule: Rule, params: dict[str, Value]) -> Numbers:
    period = int(rule.period(stack([params], torch.device("cpu"), torch.float64))[0, 0])
    steps = OUTER_STEPS * period
    budget = round(steps * rule.price * rule.replicas + 0.5)
    population = Population(Oracle(problem("quadratic-noisy"), "direct"), rule, budget, dtype=torch.float64)
    population.admit([Job(0, SEED, params)])
    _, losses, _ = population.advance(steps)
    numbers = {"losses": _finite([losses[0, 0]]), "point": _finite(list(rule.iterate(population.state)[0]))}
    further = rule.fingerprint(params)
    return {**numbers, "further": _finite(further)} if further else numbers


def _finite(values: list[Tensor]) -> list[float | None]:
    return [float(value) if bool(torch.isfinite(value)) else None for value in (each.detach() for each in values)]
