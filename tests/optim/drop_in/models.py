"""Small models with their optimizers, and loops that train them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from relaxbench.optim import ASAM, SAM, CurveBall
from relaxbench.optim.drop_in.base import RuleOptimizer
from relaxbench.optim.drop_in.classes import DROP_INS
from relaxbench.optim.hyper import defaults
from relaxbench.problems.digits import digits_mlp
from relaxbench.space import Value

GRADIENT = [name for name in DROP_INS if name != "curveball"]
X = torch.arange(12.0).view(4, 3).sin()
STEPS = 45
TASK = digits_mlp()


def loop(model: nn.Module, optimizer: RuleOptimizer, steps: int, x: Tensor = X) -> None:
    def closure() -> float:
        optimizer.zero_grad()
        loss = model(x.to(next(model.parameters()).dtype)).square().mean()
        torch.autograd.backward(loss)
        return loss.item()

    for _ in range(steps):
        if isinstance(optimizer, CurveBall):
            optimizer.step(lambda: model(x), lambda out: out.square().sum(-1).mean())
        else:
            optimizer.step(closure)


def new(name: str, total_steps: int = 200, **changes: Any) -> tuple[nn.Module, RuleOptimizer]:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 2))
    given: Any = model if name == "curveball" else model.parameters()
    return model, DROP_INS[name](given, total_steps=total_steps, **changes)


def vector(model: nn.Module) -> Tensor:
    return nn.utils.parameters_to_vector(model.parameters()).detach().clone()


def plain_loop(model: nn.Module, optimizer: torch.optim.Optimizer, first: int, last: int) -> None:
    """One step a mini-batch, from number `first` to before `last`."""
    sampler = TASK.sampler([3], [first], last - first, torch.device("cpu"))
    for step in range(first, last):
        batch = sampler.batch(torch.tensor([[step]]))

        def closure(batch: dict[str, Tensor] = batch) -> float:
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(model(batch["x"][0]), batch["y"][0])
            loss.backward()
            return loss.item()

        if isinstance(optimizer, SAM | ASAM):
            optimizer.step(closure)
        else:
            closure()
            optimizer.step()


def fresh(name: str, **changes: Value) -> tuple[nn.Module, RuleOptimizer]:
    model = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))
    nn.utils.vector_to_parameters(TASK.init(3), model.parameters())
    steps = STEPS // 2 if name in ("sam", "asam") else STEPS  # calls of step(), two gradients each
    return model, DROP_INS[name](model.parameters(), total_steps=steps, seed=3, **changes)


def settings(name: str) -> dict[str, Value]:
    values = defaults(DROP_INS[name].rule_class.wide)
    return {**values, **({"inner_steps": 6} if "inner_steps" in values else {})}
