"""Closures: how often a step calls them, and what happens if one fails."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from relaxbench.optim import SAM, SGD
from relaxbench.optim.drop_in.classes import DROP_INS
from relaxbench.optim.drop_in.closures import closures
from tests.optim.drop_in.models import X, loop, new, vector


def test_a_rule_that_stays_on_one_mini_batch_is_refused() -> None:
    class Full(SGD.rule_class):  # type: ignore[name-defined,misc]
        def first_batch(self, query: int) -> int:
            return 0

    with pytest.raises(ValueError, match="64 queries in a row"):
        closures(Full())
    assert [closures(DROP_INS[name].rule_class()) for name in ("sgd", "sam", "parle", "heat")] == [0, 2, 0, 0]


def test_a_step_of_sam_calls_its_closure_twice() -> None:
    assert SAM(nn.Linear(2, 2).parameters(), total_steps=5).closures == 2


def test_a_closure_that_fails_in_the_middle_of_a_step_leaves_no_trace() -> None:
    model, optimizer = new("sam")
    twin, steady = new("sam")
    loop(model, optimizer, 2)
    calls = 0

    def failing() -> float:
        nonlocal calls
        calls += 1
        if calls == 2:
            raise MemoryError("too large a batch")
        optimizer.zero_grad()
        loss = model(X).square().mean()
        torch.autograd.backward(loss)
        return loss.item()

    with pytest.raises(MemoryError):
        optimizer.step(failing)
    loop(model, optimizer, 2)
    loop(twin, steady, 4)
    assert torch.equal(vector(model), vector(twin))


def test_a_step_without_any_gradient_is_refused() -> None:
    layer = nn.Linear(2, 2)
    optimizer = SGD(layer.parameters(), total_steps=10)
    with pytest.raises(RuntimeError, match=r"no parameter has a gradient: call loss\.backward\(\) before step"):
        optimizer.step()
    sharpness = SAM(layer.parameters(), total_steps=10)
    before = layer.weight.clone()
    with pytest.raises(RuntimeError, match="no parameter has a gradient"):
        sharpness.step(lambda: layer(torch.ones(1, 2)).sum().item())
    with pytest.raises(TypeError, match="closure = 3: expected a function without arguments"):
        sharpness.step(3)  # type: ignore[call-overload]
    assert torch.equal(layer.weight, before)


def test_sam_without_a_closure_is_told_what_to_do() -> None:
    model = nn.Linear(2, 2)
    optimizer = SAM(model.parameters(), total_steps=10)
    model(torch.ones(1, 2)).sum().backward()
    with pytest.raises(TypeError, match=r"2 gradients of one mini-batch per step: call step\(closure\)"):
        optimizer.step()


def test_sam_takes_the_same_step_with_a_gradient_scaler_and_skips_an_overflow() -> None:
    found = []
    for scaled in (False, True):
        torch.manual_seed(0)
        model = nn.Linear(3, 2)
        optimizer = SAM(model.parameters(), total_steps=20)
        scaler = torch.amp.GradScaler("cpu", init_scale=1024.0, enabled=scaled)
        for step in range(8):
            factor = torch.tensor(float("inf") if scaled and step == 3 else 1.0)

            def closure(factor: torch.Tensor = factor, optimizer: SAM = optimizer, model: nn.Module = model) -> float:
                optimizer.zero_grad()
                loss = factor * (model(torch.ones(4, 3)) - 2).square().mean()
                scaler.scale(loss).backward()  # type: ignore[no-untyped-call]  # noqa: B023
                return loss.item()

            if scaled:
                closure()
                scaler.step(optimizer, closure)
                scaler.update()
            elif step != 3:
                optimizer.step(closure)
        found.append(nn.utils.parameters_to_vector(model.parameters()).detach())
    assert scaler.get_scale() == 512.0
    assert torch.allclose(*found, rtol=1e-5)


def test_sam_says_what_to_do_with_unscaled_gradients() -> None:
    model, scaler = nn.Linear(3, 2), torch.amp.GradScaler("cpu")
    optimizer = SAM(model.parameters(), total_steps=20)
    scaler.scale(model(torch.ones(1, 3)).square().sum()).backward()
    scaler.unscale_(optimizer)
    with pytest.raises(RuntimeError, match=r"without scaler.unscale_\(optimizer\)"):
        scaler.step(optimizer, lambda: 0.0)

    scaler.update()

    def unscaling() -> float:
        optimizer.zero_grad()
        loss = model(torch.ones(1, 3)).square().sum()
        scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
        scaler.unscale_(optimizer)
        return loss.item()

    before = vector(model)
    with pytest.raises(RuntimeError, match=r"call closure\(\), then scaler.step\(optimizer, closure\)"):
        optimizer.step(unscaling)
    assert torch.equal(vector(model), before)
