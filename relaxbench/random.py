"""Counter-based random numbers: every draw is a pure function of (seed, stream, step, index).

No generator has a state, so a trial does not depend on its slot, its neighbours or on how often it was interrupted,
and any draw can be made again. The hash is `lowbias32` (C. Wellons, "Prospecting for hash functions", public domain)
on 32-bit words held in int64, keyed by two words that are mixed from seed, stream and step.
"""

from __future__ import annotations

import hashlib
import math

import torch
from torch import Tensor

MASK = 0xFFFFFFFF

# Streams: what a draw is for. Two purposes never share numbers.
INIT, ORDER, NOISE, DROPOUT, DATA = 1, 2, 3, 4, 5


def derive(*parts: object) -> int:
    """A seed (63 bits) from anything that prints: ``derive(study_seed, "explore", method, block, i)``."""
    digest = hashlib.blake2b("\x1f".join(str(p) for p in parts).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


def mix(word: Tensor) -> Tensor:
    """A bijection of 32-bit words (int64 in, int64 out) in which every input bit moves every output bit."""
    word = (word ^ (word >> 16)) * 0x7FEB352D & MASK
    word = (word ^ (word >> 15)) * 0x846CA68B & MASK
    return word ^ (word >> 16)


def key(seed: Tensor, stream: int, step: Tensor) -> tuple[Tensor, Tensor]:
    """Two 32-bit words for a draw.

    Args:
        seed: int64 of any shape, up to 63 bits each.
        stream: what the draw is for, one of the constants above (plus an offset for sub-streams).
        step: int64 that broadcasts with `seed`, usually the number of gradients seen.
    """
    low, high = seed & MASK, seed >> 32 & MASK
    first = mix(mix(mix(low + 0x9E3779B9 * stream & MASK) ^ high) ^ (step & MASK))
    second = mix(mix(mix(high + 0x85EBCA6B * stream & MASK) ^ low) + (step & MASK) & MASK)
    return first, second


def bits(words: tuple[Tensor, Tensor], index: Tensor) -> Tensor:
    """32 random bits (int64) for every index; the shapes of `words` and `index` broadcast."""
    first, second = words
    return mix(mix(index + first & MASK) ^ second)


def uniform(words: tuple[Tensor, Tensor], index: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """Uniform numbers in the open interval (0, 1): 23 bits in float32, 32 bits in float64; every one is exact."""
    word = bits(words, index)
    if dtype == torch.float64:
        return (word.to(dtype) + 0.5) * 2.0**-32
    if dtype.itemsize < 4:
        raise TypeError(f"random numbers in {dtype}: 23 bits do not fit; draw float32 and round")
    # A 24th bit would leave none for the half: the largest number would round to 1.
    return ((word >> 9).to(dtype) + 0.5) * 2.0**-23


def normal(words: tuple[Tensor, Tensor], size: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """Standard normal numbers ``[..., size]`` for keys ``[..., 1]``, by Box and Muller's pairs."""
    half = (size + 1) // 2
    index = torch.arange(half, device=words[0].device)
    radius = (-2.0 * uniform(words, index, dtype).log()).sqrt()
    angle = (2.0 * math.pi) * uniform(words, index + half, dtype)
    return torch.cat([radius * angle.cos(), radius * angle.sin()], dim=-1)[..., :size]


def permutation(words: tuple[Tensor, Tensor], size: int) -> Tensor:
    """Random orders of 0 … size − 1, int64 ``[..., size]`` for keys ``[..., 1]``."""
    index = torch.arange(size, device=words[0].device)
    # 62 bits a key: ties practically never happen, and a stable sort makes even those reproducible.
    high = bits(words, index) >> 1
    low = bits(words, index + size) >> 1
    return torch.argsort(high << 31 | low, dim=-1, stable=True)
