"""Simulated methods of known geometric mean, for the operating characteristics of verdicts."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from relaxbench.analysis.arm import Arm
from relaxbench.analysis.equivalence import Margin, band
from relaxbench.analysis.jackknife import best_of_random
from relaxbench.analysis.simultaneous import Family, interval
from relaxbench.analysis.welch import welch_difference

TRIALS = 12
LOOKS = (10, 20, 40)

# Standard deviation of log quality between settings, noise of the validation loss, noise of the test error.
LOG_NORMAL = {"narrow": (0.3, 0.05, 0.1), "wide": (1.2, 0.05, 0.1), "noisy": (0.5, 0.2, 0.4)}
SHAPES = (*LOG_NORMAL, "floored", "skewed")
"""Of error rates: three log-normal ones, one with a floor below all settings, one with a long tail even on logs."""


def draw(shape: str, rng: np.random.Generator, size: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Validation losses of random trials, and the log test errors of the same settings on fresh seeds."""
    spread, selection, test = LOG_NORMAL.get(shape, (0.5, 0.05, 0.1))
    quality = spread * rng.standard_normal(size)
    if shape == "floored":
        quality = np.log1p(np.exp(rng.standard_normal(size)))
    elif shape == "skewed":
        quality = rng.gamma(1.0, 0.8, size)
    logs = quality + test * rng.standard_normal(size)
    if shape == "disasters":  # 5 % of the runs, whatever the setting
        logs = np.where(rng.random(size) < 0.05, np.log(30.0), logs)
    return np.exp(quality + selection * rng.standard_normal(size)), logs


def tolerance(rate: float, studies: int) -> float:
    """Four standard errors of a rate that is as it should be."""
    return 4 * math.sqrt(rate * (1 - rate) / studies)


def log_mean(shape: str) -> float:
    """The estimand: mean ℓ of the best of `TRIALS`, from 200,000 blocks."""
    values, logs = draw(shape, np.random.default_rng(99), (200_000, TRIALS))
    return float(np.take_along_axis(logs, values.argmin(axis=1)[:, None], axis=1).mean())


def arms(
    shape: str, rng: np.random.Generator, studies: int, mean: float = 0.0, looks: Sequence[int] = LOOKS
) -> list[Arm]:
    """A method of this shape whose estimand is `mean`, at every look: arrays [studies]."""
    values, logs = draw(shape, rng, (studies, max(looks), TRIALS))
    logs += mean - log_mean(shape)
    return [best_of_random(values[:, :blocks], logs[:, :blocks]) for blocks in looks]


def one(arm: Arm, study: int) -> Arm:
    """A single study's arm."""
    return Arm(arm.estimate[study], arm.variance[study], arm.blocks)


def verdicts(candidate: Arm, reference: Arm, family: Family, margin: Margin | None) -> np.ndarray:
    """The verdict of every study at one look; as `simultaneous.judge`, for arrays."""
    contrast = welch_difference(candidate, reference)
    (low, high), (inner_low, inner_high) = (interval(contrast, tail) for tail in (family.share / 2, family.share))
    band_low, band_high = band(margin, reference, family.share) if margin else (np.inf, -np.inf)
    within = (band_low < inner_low) & (inner_high < band_high)
    return np.select([high < 0, low > 0, within], ["better", "worse", "equivalent"], "undecided")


def over_looks(
    candidate: Sequence[Arm], reference: Sequence[Arm], family: Family, margin: Margin | None = None
) -> np.ndarray:
    """The verdict of every study after all looks: the first that is decided."""
    final = np.full(np.shape(reference[0].estimate), "undecided", dtype="<U10")
    for ours, theirs in zip(candidate, reference, strict=True):
        now = verdicts(ours, theirs, family, margin)
        final = np.where(final == "undecided", now, final)
    return final
