"""Crops and flips, against torchvision's on the same draws."""

from __future__ import annotations

import torch
from torch import vmap

from relaxbench.problems.data.augment import PADDING, crop_and_flip

X = torch.randint(0, 256, (400, 3, 9, 7), generator=torch.Generator().manual_seed(0)).to(torch.uint8)


def test_every_image_is_a_crop_of_its_padded_self_mirrored_half_of_the_time() -> None:
    from torchvision.transforms.v2 import functional  # it takes a second, in every process that collects tests

    def window(padded: torch.Tensor, mirrored: int, down: int, right: int) -> torch.Tensor:
        cut = functional.crop(padded, down, right, *X.shape[2:])
        return functional.horizontal_flip(cut) if mirrored else cut

    result = crop_and_flip(X, torch.tensor(5), torch.tensor(3))
    seen = torch.zeros(2, 2 * PADDING + 1, 2 * PADDING + 1)
    for image, cut in zip(X, result, strict=True):
        padded = functional.pad(image, [PADDING])
        fits = [
            (mirrored, down, right)
            for mirrored in (0, 1)
            for down in range(2 * PADDING + 1)
            for right in range(2 * PADDING + 1)
            if torch.equal(cut, window(padded, mirrored, down, right))
        ]
        assert len(fits) == 1
        seen[fits[0]] += 1
    assert (seen.sum((0, 2)) > 0).all() and (seen.sum((0, 1)) > 0).all()  # all shifts happen, in either direction
    assert 0.4 < float(seen[1].sum() / seen.sum()) < 0.6


def test_draws_are_functions_of_seed_and_step_and_members_have_their_own() -> None:
    seeds, steps = torch.tensor([1, 2, 1]), torch.tensor([7, 7, 8])
    together = vmap(crop_and_flip, in_dims=(None, 0, 0))(X, seeds, steps)
    alone = [crop_and_flip(X, seed, step) for seed, step in zip(seeds, steps, strict=True)]
    assert all(torch.equal(a, b) for a, b in zip(together, alone, strict=True))
    assert not torch.equal(alone[0], alone[1]) and not torch.equal(alone[0], alone[2])
    assert torch.equal(crop_and_flip(X, seeds[0], steps[0]), alone[0])
