"""Facts that were measured on this machine, kept in a folder for the next time: one small JSON file for each.

Whatever is wrong with the folder or a file, the facts are measured again.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import hashlib
import json
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from relaxbench.util.cores import cores
from relaxbench.util.files import write

KEPT_DAYS = 30.0
"""Age at which facts are measured again: machines change."""
BUSY = 2.0
"""Load per core above which nothing is kept: what is measured then says little about the machine."""


def recall(folder: Path, kind: str, key: object) -> tuple[dict[str, Any], str] | None:
    """Return what was kept under a key, and the day on which it was (UTC); None if there is nothing usable.

    Args:
        folder: of the cache.
        kind: a part of the file's name.
        key: JSON that has all on which the facts depend.
    """
    try:
        stored = json.loads(_path(folder, kind, key).read_text())
        facts, at = dict(stored["facts"]), float(stored["at"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    if not 0 <= time.time() - at < KEPT_DAYS * 86_400:
        return None
    return facts, dt.datetime.fromtimestamp(at, dt.UTC).date().isoformat()


def remember(folder: Path, kind: str, key: object, facts: Mapping[str, Any]) -> None:
    """Keep facts under a key, unless the machine is busy or the folder cannot be written; see `recall`."""
    if KEPT_DAYS <= 0 or (hasattr(os, "getloadavg") and os.getloadavg()[0] > BUSY * cores()):
        return
    with contextlib.suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
        write(_path(folder, kind, key), json.dumps({"facts": facts, "at": time.time()}))


def _path(folder: Path, kind: str, key: object) -> Path:
    digest = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:24]
    return folder / f"{kind}-{digest}.json"
