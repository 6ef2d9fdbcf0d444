"""Random crops and flips on the device, drawn for every image of every member as a function of seed and step."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from relaxbench import random

PADDING = 4
"""Black pixels on every side before an image is cut to its size again (He et al., arXiv 1512.03385, section 4.2)."""


def crop_and_flip(x: Tensor, seed: Tensor, step: Tensor) -> Tensor:
    """Shift images by up to 4 pixels in either direction, and mirror them half of the time.

    Args:
        x: ``[B, C, H, W]`` of any type.
        seed: of the trial, an int64 scalar (also under `torch.vmap`).
        step: number of the mini-batch, likewise. Equal seeds and steps give equal shifts.

    Returns:
        the images, in the shape and type of `x`.
    """
    count, _, height, width = x.shape
    words = random.key(seed, random.AUGMENT, step)
    draw = random.bits(words, torch.arange(3 * count, device=x.device)).view(3, count, 1)
    down, right = (row % (2 * PADDING + 1) for row in draw[:2])
    rows = torch.arange(height, device=x.device) + down
    columns = torch.arange(width, device=x.device).expand(count, width)
    columns = torch.where(draw[2] >> 31 == 1, width - 1 - columns, columns) + right
    padded = functional.pad(x, (PADDING,) * 4)
    tall = padded.gather(2, rows[:, None, :, None].expand(count, x.shape[1], height, padded.shape[3]))
    return tall.gather(3, columns[:, None, None, :].expand(x.shape))
