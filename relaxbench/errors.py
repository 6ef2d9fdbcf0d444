"""The error that users see: what is wrong, the value, what was expected, what to do."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """A mistake in a request. The CLI prints it as one line and exits with code 2.

    Args:
        message: one line, without the names of command-line options.
        settings: the settings that the mistake concerns, e.g. ``"per_device"``. The CLI adds the option of each,
            ``--per-device``; see `cli.options.described`.
    """

    def __init__(self, message: str, *settings: str) -> None:
        super().__init__(message)
        self.settings = settings


def unknown(kind: str, name: object, known: Iterable[str], hint: str = "") -> UserError:
    """An error for a name that does not exist, with the nearest name that does.

    Args:
        kind: the kind of thing that the name denotes, e.g. ``"method"``.
        name: the name as given.
        known: the names that exist.
        hint: how to list all names, e.g. ``"python -m relaxbench list"``.
    """
    names = sorted(known)
    near = difflib.get_close_matches(str(name), names, n=1, cutoff=0.5)
    guess = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(names)}"
    return UserError(f"unknown {kind} {str(name)!r}: {guess}" + (f" ({hint})" if hint else ""))
