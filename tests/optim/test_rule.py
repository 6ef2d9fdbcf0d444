"""The two ways of giving some members their outer step: by rows on the CPU, by mask on an accelerator."""

from __future__ import annotations

import pytest
import torch

from relaxbench.optim import outer_step
from relaxbench.optim.hyper import defaults, stack
from relaxbench.optim.registry import RULES
from relaxbench.optim.rule import State

CPU = torch.device("cpu")


def states_after(name: str, steps: int) -> State:
    """Five members with different outer steps on f(x) = ½|x|², one of which has met a NaN."""
    rule = RULES[name]()
    rule.bind([torch.Size([2, 3]), torch.Size([1])])
    settings = [
        {**defaults(rule.wide), **({key: 2 + k for key in ("inner_steps", "samples") if key in rule.wide})}
        for k in range(5)
    ]
    hyper = stack(settings, CPU, torch.float32)
    x = torch.linspace(-1, 1, 35).view(5, 7)
    state = rule.init(x, torch.arange(5)[:, None])
    for step in range(steps):
        now = rule.at(hyper, torch.full((5, 1), step / steps))
        grad = rule.query(state, now).points.clone()
        loss = grad.square().sum(-1).view(5, -1) / 2
        if step == 3:
            grad[2] = torch.nan
        state = rule.update(state, grad, loss, now)
    return state


@pytest.mark.parametrize("name", [name for name, rule in RULES.items() if not rule.curvature])
def test_masks_and_rows_give_the_same_bits(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    by_rows = states_after(name, 23)
    monkeypatch.setattr(outer_step, "_by_rows", outer_step._by_mask)
    by_mask = states_after(name, 23)
    for entry, value in by_rows.items():
        assert torch.equal(value.nan_to_num(7.0), by_mask[entry].nan_to_num(7.0)), entry
        others = [0, 1, 3, 4]
        assert torch.isfinite(value[others].float()).all(), "one member's NaN stays with it"
