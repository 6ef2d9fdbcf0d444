"""The division of labelled images, and the moments of their channels."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from relaxbench.problems.data.images import Images, held_out, moments, part


def test_validation_has_the_same_share_of_every_class_and_never_changes() -> None:
    y = torch.arange(1000) % 7 % 4  # classes of different sizes
    whole = Images(torch.arange(1000, dtype=torch.int64)[:, None], y)
    parts = held_out(whole, 0.2)
    again = held_out(whole, 0.2)
    rows = [parts[name].x.flatten().tolist() for name in ("train", "validation")]
    assert sorted(rows[0] + rows[1]) == list(range(1000))
    assert all(torch.equal(parts[name].x, again[name].x) for name in parts)
    for label in range(4):
        share = int((parts["validation"].y == label).sum()) / int((y == label).sum())
        assert share == pytest.approx(0.2, abs=0.005)
    assert max(rows[1]) > 900  # not the first ones of the file


@given(st.lists(st.integers(0, 300), min_size=1, max_size=12).filter(lambda c: sum(c) >= 2), st.floats(0.05, 0.5))
def test_the_parts_of_a_split_have_the_requested_sizes(counts: list[int], share: float) -> None:
    y = torch.repeat_interleave(torch.tensor(counts))
    validation = held_out(Images(torch.zeros(len(y), 1, 1, 1, dtype=torch.uint8), y), share)["validation"]
    taken = validation.y.bincount(minlength=len(counts)).tolist()
    for count, took in zip(counts, taken, strict=True):
        assert min(count, 1) <= took <= max(count, 1) and abs(took - share * count) <= 1
    if all(share * count >= 1 for count in counts if count):
        assert abs(sum(taken) - share * sum(counts)) <= 0.5 + 1e-9


def test_a_part_has_the_same_share_of_every_class_and_at_most_all_images() -> None:
    whole = Images(torch.zeros(500, 1, 2, 2, dtype=torch.uint8), torch.arange(500) % 5)
    assert part(whole, 100).y.bincount().tolist() == [20] * 5
    assert part(whole, 500) is whole and part(whole, 9999) is whole


@given(st.integers(1, 6), st.integers(1, 4), st.integers(0, 2**31))
def test_moments_are_those_of_all_pixels_of_a_channel(count: int, channels: int, seed: int) -> None:
    x = torch.randint(0, 256, (count, channels, 5, 7), generator=torch.Generator().manual_seed(seed)).to(torch.uint8)
    mean, std = moments(x)
    pixels = x.double().transpose(0, 1).flatten(1) / 255
    assert torch.allclose(mean, pixels.mean(dim=1)) and torch.allclose(std, pixels.std(dim=1, correction=0))
