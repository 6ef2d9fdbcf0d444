"""The cache of decoded data: files are complete, current, and replaced when damaged."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from relaxbench.errors import UserError
from relaxbench.problems.data import cache
from relaxbench.problems.data.cache import cached, fingerprint
from relaxbench.util.files import cache_dir

MADE: list[int] = []


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("RELAXBENCH_CACHE", str(tmp_path / "cache"))
    MADE.clear()
    return tmp_path / "cache"


def make() -> dict[str, Tensor]:
    MADE.append(1)
    return {"x": torch.arange(12, dtype=torch.uint8).view(3, 4), "y": torch.tensor([2, 0, 1])}


def read(key: str = "source") -> int:
    """Read the data, check them, and return how often they have been made so far."""
    found = cached("data", key, make)
    assert found["x"].tolist() == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11]] and found["y"].tolist() == [2, 0, 1]
    return len(MADE)


def test_data_are_made_once_per_source_and_format(monkeypatch: pytest.MonkeyPatch) -> None:
    assert [read(), read(), read("changed"), read("changed"), read()] == [1, 1, 2, 2, 2]
    monkeypatch.setattr(cache, "FORMAT", 2)
    assert [read(), read()] == [3, 3]


@pytest.mark.parametrize("damage", ["cut", "emptied", "turned", "foreign"])
def test_an_incomplete_file_is_made_again(damage: str, folder: Path) -> None:
    read()
    (file,) = folder.iterdir()
    content = file.read_bytes()
    if damage == "foreign":
        torch.save({"tensors": {"x": torch.zeros(1)}}, file)
    else:
        place = content.index(bytes(range(12)))  # of the pixels
        turned = content[:place] + b"\x09" + content[place + 1 :]
        file.write_bytes({"cut": content[: len(content) // 2], "emptied": b"", "turned": turned}[damage])
    assert [read(), read()] == [2, 2]


def test_nothing_is_left_when_making_fails_or_the_disk_is_full(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> dict[str, Tensor]:
        raise UserError("not there")

    with pytest.raises(UserError, match="not there"):
        cached("data", "source", fail)
    assert not folder.exists()

    def full(saved: object, file: object) -> None:
        file.write(b"half")  # type: ignore[attr-defined]
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(torch, "save", full)
        with pytest.raises(UserError, match=r"cannot be kept in .* \(No space left on device\): make room"):
            read()
    assert list(folder.iterdir()) == []
    assert read() == 2


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("RELAXBENCH_CACHE", str(tmp_path / "file" / "below"))
    with pytest.raises(UserError, match="is not a folder: set RELAXBENCH_CACHE to one"):
        read()


def test_the_cache_is_in_the_user_s_cache_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RELAXBENCH_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere")
    assert cache_dir() == Path("/somewhere/relaxbench")


def test_fingerprints_depend_on_values_shapes_types_and_names() -> None:
    x = torch.arange(4)
    others = [{"x": x + 1}, {"x": x.view(2, 2)}, {"x": x.int()}, {"y": x}, {"x": x, "y": x}]
    assert len({fingerprint(tensors.items()) for tensors in [{"x": x}, *others]}) == 6
    assert fingerprint(sorted({"x": x, "y": x}.items())) == fingerprint(sorted({"y": x, "x": x}.items()))
