"""Counter-based random numbers: pure functions of (seed, stream, step, index) that look like chance."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from torch import Tensor

from relaxbench import random

SEEDS = st.integers(0, 2**63 - 1)
STEPS = st.integers(0, 2**32 - 1)


def words(seed: int, stream: int, step: int) -> tuple[Tensor, Tensor]:
    return random.key(torch.tensor([seed]), stream, torch.tensor([step]))


def many(seeds: range | list[int], steps: range | list[int], stream: int = random.NOISE) -> tuple[Tensor, Tensor]:
    """Keys of every pair, ``[seeds, steps, 1]``."""
    return random.key(torch.tensor(list(seeds))[:, None, None], stream, torch.tensor(list(steps))[None, :, None])


def plain_mix(word: int) -> int:
    word = ((word ^ word >> 16) * 0x7FEB352D) % 2**32
    word = ((word ^ word >> 15) * 0x846CA68B) % 2**32
    return word ^ word >> 16


def plain_bits(seed: int, stream: int, step: int, index: int) -> int:
    """The hash once more, in Python's unbounded integers."""
    low, high = seed % 2**32, seed >> 32
    first = plain_mix(plain_mix(plain_mix((low + 0x9E3779B9 * stream) % 2**32) ^ high) ^ step % 2**32)
    second = plain_mix((plain_mix(plain_mix((high + 0x85EBCA6B * stream) % 2**32) ^ low) + step) % 2**32)
    return plain_mix(plain_mix((index + first) % 2**32) ^ second)


@given(SEEDS, st.integers(1, 300), STEPS, st.integers(0, 2**32 - 1))
def test_bits_are_the_hash_in_unbounded_integers(seed: int, stream: int, step: int, index: int) -> None:
    assert random.bits(words(seed, stream, step), torch.tensor([index])).item() == plain_bits(seed, stream, step, index)


def test_mix_is_lowbias32_and_a_bijection() -> None:
    # Known values of lowbias32 (hash-prospector): 0 is its fixed point; the rest from the reference C code.
    assert random.mix(torch.tensor([0])).item() == 0
    word = torch.arange(2**20)
    assert random.mix(word).unique().numel() == 2**20
    low, high = random.mix(word).min().item(), random.mix(word).max().item()
    assert low >= 0 and high < 2**32


@given(
    st.lists(SEEDS, min_size=1, max_size=9),
    st.lists(STEPS, min_size=1, max_size=5),
    st.integers(1, 70),
    st.sampled_from([torch.float32, torch.float64]),
    st.randoms(use_true_random=False),
)
def test_a_draw_does_not_depend_on_what_is_drawn_beside_it(
    seeds: list[int], steps: list[int], size: int, dtype: torch.dtype, shuffle: object
) -> None:
    table = random.key(torch.tensor(seeds)[:, None, None], random.NOISE, torch.tensor(steps)[None, :, None])
    normal = random.normal(table, size, dtype)
    order = random.permutation(table, size)
    assert normal.shape == order.shape == (len(seeds), len(steps), size) and normal.dtype == dtype
    for i, seed in reversed(list(enumerate(seeds))):
        for j, step in enumerate(steps):
            alone = words(seed, random.NOISE, step)
            assert torch.equal(random.normal(alone, size, dtype), normal[i, j])
            assert torch.equal(random.permutation(alone, size), order[i, j])
    index = torch.arange(size)
    picked = index.flip(0)[: size // 2 + 1]
    whole = random.uniform(table, index, dtype)
    assert torch.equal(random.uniform(table, picked, dtype), whole[..., picked])


@pytest.mark.parametrize("size", [1, 2, 7, 16, 31, 1205, 4099])
def test_many_rows_are_the_same_as_one_where_kernels_split_the_work(size: int) -> None:
    """Across the ends of vector registers and threads' shares, in both precisions."""
    table = random.key(torch.arange(40)[:, None], random.NOISE, torch.full((40, 1), 3))
    for dtype in (torch.float32, torch.float64):
        together = random.normal(table, size, dtype)
        for k in (0, 1, 7, 39):
            assert torch.equal(together[k], random.normal((table[0][k], table[1][k]), size, dtype))


def test_uniform_is_uniform_and_never_0_or_1() -> None:
    for dtype in (torch.float32, torch.float64):
        u = random.uniform(many(range(10), range(10)), torch.arange(2000), dtype).flatten()
        assert u.dtype == dtype
        counts = torch.histc(u.double(), bins=200, min=0, max=1).numpy()
        assert stats.chisquare(counts).pvalue > 1e-3
        low_bits = ((u.double() * 2**16) % 1 * 64).floor().long().bincount(minlength=64).numpy()
        assert stats.chisquare(low_bits).pvalue > 1e-3


@pytest.mark.parametrize(("word", "share"), [(0, 0.0), (0xFFFFFFFF, 1.0)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_interval_is_open_at_the_extreme_words(
    word: int, share: float, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(random, "bits", lambda words, index: torch.full_like(index, word))
    u = random.uniform(words(0, 1, 0), torch.arange(1), dtype).item()
    assert 0 < u < 1 and abs(u - share) < 1e-6
    assert math.isfinite(random.normal(words(0, 1, 0), 2, dtype).sum().item())


def test_normal_is_normal() -> None:
    for dtype in (torch.float32, torch.float64):
        x = random.normal(many(range(8), range(25)), 1001, dtype).double().flatten().numpy()
        n = len(x)
        assert abs(x.mean()) < 4 / math.sqrt(n)
        assert abs(x.var() - 1) < 4 * math.sqrt(2 / n)
        assert abs(stats.skew(x)) < 4 * math.sqrt(6 / n)
        assert abs(stats.kurtosis(x)) < 4 * math.sqrt(24 / n)
        assert stats.kstest(x, "norm").pvalue > 1e-3


def test_the_two_numbers_of_a_pair_are_independent() -> None:
    x = random.normal(many(range(4), range(50)), 1000, torch.float64).double()
    cosine, sine = x[..., :500].flatten().numpy(), x[..., 500:].flatten().numpy()
    assert abs(np.corrcoef(cosine, sine)[0, 1]) < 4 / math.sqrt(len(cosine))
    assert abs(np.corrcoef(cosine**2, sine**2)[0, 1]) < 4 / math.sqrt(len(cosine))


def test_float32_and_float64_draw_the_same_numbers_to_rounding() -> None:
    single, double = (random.normal(words(5, random.NOISE, 9), 5001, d) for d in (torch.float32, torch.float64))
    assert torch.allclose(single.double(), double, atol=1e-3)


def test_streams_steps_seeds_and_indices_are_uncorrelated() -> None:
    n = 4000
    rows = [
        random.normal(words(seed, stream, step), n, torch.float64)
        for seed in (0, 1, 2, 2**32, 2**62)
        for stream in (random.INIT, random.ORDER, random.NOISE, random.DROPOUT, random.DROPOUT + 256)
        for step in (0, 1, 2, 1000)
    ]
    correlation = np.corrcoef(torch.stack(rows).numpy())
    off = np.abs(correlation[np.triu_indices(len(rows), 1)])
    assert off.max() < 5.5 / math.sqrt(n)  # 4,950 pairs
    # The size of a number says nothing about that of its namesake either.
    squares = np.abs(np.corrcoef(torch.stack(rows).square().numpy())[np.triu_indices(len(rows), 1)])
    assert squares.max() < 6.5 / math.sqrt(n)
    x = random.normal(many(range(5), range(40)), 1000, torch.float64)
    for lag in (1, 2, 3, 16, 250):
        product = (x[..., lag:] * x[..., :-lag]).flatten().numpy()
        assert abs(product.mean()) < 4.5 / math.sqrt(len(product))
    for a, b in ((x[1:], x[:-1]), (x[:, 1:], x[:, :-1])):  # neighbouring seeds, neighbouring steps
        product = (a * b).flatten().numpy()
        assert abs(product.mean()) < 4.5 / math.sqrt(len(product))


def test_one_bit_of_the_seed_or_step_moves_half_of_the_bits() -> None:
    index = torch.arange(2000)
    base = random.bits(words(123456789, 3, 77), index)
    others = [words(123456789 ^ 1 << bit, 3, 77) for bit in range(63)]
    others += [words(123456789, 3, 77 ^ 1 << bit) for bit in range(32)]
    for other in others:
        changed = (random.bits(other, index) ^ base).numpy()
        share = np.unpackbits(changed.astype(np.uint32).view(np.uint8)).mean()
        assert abs(share - 0.5) < 0.015


def test_no_two_keys_are_equal_among_neighbours() -> None:
    pairs = set()
    for stream in (random.INIT, random.ORDER, random.NOISE, random.DROPOUT, random.DATA, random.DROPOUT + 256):
        first, second = many(range(60), range(200), stream)
        pairs |= set(zip(first.flatten().tolist(), second.flatten().tolist(), strict=True))
    assert len(pairs) == 6 * 60 * 200
    # For one seed the first word alone never repeats over steps.
    assert many([99], range(100_000))[0].unique().numel() == 100_000


@given(SEEDS, st.integers(32, 62))
def test_seeds_that_differ_in_high_bits_alone_differ(seed: int, bit: int) -> None:
    a, b = (random.bits(words(s, random.NOISE, 0), torch.arange(64)) for s in (seed, seed ^ 1 << bit))
    assert (a == b).sum() <= 1


@given(SEEDS, STEPS, st.integers(0, 300))
def test_a_permutation_is_one(seed: int, step: int, size: int) -> None:
    order = random.permutation(words(seed, random.ORDER, step), size)
    assert order.dtype == torch.int64
    assert sorted(order.tolist()) == list(range(size))


def test_all_orders_are_about_equally_frequent() -> None:
    orders = random.permutation(many(range(30), range(400), random.ORDER), 4).reshape(-1, 4)
    _, counts = torch.unique(orders, dim=0, return_counts=True)
    assert len(counts) == 24
    assert stats.chisquare(counts.numpy()).pvalue > 1e-3
    where = torch.stack([(orders == k).long().argmax(1) for k in range(4)])
    for row in where:
        assert stats.chisquare(row.bincount(minlength=4).numpy()).pvalue > 1e-3


def test_derive_is_stable() -> None:
    """A change of the hash would change every study: these two numbers are written down."""
    assert random.derive(0, "explore", "sgd", 3, 7) == 5770526893217629051
    assert random.derive() == 8238016292129134938


@given(st.lists(st.one_of(st.integers(), st.text(alphabet="abc", max_size=3)), max_size=4))
def test_derive_gives_63_bits_and_tells_the_parts_apart(parts: list[object]) -> None:
    seed = random.derive(*parts)
    assert 0 <= seed < 2**63 and seed == random.derive(*parts)
    assert seed != random.derive(*parts, "") and seed != random.derive("x", *parts)


def test_derived_seeds_are_uniform() -> None:
    seeds = [random.derive("study", i) / 2**63 for i in range(5000)]
    assert stats.kstest(seeds, "uniform").pvalue > 1e-3
    assert len(set(seeds)) == 5000


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_draws_the_same_bits() -> None:
    cpu = many(range(5), range(5))
    gpu = tuple(word.cuda() for word in cpu)
    assert torch.equal(random.bits(cpu, torch.arange(999)), random.bits(gpu, torch.arange(999).cuda()).cpu())
    assert torch.equal(random.permutation(cpu, 999), random.permutation(gpu, 999).cpu())
    assert torch.allclose(random.normal(cpu, 999), random.normal(gpu, 999).cpu(), atol=1e-5)
