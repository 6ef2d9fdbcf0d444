"""Muon against torch.optim.Muon and AdamW, and its parts: routing, the iteration for many members, refusals."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim import _muon, lr_scheduler

from relaxbench.optim import Muon
from relaxbench.optim.rules.muon import Muon as Rule
from tests.optim.drop_in.models import vector

X = torch.randn(16, 2, 5, 5, generator=torch.Generator().manual_seed(0))
Y = X.sum((1, 2, 3)).gt(0).long()
VALUES = {"momentum": 0.9, "decoupled_decay": 0.1, "schedule": "constant"}


class Double:
    """PyTorch, but its bfloat16 is float64."""

    bfloat16 = torch.float64

    def __getattr__(self, name: str) -> Any:
        return getattr(torch, name)


def net(dtype: torch.dtype) -> nn.Sequential:
    torch.manual_seed(3)
    return nn.Sequential(nn.Flatten(), nn.Linear(50, 6), nn.Tanh(), nn.Linear(6, 9), nn.Tanh(), nn.Linear(9, 2)).to(
        dtype
    )


def train(model: nn.Module, optimizers: list[Any], steps: int) -> Tensor:
    """Step with step sizes that other code lowers."""
    schedulers = [lr_scheduler.LambdaLR(optimizer, lambda step: 0.9**step) for optimizer in optimizers]
    x = X.to(next(model.parameters()).dtype)
    for _ in range(steps):
        for each in optimizers:
            each.zero_grad()
        nn.functional.cross_entropy(model(x), Y).backward()
        for each in (*optimizers, *schedulers):
            each.step()
    return vector(model)


def pytorch(model: nn.Module) -> list[torch.optim.Optimizer]:
    matrices = [p for p in model.parameters() if p.ndim == 2]
    others = [p for p in model.parameters() if p.ndim != 2]
    return [
        torch.optim.Muon(matrices, lr=0.05, momentum=0.9, weight_decay=0.1),
        torch.optim.AdamW(others, lr=0.01, betas=(0.9, 0.95), weight_decay=0.1),
    ]


def test_a_run_is_that_of_pytorch_in_float64(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wide, tall and square-like matrices with torch.optim.Muon, biases with torch.optim.AdamW."""
    monkeypatch.setattr(_muon, "torch", Double())
    monkeypatch.setattr(torch.Tensor, "bfloat16", torch.Tensor.double)  # how PyTorch 2.9 says it
    ours, theirs = net(torch.float64), net(torch.float64)
    found = train(ours, [Muon(ours.parameters(), muon_lr=0.05, adam_lr=0.01, **VALUES)], 20)
    assert torch.allclose(found, train(theirs, pytorch(theirs), 20), rtol=1e-11, atol=1e-12)
    assert float((found - vector(net(torch.float64))).abs().max()) > 0.1


def test_the_iteration_in_bfloat16_is_that_of_pytorch() -> None:
    ours, theirs, exact = (net(torch.float32) for _ in range(3))
    values: Any = {"muon_lr": 0.05, "adam_lr": 0.01, **VALUES}
    found = train(ours, [Muon(ours.parameters(), bfloat16=True, **values)], 5)
    other = train(theirs, pytorch(theirs), 5)
    assert torch.allclose(found, other, rtol=0, atol=2e-3)
    precise = train(exact, [Muon(exact.parameters(), **values)], 5)
    assert float((found - precise).abs().max()) > 3 * float((found - other).abs().max())


def test_singular_values_of_many_members_come_near_one() -> None:
    matrices = torch.randn(7, 12, 5, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    matrices *= torch.logspace(-5, 5, 7, dtype=torch.float64)[:, None, None]
    left, _, right = torch.linalg.svd(matrices, full_matrices=False)
    found = Rule()._orthogonal(matrices)
    singular = (left.mT @ found @ right.mT).diagonal(dim1=1, dim2=2)
    assert torch.allclose(left @ torch.diag_embed(singular) @ right, found, rtol=0, atol=1e-10)
    assert bool(((singular > 0.5) & (singular < 1.5)).all())


def test_filters_are_one_matrix_and_the_options_leave_the_ends_to_adamw() -> None:
    shapes = [torch.Size(s) for s in ((8, 2, 3, 3), (8,), (8,), (6, 8), (6,), (9, 6), (9,), (4, 9), (4,))]

    def matrices(**options: bool) -> list[tuple[int, int] | None]:
        rule = Rule(**options)
        rule.bind(shapes)
        ends = [block.columns.stop for block in rule.blocks]
        assert [block.columns.start for block in rule.blocks] == [0, *ends[:-1]]
        assert ends[-1] == sum(shape.numel() for shape in shapes)
        return [block.shape for block in rule.blocks]

    assert matrices() == [(8, 18), None, (6, 8), None, (9, 6), None, (4, 9), None]
    assert matrices(adam_first=True, adam_last=True) == [None, (6, 8), None, (9, 6), None]
    rule = Rule()
    rule.bind(shapes)
    assert [block.scale for block in rule.blocks if block.shape] == [1.0, 1.0, 1.5**0.5, 1.0]


def test_a_model_without_a_matrix_for_muon_is_refused() -> None:
    assert Rule.unfit([torch.Size([3])]) == "Muon takes matrices, of which the model has none: take AdamW"
    assert Rule.unfit([torch.Size([3]), torch.Size([2, 3])]) is None
    with pytest.raises(ValueError, match=r"^adam_first = True, adam_last = True leave no matrix to Muon, [^\n]+ has 2"):
        Muon(
            nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 2)).parameters(), total_steps=9, adam_first=True, adam_last=True
        )
