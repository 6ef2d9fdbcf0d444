"""A cache of decoded data on disk: files are written whole, and their fingerprint is checked when they are read."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import torch
from torch import Tensor

from relaxbench.errors import UserError
from relaxbench.util.files import cache_dir

FORMAT = 1
"""Version of the file format. A file of another version is not used."""

Tensors = Mapping[str, Tensor]
"""Tensors by name."""


def cached(name: str, key: str, make: Callable[[], Tensors]) -> dict[str, Tensor]:
    """Return the tensors of `make`, from the cache if it was called before for the same source.

    Args:
        name: name of the data, a part of the file name.
        key: a text that changes when the source does.
        make: reads the source. If it raises, nothing is written.

    Returns:
        the tensors. A file that is damaged, incomplete, or of another format or source is replaced.

    Raises:
        UserError: if the cache folder cannot be written.
    """
    digest = hashlib.sha256(f"{FORMAT} {name} {key}".encode()).hexdigest()[:16]
    path = cache_dir() / f"{name}-{digest}.pt"
    stored = _read(path)
    if stored is not None:
        return stored
    tensors = dict(make())
    _write(path, tensors)
    return tensors


def fingerprint(tensors: Iterable[tuple[str, Tensor]]) -> str:
    """Return a digest of names, shapes, types and values of tensors, in the given order."""
    digest = hashlib.sha256()
    for name, tensor in tensors:
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
        plain = tensor.detach().contiguous().cpu()
        if plain.dtype == torch.bfloat16:  # which numpy does not have
            plain = plain.view(torch.int16)
        digest.update(plain.numpy().tobytes())
    return digest.hexdigest()


def _read(path: Path) -> dict[str, Tensor] | None:
    if not path.is_file():
        return None
    try:
        saved = torch.load(path, weights_only=True)
        tensors: dict[str, Tensor] = saved["tensors"]
        whole = saved["format"] == FORMAT and saved["fingerprint"] == fingerprint(sorted(tensors.items()))
    except Exception:  # torch.load raises many kinds for damaged files
        return None
    return tensors if whole else None


def _write(path: Path, tensors: Tensors) -> None:
    """Write a temporary file and rename it, so that a file of that name is always complete."""
    nearest = next(place for place in (path.parent, *path.parent.parents) if place.exists())
    if not nearest.is_dir():
        raise UserError(
            f"cache folder {str(path.parent)!r}: {str(nearest)!r} is not a folder: set RELAXBENCH_CACHE to one"
        )
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
        try:
            with os.fdopen(handle, "wb") as file:
                torch.save(
                    {"format": FORMAT, "fingerprint": fingerprint(sorted(tensors.items())), "tensors": dict(tensors)},
                    file,
                )
                file.flush()
                os.fsync(file.fileno())
            Path(temporary).replace(path)
        finally:
            Path(temporary).unlink(missing_ok=True)
    except (OSError, RuntimeError) as error:  # torch.save raises RuntimeError if the disk is full
        reason = getattr(error, "strerror", None) or str(error).splitlines()[0]
        raise UserError(
            f"the decoded data cannot be kept in {str(path.parent)!r} ({reason}): make room there, or set "
            "RELAXBENCH_CACHE to another folder"
        ) from None
