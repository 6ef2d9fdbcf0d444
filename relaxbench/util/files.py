"""Files that appear whole or not at all, tables as CSV (for every program) or Parquet (small and fast), the cache."""

from __future__ import annotations

import io
import json
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from relaxbench.errors import UserError

if TYPE_CHECKING:
    import pandas as pd

FORMATS = ("parquet", "csv")


def save(tables: Mapping[str, pd.DataFrame], folder: Path, format: str) -> list[Path]:
    """Write tables as ``<folder>/<name>.<format>``.

    Raises:
        UserError: for another format, or if the folder cannot be written.
    """
    if format not in FORMATS:
        raise UserError(f"format {format!r} is unknown: expected {' or '.join(FORMATS)}")
    paths = {name: folder / f"{name}.{format}" for name in tables}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, path in paths.items():
            write(path, parquet(tables[name]) if format == "parquet" else csv(tables[name]))
    except OSError as error:
        raise UserError(f"cannot write to {str(folder)!r}: {error.strerror} (choose another folder)") from error
    return list(paths.values())


def csv(frame: pd.DataFrame) -> str:
    """A table as CSV text, with settings as JSON."""
    return str(_flat(frame).to_csv(index=False, lineterminator="\n"))


def parquet(frame: pd.DataFrame) -> bytes:
    """A table as a parquet file, with settings as JSON."""
    buffer = io.BytesIO()
    _flat(frame).to_parquet(buffer, index=False)
    return buffer.getvalue()


def write(path: Path, content: str | bytes) -> None:
    """Write a file that appears whole or not at all."""
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def cache_dir() -> Path:
    """Return the cache folder: ``$RELAXBENCH_CACHE``, or ``relaxbench`` in the user's cache folder."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(os.environ.get("RELAXBENCH_CACHE") or Path(base) / "relaxbench")


def _flat(frame: pd.DataFrame) -> pd.DataFrame:
    if "params" not in frame:
        return frame
    params = [json.dumps(setting, ensure_ascii=False, sort_keys=True) for setting in frame["params"]]
    return frame.assign(params=params)
