"""Points of a domain: functions of their key, in the domain, on its boundary."""

from __future__ import annotations

import pytest
import torch

from relaxbench import random
from relaxbench.errors import UserError
from relaxbench.problems.science.points import Box, normals, split_key, uniforms

BOX = Box((-1.0, 0.0), (3.0, 0.5))


def test_points_are_functions_of_their_key_alone() -> None:
    words = random.key(torch.tensor([[7], [2**62 + 5], [8]]), random.DATA + random.FRESH, torch.tensor([[4], [4], [5]]))
    together = uniforms(words, 50, 3)
    for k, (seed, number) in enumerate([(7, 4), (2**62 + 5, 4), (8, 5)]):
        alone = uniforms(
            random.key(torch.tensor([[seed]]), random.DATA + random.FRESH, torch.tensor([[number]])), 50, 3
        )
        assert torch.equal(together[k], alone[0]) and together.dtype == torch.float64
    flat = together.flatten()
    assert len(set(flat.tolist())) == flat.numel() and 0 < flat.min() < 0.05 and 0.95 < flat.max() < 1
    assert not torch.equal(uniforms(split_key(10), 5, 2), uniforms(split_key(11), 5, 2))


def test_points_fill_a_box_and_its_boundary_evenly() -> None:
    inside, edge = BOX.inside(split_key(1), 4000)[0], BOX.boundary(split_key(2), 4000)[0]
    middle, spread = torch.tensor([1.0, 0.25]).double(), torch.tensor([4.0, 0.5]).double()
    assert torch.allclose(inside.mean(0), middle, atol=0.03 * 4)
    assert torch.allclose(inside.std(0), spread / 12**0.5, rtol=0.05)
    low, high = torch.tensor(BOX.low).double(), torch.tensor(BOX.high).double()
    on = torch.cat([edge == low, edge == high], dim=1)
    assert on.any(1).all() and (on.double().mean(0) - 0.25).abs().max() < 0.03  # a quarter on every side
    BOX.refuse_outside("p", inside)
    BOX.refuse_outside("p", edge)
    assert abs(float(normals(split_key(3), 4000).std()) - 1) < 0.05


@pytest.mark.parametrize("point", [[3.1, 0.2], [0.0, float("nan")]])
def test_points_outside_are_refused(point: list[float]) -> None:
    with pytest.raises(
        UserError, match=r"problem 'p' draws the point \(.*\), outside its domain \[-1, 3\] × \[0, 0.5\]"
    ):
        BOX.refuse_outside("p", torch.tensor([[0.0, 0.1], point], dtype=torch.float64))


def test_points_of_another_dimension_are_refused() -> None:
    with pytest.raises(UserError, match="draws points with 3 coordinates"):
        BOX.refuse_outside("p", torch.zeros(4, 3, dtype=torch.float64))
