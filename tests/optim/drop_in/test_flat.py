"""A model's parameters as one vector: types, shapes, frozen and unused parameters."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from relaxbench.optim import SGD, CurveBall, EntropySGD
from relaxbench.optim.drop_in.classes import DROP_INS
from tests.optim.drop_in.models import GRADIENT, loop, new, vector


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", GRADIENT)
def test_models_in_half_precision_are_trained_with_full_precision_weights(name: str, dtype: torch.dtype) -> None:
    """They follow a float32 model up to the rounding of its parameters; L and the schedules stay exact."""
    slow: dict[str, Any] = {"muon_lr": 1e-3} if name == "muon" else {}  # its steps are as long where gradients vanish
    model, optimizer = new(name, **slow)
    torch.manual_seed(0)
    half = nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 2)).to(dtype)
    rounded = type(optimizer)(half.parameters(), total_steps=200, **slow)
    loop(model, optimizer, 60)
    loop(half, rounded, 60)
    found, expected = vector(half).float(), vector(model)
    assert bool(torch.isfinite(found).all())
    assert float((found - expected).abs().max()) < 0.03
    parts = rounded.state_dict()["state"].values()
    assert len(parts) == 4 and all(value.dtype != dtype for part in parts for value in part.values())


def test_types_may_be_mixed() -> None:
    for name in GRADIENT:
        model, _ = new(name)
        model[0].double()  # type: ignore[index]

        class Cast(nn.Module):
            def __init__(self, inner: nn.Module) -> None:
                super().__init__()
                self.inner = inner

            def forward(self, x: Tensor) -> Tensor:
                first, second, third = self.inner
                return third(second(first(x.double())).float())

        wrapped = Cast(model)
        optimizer = DROP_INS[name](wrapped.parameters(), total_steps=200)
        loop(wrapped, optimizer, 5)
        assert bool(torch.isfinite(vector(wrapped)).all())
    newton = CurveBall(wrapped, total_steps=10)
    loop(wrapped, newton, 2)
    assert bool(torch.isfinite(vector(wrapped)).all())


@pytest.mark.parametrize("name", GRADIENT)
@pytest.mark.parametrize("shape", [(0,), (0, 5), (5, 0)])
def test_empty_parameters_do_no_harm(name: str, shape: tuple[int, ...]) -> None:
    """All other parameters move as they do without the empty one."""
    model, _ = new(name)
    model.register_parameter("empty", nn.Parameter(torch.zeros(shape)))
    loop(model, DROP_INS[name](model.parameters(), total_steps=200), 3)
    twin, _ = new(name)
    loop(twin, DROP_INS[name](twin.parameters(), total_steps=200), 3)
    assert model.get_parameter("empty").shape == shape
    assert torch.equal(vector(model), vector(twin))


def test_freezing_moving_and_unfreezing_are_noticed() -> None:
    model, optimizer = new("sgd")
    loop(model, optimizer, 1)
    model[0].weight.requires_grad_(False)  # type: ignore[index,union-attr]
    with pytest.raises(RuntimeError, match=r"shape \(5, 3\) has been frozen"):
        loop(model, optimizer, 1)
    model[0].weight.requires_grad_(True)  # type: ignore[index,union-attr]
    loop(model, optimizer, 1)
    model.double()
    with pytest.raises(RuntimeError, match=r"given another type|changed by other code"):
        loop(model, optimizer, 1)


def test_nothing_to_train_and_nothing_given() -> None:
    with pytest.raises(ValueError, match="no parameter needs a gradient"):
        SGD(nn.Linear(2, 2).requires_grad_(False).parameters(), total_steps=10)
    with pytest.raises(ValueError, match="empty parameter list"):
        SGD([], total_steps=10)
    with pytest.raises(ValueError, match="empty parameter list"):
        CurveBall(nn.Linear(2, 2), [], total_steps=10)


def test_frozen_and_unused_parameters() -> None:
    frozen, unused, used = nn.Linear(2, 2).requires_grad_(False), nn.Linear(2, 2), nn.Linear(2, 2)
    model = nn.ModuleList([frozen, unused, used])
    before = [p.detach().clone() for p in model.parameters()]
    optimizer = EntropySGD(model.parameters(), total_steps=20, inner_steps=5, temperature=0.0, weight_decay=0.0)
    for _ in range(10):
        optimizer.zero_grad()
        used(torch.ones(1, 2)).square().sum().backward()
        optimizer.step()
    optimizer.eval()
    moved = [not torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True)]
    assert moved == [False] * 4 + [True] * 2


def test_parameters_without_values_are_refused() -> None:
    with pytest.raises(ValueError, match=r"a parameter of shape \(2, 3\) has no values yet \(device meta\)"):
        EntropySGD(nn.Linear(3, 2, device="meta").parameters(), total_steps=10)


def test_complex_parameters_and_sparse_gradients_are_refused() -> None:
    with pytest.raises(TypeError, match=r"a parameter of shape \(2,\) is complex \(torch.complex64\)"):
        EntropySGD([nn.Parameter(torch.zeros(2, dtype=torch.complex64))], total_steps=10)
    table = nn.Embedding(4, 2, sparse=True)
    optimizer = EntropySGD(table.parameters(), total_steps=20)
    table(torch.tensor([1])).sum().backward()
    with pytest.raises(TypeError, match=r"of shape \(4, 2\) is sparse"):
        optimizer.step()
