"""GPA in the form of its authors' code, which keeps y and z, with PyTorch's AdamW for the direction."""

from __future__ import annotations

import torch
from torch import nn

from relaxbench.optim import GPA
from tests.optim.drop_in.models import X, vector

RATE, DECAY, MU_X, MU_Y = 0.03, 0.1, 0.9, 0.7


def net() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 2)).double()


def test_a_run_is_that_of_the_form_without_x() -> None:
    """y ← μ_x y + (1 − μ_x) z + η (μ_y μ_x − 1) d;  z ← z − η d;  x = z + (y − z)/μ_y."""
    ours, theirs = net(), net()
    optimizer = GPA(
        ours.parameters(),
        lr=RATE,
        betas=(0.8, 0.95),
        weight_decay=DECAY,
        interpolation=MU_Y,
        ema_steps=1 / (1 - MU_X),
        schedule="constant",
    )
    z = nn.Parameter(vector(theirs))
    direction = torch.optim.Adam([z], lr=1.0, betas=(0.8, 0.95))
    for _ in range(30):
        for model in (ours, theirs):
            model.zero_grad()
            model(X.double()).square().mean().backward()
        optimizer.step()
        y, before = vector(theirs), z.detach().clone()
        z.grad = torch.cat([p.grad.flatten() for p in theirs.parameters() if p.grad is not None])
        direction.step()
        d = before - z.detach() + DECAY * y
        y = MU_X * y + (1 - MU_X) * before + RATE * (MU_Y * MU_X - 1) * d
        with torch.no_grad():
            z.copy_(before - RATE * d)
        nn.utils.vector_to_parameters(y, theirs.parameters())
        assert torch.allclose(vector(ours), y, rtol=1e-11, atol=1e-12)
        with optimizer.deployed():
            assert torch.allclose(vector(ours), z.detach() + (y - z.detach()) / MU_Y, rtol=1e-11, atol=1e-12)
