"""The best settings of a wrapped optimizer as code to paste: the optimizer itself, without relaxbench."""

from __future__ import annotations

import math
from collections.abc import Mapping

from relaxbench.optim.schedules import FACTOR, STEPS, WARMUP
from relaxbench.optim.wrapped.arguments import Recipe, has_iterate
from relaxbench.optim.wrapped.rule import WrappedRule
from relaxbench.space import Value


def code(rule: type[WrappedRule], params: Mapping[str, Value], steps: int) -> list[str]:
    """Return the lines that make the optimizer, its companion and their schedule.

    Args:
        rule: the wrapped optimizer.
        params: a value for every hyperparameter.
        steps: the number of steps over which the schedule runs.
    """
    lines = ["import torch", *(line for recipe, _ in rule.recipes() for line in _import(recipe)), ""]
    held = "model.parameters()"
    if rule.companion is not None:
        taken = sorted(rule.dimensions)
        lines += [
            f"mine = [p for p in model.parameters() if p.dim() in {taken}]",
            f"others = [p for p in model.parameters() if p.dim() not in {taken}]",
        ]
        held = "mine"
    lines += _made("optimizer", rule.recipe, "", held, params)
    names = ["optimizer"]
    if rule.companion is not None:
        lines += _made("companion", rule.companion, "companion_", "others", params)
        names.append("companion")
    schedule = _schedule(str(params.get("schedule", "constant")), steps)
    if schedule:
        lines.append(f"# {steps} steps; after each one, step the schedulers too")
        lines += [
            f"{'scheduler' if name == 'optimizer' else f'{name}_scheduler'} = {schedule.format(name)}" for name in names
        ]
    if has_iterate(rule.recipe.cls):
        lines.append("optimizer.train()  # and optimizer.eval() before the model is evaluated or saved")
    return lines


def _import(recipe: Recipe) -> list[str]:
    if ".py:" in recipe.path:
        file, _, name = recipe.shown.rpartition(":")
        return [f"from {file.removesuffix('.py')} import {name}"]
    module = recipe.path.rpartition(".")[0]
    return [] if module.split(".")[0] == "torch" else [f"import {module}"]


def _made(name: str, recipe: Recipe, prefix: str, held: str, params: Mapping[str, Value]) -> list[str]:
    values = {key: params[prefix + key] for key in recipe.places if prefix + key in params}
    arguments = {**recipe.options, **recipe.arguments(values)}
    path = recipe.path.rpartition(":")[2]
    return [
        f"{name} = {path}(",
        f"    {held},",
        *(f"    {key}={_literal(value)}," for key, value in arguments.items()),
        ")",
    ]


def _literal(value: object) -> str:
    if isinstance(value, tuple):
        return f"({', '.join(map(_literal, value))}{',' if len(value) == 1 else ''})"
    return f"{value:.6g}" if isinstance(value, float) and value != int(value) else repr(value)


def _schedule(kind: str, steps: int) -> str:
    """Return the scheduler of PyTorch that lowers a step size as ours did; "" for a constant one."""
    if kind == "cosine":
        return f"torch.optim.lr_scheduler.CosineAnnealingLR({{}}, T_max={steps})"
    if kind == "step":
        places = [math.ceil(at * steps) for at in STEPS]
        return f"torch.optim.lr_scheduler.MultiStepLR({{}}, milestones={places}, gamma={FACTOR})"
    if kind == "warmup":
        rise = math.ceil(WARMUP * steps)
        parts = (
            f"torch.optim.lr_scheduler.LinearLR({{0}}, start_factor={1 / 11:.6g}, total_iters={rise})",
            f"torch.optim.lr_scheduler.CosineAnnealingLR({{0}}, T_max={max(1, steps - rise)})",
        )
        return f"torch.optim.lr_scheduler.SequentialLR({{0}}, [{parts[0]}, {parts[1]}], milestones=[{rise}])"
    return ""
