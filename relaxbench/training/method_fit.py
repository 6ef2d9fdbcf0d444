"""Try one step of a method on a problem before a study begins: CurveBall needs forward mode, which some layers lack."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator

import torch
from torch.autograd import forward_ad
from torch.func import functional_call

from relaxbench.optim.hyper import defaults
from relaxbench.optim.rule import Rule
from relaxbench.problems import Problem, SupervisedProblem
from relaxbench.training.compatibility import inputs_of_layers, why_not_vectorized
from relaxbench.training.ensemble import Ensemble
from relaxbench.training.oracle import Oracle, Path

SAME = 1e-4
"""Relative difference of gradients up to which their mini-batches count as one and the same."""


def why_unfit(problem: Problem, rule: Rule, vectorizes: bool | None = None) -> str | None:
    """Take one step of a rule on a problem, on every path on which a study could train it.

    Args:
        problem: what would be trained.
        rule: the mathematics of the method.
        vectorizes: whether the problem does, see `why_not_vectorized`; None: it is tried where it matters.

    Returns:
        None if that works, else the reason in one line, with the layer that fails and the remedy.
    """
    unfit = rule.unfit([shape for _, shape in problem.layout()])
    if unfit:
        return unfit
    try:
        one_batch = not rule.compares_losses or has_one_batch(problem)
    except Exception as error:  # a model may raise any kind
        return _reason(problem, rule, error)
    if not one_batch:
        return (
            "it compares losses of different steps, which must be of the same examples, and each step has others: "
            "give the problem fixed points, or all its data as one mini-batch"
        )
    paths: list[Path] = ["direct"]
    if rule.curvature and (why_not_vectorized(problem) is None if vectorizes is None else vectorizes):
        paths.append("vectorized")
    with torch.random.fork_rng(devices=[]):
        for path in paths:
            try:
                start = problem.init(0)[None]
                Ensemble(Oracle(problem, path), rule, start, [0], 1, defaults(rule.wide)).step()
            except Exception as error:  # a model may raise any kind
                return _reason(problem, rule, error)
    return None


def has_one_batch(problem: Problem) -> bool:
    """Return whether all mini-batches of a member give the same loss and gradient, but for rounding."""
    points, oracle = problem.init(0)[None], Oracle(problem, "direct")
    sampler = problem.sampler([0], [0], 2, torch.device("cpu"))
    with torch.random.fork_rng(devices=[]):
        first, second = (oracle.gradient_on(points, sampler.batch(torch.tensor([[number]]))) for number in (0, 1))
    return all(
        torch.allclose(one, other, rtol=SAME, atol=SAME * float(one.abs().max()))
        for one, other in zip(first, second, strict=True)
    )


def _reason(problem: Problem, rule: Rule, error: Exception) -> str:
    line = _first_line(error)
    if not rule.curvature:
        return f"{type(error).__name__}: {line}"
    layer = _failing_layer(problem, line) or "the model"
    return (
        f"{layer} has no derivative in forward mode ({type(error).__name__}: {line[:120]}); write that layer with "
        "plain operations, or torch.func.grad for derivatives within the model"
    )


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), "")


def _failing_layer(problem: Problem, line: str) -> str | None:
    """Find the smallest layer that fails in forward mode with the same message, as ``layer '3' (LSTM)``."""
    if not isinstance(problem, SupervisedProblem):
        return None
    names = {module: name for name, module in problem.model.named_modules()}
    for module, inputs in inputs_of_layers(problem).items():
        try:
            with _quiet_forward_mode(), torch.no_grad():
                params = {n: _dual(p.detach()) for n, p in module.named_parameters()}
                duals = (_dual(x) if isinstance(x, torch.Tensor) and x.is_floating_point() else x for x in inputs)
                functional_call(module, params, tuple(duals))
        except Exception as error:
            if _first_line(error) == line:
                name = f"layer {names[module]!r}" if names[module] else "the model"
                return f"{name} ({type(module).__name__})"
    return None


@contextlib.contextmanager
def _quiet_forward_mode() -> Iterator[None]:
    with warnings.catch_warnings(), forward_ad.dual_level():
        warnings.simplefilter("ignore")
        yield


def _dual(value: torch.Tensor) -> torch.Tensor:
    dual: torch.Tensor = forward_ad.make_dual(value, torch.ones_like(value))  # type: ignore[no-untyped-call]
    return dual
