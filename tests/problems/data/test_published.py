"""Reading images: small files in the published formats, damaged files, and real MNIST where it is present."""

from __future__ import annotations

import gzip
import pickle
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import io

from relaxbench.errors import UserError
from relaxbench.problems.data import published
from relaxbench.problems.data.images import held_out
from relaxbench.problems.data.published import SOURCES
from relaxbench.problems.data.sources import source
from tests.mnist import REAL

RNG = np.random.default_rng(0)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("RELAXBENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("RELAXBENCH_DATA", str(tmp_path / "data"))
    return tmp_path / "data"


def idx(array: np.ndarray) -> bytes:
    """An array in LeCun's format: two zeros, the type, the number of axes, their lengths, the numbers."""
    return struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape) + array.tobytes()


def mnist(folder: Path, packed: bool = True, name: str = "MNIST") -> dict[str, np.ndarray]:
    """Thirty images for training and ten for testing, as files."""
    raw = folder / name / "raw"
    raw.mkdir(parents=True)
    written = {}
    for split, count in (("train", 30), ("t10k", 10)):
        written[f"{split}-images-idx3-ubyte"] = RNG.integers(0, 256, (count, 28, 28)).astype(np.uint8)
        written[f"{split}-labels-idx1-ubyte"] = (np.arange(count) % 10).astype(np.uint8)
    for file, array in written.items():
        (raw / f"{file}.gz").write_bytes(gzip.compress(idx(array))) if packed else (raw / file).write_bytes(idx(array))
    return written


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize(("name", "below"), [("mnist", "MNIST"), ("fashion-mnist", "FashionMNIST")])
def test_idx_files_are_read_packed_or_not_and_left_as_they_are(
    name: str, below: str, packed: bool, folder: Path
) -> None:
    written = mnist(folder, packed, below)
    before = sorted(folder.rglob("*"))
    for _ in range(2):  # decoded, and from the cache
        found = source(name).published()
        assert found["train"].x.dtype == torch.uint8 and found["train"].x.shape == (30, 1, 28, 28)
        assert np.array_equal(found["train"].x[:, 0].numpy(), written["train-images-idx3-ubyte"])
        assert np.array_equal(found["test"].x[:, 0].numpy(), written["t10k-images-idx3-ubyte"])
        assert found["test"].y.tolist() == list(range(10)) and found["test"].y.dtype == torch.int64
    assert sorted(folder.rglob("*")) == before


def test_changed_files_are_decoded_again(folder: Path) -> None:
    mnist(folder)
    first = source("mnist").published()["train"].x
    file = folder / "MNIST" / "raw" / "train-images-idx3-ubyte.gz"
    file.write_bytes(gzip.compress(idx(255 - first[:, 0].numpy())))
    assert torch.equal(source("mnist").published()["train"].x, 255 - first)


def test_missing_data_are_reported_with_the_place_and_the_remedy(folder: Path) -> None:
    for name, known in SOURCES.items():
        with pytest.raises(UserError) as refused:
            source(name).published()
        line = str(refused.value)
        start = f"{known.title} is not in '{folder}': set RELAXBENCH_DATA to the folder that holds {known.layout}"
        assert line.startswith(start) and "\n" not in line and refused.value.settings == ("data_dir", "download")
    with pytest.raises(UserError, match="unknown data set 'mnits': did you mean 'mnist'"):
        source("mnits")


@pytest.mark.parametrize("damage", ["cut", "no gzip", "missing", "cut inside", "labels", "lengths", "empty"])
def test_damaged_files_are_reported_and_nothing_is_cached(damage: str, folder: Path, tmp_path: Path) -> None:
    written = mnist(folder)
    raw = folder / "MNIST" / "raw"
    file, labels = raw / "train-images-idx3-ubyte.gz", raw / "train-labels-idx1-ubyte.gz"
    content = file.read_bytes()
    if damage == "cut":
        file.write_bytes(content[: len(content) // 2])
    elif damage == "no gzip":
        file.write_bytes(b"<html>404</html>")
    elif damage == "missing":
        file.unlink()
    elif damage == "cut inside":
        file.write_bytes(gzip.compress(idx(written["train-images-idx3-ubyte"])[:-100]))
    elif damage == "labels":
        labels.write_bytes(gzip.compress(idx(np.full(30, 11, dtype=np.uint8))))
    elif damage == "lengths":
        labels.write_bytes(gzip.compress(idx(np.zeros(29, dtype=np.uint8))))
    else:
        file.write_bytes(b"")
    with pytest.raises(UserError, match=r"MNIST in .* is incomplete or damaged \(.+\): delete the files in MNIST/raw"):
        source("mnist").published()
    assert not (tmp_path / "cache").exists()


def test_cifar_and_svhn_have_their_channels_where_models_want_them(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from torchvision.datasets import CIFAR10, SVHN

    for cls in (CIFAR10, SVHN):
        monkeypatch.setattr(cls, "_check_integrity", lambda self: True)  # it compares with the published checksums
    below = folder / "cifar-10-batches-py"
    below.mkdir(parents=True)
    pixels = RNG.integers(0, 256, (20, 3, 32, 32)).astype(np.uint8)
    for file, _ in [*CIFAR10.train_list, *CIFAR10.test_list]:
        (below / file).write_bytes(
            pickle.dumps({"data": pixels.reshape(20, -1), "labels": [k % 10 for k in range(20)]})
        )
    monkeypatch.setattr(CIFAR10, "_load_meta", lambda self: None)
    found = source("cifar10").published()
    assert found["train"].x.shape == (100, 3, 32, 32) and np.array_equal(found["test"].x.numpy(), pixels)
    for split in ("train", "test"):
        label = (np.arange(20) % 10 + 1).reshape(-1, 1)  # in its files, 10 stands for 0
        io.savemat(folder / f"{split}_32x32.mat", {"X": pixels.transpose(2, 3, 1, 0), "y": label})
    found = source("svhn").published()
    assert np.array_equal(found["train"].x.numpy(), pixels)
    assert found["train"].y.tolist() == [(k % 10 + 1) % 10 for k in range(20)]


def test_a_failed_download_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(*_: object, **__: object) -> None:
        raise OSError("no route to host")

    monkeypatch.setattr(published, "_torchvision", offline)
    with pytest.raises(UserError, match=r"cannot be downloaded into .* \(no route to host\): put its files there"):
        source("mnist").download()


@pytest.mark.skipif(not (REAL / "MNIST" / "raw").is_dir(), reason="MNIST is not at hand (RELAXBENCH_DATA)")
def test_real_mnist_has_the_published_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sizes and class counts as published; mean and deviation as in the usual normalization."""
    monkeypatch.setenv("RELAXBENCH_DATA", str(REAL))
    found = source("mnist").published()
    counts = found["train"].y.bincount().tolist()
    assert counts == [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    assert found["test"].x.shape == (10_000, 1, 28, 28)
    pixels = found["train"].x.double() / 255
    parts = held_out(found["train"], SOURCES["mnist"].held_out)
    assert [len(parts[split].y) for split in ("train", "validation")] == [50_000, 10_000]
    assert (pixels.mean().item(), pixels.std().item()) == pytest.approx((0.1307, 0.3081), abs=5e-5)
