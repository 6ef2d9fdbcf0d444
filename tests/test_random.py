"""The random numbers: pure functions of (seed, stream, step, index), and as random as scipy's tests can tell."""

from __future__ import annotations

import hashlib
import itertools

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from torch import Tensor

from relaxbench import random
from relaxbench.random import DATA, DROPOUT, INIT, NOISE, ORDER
from relaxbench.util.seeds import derive

MASK = 2**32 - 1
ALPHA = 1e-4  # the draws never change, so these tests cannot flicker; a bound this wide fails only for a reason
SEEDS = st.integers(0, 2**63 - 1)
STEPS = st.integers(0, 2**40)
DTYPES = pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])


def words(seed: int, stream: int = NOISE, step: int = 0) -> tuple[Tensor, Tensor]:
    """The key of one draw, ``[1, 1]``."""
    return random.key(torch.tensor([[seed]]), stream, torch.tensor([[step]]))


def sample(seed: int, stream: int, step: int, count: int) -> np.ndarray:
    """Uniform numbers of one key, centred and scaled to variance 1."""
    numbers = random.uniform(words(seed, stream, step), torch.arange(count), torch.float64)
    return (numbers[0].numpy() - 0.5) * 12**0.5


# The hash, against plain Python integers.


def lowbias32(word: int) -> int:
    """C. Wellons' published function, in the C of its page: x ^= x >> 16; x *= 0x7feb352d; …"""
    word ^= word >> 16
    word = word * 0x7FEB352D % 2**32
    word ^= word >> 15
    word = word * 0x846CA68B % 2**32
    return word ^ word >> 16


def undo(word: int) -> int:
    """The inverse of `lowbias32`."""
    word ^= word >> 16
    word = word * pow(0x846CA68B, -1, 2**32) % 2**32
    word ^= word >> 15 ^ word >> 30
    word = word * pow(0x7FEB352D, -1, 2**32) % 2**32
    return word ^ word >> 16


@given(st.integers(0, MASK))
def test_mix_is_lowbias32_and_a_bijection(word: int) -> None:
    mixed = int(random.mix(torch.tensor(word)))
    assert mixed == lowbias32(word)
    assert undo(mixed) == word


def test_every_input_bit_moves_every_output_bit_half_of_the_time() -> None:
    word = torch.arange(1 << 14) * 2654435761 & MASK
    for place in range(32):
        changed = random.mix(word) ^ random.mix(word ^ (1 << place))
        share = torch.stack([(changed >> out & 1).double().mean() for out in range(32)])
        assert share.min() > 0.4 and share.max() < 0.6


@given(SEEDS, st.sampled_from([INIT, ORDER, NOISE, DROPOUT, DATA, DROPOUT + 256]), STEPS, st.integers(0, MASK))
def test_keys_and_bits_follow_the_definition_in_plain_integers(seed: int, stream: int, step: int, index: int) -> None:
    """No step of the vectorized arithmetic runs over the 63 bits of an int64."""
    low, high, step_word = seed % 2**32, seed >> 32, step % 2**32
    first = lowbias32(lowbias32(lowbias32((low + 0x9E3779B9 * stream) % 2**32) ^ high) ^ step_word)
    second = lowbias32((lowbias32(lowbias32((high + 0x85EBCA6B * stream) % 2**32) ^ low) + step_word) % 2**32)
    key = words(seed, stream, step)
    assert (int(key[0]), int(key[1])) == (first, second)
    assert int(random.bits(key, torch.tensor([index]))) == lowbias32(lowbias32((index + first) % 2**32) ^ second)


# Purity.


@given(st.lists(st.tuples(SEEDS, STEPS), min_size=1, max_size=9), st.integers(1, 70), st.booleans())
def test_a_draw_does_not_depend_on_its_batch(members: list[tuple[int, int]], size: int, double: bool) -> None:
    """Bit for bit: all together, in reverse order, as [K, 1, size], and one at a time."""
    dtype = torch.float64 if double else torch.float32
    seed = torch.tensor([[s] for s, _ in members])
    step = torch.tensor([[t] for _, t in members])
    key = random.key(seed, NOISE, step)
    index = torch.arange(size)
    normal, uniform = random.normal(key, size, dtype), random.uniform(key, index, dtype)
    order = random.permutation(key, size)
    assert normal.dtype == uniform.dtype == dtype and order.dtype == torch.int64
    assert normal.shape == uniform.shape == order.shape == (len(members), size)
    backwards = random.key(seed.flip(0), NOISE, step.flip(0))
    assert torch.equal(random.normal(backwards, size, dtype).flip(0), normal)
    assert torch.equal(random.permutation(backwards, size).flip(0), order)
    wide = random.key(seed[:, None], NOISE, step[:, None])
    assert torch.equal(random.normal(wide, size, dtype)[:, 0], normal)
    assert torch.equal(random.uniform(wide, index, dtype)[:, 0], uniform)
    for k, (s, t) in enumerate(members):
        alone = words(s, NOISE, t)
        assert torch.equal(random.normal(alone, size, dtype)[0], normal[k])
        assert torch.equal(random.permutation(alone, size)[0], order[k])
        one_by_one = torch.cat([random.uniform(alone, torch.tensor([i]), dtype)[0] for i in range(size)])
        assert torch.equal(one_by_one, uniform[k])


@pytest.mark.parametrize("size", [1, 2, 7, 16, 31, 1205, 4099, 70_001])
@DTYPES
def test_many_rows_are_the_same_as_one_where_kernels_split_the_work(size: int, dtype: torch.dtype) -> None:
    """Across the ends of vector registers and of threads' shares."""
    first, second = random.key(torch.arange(40)[:, None], NOISE, torch.full((40, 1), 3))
    together = random.normal((first, second), size, dtype)
    for k in (0, 1, 7, 39):
        assert torch.equal(together[k], random.normal((first[k], second[k]), size, dtype))


@given(SEEDS, st.lists(st.integers(0, 2**31), min_size=1, max_size=20))
def test_any_indices_can_be_drawn_in_any_order(seed: int, index: list[int]) -> None:
    together = random.uniform(words(seed), torch.tensor(index))[0]
    backwards = random.uniform(words(seed), torch.tensor(index[::-1]))[0]
    assert torch.equal(together, backwards.flip(0))


def test_seed_and_step_broadcast() -> None:
    seed, step = torch.arange(3)[:, None] << 40, torch.arange(4)[None]
    first, second = random.key(seed, DATA, step)
    assert first.shape == second.shape == (3, 4)
    for i, j in itertools.product(range(3), range(4)):
        one = random.key(seed[i], DATA, step[:, j])
        assert (int(first[i, j]), int(second[i, j])) == (int(one[0]), int(one[1]))


def test_drawing_leaves_no_trace() -> None:
    torch.manual_seed(0)
    before = torch.random.get_rng_state()
    key = words(3)
    kept = tuple(word.clone() for word in key)
    random.normal(key, 10), random.permutation(key, 10), random.uniform(key, torch.arange(10))
    assert torch.equal(torch.random.get_rng_state(), before)
    assert all(torch.equal(a, b) for a, b in zip(key, kept, strict=True))


# Distributions.


@DTYPES
def test_uniform_is_uniform(dtype: torch.dtype) -> None:
    steps = torch.arange(64)[:, None]
    numbers = random.uniform(random.key(torch.tensor([[5]]), DROPOUT, steps), torch.arange(4096), dtype)
    counts = np.histogram(numbers.double().numpy(), bins=256, range=(0, 1))[0]
    assert stats.chisquare(counts).pvalue > ALPHA  # over indices of a step
    assert stats.chisquare(np.histogram(numbers[:, 7].double().numpy(), bins=8, range=(0, 1))[0]).pvalue > ALPHA
    assert stats.kstest(numbers.double().flatten().numpy(), "uniform").pvalue > ALPHA


def test_every_one_of_the_32_bits_is_fair_and_the_lowest_8_are_uniform() -> None:
    drawn = random.bits(random.key(torch.arange(64)[:, None], DATA, torch.tensor([[2]])), torch.arange(4096)).flatten()
    assert int(drawn.min()) >= 0 and int(drawn.max()) <= MASK
    for place in range(32):
        ones = int((drawn >> place & 1).sum())
        assert stats.binomtest(ones, drawn.numel()).pvalue > ALPHA / 32
    assert stats.chisquare(torch.bincount(drawn & 255, minlength=256).numpy()).pvalue > ALPHA


@DTYPES
def test_uniform_stays_inside_the_open_interval_at_both_ends(dtype: torch.dtype) -> None:
    """The smallest and the largest word, whose indices follow from the inverse of the hash."""
    zero = torch.zeros(1, dtype=torch.int64)
    index = torch.tensor([undo(undo(0)), undo(undo(MASK))])
    assert random.bits((zero, zero), index).tolist() == [0, MASK]
    lowest, highest = random.uniform((zero, zero), index, dtype).tolist()
    assert 0 < lowest < 2.0**-20
    assert 1 - 2.0**-20 < highest < 1
    assert lowest == 1 - highest  # symmetric about 1/2


@DTYPES
def test_the_grid_of_uniform_is_even(dtype: torch.dtype) -> None:
    """All gaps between neighbouring words are one step of the grid or none: no rounding to even."""
    zero, step = torch.zeros(1, dtype=torch.int64), 2.0**-32 if dtype == torch.float64 else 2.0**-23
    for start in (0, 2**31, MASK - 2048):
        index = torch.tensor([undo(undo(word)) for word in range(start, start + 2048)])
        numbers = random.uniform((zero, zero), index, dtype).double()
        gaps = numbers.diff().unique()
        assert set(gaps.tolist()) <= {0.0, step}
        assert torch.equal((numbers / step) % 1, torch.full_like(numbers, 0.5))  # in the middle of its cell


@DTYPES
def test_normal_is_normal(dtype: torch.dtype) -> None:
    steps = torch.arange(50)[:, None]
    drawn = random.normal(random.key(torch.tensor([[11]]), NOISE, steps), 4001, dtype).double().numpy()
    n = drawn.size
    assert stats.kstest(drawn.ravel(), "norm").pvalue > ALPHA
    for power, moment in ((1, 0), (2, 1), (3, 0), (4, 3), (6, 15)):
        spread = {1: 1, 2: 2, 3: 15, 4: 96, 6: 10170}[power]  # E ξ^{2p} − (E ξ^p)²
        assert abs((drawn**power).mean() - moment) < 4 * (spread / n) ** 0.5
    assert stats.kstest(drawn[:, 0], "norm").pvalue > ALPHA  # one index over the steps
    assert 4.2 < np.abs(drawn).max() < 6.5


def test_both_numbers_of_a_pair_are_independent() -> None:
    """Box and Muller's two halves share a radius: neither they nor their squares may be correlated."""
    drawn = random.normal(words(23), 200_000, torch.float64)[0].numpy()
    a, b = drawn[:100_000], drawn[100_000:]
    for f, g in ((a, b), (a**2, b**2), (a, b**2), (a * b, a**2 - b**2)):
        assert abs(np.corrcoef(f, g)[0, 1]) < 4 / 100_000**0.5


def test_float32_and_float64_draw_the_same_numbers_to_rounding() -> None:
    single, double = (random.normal(words(5), 5001, dtype) for dtype in (torch.float32, torch.float64))
    assert torch.allclose(single.double(), double, atol=1e-3)


@given(st.integers(0, 9))
def test_normal_of_any_size(size: int) -> None:
    drawn = random.normal(words(1), size)
    assert drawn.shape == (1, size) and bool(torch.isfinite(drawn).all())


@given(st.lists(st.integers(0, 40) | st.integers(0, 2**62 - 1), max_size=60), st.integers(1, 3))
def test_order_sorts_and_equal_numbers_keep_their_order(numbers: list[int], rows: int) -> None:
    """Small numbers differ in bits whose place the index takes, or are equal."""
    table = torch.tensor([numbers[shift:] + numbers[:shift] for shift in range(rows)], dtype=torch.int64)
    kept = table.clone()
    found = random.order(table)
    assert found.dtype == torch.int64 and torch.equal(table, kept)
    assert found.tolist() == np.argsort(table.numpy(), axis=-1, kind="stable").tolist()


@given(SEEDS, st.integers(0, 300))
def test_permutation_is_a_permutation(seed: int, size: int) -> None:
    order = random.permutation(words(seed, ORDER), size)[0]
    assert sorted(order.tolist()) == list(range(size))


def test_permutations_are_uniform() -> None:
    order = random.permutation(random.key(torch.tensor([[77]]), ORDER, torch.arange(24_000)[:, None]), 5)
    code = (order * 5 ** torch.arange(5)).sum(dim=1)
    _, counts = code.unique(return_counts=True)
    assert counts.numel() == 120
    assert stats.chisquare(counts.numpy()).pvalue > ALPHA
    # A long one: where the first element lands, and the number of fixed points (1 on average, variance 1).
    long = random.permutation(random.key(torch.arange(3000)[:, None], ORDER, torch.tensor([[0]])), 100)
    assert stats.chisquare(torch.bincount(long[:, 0], minlength=100).numpy()).pvalue > ALPHA
    assert abs(float((long == torch.arange(100)).double().sum(dim=1).mean()) - 1) < 4 / 3000**0.5


# Independence.

NEIGHBOURS = {
    "the next step": (9, NOISE, 1),
    "the next seed": (10, NOISE, 0),
    "a seed with another high bit": (9 + 2**62, NOISE, 0),
    "a seed with bit 32": (9 + 2**32, NOISE, 0),
    "the next stream": (9, DROPOUT, 0),
    "a sub-stream": (9, NOISE + 256, 0),
    "seed and step exchanged": (0, NOISE, 9),
    "a seed that is the next stream in the first word": (9 + 0x9E3779B9, NOISE - 1, 0),
}


@pytest.mark.parametrize("other", NEIGHBOURS.values(), ids=NEIGHBOURS)
def test_neighbouring_draws_are_uncorrelated(other: tuple[int, int, int]) -> None:
    """At every lag up to 3 indices, in the numbers and in their squares; and no number is shared."""
    n = 1 << 16
    a, b = sample(9, NOISE, 0, n), sample(*other, n)
    for lag in range(-3, 4):
        x, y = a[max(0, lag) : n + min(0, lag)], b[max(0, -lag) : n + min(0, -lag)]
        assert abs(np.corrcoef(x, y)[0, 1]) < 4.5 / n**0.5
        assert abs(np.corrcoef(x**2, y**2)[0, 1]) < 4.5 / n**0.5
    joint = np.histogram2d(a, b, bins=16)[0]
    assert stats.chisquare(joint.ravel()).pvalue > ALPHA
    assert len(np.intersect1d(a, b)) < 12  # by chance 2^32 / 2^32 = 1 of the 32-bit words


def test_a_sequence_is_uncorrelated_with_itself_shifted() -> None:
    n = 1 << 16
    for a in (
        sample(1, NOISE, 0, n),  # over indices
        random.uniform(random.key(torch.tensor([[1]]), NOISE, torch.arange(n)), torch.tensor([0]), torch.float64)[0],
        random.uniform(random.key(torch.arange(n), NOISE, torch.tensor([0])), torch.tensor([0]), torch.float64),
    ):
        numbers = np.asarray(a)
        assert stats.kstest((numbers - numbers.min()) / np.ptp(numbers), "uniform").pvalue > ALPHA
        for lag in (1, 2, 3, 256, 4096):
            assert abs(np.corrcoef(numbers[:-lag], numbers[lag:])[0, 1]) < 4.5 / n**0.5


def test_one_bit_of_the_seed_or_step_moves_half_of_the_drawn_bits() -> None:
    index = torch.arange(2000)
    base = random.bits(words(123456789, NOISE, 77), index)
    others = [words(123456789 ^ 1 << place, NOISE, 77) for place in range(63)]
    others += [words(123456789, NOISE, 77 ^ 1 << place) for place in range(32)]
    for other in others:
        changed = (random.bits(other, index) ^ base).numpy().astype(np.uint32)
        assert abs(np.unpackbits(changed.view(np.uint8)).mean() - 0.5) < 0.01  # 5 standard errors


def test_many_draws_are_uncorrelated_pair_by_pair() -> None:
    """100 draws that differ in seed, stream or step, 4,950 pairs."""
    n = 4000
    keys = itertools.product((0, 1, 2, 2**32, 2**62), (INIT, ORDER, NOISE, DROPOUT, DROPOUT + 256), (0, 1, 2, 1000))
    rows = np.stack([random.normal(words(*key), n, torch.float64)[0].numpy() for key in keys])
    pairs = np.triu_indices(len(rows), 1)
    assert np.abs(np.corrcoef(rows)[pairs]).max() < 5.5 / n**0.5
    assert np.abs(np.corrcoef(rows**2)[pairs]).max() < 6.5 / n**0.5


def test_keys_of_neighbours_are_all_different() -> None:
    seed, step = torch.arange(100)[:, None], torch.arange(100)[None]
    keys = [torch.stack(random.key(seed, stream, step), dim=-1).flatten(0, 1) for stream in (1, 2, 3, 4, 5, 260, 516)]
    assert torch.cat(keys).unique(dim=0).shape[0] == 7 * 100 * 100


@given(SEEDS, st.integers(0, 62), SEEDS)
def test_every_bit_of_a_63_bit_seed_counts(seed: int, place: int, step: int) -> None:
    """Seeds that differ in one bit, a high one included, give other keys and other numbers."""
    step %= 2**32
    a, b = words(seed, INIT, step), words(seed ^ 1 << place, INIT, step)
    assert int(a[0]) != int(b[0]) or int(a[1]) != int(b[1])
    assert not torch.equal(random.normal(a, 8), random.normal(b, 8))


@given(SEEDS, SEEDS, st.sampled_from([INIT, ORDER, NOISE, DROPOUT, DATA]))
def test_a_seed_and_stream_never_repeat_a_key_within_2_to_the_32_steps(seed: int, step: int, stream: int) -> None:
    """Both words are bijections of the step: two steps differ in both."""
    t = step % 2**32
    a, b = words(seed, stream, t), words(seed, stream, (t + 1) % 2**32)
    assert int(a[0]) != int(b[0]) and int(a[1]) != int(b[1])


# Seeds.


def test_derive_is_pinned() -> None:
    """A change of these two numbers is a change of every trial that was ever recorded."""
    assert derive(0) == 4_761_921_975_702_974_394
    assert derive(2024, "explore", "entropy-sgd", 3, 17) == 8_006_983_676_008_003_967


@given(st.lists(st.one_of(st.integers(), st.text(max_size=5)), min_size=1, max_size=4))
def test_derive_is_63_bits_of_blake2b(parts: list[int | str]) -> None:
    digest = hashlib.blake2b("\x1f".join(map(str, parts)).encode(), digest_size=8).digest()
    seed = derive(*parts)
    assert seed == int.from_bytes(digest, "big") // 2
    assert 0 <= seed < 2**63
    assert int(torch.tensor([seed])) == seed  # fits an int64


def test_derive_tells_its_parts_apart() -> None:
    assert derive("ab", "c") != derive("a", "bc") != derive("abc")
    assert derive(1, 23) != derive(12, 3)
    assert derive(1, 2) != derive(2, 1)
    assert len({derive(1, "explore", method, i) for method in ("sgd", "heat") for i in range(2000)}) == 4000


def test_derived_seeds_are_uniform() -> None:
    seeds = [derive("study", i) / 2**63 for i in range(5000)]
    assert stats.kstest(seeds, "uniform").pvalue > ALPHA


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_draws_the_same_bits() -> None:
    cpu = random.key(torch.arange(5)[:, None, None] << 50, NOISE, torch.arange(5)[:, None])
    gpu = (cpu[0].cuda(), cpu[1].cuda())
    assert torch.equal(random.bits(cpu, torch.arange(999)), random.bits(gpu, torch.arange(999).cuda()).cpu())
    assert torch.equal(random.permutation(cpu, 999), random.permutation(gpu, 999).cpu())
    assert torch.allclose(random.normal(cpu, 999), random.normal(gpu, 999).cpu(), atol=1e-5)
