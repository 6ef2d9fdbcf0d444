"""The digits: the splits never change."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from relaxbench.problems import digits as module
from relaxbench.problems.digits import digits, digits_mlp, mlp


def rows_of(split: str) -> list[bytes]:
    x, _ = digits()[split]
    return [row.numpy().tobytes() for row in x]


def test_the_splits_are_a_partition_of_the_1797_images() -> None:
    pixels, labels = load_digits(return_X_y=True)
    assert [len(digits()[split][0]) for split in ("train", "validation", "test")] == [1078, 360, 359]
    images = [bytes(row) for split in digits() for row in rows_of(split)]
    everything = [row.tobytes() for row in (pixels / 16).astype(np.float32)]
    assert sorted(images) == sorted(everything) and len(set(images)) == 1797
    label = dict(zip(everything, labels.tolist(), strict=True))
    for split in digits():
        assert [label[row] for row in rows_of(split)] == digits()[split][1].tolist()


def test_the_splits_are_disjoint_and_stratified() -> None:
    splits = {split: set(rows_of(split)) for split in digits()}
    assert not splits["train"] & splits["validation"]
    assert not splits["train"] & splits["test"] and not splits["validation"] & splits["test"]
    total = torch.cat([y for _, y in digits().values()]).bincount()
    for split, share in (("train", 0.6), ("validation", 0.2), ("test", 0.2)):
        counts = digits()[split][1].bincount(minlength=10)
        assert ((counts - share * total).abs() <= 1).all()


def test_features_lie_in_the_unit_interval() -> None:
    for x, y in digits().values():
        assert x.dtype == torch.float32 and y.dtype == torch.int64 and x.shape[1] == 64
        assert x.min() == 0 and x.max() == 1


def test_the_fingerprint_is_pinned() -> None:
    """If this changes, stored and new studies no longer use the same data."""
    assert digits_mlp().fingerprint() == "280d288550ea960b"
    assert digits_mlp(hidden=8, dropout=0.5).fingerprint() == digits_mlp().fingerprint()


@pytest.mark.parametrize("hidden", [1, 32])
def test_the_network_is_64_hidden_10(hidden: int) -> None:
    problem = digits_mlp(hidden)
    assert problem.size == 64 * hidden + hidden + hidden * 10 + 10
    assert problem.size == sum(p.numel() for p in mlp(hidden).parameters())
    assert [name for name, _ in problem.layout()] == ["0.weight", "0.bias", "2.weight", "2.bias"]
    assert problem.test_examples == 359 and "1,078/360/359" in problem.data


def test_uniform_predictions_are_better_than_the_worst_value() -> None:
    problem = digits_mlp()
    batch = problem.split("validation", torch.device("cpu"))
    outputs = problem.outputs(problem.unflatten(torch.zeros(problem.size)), batch, False)
    assert problem.loss.value(outputs, batch).item() == pytest.approx(np.log(10), rel=1e-6)
    assert np.log(10) < problem.worst


def test_the_images_are_scikit_learn_s_wherever_it_keeps_them(monkeypatch: pytest.MonkeyPatch) -> None:
    theirs = load_digits(return_X_y=True)
    read = module._images()
    monkeypatch.setattr(module, "find_spec", lambda name: None)
    for pixels, labels in (read, module._images()):
        assert np.array_equal(pixels, theirs[0]) and np.array_equal(labels, theirs[1])
