"""Handwritten digits from scikit-learn: real data without a download."""

from __future__ import annotations

from functools import cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from relaxbench.problems.data.division import divide
from relaxbench.problems.supervised import SupervisedProblem


@cache
def digits() -> dict[str, tuple[Tensor, Tensor]]:
    """Return the 1,797 digits, split 60/20/20 within every class; the split is the same on every machine.

    Returns:
        split → (x, y): x float32 ``[N, 64]`` in [0, 1], y int64 ``[N]``.
    """
    pixels, labels = _images()
    rows = divide(labels.tolist(), "digits")
    x, y = torch.tensor(pixels / 16.0, dtype=torch.float32), torch.tensor(labels, dtype=torch.int64)
    return {split: (x[index], y[index]) for split, index in rows.items()}


def _images() -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Return pixels ``[N, 64]``, from 0 to 16, and labels ``[N]``.

    They are read from scikit-learn's file, because importing scikit-learn takes much longer than reading.
    """
    package = find_spec("sklearn")
    for folder in (package.submodule_search_locations or []) if package else []:
        file = Path(folder) / "datasets" / "data" / "digits.csv.gz"
        if file.exists():
            table = np.loadtxt(file, delimiter=",")
            return table[:, :-1], table[:, -1].astype(np.int64)
    from sklearn.datasets import load_digits  # a version that keeps the file elsewhere

    pixels, labels = load_digits(return_X_y=True)
    return pixels, labels


def mlp(hidden: int = 32, dropout: float = 0.0) -> nn.Sequential:
    """Build a 64-hidden-10 network with ReLU, and with dropout behind it if its probability is not 0."""
    layers: list[nn.Module] = [nn.Linear(64, hidden), nn.ReLU()]
    return nn.Sequential(*layers, *([nn.Dropout(dropout)] if dropout else []), nn.Linear(hidden, 10))


def digits_mlp(hidden: int = 32, dropout: float = 0.0) -> SupervisedProblem:
    """Make the default problem: a small network on small images, for a demonstration in a few minutes."""
    return SupervisedProblem(
        "digits-mlp",
        lambda: mlp(hidden, dropout),
        digits,
        batch_size=64,
        budget=600,
        worst=10.0,
        margin=1.0,
        kind="fully-connected",
        title=f"64-{hidden}-10 network on handwritten digits",
        source="1,797 handwritten digits of scikit-learn",
        caution="Digits is a demonstration: with about 360 test images, one image is 0.28 points of error.",
    )
