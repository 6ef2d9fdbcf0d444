"""Where a problem comes from, and whether its file still holds the problem of that name."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from relaxbench.errors import UserError


def origin(source: str) -> str:
    """Return where a problem comes from as a study stores it: the whole path of a file, or a name."""
    return str(Path(source).absolute()) if source.endswith(".py") else source


def refuse_renamed(stored: Mapping[str, str], now: Mapping[str, str], study: str) -> None:
    """Check that no file gives a problem of another name than before: it would join the study as one more problem.

    Args:
        stored: the origin of each problem of the study, by its name.
        now: the same of the problems that are requested now.
        study: its name.

    Raises:
        UserError: naming the file and both names.
    """
    for name, where in now.items():
        before = [each for each, at in stored.items() if at == where]
        if before and where.endswith(".py") and name not in before and not now.keys() & set(before):
            raise UserError(
                f"{Path(where).name}: the problem is called {name!r} and was {before[0]!r} when study {study!r} began: "
                "call it that again, or use another study name"
            )
