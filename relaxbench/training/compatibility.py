"""Test a problem before it is trained: does it train at all, does it vectorize, are its gradients independent of K?"""

from __future__ import annotations

import contextlib
import warnings
from typing import Any

import torch
from torch import Tensor, nn, vmap

from relaxbench.errors import UserError
from relaxbench.problems import Problem, SupervisedProblem
from relaxbench.problems.unsupported import mixed_types
from relaxbench.training.draws import where_drawn
from relaxbench.training.faithful import refuse_another_model, refuse_one_start
from relaxbench.training.hidden_state import refuse_hidden_state
from relaxbench.training.oracle import Oracle
from relaxbench.training.precision import Precision, dtype_for
from relaxbench.training.scoring import (
    refuse_broadcast,
    refuse_metric_beyond_worst,
    refuse_negative_metric,
    refuse_random_metric,
    refuse_sum,
)
from relaxbench.util.text import counted

VMAP_ERRORS = (RuntimeError, NotImplementedError, ValueError, IndexError, TypeError)
"""The errors that `vmap` raises for a model that it cannot vectorize."""
CONSTANT = "make the loss depend on the parameters of the model"


def try_out(problem: Problem, precision: Precision = "float32") -> None:
    """Compute one gradient and measure the initial weights: an error here would occur in every trial.

    Raises:
        UserError: if the model, data or loss raise an error, which the message quotes; if a gradient draws from torch's
            generator, whose numbers are not a function of a trial's seed; if the initial loss or metric is not finite,
            the metric negative, or the gradient zero; for a metric that draws, a loss that is a sum, and whatever
            `refuse_hidden_state` and `refuse_another_model` find.
    """
    generator = torch.get_rng_state()
    try:
        problem.check()
        points = problem.init(0)[None].to(dtype_for(problem, precision))
        if isinstance(problem, SupervisedProblem):
            _refuse_spoilt_examples(problem, points)
            refuse_broadcast(problem, points)
        batch = problem.sampler([0], [0], 1, torch.device("cpu")).batch(torch.zeros(1, 1, dtype=torch.int64))
        oracle = Oracle(problem, "direct", precision)
        grad, loss = oracle.gradient_on(points, batch)
        if not torch.equal(generator, torch.get_rng_state()):
            place = where_drawn(problem, lambda: oracle.gradient_on(points, batch))
            raise UserError(
                f"problem {problem.name!r} draws random numbers from torch's generator when it is trained{place}"
            )
        held_out = oracle.measure(points, "validation")
        for split, value in (("training", loss), ("validation", held_out.loss)):
            if not bool(torch.isfinite(value).all()):
                raise UserError(
                    f"problem {problem.name!r} has a {split} loss of {value.item():g} at its initial weights: look for "
                    "NaN or infinity in its data, and for a model that divides by zero"
                )
        if not bool(torch.isfinite(held_out.metric).all()):
            metric, number = problem.metric.removeprefix("test "), held_out.metric.item()
            raise UserError(
                f"problem {problem.name!r}: {metric!r} is {number:g} on the validation data at the initial weights: "
                "expected a finite number; the labels may be all of one class"
            )
        refuse_negative_metric(problem, held_out.metric.item())
        refuse_metric_beyond_worst(problem, held_out.metric.item())
        if not grad.any():
            raise UserError(
                f"problem {problem.name!r}: the gradient of the loss is exactly zero at the initial weights: {CONSTANT}"
            )
        refuse_one_start(problem)
        refuse_hidden_state(problem, points, batch)
        refuse_another_model(problem, batch)
        refuse_random_metric(problem, points)
        refuse_sum(problem, points)
        if isinstance(problem, SupervisedProblem):
            _try_test_inputs(problem)
    except UserError:
        raise
    except Exception as error:
        reason = next(iter(str(error).splitlines()), "")
        raise UserError(
            f"problem {problem.name!r} fails on a mini-batch ({type(error).__name__}: {reason}): "
            f"{_remedy(problem, reason)}"
        ) from error


def _remedy(problem: Problem, reason: str) -> str:
    """Say what to do about an error of a model, data or loss."""
    if "does not require grad" in reason or "requires_grad_" in reason:  # measurements take no gradients
        return f"{CONSTANT}; for derivatives within it use torch.func.grad or torch.func.vjp, not torch.autograd.grad"
    if "is not an nn.Parameter" in reason:  # so says get_parameter
        return "a trial's parameters are tensors: read them as attributes, as self.layer.weight, not by get_parameter"
    if "type" in reason and isinstance(problem, SupervisedProblem):
        with contextlib.suppress(Exception):  # the model function itself may have failed
            if mixed := mixed_types(problem.model):
                return f"the types of its parameters differ ({mixed}), and a study trains all in one: use model.float()"
    return "make its model, data and loss fit together"


@torch.no_grad()
def _refuse_spoilt_examples(problem: SupervisedProblem, points: Tensor) -> None:
    """Refuse training examples that hold NaN or infinity, unless the model makes a finite loss of them.

    One of a thousand spoils every trial, some mini-batches after its start.
    """
    x = problem.tensors["train"][0] if "train" in problem.tensors else torch.empty(0)
    if not x.is_floating_point() or not x.numel():
        return
    spoilt = torch.nonzero(~torch.isfinite(x).reshape(len(x), -1).all(dim=1))[:, 0]
    if not len(spoilt):
        return
    batch = problem.part("train", spoilt[: problem.batch_size], points.device)
    loss = problem.loss.value(problem.outputs(problem.unflatten(points[0]), batch, False), batch)
    if not bool(torch.isfinite(loss)):
        raise UserError(
            f"problem {problem.name!r}: the inputs of {counted(len(spoilt), 'training example')} hold NaN or infinity "
            f"(the first is number {int(spoilt[0]):,}, counted from 0), and so does the loss: replace the values, or "
            "leave the examples out"
        )


def _try_test_inputs(problem: SupervisedProblem) -> None:
    """Run the model on a few test inputs: a wrong shape there would end the study when all trials are done."""
    first, device = slice(0, problem.batch_size), torch.device("cpu")
    batch = {name: value.clone() for name, value in problem.part("test", first, device).items()}
    try:
        with torch.no_grad():
            problem.outputs(problem.unflatten(problem.init(0)), batch, False)
    except RuntimeError as error:
        shapes = {split: tuple(problem.part(split, slice(0, 1), device)["x"].shape[1:]) for split in ("train", "test")}
        raise UserError(
            f"problem {problem.name!r}: the model fails on inputs of test ({next(iter(str(error).splitlines()), '')}): "
            f"they have the shape {shapes['test']}, those of train {shapes['train']}"
        ) from error


def why_not_vectorized(problem: Problem) -> str | None:
    """Compare gradients of two members, vectorized and one after the other.

    Returns:
        None if they agree, so that the vectorized path may be used; else the obstacle, with the layer that causes it.
    """
    device = torch.device("cpu")
    points = torch.stack([problem.init(seed) for seed in (0, 1)])
    batch = problem.sampler([0, 1], [0, 0], 1, device).batch(torch.zeros(2, 1, dtype=torch.int64))
    direct, exact = Oracle(problem, "direct"), points.double()
    try:  # in float64 if the model can: rounding turns ReLUs and pools at their kinks, and a gradient with them
        grads, _ = direct.gradient_on(exact, batch)
        points = exact
    except RuntimeError:
        grads, _ = direct.gradient_on(points, batch)
    try:
        with warnings.catch_warnings():  # PyTorch warns once of an operation that it loops over, as attention
            warnings.filterwarnings("ignore", "There is a performance drop", UserWarning)
            together, _ = Oracle(problem, "vectorized").gradient_on(points, batch)
    except VMAP_ERRORS as error:
        layer = _failing_layer(problem) or "the model"
        return f"{layer} does not vectorize ({str(error).splitlines()[0][:120]})"
    if not torch.allclose(together, grads, rtol=1e-3, atol=1e-5 * float(grads.abs().max())):
        return f"{_failing_layer(problem) or 'the model'} gives other gradients when vectorized"
    return None


def invariance_of(problem: Problem, size: int, device: torch.device, precision: Precision = "float32") -> str:
    """Compare the gradients of K = `size` random members in several slots and population sizes.

    Returns:
        ``"bit for bit"``, or the largest relative difference, in words.
    """
    oracle = Oracle(problem, "vectorized", precision)
    points = torch.stack([problem.init(seed) for seed in range(size)]).to(device, dtype_for(problem, precision))
    sampler = problem.sampler(range(size), [0] * size, 1, device)
    batch = sampler.batch(torch.zeros(size, 1, dtype=torch.int64, device=device))
    reference, _ = oracle.gradient_on(points, batch)
    worst = 0.0
    for rows in ([0], [size - 1], list(range(size))[::-1], [1 % size, 0, size - 1]):
        part, _ = oracle.gradient_on(points[rows], {name: value[rows] for name, value in batch.items()})
        worst = max(worst, float((part - reference[rows]).abs().max() / reference.abs().max()))
    return "bit for bit" if worst == 0 else f"within {worst:.0e} of the largest entry of a gradient"


def _failing_layer(problem: Problem) -> str | None:
    """Find the smallest layer that does not vectorize on its own inputs, as ``layer '3' (GRU)``."""
    if not isinstance(problem, SupervisedProblem):
        return None
    names = {module: name for name, module in problem.model.named_modules()}
    for module, inputs in inputs_of_layers(problem).items():
        if not all(isinstance(value, Tensor) for value in inputs):
            continue
        params = {n: torch.stack([p.detach(), p.detach()]) for n, p in module.named_parameters()}
        pairs = tuple(torch.stack([value, value]) for value in inputs)
        try:
            vmap(lambda p, a, module=module: torch.func.functional_call(module, p, a))(params, pairs)
        except VMAP_ERRORS:
            layer = f"layer {names[module]!r}" if names[module] else "the model"
            return f"{layer} ({type(module).__name__})"
    return None


def inputs_of_layers(problem: SupervisedProblem) -> dict[nn.Module, tuple[Any, ...]]:
    """Run the model on a mini-batch; return the arguments of every layer that was called, children before parents."""
    inputs: dict[nn.Module, tuple[Any, ...]] = {}

    def record(module: nn.Module, args: tuple[Any, ...]) -> None:
        inputs[module] = args

    modules = list(problem.model.modules())[::-1]
    hooks = [module.register_forward_pre_hook(record) for module in modules]
    try:
        batch = problem.part("train", slice(0, problem.batch_size), torch.device("cpu"))
        with torch.no_grad():
            problem.outputs(problem.unflatten(problem.init(0)), batch, False)
    finally:
        for hook in hooks:
            hook.remove()
    return {module: inputs[module] for module in modules if module in inputs}
