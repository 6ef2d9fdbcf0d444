"""Probe a problem: a few numbers that any change of its code changes, and no other machine does.

They are computed at a seeded point in float64 and compared with a relative tolerance, never by a hash, because another
machine or number of threads adds in another order.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from relaxbench.problems import Batch, Problem, SupervisedProblem
from relaxbench.problems.losses import is_built_in
from relaxbench.problems.seeding import torch_seeded
from relaxbench.study.definition import score_probes, telling
from relaxbench.study.definition.lifted import lifted
from relaxbench.study.definition.telling import SEED, few

Numbers = dict[str, list[float | None]]
"""Numbers of a probe by what they are; None for one that is not finite."""
Measure = Callable[[], list[Tensor]]
SPREADS = (0.3, 3.0, 30.0)
"""Sizes by which outputs are disturbed: a loss or a metric may have a threshold anywhere."""
BEYOND = 3000.0
"""Size of a disturbance of outputs that no limit of a loss or a metric is meant for."""
FACTORS = (3.0, 10.0)
"""Factors of all weights: a model may have a limit that its first weights do not reach."""
VAST = 1e4
"""Factor of all weights that a trial only has when it diverges."""
LONGEST = 160
"""Longest quotation of an error, in characters."""
LARGER_INPUTS = 3.0
"""Factor of inputs: a forward pass may have a limit that these examples do not reach."""
PRECISIONS = ("float64", "lifted", "mixed", "float32")
"""Of a probe, the finest first; "lifted" is a model that converts to float32, which is then float64; "mixed" is a model
in float64 with a loss that only takes float32."""
TOLERANCE = {"float64": 1e-6, "lifted": 1e-5, "mixed": 1e-5, "float32": 1e-3, "trained": 1e-4}
"""Largest difference of equal numbers, relative to the larger one."""
FLOOR = {"float64": 1e-9, "lifted": 1e-7, "mixed": 1e-7, "float32": 1e-5, "trained": 1e-5}
"""The same, relative to the largest number of its list: a gradient that vanishes is rounding noise."""
COARSER = {
    **{
        "metric": "float32",
        "pieces": "float32",
        "answers": "float32",
        "batches": "mixed",
        "data": "mixed",
        "beyond": "mixed",
    },
    "as trained": "trained",
}
"""Numbers that are computed in a coarser precision than the others."""


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
        see also `_measures`.
    """
    for name in (known,) if known else PRECISIONS:
        probe = repeatable(lambda name=name: _numbers_of(task, name, known is None), name, known is None)  # type: ignore[misc]
        if not probe.failure:
            break
    return probe


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


def repeatable(measure: Callable[[], Numbers], precision: str, twice: bool) -> Probe:
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
    start = task.init(SEED).to(dtype)
    # Off the start, where whole layers may be zero: then no gradient would reach the others.
    wave = torch.sin(1.7 * torch.arange(len(start), dtype=torch.float64)).to(dtype)
    point = start + 0.05 * (0.1 + start.square().mean().sqrt()) * wave
    task.layout()  # builds the model, which is to have its own types
    with lifted() if precision == "lifted" else contextlib.nullcontext():
        numbers = {
            "start": finite([value.norm() for value in task.unflatten(start).values()]),
            **_at(task, precision, point),
        }
        nudged = point * (1 + (1e-7 if dtype == torch.float32 else 1e-11) * wave)
        with torch.no_grad():
            numbers |= _further(_measures(task, precision, point), first, _measures(task, precision, nudged), precision)
    with torch.no_grad():
        own, shaken = ({"as trained": _as_trained(task, at)} for at in (point, point * (1 + 1e-6 * wave)))
        numbers |= _further(own, first, shaken, precision)
    return numbers


def _loss_of(task: Problem, precision: str, outputs: Tensor, batch: Batch) -> Tensor:
    return task.loss.value(outputs.float() if precision == "mixed" else outputs, batch)


def _as_trained(task: Problem, point: Tensor) -> Measure:
    """Return outputs and loss of a whole mini-batch in training, in the type of the parameters of trials."""

    def measure() -> list[Tensor]:
        batch = telling.whole(task)
        outputs = task.outputs(task.unflatten(point.to(task.dtype)), {**batch}, True)
        return [task.loss.value(outputs, batch), outputs.norm(), telling.weighted(outputs)]

    return measure


def _at(task: Problem, precision: str, point: Tensor) -> Numbers:
    """Return the loss in training and in evaluation, and the length of every gradient."""
    batch = few(task)
    params = {name: value.detach().clone().requires_grad_() for name, value in task.unflatten(point).items()}
    loss = _loss_of(task, precision, task.outputs(params, {**batch}, True), batch)
    gradient = torch.autograd.grad(loss, list(params.values()), allow_unused=True, materialize_grads=True)
    batch = few(task)  # anew: a model may write into its input
    with torch.no_grad():
        evaluated = _loss_of(task, precision, _outputs(task, point, batch), batch)
    return {
        "training": finite([loss]),
        "gradient": finite([value.norm() for value in gradient]),
        "evaluation": finite([evaluated]),
    }


def _outputs(task: Problem, point: Tensor, batch: Batch) -> Tensor:
    """Return the outputs in evaluation, with statistics of the first mini-batch."""
    own = task.unflatten(point)
    return task.outputs({**own, **task.statistics(own, few(task))}, {**batch}, False)


def _measures(task: Problem, precision: str, point: Tensor) -> dict[str, Measure]:
    """Return what is measured where the usual numbers do not look, by its name."""

    def loss(batch: Batch, at: Tensor = point) -> Tensor:
        return _loss_of(task, precision, _outputs(task, at, batch), batch)

    def outside() -> list[Tensor]:
        batch = few(task)
        outputs = _outputs(task, point, batch)
        return [_loss_of(task, precision, _spread(outputs, size), batch) for size in SPREADS]

    def scores() -> list[Tensor]:
        batch = telling.held_out(task)
        outputs = _outputs(task, point, batch).float()
        found = [task.score(each, batch) for each in (outputs, *(_spread(outputs, size) for size in SPREADS))]
        at = task.metric_at(task.unflatten(point), batch)
        own = [] if at is None else [at]
        return [*own, *(torch.tensor(score, dtype=torch.float64) for score in found if score is not None)]

    def on_pieces() -> list[Tensor]:
        batch = telling.held_out(task)
        return score_probes.scores(task, _outputs(task, point, batch).float(), batch)

    def nearly_right() -> list[Tensor]:
        if is_built_in(task.loss):
            return []  # named losses are what they are everywhere
        batch = few(task)
        outputs = _outputs(task, point, batch)
        return score_probes.nearly_right(lambda at, part: _loss_of(task, precision, at, part), outputs, batch)

    def answers() -> list[Tensor]:
        if type(task).correct in (Problem.correct, SupervisedProblem.correct):
            return []  # right answers are what they are everywhere
        batch = telling.held_out(task)
        outputs = _outputs(task, point, batch)
        found = [task.correct(each, batch) for each in (outputs, _spread(outputs, SPREADS[1]))]
        return [task.share_correct(each[None], batch)[0] for each in found if each is not None]

    def larger() -> list[Tensor]:
        batch = few(task)
        if "x" in batch and batch["x"].is_floating_point():
            batch["x"] = LARGER_INPUTS * batch["x"]
        return [loss(batch)]

    def beyond() -> list[Tensor]:
        batch, examples = few(task), telling.held_out(task)
        found = task.score(_spread(_outputs(task, point, examples).float(), BEYOND), examples)
        own = [] if found is None else [torch.tensor(found, dtype=torch.float64)]
        return [*own, _loss_of(task, precision, _spread(_outputs(task, point, batch), BEYOND), batch)]

    return {
        "outside": outside,
        "beyond": beyond,
        "vast": lambda: [loss(few(task), VAST * point)],
        "undefined": lambda: [loss(few(task), torch.nan * point)],
        "metric": scores,
        "pieces": on_pieces,
        "right": nearly_right,
        "far": lambda: [loss(few(task), factor * point) for factor in FACTORS],
        "held out": lambda: [loss(telling.held_out(task))],
        "rare": lambda: [loss(telling.rare(task))],
        "inputs": larger,
        "answers": answers,
        "batches": lambda: telling.sums_of_batches(task),
        "data": lambda: telling.sums_of_splits(task),
    }


SENSITIVE = ("far", "held out", "rare", "inputs", "vast", "as trained", "right")
"""Numbers that are compared only where a nudge does not change them: there another machine would differ as well."""


def _further(measures: Mapping[str, Measure], first: bool, nudged: Mapping[str, Measure], precision: str) -> Numbers:
    """Measure what a problem can; a model may fail there, and then that number is left out."""
    numbers: Numbers = {}
    for name, measure in measures.items():
        with contextlib.suppress(Exception):  # what a model of a person raises may be of any kind
            found = finite(measure())
            own = COARSER.get(name, precision)
            if not first or name not in SENSITIVE or not differs(found, finite(nudged[name]()), own):
                numbers[name] = found
    return numbers


def _spread(outputs: Tensor, size: float) -> Tensor:
    """Disturb outputs by numbers of a size, which are the same for all models."""
    wave = torch.sin(2.3 * torch.arange(outputs.numel(), dtype=torch.float64)).to(outputs.dtype)
    return outputs + size * wave.view_as(outputs)


def finite(values: list[Tensor]) -> list[float | None]:
    """Return tensors as numbers, None for one that is not finite."""
    return [float(value) if bool(torch.isfinite(value)) else None for value in (each.detach() for each in values)]
