"""DiLoCo with one worker against two optimizers of PyTorch, the outer one on the displacement of the inner one."""

from __future__ import annotations

import torch
from torch import nn

from relaxbench.optim import DiLoCo
from relaxbench.optim.hyper import defaults
from relaxbench.optim.rules import diloco, lookahead
from tests.optim.drop_in.models import loop, vector
from tests.optim.populations import tensors

L, ROUNDS = 6, 5


def net() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 2)).double()


def test_a_run_is_that_of_pytorchs_adamw_inside_its_nesterov() -> None:
    ours, worker, centre = net(), net(), net()
    optimizer = DiLoCo(
        ours.parameters(),
        outer_lr=0.7,
        outer_momentum=0.9,
        adam_lr=0.02,
        beta1=0.8,
        beta2=0.95,
        decoupled_decay=0.1,
        inner_steps=L,
        schedule="constant",
    )
    inner = torch.optim.AdamW(worker.parameters(), lr=0.02, betas=(0.8, 0.95), weight_decay=0.1)
    outer = torch.optim.SGD(centre.parameters(), lr=0.7, momentum=0.9, nesterov=True)
    for _ in range(ROUNDS):
        for _ in range(L):
            loop(ours, optimizer, 1)
            loop(worker, inner, 1)  # type: ignore[arg-type]
        for p, q in zip(centre.parameters(), worker.parameters(), strict=True):
            p.grad = (p - q).detach()
        outer.step()
        nn.utils.vector_to_parameters(vector(centre), worker.parameters())
        assert torch.allclose(vector(ours), vector(centre), rtol=1e-12, atol=1e-12)
        with optimizer.deployed():
            assert torch.allclose(vector(ours), vector(centre), rtol=1e-12, atol=1e-12)
    loop(ours, optimizer, 2)
    loop(worker, inner, 2)  # type: ignore[arg-type]
    assert torch.allclose(vector(ours), vector(worker), rtol=1e-12, atol=1e-12)
    with optimizer.deployed():  # in the middle of an inner loop
        assert torch.allclose(vector(ours), vector(centre), rtol=1e-12, atol=1e-12)


def test_without_outer_momentum_its_outer_step_is_lookaheads() -> None:
    values = {"outer_lr": 0.6, "outer_momentum": 0.0}
    points = {name: torch.randn(2, 4, generator=torch.Generator().manual_seed(k)) for k, name in enumerate("xyu")}
    ours = diloco.DiLoCo._outer(points, tensors(values, torch.float32))
    theirs = lookahead.Lookahead._outer(points, tensors(values, torch.float32))
    assert torch.equal(ours["x"], theirs["x"]) and torch.equal(ours["y"], theirs["y"])


def test_the_defaults_of_the_class_are_the_published_outer_step() -> None:
    published, ours = diloco.DiLoCo.published, defaults(diloco.DiLoCo.wide)
    assert all(ours[name] == published[name] for name in ("outer_lr", "outer_momentum", "beta1", "beta2"))
