"""Decoded data, kept on disk: made once, whole or not at all, and never trusted without its fingerprint."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import torch
from torch import Tensor

from relaxbench.errors import UserError

FORMAT = 1
"""Of the files; a cache of another format is made again."""

Tensors = Mapping[str, Tensor]


def cache_dir() -> Path:
    """``$RELAXBENCH_CACHE``, or ``relaxbench`` in the user's cache folder."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(os.environ.get("RELAXBENCH_CACHE") or Path(base) / "relaxbench")


def cached(name: str, key: str, make: Callable[[], Tensors]) -> dict[str, Tensor]:
    """What `make` gives, from the cache if it was made before from the same source.

    Args:
        name: of the data, for the file's name.
        key: changes when the source does.
        make: reads the source; may raise a `UserError`, and then nothing is kept.

    Returns:
        the tensors. A file that is damaged, unfinished, or of another format or source is made again.
    """
    digest = hashlib.sha256(f"{FORMAT} {name} {key}".encode()).hexdigest()[:16]
    path = cache_dir() / f"{name}-{digest}.pt"
    found = _read(path)
    if found is not None:
        return found
    tensors = dict(make())
    _write(path, tensors)
    return tensors


def fingerprint(tensors: Iterable[tuple[str, Tensor]]) -> str:
    """A digest of names, types, shapes and values, in this order."""
    digest = hashlib.sha256()
    for name, tensor in tensors:
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
        digest.update(tensor.contiguous().cpu().numpy().tobytes())
    return digest.hexdigest()


def _read(path: Path) -> dict[str, Tensor] | None:
    if not path.is_file():
        return None
    try:
        saved = torch.load(path, weights_only=True)
        tensors: dict[str, Tensor] = saved["tensors"]
        whole = saved["format"] == FORMAT and saved["fingerprint"] == fingerprint(sorted(tensors.items()))
    except Exception:  # whatever a damaged file makes of itself
        return None
    return tensors if whole else None


def _write(path: Path, tensors: Tensors) -> None:
    """Beside its place first: a file of that name is always whole."""
    nearest = next(place for place in (path.parent, *path.parent.parents) if place.exists())
    if not nearest.is_dir():
        raise UserError(
            f"cache folder {str(path.parent)!r}: {str(nearest)!r} is not a folder: set RELAXBENCH_CACHE to one"
        )
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, beside = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
        try:
            with os.fdopen(handle, "wb") as file:
                torch.save(
                    {"format": FORMAT, "fingerprint": fingerprint(sorted(tensors.items())), "tensors": dict(tensors)},
                    file,
                )
                file.flush()
                os.fsync(file.fileno())
            Path(beside).replace(path)
        finally:
            Path(beside).unlink(missing_ok=True)
    except (OSError, RuntimeError) as error:  # torch.save says RuntimeError where the disk is full
        reason = getattr(error, "strerror", None) or str(error).splitlines()[0]
        raise UserError(
            f"the decoded data cannot be kept in {str(path.parent)!r} ({reason}): make room there, or set "
            "RELAXBENCH_CACHE to another folder"
        ) from None
