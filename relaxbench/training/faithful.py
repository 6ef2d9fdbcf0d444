"""Compare a user's model as it is trained here with the same model in plain PyTorch.

Dropout, batch normalization and convolutions are replaced by layers that suit a population, and parameters are given
from outside. A model that recognizes its layers by class, sets them to evaluation mode when it is called, or keeps
weights where PyTorch does not find them, would silently be another model. A model function that gives the same weights
in every trial would silently be another study.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as trees

from relaxbench.errors import UserError
from relaxbench.problems import Batch, Problem, SupervisedProblem, layers
from relaxbench.problems.adapted import sleeping
from relaxbench.problems.seeding import torch_seeded
from relaxbench.problems.structure import plain

CLOSE = 1e-3
"""Largest difference of equal outputs or gradients, relative to the largest entry: convolutions sum in other orders."""
DROPOUTS = (nn.Dropout, layers.Dropout)


def refuse_another_model(problem: Problem, batch: Batch) -> None:
    """Call a model on a mini-batch, at the weights of seed 0, as a study does and as PyTorch does.

    Args:
        problem: any; only a model of `SupervisedProblem` can differ.
        batch: a mini-batch of one member, every tensor with a first axis of 1.

    Raises:
        UserError: if outputs, gradients or statistics of batch normalization differ, if the gradient depends on a
            parameter that is no part of the model, or if outputs depend on tensors that are in no state dict.
    """
    if not isinstance(problem, SupervisedProblem):
        return
    model, inputs = problem.adapted.original(0), _inputs(problem, batch)
    asleep = [*sleeping(model), *(part for part in model.modules() if layers.is_frozen(part))]
    with _without_dropout(model), _without_dropout(problem.model):
        model.eval()
        _refuse_unknown_tensors(problem, model, inputs)
        _compare(problem, model, inputs, training=False)
        model.train()
        for part in asleep:
            part.training = False
        with problem.adapted.channels_first():  # as PyTorch has them: gradients through ties depend on that
            _compare(problem, model, inputs, training=True)


def refuse_one_start(problem: Problem) -> None:
    """Refuse a model function that gives the same weights in every trial, because it seeds PyTorch by itself.

    A model whose weights are constants, such as zeros, draws nothing, and is left alone.

    Raises:
        UserError: if it sets the seed, or returns one and the same model again and again.
    """
    if not isinstance(problem, SupervisedProblem) or problem.adapted.starts_pretrained:
        return
    models, ends = [], []
    for seed in (1, 2):
        with torch_seeded(seed):
            models.append(problem.adapted.build())
            ends.append(torch.get_rng_state())
    weights = "so all trials would begin with the same weights, and the intervals would hold for these alone"
    if models[0] is models[1]:
        raise UserError(
            f"problem {problem.name!r}: the model function returns the same model again, {weights}: build it anew"
        )
    if torch.equal(*ends):
        raise UserError(
            f"problem {problem.name!r}: the model function sets PyTorch's seed, {weights}: leave torch.manual_seed "
            "out; for parts that are the same in all trials draw from a torch.Generator of their own"
        )


def _inputs(problem: SupervisedProblem, batch: Batch) -> list[Tensor]:
    """What the model is called with: a problem may convert its data, as bytes to images."""
    seen: list[tuple[Any, ...]] = []
    one = {name: value[0] for name, value in batch.items()}
    hook = problem.model.register_forward_pre_hook(lambda module, inputs: seen.append(inputs))
    try:
        with torch.no_grad():
            problem.outputs(problem.unflatten(problem.init(0)), one, False)
    finally:
        hook.remove()
    return [value.clone() for value in seen[0]]


def _compare(problem: SupervisedProblem, model: nn.Module, inputs: list[Tensor], training: bool) -> None:
    """Compare outputs and, in training, gradients and which statistics of batch normalization move."""
    norms = {name: part for name, part in model.named_modules() if name in problem.norms.values()}
    for norm in norms.values():
        norm.reset_running_stats()
    with torch.set_grad_enabled(training):
        theirs = _called(model, inputs)
        params = {name: p.detach().requires_grad_() for name, p in model.named_parameters() if p.requires_grad}
        problem.adapted.train(training)
        ours = _called(lambda *given: problem.adapted(params, *given), inputs)
    mode, why = "in training" if training else "in evaluation", _reason(model)
    if len(ours) != len(theirs) or not all(map(_near, ours, theirs)):
        raise UserError(f"problem {problem.name!r}: the model gives other outputs {mode} than in plain PyTorch: {why}")
    if not training or not any(value.requires_grad for value in theirs):
        return
    _refuse_strangers(problem, model, theirs)
    own = [p for p in model.parameters() if p.requires_grad]
    if not all(map(_near, _gradients(ours, [*params.values()]), _gradients(theirs, own))):
        raise UserError(f"problem {problem.name!r}: the model has another gradient than in plain PyTorch: {why}")
    with layers.collecting() as collected:
        problem.adapted.train(False)
        problem.adapted(params, *inputs)
    used = {problem.norms[layer] for layer in collected}
    still = [name for name in norms if name in used and not norms[name].num_batches_tracked]
    if still:
        raise UserError(
            f"problem {problem.name!r}: layer {still[0]!r} is trained without statistics of its mini-batches, as in "
            "evaluation mode, though it is in training mode when the model is built: call its eval() in __init__ or in "
            "the model's train(), not in forward"
        )


def _reason(model: nn.Module) -> str:
    """What may have made another model of it, and what to do."""
    replaced = sorted({type(part).__name__ for part in model.modules() if isinstance(part, layers.REPLACED)})
    if not replaced:
        return "a trial's parameters are given from outside: set no hooks on them in forward"
    return (
        f"relaxbench replaces layers ({', '.join(replaced)}): recognize none by isinstance, read no attributes of "
        "them, and leave their mode alone in forward"
        + ("; and use no strides, because the channels of images lie last in memory" if "Conv2d" in replaced else "")
    )


def _called(model: Any, inputs: list[Tensor]) -> list[Tensor]:
    """The tensors among the outputs, in the type of the parameters."""
    leaves, _ = trees.tree_flatten(plain(model(*(value.clone() for value in inputs))))
    return [leaf for leaf in leaves if isinstance(leaf, Tensor) and leaf.is_floating_point()]


def _gradients(outputs: Sequence[Tensor], parameters: Sequence[Tensor]) -> list[Tensor]:
    """Gradients of a fixed weighted sum of outputs; zero where there is none."""
    total = torch.stack([(value * _weights(value)).sum() for value in outputs if value.requires_grad]).sum()
    found = torch.autograd.grad(total, parameters, materialize_grads=True)
    return [torch.cat([gradient.to_dense().flatten() for gradient in found])]  # one scale for all


def _weights(value: Tensor) -> Tensor:
    return torch.linspace(-1.0, 1.3, value.numel(), dtype=value.dtype, device=value.device).view(value.shape).cos()


def _near(one: Tensor, other: Tensor) -> bool:
    largest = float(other.detach().abs().nan_to_num().max()) if other.numel() else 0.0
    return one.shape == other.shape and torch.allclose(
        one, other.to(one.dtype), rtol=CLOSE, atol=CLOSE * largest, equal_nan=True
    )


def _refuse_strangers(problem: SupervisedProblem, model: nn.Module, outputs: list[Tensor]) -> None:
    """Refuse parameters in the graph of the outputs that are no part of the model."""
    known = {id(p) for p in model.parameters()}
    stack: list[Any] = [value.grad_fn for value in outputs if value.requires_grad]
    seen: set[Any] = set()  # holds the nodes: the place of one that Python has freed may be that of another
    while stack:
        node = stack.pop()
        if node in seen:
            continue
        seen.add(node)
        leaf = getattr(node, "variable", None)
        if leaf is not None and id(leaf) not in known:
            raise UserError(
                f"problem {problem.name!r}: the model uses a tensor of shape {tuple(leaf.shape)} that requires a "
                "gradient and is no parameter of it, so that nobody would train it: keep parameters in "
                "nn.ParameterList and layers in nn.ModuleList, not in a list, a dict or a closure"
            )
        stack += [function for function, _ in node.next_functions if function is not None]


def _refuse_unknown_tensors(problem: SupervisedProblem, model: nn.Module, inputs: list[Tensor]) -> None:
    """Refuse a model whose outputs depend on its seed in another way than through its state dict."""
    other = problem.adapted.original(1)
    other.load_state_dict(model.state_dict())
    with torch.no_grad(), _without_dropout(other):
        one, two = (_called(each.eval(), inputs) for each in (model, other))
    if not all(map(_near, one, two)):
        raise UserError(
            f"problem {problem.name!r}: two models with the same state dict give other outputs: a tensor that is drawn "
            "when the model is built is in no state dict, and would be the same in all trials: make it a parameter, or "
            "a buffer with register_buffer, and keep layers in nn.ModuleList"
        )


@contextmanager
def _without_dropout(model: nn.Module) -> Iterator[None]:
    """Switch dropout off within this block: its masks are drawn in other ways."""
    kept = [(part, part.p) for part in model.modules() if isinstance(part, DROPOUTS)]
    try:
        for part, _ in kept:
            part.p = 0.0
        yield
    finally:
        for part, p in kept:
            part.p = p
