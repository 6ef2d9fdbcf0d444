"""Record, compile and check the step of a population; say why where that is not possible.

The step is recorded by `make_fx` and compiled by PyTorch's inductor, whose cache on disk makes this cheap for the next
process. Before a compiled step is used, it is compared with the plain one, and with itself where every member is in
another slot: only one that is the same in any slot, bit for bit, is used.
"""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from relaxbench.optim import hyper as declared
from relaxbench.optim.rule import Rule
from relaxbench.problems import Problem
from relaxbench.recording import recorded as being_recorded
from relaxbench.space import Choice, Int, Value
from relaxbench.training.compiled import CompiledStep, Function, Lifted, Recorded, UnfitError
from relaxbench.training.compilers import NoCompilerError, fresh_cache, quiet, why_not_here
from relaxbench.training.oracle import Oracle
from relaxbench.training.population import Population
from relaxbench.training.precision import REDUCED, Precision
from relaxbench.training.trial import Job

STEPS = 3
"""Steps of a stretch in a check; there are two stretches."""
ALIKE = 1e-2
"""A compiled step may differ from the plain one by this share of the change, as a ReLU at its kink makes it differ;
ten times as much with products of fewer bits."""
_made: dict[tuple[Any, ...], tuple[Problem, CompiledStep | UnfitError]] = {}
"""Steps of this process, and why there is none; the problem is kept because its id is in the key."""


def compiled_step(problem: Problem, rule: Rule, size: int, precision: Precision = "float32") -> CompiledStep:
    """Return the compiled step of a rule on a problem, which this process makes once.

    Args:
        problem: what is trained.
        rule: the mathematics of the method.
        size: K.
        precision: see `precision.PRECISIONS`.

    Raises:
        UnfitError: if the step cannot be recorded or compiled, or if the compiled step is not the plain one.
        NoCompilerError: if nothing can be compiled here.
    """
    key = (id(problem), *kind_of(rule), size, precision, torch.get_num_threads())
    if key not in _made:
        if reason := why_not_here(torch.device("cpu")):
            raise NoCompilerError(reason)
        try:
            made: CompiledStep | UnfitError = _make(problem, rule, size, precision)
        except UnfitError as error:
            made = error
        _made[key] = problem, made
    step = _made[key][1]
    if isinstance(step, UnfitError):
        raise step
    return step


def kind_of(rule: Rule) -> tuple[type[Rule], str]:
    """Return what makes the step of one rule another than that of the next: its class and its options."""
    return type(rule), repr(sorted((name, repr(value)) for name, value in vars(rule).items()))


def record(
    problem: Problem, rule: Rule, size: int, precision: Precision = "float32"
) -> tuple[Recorded, torch.fx.GraphModule, list[Tensor]]:
    """Record a step of a rule on a problem.

    Returns:
        the layout of its arguments; the recording; arguments of the first step.

    Raises:
        UnfitError: if the step depends on numbers that it reads, on a sampler's or a rule's own code, or on a device.
    """
    from torch.fx.experimental.proxy_tensor import make_fx

    if not rule.capturable:
        raise UnfitError("its step cannot be recorded (the rule reads numbers, or is another package's optimizer)")
    with quiet(), being_recorded():
        try:
            members = _members(problem, rule, size, precision)
            table = members.schedule([0] * size, STEPS)
            layout = Recorded(problem, rule, size, tuple(members.state), tuple(sorted(table)), None)
            sampler = layout.sampler(range(size), [0] * size, members.device)
            layout = replace(layout, fixed=sampler.fixed)
            arguments = _arguments(layout, members, table, sampler)
            layout.take(members.oracle, sampler, _copies(layout, arguments))  # tables that are computed once

            def step(*tensors: Tensor) -> None:
                layout.take(members.oracle, sampler, tensors)

            graph = make_fx(step)(*_copies(layout, arguments))
        except Exception as error:  # of code that reads numbers, has no operation of its own, or is a user's
            raise UnfitError(f"its step cannot be recorded ({first_line(error)})") from error
    return layout, graph, arguments


def _make(problem: Problem, rule: Rule, size: int, precision: Precision) -> CompiledStep:
    begin = time.perf_counter()
    layout, graph, arguments = record(problem, rule, size, precision)
    note = ""
    try:
        step = _checked(CompiledStep(layout, _compile(graph, arguments)), precision)
    except Exception as error:
        # A cache that is half written, or that cannot be read or written, fails in many ways: once more without it.
        failure: Exception | None = None
        with fresh_cache() as folder:
            try:
                step = _checked(CompiledStep(layout, _compile(graph, arguments)), precision)
            except Exception as again:
                failure = again
        if failure is not None:
            unfit = isinstance(failure, UnfitError)
            raise UnfitError(
                str(failure) if unfit else f"its step cannot be compiled ({first_line(failure)})"
            ) from failure
        note = f"compiled without the cache in {folder}, which failed ({first_line(error)}): delete that folder"
    return replace(step, seconds=time.perf_counter() - begin, note=note)


def _compile(graph: torch.fx.GraphModule, arguments: Sequence[Tensor]) -> Function:
    from torch._inductor import config
    from torch._inductor.compile_fx import compile_fx

    with (
        quiet(),
        torch.no_grad(),
        config.patch({"compile_threads": 1, "cpp.threads": torch.get_num_threads()}),
    ):
        compiled: Any = compile_fx(graph, list(arguments))
    return lambda tensors: compiled(*tensors)


def _members(problem: Problem, rule: Rule, size: int, precision: Precision) -> Population:
    """Make members of different seeds, with choices and short inner loops that differ too."""

    def value(spread: object, default: Value, k: int) -> Value:
        if isinstance(spread, Choice):
            return spread.options[k % len(spread.options)]
        return 2 + k % 3 if isinstance(spread, Int) else default

    own = {n: math.sqrt(low * high) for n, (low, high) in problem.space.items()} | dict(problem.fixed)

    members = Population(Oracle(problem, "vectorized", precision), rule, budget=10**9)
    defaults = {n: own.get(n, default) for n, default in declared.defaults(rule.wide).items()}
    params = [{n: value(rule.wide[n], default, k) for n, default in defaults.items()} for k in range(size)]
    members.admit([Job(k, k, params[k]) for k in range(size)])
    return members


def _arguments(layout: Recorded, members: Population, table: dict[str, Tensor], sampler: Lifted) -> list[Tensor]:
    counts = torch.full((layout.size, 1), STEPS)
    now = layout.pack(table, counts, STEPS, torch.arange(layout.size))
    state = [members.state[name].clone() for name in layout.state]
    return [*state, now[0].clone(), now.new_zeros(layout.size, 1), *sampler.tensors]


def _copies(layout: Recorded, arguments: Sequence[Tensor]) -> list[Tensor]:
    """Copy the arguments that a step changes: state and losses."""
    changed = len(layout.state) + 2
    return [*(value.clone() for value in arguments[:changed]), *arguments[changed:]]


def _checked(step: CompiledStep, precision: Precision) -> CompiledStep:
    """Compare a compiled step with the plain one and, with its members in other slots, with itself.

    Raises:
        UnfitError: if they differ.
    """
    layout = step.recorded
    with being_recorded():
        members = _members(layout.problem, layout.rule, layout.size, precision)
    last = layout.size - 1
    every = list(range(layout.size))
    _stretches(step, members, every, precision)
    found = _stretches(step, members, every, None)
    others = (every[::-1], [last, *every[:-1]], [last // 2], [last])
    for slots in dict.fromkeys(map(tuple, others)):
        moved = _stretches(step, members, list(slots), None)
        for name, value in found.items():
            if not torch.allclose(value[list(slots)], moved[name], rtol=0, atol=0, equal_nan=True):
                worst = (value[list(slots)].double() - moved[name].double()).abs().max()
                raise UnfitError(f"its compiled step depends on the slot (by {worst:.0e} in {name})")
    digest = hashlib.sha256()
    for name in sorted(found):
        digest.update(found[name].contiguous().numpy().tobytes())
    return replace(step, digest=digest.hexdigest()[:16])


def _stretches(
    step: CompiledStep, members: Population, slots: list[int], precision: Precision | None
) -> dict[str, Tensor]:
    """Take two stretches of steps with some of the members, in these slots; return their state and losses.

    Args:
        step: the compiled step.
        members: of `_members`.
        slots: which of them.
        precision: of the plain step with which each step is compared; None for no comparison.
    """
    layout, device = step.recorded, members.device
    state = {name: value[slots].clone() for name, value in members.state.items()}
    sums = []
    counts = torch.full((len(slots), 1), STEPS)
    for stretch in range(2):
        first = [layout.rule.first_batch(stretch * STEPS)] * len(slots)
        sampler = layout.sampler(slots, first, device)
        with being_recorded():
            table = {n: v[..., slots, :] for n, v in members.schedule([stretch * STEPS] * layout.size, STEPS).items()}
        for index in range(STEPS if precision else 1):
            span = slice(index, index + 1) if precision else slice(None)
            part = {n: v[span] if v.dim() == 3 else v for n, v in table.items()}
            before = {name: value.clone() for name, value in state.items()}
            taken = 1 if precision else STEPS
            state, losses = step.run(state, part, counts.clamp(max=taken), taken, sampler)
            sums.append(losses)
            if precision:
                _compare(layout, members, (before, part, sampler), (state, losses), precision)
    return {**state, "losses": torch.cat(sums, dim=1)}


def _compare(
    layout: Recorded,
    members: Population,
    start: tuple[dict[str, Tensor], dict[str, Tensor], Lifted],
    end: tuple[dict[str, Tensor], Tensor],
    precision: Precision,
) -> None:
    """Compare one compiled step with the plain one from the same state."""
    (before, table, sampler), (after, losses) = start, end
    oracle = Oracle(layout.problem, "vectorized", precision)
    oracle.sampler = sampler.sampler
    now = {name: value[0] if value.dim() == 3 else value for name, value in table.items()}
    plain, loss = layout.rule.step({name: value.clone() for name, value in before.items()}, oracle, now)
    expected = {**plain, "losses": loss.mean(dim=1, keepdim=True) if layout.rule.replicas > 1 else loss}
    start_of = {**before, "losses": torch.zeros_like(losses)}
    for name, value in {**after, "losses": losses}.items():
        if not value.is_floating_point():
            alike = torch.equal(value, expected[name])
        else:
            finite = torch.isfinite(expected[name])
            old, new, own = (torch.where(finite, v, 0).double() for v in (start_of[name], expected[name], value))
            share = ALIKE * (10 if precision in REDUCED else 1)
            allowed = share * (new - old).norm() + 1e-6 * old.norm()
            alike = torch.equal(finite, torch.isfinite(value)) and bool((own - new).norm() <= allowed)
        if not alike:
            raise UnfitError(f"its compiled step gives other numbers than the plain one (in {name!r})")


def first_line(error: BaseException) -> str:
    """Return the kind of an error and the first line of its message."""
    line = next((line.strip() for line in str(error).splitlines() if line.strip()), "")
    return f"{type(error).__name__}: {line[:160]}" if line else type(error).__name__
