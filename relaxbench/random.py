"""Counter-based random numbers: every draw is a pure function of (seed, stream, step, index).

There are no generators with a state, so a trial does not depend on its slot, its neighbours or its interruptions,
and any draw can be repeated. The hash is `lowbias32` (C. Wellons, "Prospecting for hash functions", public domain)
on 32-bit words, keyed by two words that are mixed from seed, stream and step. Keys are held in int64; the many words of
a draw are int32, which multiplies several times faster and wraps around.

The noise of a rule's steps is drawn as often as gradients are, so it has a cheaper generator, `noise`.
"""

from __future__ import annotations

import functools
import math

import torch
from torch import Tensor

from relaxbench.recording import recording

MASK = 0xFFFFFFFF
PIECE = 1 << 17
"""Words per piece on the CPU: temporaries of megabytes need fresh memory pages, which cost more than a hash."""

LEVELS = 1 << 16
"""Number of different values of `noise`."""
BLOCK, BLOCK_SIZE = 64, 4096
"""Steps of `noise` that are drawn together for a single member, and the largest P for which they are."""
GOLDEN, FIRST, SECOND = 0x9E3779B97F4A7C15 - 2**64, 0xBF58476D1CE4E5B9 - 2**64, 0x94D049BB133111EB - 2**64
"""Constants of SplitMix64, as int64."""

# Streams: one per purpose of a draw. Two purposes never share numbers.
INIT, ORDER, NOISE, DROPOUT, DATA, AUGMENT, PROBES = 1, 2, 3, 4, 5, 6, 7
# The steps of DATA: 0 statistics of batch normalization, 1 held-out images, 2 a part of them, 3 windows of a text,
# 4 the examples of a Hessian, 10 and more the points of a differential equation's splits.
# DATA + FRESH: data that are drawn anew for every gradient of a trial.
FRESH = 16


def mix(word: Tensor) -> Tensor:
    """A bijection of 32-bit words (int64 in, int64 out) in which every input bit moves every output bit."""
    word = (word ^ (word >> 16)).mul_(0x7FEB352D).bitwise_and_(MASK)
    word = word.bitwise_xor_(word >> 15).mul_(0x846CA68B).bitwise_and_(MASK)
    return word.bitwise_xor_(word >> 16)


def key(seed: Tensor, stream: int, step: Tensor) -> tuple[Tensor, Tensor]:
    """Two 32-bit words that key a draw.

    Args:
        seed: int64 of any shape, up to 63 bits each.
        stream: the purpose of the draw, one of the constants above (plus an offset for sub-streams).
        step: int64 that broadcasts with `seed`, usually the number of gradients seen.
    """
    # Both words are mixed at once: they are few, so that the number of calls is what takes the time.
    low, high, step = seed & MASK, seed >> 32 & MASK, step & MASK
    starts = torch.stack([low + 0x9E3779B9 * stream, high + 0x85EBCA6B * stream]) & MASK
    first, second = mix(mix(starts) ^ torch.stack([high, low])).unbind()
    first, second = mix(torch.stack([first ^ step, second + step & MASK])).unbind()
    return first, second


def branch(words: tuple[Tensor, Tensor], number: int) -> tuple[Tensor, Tensor]:
    """Derive one key per number, with fewer operations than `key`."""
    first, second = (_mixed(2 * number + which) for which in (1, 2))
    return words[0] + first & MASK, words[1] ^ second


@functools.cache
def _mixed(number: int) -> int:
    """`mix` of a Python int."""
    return int(mix(torch.tensor(number * 0x9E3779B9 & MASK)))


def kept(words: tuple[Tensor, Tensor], count: int, share: float) -> Tensor:
    """Bernoulli draws ``[…, count]``, true with probability `share`, for keys ``[…]``; of 32 bits."""
    index = torch.arange(count, device=words[0].device, dtype=torch.int32)
    return _hash((words[0][..., None], words[1][..., None]), index) < min(round(share * 2**32), MASK) - 2**31


def bits(words: tuple[Tensor, Tensor], index: Tensor) -> Tensor:
    """32 random bits (int64) per index; the shapes of `words` and `index` broadcast."""
    return _hash(words, index).to(torch.int64) & MASK


def _hash(words: tuple[Tensor, Tensor], index: Tensor) -> Tensor:
    """`bits` as int32: the conversion keeps the low 32 bits, so that the upper half becomes negative numbers."""
    first, second = (word.to(torch.int32) for word in words)
    return _mix(_mix(index.to(torch.int32) + first) ^ second)


def _mix(word: Tensor) -> Tensor:
    """`mix` of int32, in place. A right shift copies the sign bit, so the copied bits are cleared."""
    word.bitwise_xor_((word >> 16).bitwise_and_(0xFFFF)).mul_(0x7FEB352D)
    word.bitwise_xor_((word >> 15).bitwise_and_(0x1FFFF)).mul_(0x846CA68B - (MASK + 1))
    return word.bitwise_xor_((word >> 16).bitwise_and_(0xFFFF))


def uniform(words: tuple[Tensor, Tensor], index: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """Uniform numbers in the open interval (0, 1): 23 bits in float32, 32 bits in float64; every one is exact."""
    if dtype == torch.float64:
        return bits(words, index).to(dtype).add_(0.5).mul_(2.0**-32)
    if dtype.itemsize < 4:
        raise TypeError(f"random numbers in {dtype}: 23 bits do not fit; draw float32 and round")
    # With a 24th bit there would be none left for the added half: the largest number would round to 1.
    return (_hash(words, index) >> 9).bitwise_and_(MASK >> 9).to(dtype).add_(0.5).mul_(2.0**-23)


def normal(words: tuple[Tensor, Tensor], size: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """Standard normal numbers ``[..., size]`` for keys ``[..., 1]``, by the Box–Muller transform."""
    device, shape = words[0].device, words[0].shape[:-1]
    half = (size + 1) // 2
    result = torch.empty(*shape, 2, half, dtype=dtype, device=device)
    length = max(1, PIECE // (2 * max(1, shape.numel()))) if device.type == "cpu" else half
    first, second = (word[..., None] for word in words)
    rows = torch.arange(2, device=device, dtype=torch.int32)[:, None] * half  # of radii and of angles
    for start in range(0, half, length):
        stop = min(start + length, half)
        index = torch.arange(start, stop, device=device, dtype=torch.int32) + rows
        radius, angle = uniform((first, second), index, dtype).unbind(-2)
        radius = radius.log_().mul_(-2.0).sqrt_()
        angle = angle.mul_(2.0 * math.pi)
        torch.mul(radius, angle.cos(), out=result[..., 0, start:stop])
        torch.mul(radius, angle.sin_(), out=result[..., 1, start:stop])
    return result.flatten(-2)[..., :size]


def permutation(words: tuple[Tensor, Tensor], size: int) -> Tensor:
    """Random orders of 0 … size − 1, int64 ``[..., size]`` for keys ``[..., 1]``."""
    index = torch.arange(size, device=words[0].device)
    # 62 bits per number: ties practically never occur, and a stable sort makes even those reproducible.
    high = bits(words, index).bitwise_right_shift_(1)
    return order(high.bitwise_left_shift_(31).bitwise_or_(bits(words, index + size).bitwise_right_shift_(1)))


def order(numbers: Tensor) -> Tensor:
    """`torch.argsort` of int64 numbers ``[..., size]`` that are not negative; equal ones keep their order."""
    size = numbers.shape[-1]
    if numbers.device.type == "cpu":
        # The index takes the place of the lowest bits, so that numbers alone are sorted: with vector instructions, in
        # a fifth of the time.
        low = (1 << size.bit_length()) - 1
        packed = numbers.bitwise_and(~low).bitwise_or_(torch.arange(size))
        packed.numpy().sort(axis=-1)
        if not (packed[..., 1:] ^ packed[..., :-1] <= low).any():
            return packed.bitwise_and_(low)
    return torch.argsort(numbers, dim=-1, stable=True)  # also of numbers that differ in their lowest bits alone


# Noise of a rule's steps.


def noise(
    seed: Tensor,
    stream: int,
    step: Tensor,
    size: int,
    dtype: torch.dtype = torch.float32,
    scale: Tensor | None = None,
) -> Tensor:
    """Draw standard normal noise for a step of every member, at about the cost of `torch.randn`.

    The 64-bit words are those of SplitMix64 (Steele, Lea & Flood, OOPSLA 2014), started at a key to which the same
    mixing has been applied twice: to seed and stream, then to the step. A word has 16 bits for each of four
    coordinates, and 16 bits choose one of `LEVELS` equally probable values, see `levels`. So a number is a function of
    (seed, stream, step, coordinate) alone; without logarithm, root and cosine, it is the same on every device.

    Against a normal distribution, the distribution function is wrong by at most 1e-5, the kurtosis by 2e-4, and no
    number exceeds 4.39. That suits noise of which many steps are added up; where single tails matter, use `normal`.

    A single member whose P is small is given rows of a block of steps, which is remembered: one step alone would be
    mostly the overhead of calls. The numbers are the same.

    Args:
        seed: int64 ``[K, 1]``, up to 63 bits each.
        stream: the purpose of the draw, as for `key`.
        step: int64 ``[K, 1]``, usually the number of gradients seen.
        size: P, the number of coordinates.
        dtype: of the result.
        scale: multiplies the noise; ``[K, 1]`` or ``[K, P]``.

    Returns:
        A new tensor ``[K, P]``.
    """
    if len(seed) > 1 or size > BLOCK_SIZE or seed.device.type != "cpu" or recording():
        drawn = _noise(seed, stream, step, size, dtype)
        return drawn if scale is None else drawn.mul_(scale)
    number, place = divmod(int(step), BLOCK)
    drawn = _block(int(seed), stream, number, size, dtype)[place]
    return drawn.clone() if scale is None else drawn * scale


@functools.lru_cache(maxsize=4)
def _block(seed: int, stream: int, number: int, size: int, dtype: torch.dtype) -> tuple[Tensor, ...]:
    """The noise of `BLOCK` consecutive steps of a member, ``[1, P]`` each."""
    with torch.inference_mode(False):
        steps = torch.arange(number * BLOCK, (number + 1) * BLOCK, device="cpu")[:, None]
        drawn = _noise(torch.full_like(steps, seed), stream, steps, size, dtype)
        return tuple(drawn[place : place + 1] for place in range(BLOCK))


def _noise(seed: Tensor, stream: int, step: Tensor, size: int, dtype: torch.dtype) -> Tensor:
    """`noise`, computed anew."""
    key = _mix64(_mix64(seed + _signed(stream * GOLDEN)) + step * GOLDEN)
    values, words = levels(dtype, key.device), (size + 3) // 4
    if recording():
        words = (words + 15) // 16 * 16  # PyTorch 2.15 compiles other lengths into code that overruns its memory
    piecewise = key.device.type == "cpu" and not recording()
    length = max(1, PIECE // (2 * max(1, len(key)))) if piecewise else words
    if words <= length:
        return _part(key, values, 0, words, size)
    result = values.new_empty(len(key), size)
    for start in range(0, words, length):
        result[:, 4 * start : 4 * (start + length)] = _part(key, values, start, min(start + length, words), size)
    return result


def _part(key: Tensor, values: Tensor, start: int, stop: int, size: int) -> Tensor:
    """The coordinates of the words from `start` up to `stop`, without those beyond `size`."""
    words = _mix64(key + torch.arange(start + 1, stop + 1, device=key.device).mul_(GOLDEN))
    if recording():
        pieces = (words[..., None] >> torch.arange(0, 64, 16, device=key.device)).flatten(1)
    else:
        pieces = words.view(torch.int16)  # on a little-endian machine the same, and faster
    index = pieces[:, : size - 4 * start].to(torch.int32).bitwise_and_(LEVELS - 1)
    return values.index_select(0, index.flatten()).view(index.shape)


def _mix64(word: Tensor) -> Tensor:
    """The bijection of 64-bit words in SplitMix64 (D. Stafford's variant 13), in place on int64.

    A right shift copies the sign bit, so the copied bits are cleared.
    """
    word.bitwise_xor_((word >> 30).bitwise_and_(2**34 - 1)).mul_(FIRST)
    word.bitwise_xor_((word >> 27).bitwise_and_(2**37 - 1)).mul_(SECOND)
    return word.bitwise_xor_((word >> 31).bitwise_and_(2**33 - 1))


def _signed(number: int) -> int:
    """The int64 with the low 64 bits of an integer."""
    return (number + 2**63) % 2**64 - 2**63


def levels(dtype: torch.dtype, device: torch.device) -> Tensor:
    """Return the values of `noise` in increasing order, ``[LEVELS]``. Do not change them.

    Each is the mean of a standard normal number within one of `LEVELS` equally probable intervals, times one factor, so
    that their mean is 0 and their variance 1. All devices have copies of what the CPU has computed.
    """
    if (dtype, device) not in _levels:
        edges = torch.special.ndtri(torch.arange(LEVELS // 2 + 1, dtype=torch.float64, device="cpu") / LEVELS)
        lower = -torch.exp(-edges.square() / 2).diff()  # the density's difference, but for a factor
        values = torch.cat([lower, -lower.flip(0)])
        _levels[dtype, device] = (values / values.square().mean().sqrt()).to(dtype).to(device)
    return _levels[dtype, device]


_levels: dict[tuple[torch.dtype, torch.device], Tensor] = {}
