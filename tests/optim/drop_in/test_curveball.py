"""CurveBall as a PyTorch optimizer: mistakes are named."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from relaxbench.optim import CurveBall


def test_curveball_says_what_its_step_takes() -> None:
    layer, other, x = nn.Linear(2, 2), nn.Linear(2, 2), torch.ones(3, 2)
    optimizer = CurveBall(layer, total_steps=10)
    with pytest.raises(TypeError, match=r"CurveBall takes step\(model_fn, loss_fn\)"):
        optimizer.step()
    with pytest.raises(TypeError, match="loss_fn returned a float"):
        optimizer.step(lambda: layer(x), lambda out: 1.0)  # type: ignore[arg-type,return-value]
    with pytest.raises(ValueError, match="must call the model that the optimizer was made for"):
        optimizer.step(lambda: other(x), lambda out: out.square().mean())
