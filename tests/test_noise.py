"""The noise of a rule's steps: its definition, its purity, its distribution, its independence."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from torch import Tensor

from relaxbench import random
from relaxbench.random import BLOCK, BLOCK_SIZE, DROPOUT, INIT, NOISE
from relaxbench.util.seeds import derive
from tests import splitmix

ALPHA = 1e-4  # the draws never change, so these tests cannot flicker; a bound this wide fails only for a reason
SEEDS = st.integers(0, 2**63 - 1)
STEPS = st.integers(0, 2**40)
CPU = torch.device("cpu")
DTYPES = pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])


def column(*numbers: int) -> Tensor:
    return torch.tensor([[number] for number in numbers])


def alone(seed: int, step: int, size: int, dtype: torch.dtype = torch.float64, stream: int = NOISE) -> Tensor:
    return random.noise(column(seed), stream, column(step), size, dtype)[0]


def over_steps(count: int, size: int, seed: int = 7) -> np.ndarray:
    """Noise of the first steps of a trial, ``[count, size]``."""
    steps = torch.arange(count)[:, None]
    return random.noise(torch.full_like(steps, seed), NOISE, steps, size, torch.float64).numpy()


# The definition.


def test_the_reference_is_the_published_generator() -> None:
    """The first outputs of SplitMix64 from state 1234567, as in other implementations."""
    published = [6457827717110365317, 3203168211198807973, 9817491932198370423, 4593380528125082431]
    assert splitmix.sequence(1234567, 4).tolist() == published


@given(SEEDS, STEPS, st.integers(0, 40))
def test_noise_follows_its_definition(seed: int, step: int, size: int) -> None:
    expected = splitmix.noise(seed, step, size)
    np.testing.assert_allclose(alone(seed, step, size).numpy(), expected, rtol=0, atol=1e-10)
    single = alone(seed, step, size, torch.float32)
    assert single.dtype == torch.float32 and torch.equal(single, alone(seed, step, size).float())


def test_values_are_the_normal_distribution_in_equal_shares() -> None:
    values = random.levels(torch.float64, CPU).numpy()
    np.testing.assert_allclose(values, splitmix.values(), atol=1e-10)
    assert (np.diff(values) > 0).all() and np.array_equal(values, -values[::-1])
    assert abs((values**2).mean() - 1) < 1e-12 and abs((values**4).mean() - 3) < 2e-4
    steps = np.arange(len(values) + 1) / len(values)
    assert max(np.abs(stats.norm.cdf(values) - edge).max() for edge in (steps[1:], steps[:-1])) < 1e-5
    assert 4.38 < values.max() < 4.39


# Purity.


@settings(max_examples=30)
@given(st.lists(st.tuples(SEEDS, STEPS), min_size=1, max_size=6), st.integers(1, 70), st.booleans())
def test_noise_does_not_depend_on_its_batch(members: list[tuple[int, int]], size: int, double: bool) -> None:
    """Bit for bit: together, in reverse order, alone, and the first coordinates of more."""
    dtype = torch.float64 if double else torch.float32
    seed, step = column(*(s for s, _ in members)), column(*(t for _, t in members))
    together = random.noise(seed, NOISE, step, size, dtype)
    assert together.shape == (len(members), size) and together.dtype == dtype
    assert torch.equal(random.noise(seed.flip(0), NOISE, step.flip(0), size, dtype).flip(0), together)
    assert torch.equal(random.noise(seed, NOISE, step, size + 9, dtype)[:, :size], together)
    for row, (s, t) in zip(together, members, strict=True):
        assert torch.equal(alone(s, t, size, dtype), row)


@pytest.mark.parametrize("size", [BLOCK_SIZE, BLOCK_SIZE + 1, 70_001, 300_001])
def test_many_members_draw_the_same_as_one_where_work_is_split(size: int) -> None:
    """Across the largest size of a block and the pieces on the CPU."""
    seeds = torch.arange(3)[:, None] + 5
    together = random.noise(seeds, NOISE, torch.full_like(seeds, BLOCK + 1), size)
    for k in range(3):
        assert torch.equal(alone(k + 5, BLOCK + 1, size, torch.float32), together[k])


def test_steps_of_a_block_are_remembered_and_cannot_be_changed() -> None:
    """In any order, with a scale or not; a caller works in place on a copy."""
    expected = over_steps(2 * BLOCK + 1, 11)
    for step in (0, 5, BLOCK - 1, BLOCK, 2 * BLOCK, 3, 3):
        drawn = alone(7, step, 11)
        assert np.array_equal(drawn.numpy(), expected[step])
        drawn.zero_()
        scale = torch.tensor([[0.25]], dtype=torch.float64)
        scaled = random.noise(column(7), NOISE, column(step), 11, torch.float64, scale)
        assert np.array_equal(scaled[0].numpy(), 0.25 * expected[step])


def test_noise_leaves_no_trace_and_is_not_torn_by_inference_mode() -> None:
    torch.manual_seed(0)
    before = torch.random.get_rng_state()
    with torch.inference_mode():
        first = alone(12345, 0, 8)
    weight = torch.ones(8, dtype=torch.float64, requires_grad=True)
    (weight * alone(12345, 0, 8)).sum().backward()  # type: ignore[no-untyped-call]
    assert torch.equal(weight.grad, first.clone())
    assert torch.equal(torch.random.get_rng_state(), before)


def test_noise_can_be_compiled_as_one_graph() -> None:
    """No branch depends on data, not even for one member. The graph is run as it is, without a C++ compiler."""
    seeds, steps = column(5), column(3)
    expected = random.noise(seeds, NOISE, steps, 37)
    compiled = torch.compile(lambda s, t: random.noise(s, NOISE, t, 37), fullgraph=True, backend="eager")
    assert torch.equal(compiled(seeds, steps), expected)
    assert torch.equal(compiled(seeds, steps + 1), random.noise(seeds, NOISE, steps + 1, 37))


# The distribution.


@DTYPES
def test_noise_is_standard_normal(dtype: torch.dtype) -> None:
    steps = torch.arange(50)[:, None]
    drawn = random.noise(torch.full_like(steps, 11), NOISE, steps, 4001, dtype).double().numpy()
    assert stats.kstest(drawn.ravel(), "norm").pvalue > ALPHA
    for power, moment, spread in ((1, 0, 1), (2, 1, 2), (3, 0, 15), (4, 3, 96), (6, 15, 10170)):
        assert abs((drawn**power).mean() - moment) < 4 * (spread / drawn.size) ** 0.5
    for place in (0, 1, 2, 3, 4000):
        assert stats.kstest(drawn[:, place], "norm").pvalue > ALPHA  # one coordinate over the steps
    sums = drawn.sum(axis=0) / 50**0.5  # what a chain accumulates in each coordinate
    assert stats.kstest(sums, "norm").pvalue > ALPHA


def test_every_bit_is_fair_and_every_pair_of_neighbouring_bits_independent() -> None:
    """Chi-square of each of the 16 bits, of the high and the low byte, and of bytes against those of the neighbour."""
    ranks = np.searchsorted(random.levels(torch.float64, CPU).numpy(), over_steps(64, 4096))
    for place in range(16):
        assert stats.binomtest(int((ranks >> place & 1).sum()), ranks.size).pvalue > ALPHA / 16
    for part in (ranks >> 8, ranks & 255):
        assert stats.chisquare(np.bincount(part.ravel(), minlength=256)).pvalue > ALPHA
    for a, b in ((ranks[:, 1:], ranks[:, :-1]), (ranks[1:], ranks[:-1]), (ranks[:, 4:], ranks[:, :-4])):
        for shift in (12, 6, 0):  # the upper, middle and lower four bits of two neighbours
            pairs = (a >> shift & 15) * 16 + (b >> shift & 15)
            assert stats.chisquare(np.bincount(pairs.ravel(), minlength=256)).pvalue > ALPHA
    counts = np.bincount(ranks.ravel(), minlength=2**16)
    assert stats.chisquare(counts).pvalue > ALPHA


def test_numbers_do_not_repeat_more_often_than_by_chance() -> None:
    """Birthday spacings (Marsaglia): 48 bits of three coordinates, 2¹⁷ birthdays in a year of 2⁴⁸ days: λ = 2."""
    ranks = np.searchsorted(random.levels(torch.float64, CPU).numpy(), over_steps(16, 3 * 2**17 // 16, seed=3))
    repeats = []
    for shift in (0, 1, 2, 3):
        rows = np.roll(ranks.ravel(), -shift).reshape(-1, 3)
        days = np.sort(rows[:, 0] << 32 | rows[:, 1] << 16 | rows[:, 2])
        spacings = np.sort(np.diff(days))
        repeats.append(int((np.diff(spacings) == 0).sum()))
    assert 0.5 * ALPHA < stats.poisson.cdf(sum(repeats[:1]), 2.0) < 1 - 0.5 * ALPHA
    assert max(repeats) <= 10


# Independence.

NEIGHBOURS = {
    "the next step": (9, NOISE, 1),
    "a step of another block": (9, NOISE, BLOCK),
    "the next seed": (10, NOISE, 0),
    "a seed with another high bit": (9 + 2**62, NOISE, 0),
    "a seed with bit 32": (9 + 2**32, NOISE, 0),
    "the next stream": (9, DROPOUT, 0),
    "seed and step exchanged": (0, NOISE, 9),
    "a seed one stream later": ((9 + splitmix.GAMMA) % 2**63, NOISE - 1, 0),
}


@pytest.mark.parametrize("other", NEIGHBOURS.values(), ids=NEIGHBOURS)
def test_neighbouring_draws_are_uncorrelated(other: tuple[int, int, int]) -> None:
    """At every lag up to 4 coordinates, a word, in the numbers, their squares, and their joint distribution."""
    n = 1 << 16
    seed, stream, step = other
    a, b = alone(9, 0, n).numpy(), alone(seed, step, n, stream=stream).numpy()
    for lag in range(-4, 5):
        x, y = a[max(0, lag) : n + min(0, lag)], b[max(0, -lag) : n + min(0, -lag)]
        assert abs(np.corrcoef(x, y)[0, 1]) < 4.5 / n**0.5
        assert abs(np.corrcoef(x**2, y**2)[0, 1]) < 4.5 / n**0.5
    joint = np.histogram2d(stats.norm.cdf(a), stats.norm.cdf(b), bins=16, range=[[0, 1], [0, 1]])[0]
    assert stats.chisquare(joint.ravel()).pvalue > ALPHA


def test_a_chain_s_noise_is_white() -> None:
    """Over 4,096 steps of a trial: no correlation at any of 200 lags, and a flat spectrum."""
    drawn = over_steps(4096, 16)
    spectrum = np.abs(np.fft.rfft(drawn, axis=0)[1:-1]) ** 2 / 4096
    assert stats.kstest(spectrum.ravel(), "expon").pvalue > ALPHA
    for lag in (*range(1, 140), *range(3 * BLOCK, 63 * BLOCK, BLOCK)):
        assert abs((drawn[lag:] * drawn[:-lag]).mean()) < 5 / (16 * (4096 - lag)) ** 0.5


def test_many_draws_are_uncorrelated_pair_by_pair() -> None:
    """Trials with small and with derived seeds, over steps: 4,950 pairs, the largest singular value of all."""
    n, seeds = 4000, [0, 1, 2, 2**32, 2**62, *(derive(1, i) for i in range(5))]
    rows = np.stack(
        [alone(seed, step, n).numpy() for seed in seeds for step in (0, 1, 2, 3, 63, 64, 65, 128, 1000, 2**33)]
    )
    pairs = np.triu_indices(len(rows), 1)
    assert np.abs(np.corrcoef(rows)[pairs]).max() < 5.5 / n**0.5
    assert np.abs(np.corrcoef(rows**2)[pairs]).max() < 6.5 / n**0.5
    largest = np.linalg.svd(rows / n**0.5, compute_uv=False)[0]
    assert largest < 1 + (len(rows) / n) ** 0.5 + 5 / n**0.5  # the edge of Marchenko and Pastur's law


def test_one_bit_of_the_seed_or_step_moves_half_of_the_drawn_bits() -> None:
    levels = random.levels(torch.float64, CPU)
    base = torch.searchsorted(levels, alone(123456789, 77, 4000))
    others = [alone(123456789 ^ 1 << place, 77, 4000) for place in range(63)]
    others += [alone(123456789, 77 ^ 1 << place, 4000) for place in range(40)]
    for other in others:
        changed = (torch.searchsorted(levels, other) ^ base).numpy().astype(np.uint16)
        assert abs(np.unpackbits(changed.view(np.uint8)).mean() - 0.5) < 0.0099  # 5 standard errors


@given(SEEDS, STEPS, STEPS, st.sampled_from([INIT, NOISE, DROPOUT]))
def test_two_steps_of_a_trial_never_start_at_the_same_state(seed: int, step: int, other: int, stream: int) -> None:
    """The key is a bijection of the step."""
    assert (splitmix.start(seed, step, stream) == splitmix.start(seed, other, stream)) == (step == other)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_draws_the_same_numbers() -> None:
    seeds, steps = torch.arange(5)[:, None] << 50, torch.arange(5)[:, None]
    for dtype in (torch.float32, torch.float64):
        gpu = random.noise(seeds.cuda(), NOISE, steps.cuda(), 999, dtype)
        assert torch.equal(gpu.cpu(), random.noise(seeds, NOISE, steps, 999, dtype))
