"""The error that users see: what is wrong, the value, what was expected, what to do."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping

FEW = 12
"""So many names are listed in an error; of more, the nearest three."""
SHORT = 5
"""Letters of a name of which half need to be those of a known one."""
LONGEST = 200
"""Characters of an unknown name that are compared and shown."""


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
    """An error for a name that does not exist, with the nearest names that do.

    Args:
        kind: the kind of thing that the name denotes, e.g. ``"method"``.
        name: the name as given.
        known: the names that exist.
        hint: how to list all names, e.g. ``"python -m relaxbench list"``.
    """
    names, given = sorted(known), str(name)[:LONGEST]
    alike = 0.5 if len(given) <= SHORT else 0.6  # two letters that changed places are half of a short name
    folded = {each.casefold(): each for each in reversed(names)}  # the first of those that differ by case only
    near = _nearest(given, folded, 1, alike)
    if near:
        guess = f"did you mean {near[0]!r}?"
    elif len(names) <= FEW:
        guess = f"known: {', '.join(names) or 'none'}"
    else:
        guess = f"the nearest are {', '.join(_nearest(given, folded, 3, 0.0))}"
    return UserError(f"unknown {kind} {given!r}: {guess}" + (f" ({hint})" if hint else ""))


def _nearest(given: str, folded: Mapping[str, str], count: int, cutoff: float) -> list[str]:
    """Return the names that are most like the given one, whatever is written in capitals."""
    return [folded[key] for key in difflib.get_close_matches(given.casefold(), folded, n=count, cutoff=cutoff)]
