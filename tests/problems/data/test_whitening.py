"""GCN and ZCA: the moments of the result, and a comparison with another decomposition."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from relaxbench.problems.data.whitening import EPSILON, Whitening, normalize_contrast

RNG = np.random.default_rng(0)
MIX = RNG.normal(size=(12, 12))
X = torch.from_numpy(np.clip(128 + 30 * RNG.normal(size=(5000, 12)) @ MIX, 0, 255).astype(np.uint8)).view(-1, 3, 2, 2)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RELAXBENCH_CACHE", str(tmp_path))


def test_every_image_has_mean_zero_and_deviation_one() -> None:
    flat = normalize_contrast(X).numpy()
    assert np.allclose(flat.mean(axis=1), 0, atol=1e-12) and np.allclose(flat.std(axis=1), 1)
    assert torch.equal(normalize_contrast(torch.full((1, 3, 2, 2), 7)), torch.zeros(1, 12, dtype=torch.float64))


def test_whitened_pixels_are_uncorrelated_with_variance_one_in_all_directions_but_that_of_the_mean() -> None:
    white = Whitening(X, "test")(X)
    assert white.shape == X.shape and white.dtype == torch.float32
    covariance = np.cov(white.flatten(1).double().numpy(), rowvar=False, bias=True)
    ones = np.ones((12, 12)) / 12  # contrast normalization has taken the mean of every image
    assert np.allclose(covariance, np.eye(12) - ones, atol=2e-3)


def test_the_matrix_is_that_of_the_singular_values_and_comes_from_the_cache_the_second_time(tmp_path: Path) -> None:
    found = Whitening(X, "test")
    flat = normalize_contrast(X).numpy()
    centred = flat - flat.mean(axis=0)
    _, s, v = np.linalg.svd(centred / np.sqrt(len(X)), full_matrices=False)
    expected = v[:-1].T @ np.diag(1 / (s[:-1] + EPSILON)) @ v[:-1]  # the last direction is that of the mean
    project = np.eye(12) - np.ones((12, 12)) / 12
    assert np.allclose(project @ found.matrix.numpy() @ project, expected, rtol=1e-6, atol=1e-6)
    assert len(list(tmp_path.glob("zca-test-*.pt"))) == 1
    assert torch.equal(Whitening(X, "test").matrix, found.matrix)
