"""Torch's generators are seeded for a block, at the price of a seed."""

from __future__ import annotations

import traceback

import pytest
import torch

from relaxbench.problems import seeding
from relaxbench.problems.seeding import torch_seeded


def test_a_block_draws_what_torch_s_own_seed_gives_and_leaves_no_trace() -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(1)
    before = torch.get_rng_state()
    with torch_seeded(5):
        assert torch.equal(torch.rand(3), expected)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("accelerated", [False, True])
def test_all_devices_are_seeded_where_there_are_any(accelerated: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there are none, no stack is written down for each seed."""
    monkeypatch.setattr(seeding, "_accelerated", lambda: accelerated)
    stacks: list[object] = []
    monkeypatch.setattr(traceback, "format_stack", lambda *a: stacks.append(a) or [])
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: False)
    with torch_seeded(3):
        pass
    assert bool(stacks) == accelerated
