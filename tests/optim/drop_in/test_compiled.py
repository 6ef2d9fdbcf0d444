"""torch.compile around a step, and around a model that a closure calls."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from relaxbench.optim import SGD
from relaxbench.optim.drop_in.classes import DROP_INS
from tests.optim.drop_in.models import X, new, vector

pytestmark = pytest.mark.filterwarnings("ignore:.*torch.compile", "ignore:.*[Pp]rofiler")


@pytest.mark.parametrize("name", DROP_INS)
def test_a_compiled_step_gives_the_numbers_of_a_plain_one(name: str) -> None:
    """With schedules: compiled code would keep the first value of each."""
    found = []
    for compiled in (False, True):
        torch._dynamo.reset()
        given = {"inner_steps": 4} if "inner_steps" in DROP_INS[name].rule_class.wide else {}
        model, optimizer = new(name, **given)
        optimizer.total_steps = 24
        step: Any = torch.compile(optimizer.step, backend="eager") if compiled else optimizer.step

        def closure(model: nn.Module = model, optimizer: Any = optimizer) -> float:
            optimizer.zero_grad()
            loss = model(X).square().mean()
            loss.backward()
            return float(loss.detach())

        for _ in range(24):
            if name == "curveball":
                step(lambda model=model: model(X), lambda out: out.square().sum(-1).mean())
            else:
                step(closure)
        optimizer.eval()
        found.append(vector(model))
    assert torch.equal(*found)


def test_a_compiled_model_in_a_closure_stays_compiled() -> None:
    graphs = []

    def backend(graph: Any, inputs: Any) -> Any:
        graphs.append(graph)
        return graph

    torch._dynamo.reset()
    model = nn.Linear(3, 2)
    fast: Any = torch.compile(model, backend=backend)
    optimizer = SGD(model.parameters(), total_steps=10)

    def closure() -> float:
        optimizer.zero_grad()
        loss = fast(X).square().mean()
        loss.backward()
        return float(loss.detach())

    optimizer.step(closure)
    assert len(graphs) == 1
