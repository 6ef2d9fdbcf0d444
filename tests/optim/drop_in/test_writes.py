"""Weights that other code writes into the parameters count, as with torch.optim, or are refused."""

from __future__ import annotations

import contextlib
import copy
from typing import Any

import pytest
import torch
from torch import nn

from relaxbench.optim import SGD, AdamW
from relaxbench.optim.drop_in.classes import DROP_INS
from tests.optim.drop_in.models import X, loop, new, vector

KEEP_WHAT_THE_MODEL_HOLDS = (
    "sgd",
    "sgd-ema",
    "adamw",
    "adamw-ema",
    "adamw-lawa",
    "muon",
    "sgld",
    "sam",
    "asam",
    "curveball",
)


def clamp_data(model: nn.Module) -> None:
    for p in model.parameters():
        p.data.clamp_(-0.01, 0.01)


def clamp(model: nn.Module) -> None:
    with torch.no_grad():
        for p in model.parameters():
            p.clamp_(-0.01, 0.01)


def assign(model: nn.Module) -> None:
    for p in model.parameters():
        p.data = torch.full_like(p.data, 0.02)


def replace(model: nn.Module) -> None:
    nn.utils.vector_to_parameters(0.5 * vector(model), model.parameters())


WAYS = (clamp_data, clamp, assign, replace)


@pytest.mark.parametrize("name", DROP_INS)
def test_a_write_between_steps_counts_or_is_refused(name: str) -> None:
    """Refused where the model holds a point of an inner loop or of a smoothed loss, which the next step replaces."""
    for write in WAYS:
        model, optimizer = new(name, **({"weight_decay": 0.0} if name == "sgd" else {}))
        for k in range(4):  # replicas part, because they have different mini-batches
            loop(model, optimizer, 1, X + 0.1 * k)
        for p in model.parameters():
            p.data.mul_(1.0)  # written into, the values are as they were
        loop(model, optimizer, 1)
        write(model)
        written = vector(model)
        if name not in KEEP_WHAT_THE_MODEL_HOLDS:
            for misuse in (lambda: loop(model, optimizer, 1), optimizer.eval):  # noqa: B023
                with pytest.raises(RuntimeError, match=r"changed by other code .* `with optimizer.deployed\(\):`"):
                    misuse()
            continue
        if not name.endswith("-ema"):  # deploys an average of the points
            with optimizer.deployed():
                assert torch.equal(vector(model), written)
        saved = [part["x"].flatten() for part in optimizer.state_dict()["state"].values()]
        assert torch.equal(torch.cat(saved), written)
        loop(model, optimizer, 1)
        assert 0 < float((vector(model) - written).abs().max()) < 0.3


@pytest.mark.parametrize("name", DROP_INS)
def test_a_write_to_the_deployed_weights_counts(name: str) -> None:
    """In mid-sweep and in mid-loop: the deployed weights are those that were written, and training goes on there."""
    model, optimizer = new(name)
    loop(model, optimizer, 44)
    for write in WAYS:
        loop(model, optimizer, 21)
        with optimizer.deployed():
            write(model)
            written = vector(model)
        with optimizer.deployed():
            assert torch.allclose(vector(model), written, rtol=1e-5, atol=1e-6)
        loop(model, optimizer, 2)
        with optimizer.deployed():
            assert float((vector(model) - written).abs().max()) < 0.3


@pytest.mark.parametrize("deployed", [False, True])
@pytest.mark.parametrize("name", DROP_INS)
def test_a_write_before_the_first_step_is_the_start(name: str, deployed: bool) -> None:
    for write in WAYS:
        model, optimizer = new(name)
        with optimizer.deployed() if deployed else contextlib.nullcontext():
            write(model)
            written = vector(model)
        loop(model, optimizer, 3)
        twin = copy.deepcopy(model)
        nn.utils.vector_to_parameters(written.clone(), twin.parameters())
        given: Any = twin if name == "curveball" else twin.parameters()
        other = type(optimizer)(given, total_steps=200)
        loop(twin, other, 3)
        assert torch.equal(vector(model), vector(twin))


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (
            lambda p: SGD(p, total_steps=60, lr=0.1, momentum=0.9, weight_decay=0.0, schedule="constant"),
            lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, nesterov=True),
        ),
        (
            lambda p: AdamW(p, total_steps=60, adam_lr=0.01, decoupled_decay=0.0, schedule="constant"),
            lambda p: torch.optim.AdamW(p, lr=0.01, weight_decay=0.0),
        ),
    ],
)
def test_clamping_in_every_step_is_that_of_torch_optim(ours: Any, theirs: Any) -> None:
    found = []
    for make in (ours, theirs):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 2))
        optimizer = make(model.parameters())
        for _ in range(30):
            loop(model, optimizer, 1)
            for p in model.parameters():
                p.data.clamp_(-0.2, 0.2)
        found.append(vector(model))
    assert torch.allclose(found[0], found[1], rtol=1e-4, atol=1e-6) and found[0].abs().max() == pytest.approx(0.2)


def test_a_diverged_model_is_not_a_changed_one() -> None:
    model, optimizer = new("lookahead")
    loop(model, optimizer, 1)
    for p in model.parameters():
        p.grad = torch.full_like(p, float("nan"))
    optimizer.step()
    optimizer.eval()
    optimizer.train()


def test_an_average_loaded_over_the_point_it_averages_is_refused() -> None:
    model, optimizer = new("sgd-ema")
    loop(model, optimizer, 5)
    with optimizer.deployed():
        deployed = vector(model)
    nn.utils.vector_to_parameters(deployed, model.parameters())
    with pytest.raises(RuntimeError, match="load the optimizer's state after the model's"):
        loop(model, optimizer, 1)
