"""The published networks against their published sizes."""

from __future__ import annotations

import torch

from relaxbench.problems.networks import lenet


def test_lenet_has_the_published_number_of_parameters() -> None:
    model = lenet()
    assert sum(p.numel() for p in model.parameters()) == 131_220
    assert model(torch.randn(2, 1, 28, 28)).shape == (2, 10)
