"""Folders and archives of images: their images, the order, and errors for unusable ones."""

from __future__ import annotations

import io
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from relaxbench.errors import UserError
from relaxbench.problems.data.folders import ImageFolder
from relaxbench.problems.data.sources import in_data_dir, source

RNG = np.random.default_rng(0)
Files = dict[str, bytes]
DRAWN: dict[bytes, np.ndarray] = {}


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("RELAXBENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("RELAXBENCH_DATA", str(tmp_path / "data"))
    (tmp_path / "data").mkdir()
    return tmp_path / "data"


def picture(shape: tuple[int, ...] = (6, 5, 3), kind: str = "png") -> bytes:
    drawn, buffer = RNG.integers(0, 256, shape).astype(np.uint8), io.BytesIO()
    Image.fromarray(drawn).save(buffer, kind)
    DRAWN[buffer.getvalue()] = drawn
    return buffer.getvalue()


def pixels(content: bytes) -> torch.Tensor:
    """The pixels of a drawn image."""
    return torch.from_numpy(DRAWN[content]).permute(2, 0, 1)


def files(splits: dict[str, int], labels: tuple[str, ...] = ("cat", "dog"), root: str = "") -> Files:
    return {
        f"{root}{split}/{label}/{k:03}.png": picture()
        for split, n in splits.items()
        for label in labels
        for k in range(n)
    }


def as_folder(path: Path, content: Files) -> Path:
    for place, written in content.items():
        (path / place).parent.mkdir(parents=True, exist_ok=True)
        (path / place).write_bytes(written)
    return path


def as_tar(path: Path, content: Files, mode: str = "w:xz", suffix: str = ".tar.xz") -> Path:
    path = path.with_name(path.name + suffix)
    with tarfile.open(path, mode) as archive:  # type: ignore[call-overload]
        for place, written in reversed(content.items()):  # not in the order of their names
            member = tarfile.TarInfo(place)
            member.size = len(written)
            archive.addfile(member, io.BytesIO(written))
    return path


def as_zip(path: Path, content: Files) -> Path:
    with zipfile.ZipFile(path.with_name(path.name + ".zip"), "w") as archive:
        for place, written in content.items():
            archive.writestr(place, written)
    return path.with_name(path.name + ".zip")


@pytest.mark.parametrize("write", [as_folder, as_tar, as_zip, lambda path, content: as_tar(path, content, "w", ".tar")])
@pytest.mark.parametrize("root", ["", "pets/"])
def test_a_folder_and_its_archives_give_the_same_images(
    write: Callable[[Path, Files], Path], root: str, folder: Path, tmp_path: Path
) -> None:
    content = files({"train": 4, "test": 2}, root=root) | {
        f"{root}README.txt": b"pets",
        f"{root}train/cat/._x.png": b"",
    }
    path = write(folder / "pets", content)
    where = source(path.name)
    assert (where.name, where.title, where.classes) == ("pets", f"ImageFolder {path.name}", 2)
    before = sorted(folder.rglob("*"))
    for _ in range(2):  # decoded, and from the cache
        found = ImageFolder(path).published()
        assert set(found) == {"train", "test"}
        for split, count in (("train", 4), ("test", 2)):
            places = [f"{root}{split}/{label}/{k:03}.png" for label in ("cat", "dog") for k in range(count)]
            assert torch.equal(found[split].x, torch.stack([pixels(content[place]) for place in places]))
            assert found[split].y.tolist() == [0] * count + [1] * count
    assert sorted(folder.rglob("*")) == before and len(list((tmp_path / "cache").glob("pets-*.pt"))) == 1


def test_a_changed_folder_is_read_again(folder: Path) -> None:
    path = as_folder(folder / "pets", files({"train": 3, "test": 1}))
    assert len(ImageFolder(path).published()["train"].y) == 6
    (path / "train" / "dog" / "002.png").unlink()
    assert len(ImageFolder(path).published()["train"].y) == 5


def test_validation_and_test_splits_come_from_their_folders_or_from_others(folder: Path) -> None:
    three = ImageFolder(as_folder(folder / "three", files({"train": 5, "val": 2, "test": 3}))).published()
    assert {name: len(part.y) for name, part in three.items()} == {"train": 10, "validation": 4, "test": 6}
    two = ImageFolder(as_folder(folder / "two", files({"train": 5, "val": 2}))).published()
    assert {name: len(part.y) for name, part in two.items()} == {"train": 10, "test": 4}
    flat = {place.removeprefix("train/"): written for place, written in files({"train": 10}).items()}
    one = ImageFolder(as_folder(folder / "one", flat)).published()
    assert {name: part.y.bincount().tolist() for name, part in one.items()} == {"train": [8, 8], "test": [2, 2]}


def test_grey_images_have_one_channel_and_among_coloured_ones_three(folder: Path) -> None:
    grey = {place: picture((6, 5)) for place in files({"train": 2, "test": 1})}
    assert ImageFolder(as_folder(folder / "grey", grey)).published()["train"].x.shape == (4, 1, 6, 5)
    mixed = grey | {"train/cat/000.png": picture()}
    found = ImageFolder(as_folder(folder / "mixed", mixed)).published()["train"].x
    assert (
        found.shape == (4, 3, 6, 5)
        and torch.equal(found[3, 0], found[3, 1])
        and not torch.equal(found[0, 0], found[0, 1])
    )


def test_images_are_scaled_and_cropped_if_a_size_is_given(folder: Path) -> None:
    content = files({"train": 2, "test": 1})
    content["train/cat/000.png"] = picture((40, 90, 3))
    content["train/dog/000.png"] = picture((300, 30, 3), "bmp")
    path = as_folder(folder / "sizes", content)
    assert ImageFolder(path, 14).published()["train"].x.shape == (4, 3, 14, 14)
    with pytest.raises(UserError, match=r"holds images of several sizes \('.*': 90 × 40, '.*': 5 × 6\): scale them"):
        ImageFolder(path).published()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({}, "holds no images"),
        ({"train/cat/readme.md": b"nothing"}, "holds no images"),
        (files({"train": 3}, ("cat",)), "has one class, 'cat': expected a folder for each of two or more"),
        (files({"test": 3}), "has a test split and no training images"),
        (files({"train": 1}) | {"test/cow/1.png": picture()}, "'test/cow/1.png' is of a class without training images"),
        (files({"train": 1}) | {"train/cat/1.jpg": b"no jpeg"}, "'train/cat/1.jpg' is of no known image format"),
        (files({"train": 1}) | {"train/cat/1.png": picture()[:90]}, "'train/cat/1.png' cannot be read as an image"),
    ],
)
@pytest.mark.parametrize("write", [as_folder, as_tar])
def test_unusable_folders_are_refused_in_one_line(
    content: Files, said: str, write: Callable[[Path, Files], Path], folder: Path, tmp_path: Path
) -> None:
    (folder / "bad").mkdir()
    path = write(folder / "bad", content)
    with pytest.raises(UserError) as refused:
        ImageFolder(path).published()
    assert said in str(refused.value) and str(path) in str(refused.value) and "\n" not in str(refused.value)
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize("write", [as_tar, as_zip, lambda path, content: as_tar(path, content, "w:gz", ".tgz")])
def test_damaged_archives_are_refused(write: Callable[[Path, Files], Path], folder: Path, tmp_path: Path) -> None:
    path = write(folder / "pets", files({"train": 4, "test": 2}))
    whole = path.read_bytes()
    for content in (whole[: len(whole) // 2], b"<html>404</html>", b""):
        path.write_bytes(content)
        with pytest.raises(UserError, match=r"the archive is damaged or incomplete \(.+\): make or fetch it again"):
            ImageFolder(path).published()
    assert not (tmp_path / "cache").exists()


def test_an_archive_with_a_bad_header_or_without_its_end_is_refused_not_shortened(folder: Path) -> None:
    path = as_tar(folder / "pets", files({"train": 4, "test": 2}), "w", ".tar")
    whole = path.read_bytes()
    assert len(ImageFolder(path).published()["train"].y) == 8
    flipped = bytearray(whole)
    flipped[8 * 1024 + 5] ^= 1  # members of one block each: the header of the ninth
    for content in (bytes(flipped), whole[: 8 * 1024]):
        path.write_bytes(content)
        with pytest.raises(UserError, match="the archive is damaged or incomplete"):
            ImageFolder(path).published()


def test_links_are_followed_once(folder: Path) -> None:
    path = as_folder(folder / "pets", files({"train": 3, "test": 1}))
    (path / "train" / "dog" / "up").symlink_to("..")
    (path / "train" / "cat" / "self").symlink_to(".")
    assert {name: len(part.y) for name, part in ImageFolder(path).published().items()} == {"train": 6, "test": 2}
    (folder / "linked").symlink_to(path)
    assert len(ImageFolder(folder / "linked").published()["train"].y) == 6


def test_too_few_images_of_a_class_are_refused(folder: Path) -> None:
    flat = {place.removeprefix("train/"): written for place, written in files({"train": 2}).items()}
    with pytest.raises(UserError, match=r"has 2 image\(s\) of class 'cat': expected three at least"):
        ImageFolder(as_folder(folder / "few", flat)).published()


def test_a_missing_path_and_other_files_are_refused(folder: Path) -> None:
    with pytest.raises(UserError, match=r"pets.tar.xz' does not exist: name a folder or an archive"):
        source("pets.tar.xz").published()
    (folder / "pets.rar").write_bytes(b"Rar!")
    with pytest.raises(UserError, match=r"pets.rar' is no archive: expected .tar, .tar.gz"):
        source("pets.rar").published()
    with pytest.raises(UserError, match="cannot be downloaded"):
        source("pets.tar.xz").download()


def test_nothing_of_an_archive_is_written_outside_the_cache(folder: Path, tmp_path: Path) -> None:
    """An archive can name paths outside its folder, but its files are only read."""
    content = files({"train": 2, "test": 1}) | {"../../train/cat/evil.png": picture()}
    as_tar(folder / "pets", content)
    before = sorted(path for path in tmp_path.rglob("*") if "cache" not in path.parts)
    assert len(source("pets.tar.xz").published()["train"].y) == 5
    assert sorted(path for path in tmp_path.rglob("*") if "cache" not in path.parts) == before


def test_a_folder_that_cannot_be_read_is_reported(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = as_folder(folder / "pets", files({"train": 2, "test": 1}))

    def refused(*_: object) -> bytes:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "read_bytes", refused)
    with pytest.raises(UserError, match="the folder cannot be read"):
        ImageFolder(path).published()
    monkeypatch.setattr(Path, "read_bytes", lambda self: (_ for _ in ()).throw(MemoryError()))
    with pytest.raises(UserError, match="do not fit into memory"):
        ImageFolder(path).published()


def test_paths_are_absolute_or_below_the_data_folder(folder: Path) -> None:
    path = as_folder(folder / "pets", files({"train": 2, "test": 1}))
    assert source("pets") == source(str(path)) == ImageFolder(path)
    assert in_data_dir("pets") == path
