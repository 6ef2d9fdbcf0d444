"""Inner products against numpy's in extended precision, and their independence of the other members."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from relaxbench.optim.inner_products import BLOCK, SMALL, gram


@pytest.mark.parametrize("size", [1, 7, SMALL, SMALL + 1, 2 * BLOCK + 3])
def test_float64_products_of_float32_vectors_whatever_the_other_members(size: int) -> None:
    torch.manual_seed(size)
    vectors = [torch.randn(3, size) for _ in range(3)]
    vectors[2] = vectors[0] * (1 + 1e-6)  # nearly parallel: float32 would lose the angle
    found = gram(vectors)
    assert found.dtype == torch.float64 and found.shape == (3, 3, 3)
    exact = np.stack([v.numpy().astype(np.longdouble) for v in vectors], axis=1)
    expected = np.einsum("kip,kjp->kij", exact, exact).astype(float)
    assert found.numpy() == pytest.approx(expected, rel=1e-12, abs=1e-12 * size)
    alone = torch.cat([gram([v[k : k + 1] for v in vectors]) for k in range(3)])
    assert torch.equal(found, alone)
