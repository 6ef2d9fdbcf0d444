"""The error that users see: what is wrong, the value, what was expected, what to do."""

from __future__ import annotations

import difflib
import os
import sys
import traceback
from collections.abc import Iterable
from pathlib import Path
from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType

FEW = 24
"""So many names are listed in an error."""
SOME = 12
"""Of more, this many."""
LONGEST = 200
"""Characters of an unknown name that are compared and shown."""
LIBRARIES = (
    *("alembic", "cloudpickle", "jinja2", "numpy", "optuna", "pandas", "plotly", "psutil", "pyarrow", "pydantic"),
    *("rich", "scipy", "sklearn", "sqlalchemy", "torchvision", "typer"),
)
"""The modules of the extra `study` of pyproject.toml: what everything but the optimizers needs."""


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


def require_system() -> None:
    """Refuse to run a study where workers cannot be signalled, nor trials of scripts forked.

    Raises:
        UserError: on Windows.
    """
    if os.name != "posix":
        raise UserError("studies need Linux or macOS: on Windows, run relaxbench in WSL, the Linux within Windows")


def unknown(kind: str, name: object, known: Iterable[str], hint: str = "") -> UserError:
    """An error for a name that does not exist, with the one that was meant, or those that exist.

    Args:
        kind: the kind of thing that the name denotes, e.g. ``"method"``.
        name: the name as given.
        known: the names that exist.
        hint: how to list all names, e.g. ``"python -m relaxbench list"``.
    """
    names, given = sorted(known), str(name)[:LONGEST]
    folded = {each.casefold(): each for each in reversed(names)}  # the first of those that differ by case only
    meant = [each for each in folded if _same_letters(given, each)]
    meant = meant or difflib.get_close_matches(given.casefold(), folded, n=1, cutoff=_alike(given))
    if meant:
        guess = f"did you mean {folded[meant[0]]!r}?"
    elif len(names) <= FEW:
        guess = f"known: {', '.join(names) or 'none'}"
    else:
        guess = f"known: {', '.join(names[:SOME])} and {len(names) - SOME:,} more"
    return UserError(f"unknown {kind} {given!r}: {guess}" + (f" ({hint})" if hint else ""))


def is_slip(given: str, name: str) -> bool:
    """Return whether a name may have been meant by what was given, as `unknown` decides it."""
    likeness = difflib.SequenceMatcher(None, name.casefold(), given.casefold()).ratio()
    return _same_letters(given, name) or likeness >= _alike(given)


def kind_of(value: object) -> str:
    """Say what a value is: plain ones as they are, others without their paths and addresses."""
    if isinstance(value, (str, int, float, complex, type(None))):
        return repr(value)
    if isinstance(value, (list, tuple, dict, set)):
        return f"a {type(value).__name__} of {len(value)}"
    if isinstance(value, ModuleType):
        return "a module"
    if isinstance(value, type):
        return f"the class {value.__name__}"
    if isinstance(value, (FunctionType, BuiltinFunctionType, MethodType)):
        return "a function"
    return f"an object of class {type(value).__name__}"


def _same_letters(given: str, name: str) -> bool:
    """Return whether letters have changed places, as in "tyni"."""
    return sorted(given.casefold()) == sorted(name.casefold())


def _alike(given: str) -> float:
    """Return the likeness (of difflib, 0 to 1) from which a name is what was meant.

    A slip of the finger is one letter too many, too few or wrong: in a short name that is much of it. Longer names
    that share half of their letters are other words, such as "sampler" and "name".
    """
    return {1: 0.5, 2: 0.5, 3: 0.6, 4: 0.6}.get(len(given), 0.7)


def missing_library(error: ModuleNotFoundError) -> str | None:
    """Say what to install for a library of `LIBRARIES` that is not there; None for any other module."""
    name = (error.name or "").partition(".")[0]
    if name not in LIBRARIES:
        return None
    return (
        f"this needs {name!r}, which is not installed: pip install 'relaxbench[study]' (only relaxbench.optim does not)"
    )


OWN = ("relaxbench", "rich", "typer", "click")
"""Packages that end the program where they mean to: after a failed stress test, or a completion in the shell."""


def exited(error: SystemExit) -> UserError | None:
    """Make the error for code of a person that ends the program, which would look as if all were done.

    Args:
        error: as it was caught.

    Returns:
        None if the command line itself has raised it.
    """
    frames = [
        (str(frame.f_globals.get("__name__", "")), frame.f_code.co_filename, line)
        for frame, line in traceback.walk_tb(error.__traceback__)
    ]
    foreign = [place for place in frames if place[0].partition(".")[0] not in sys.stdlib_module_names]
    if not foreign or foreign[-1][0].partition(".")[0] in OWN:
        return None
    _, file, line = foreign[-1]
    return UserError(
        f"SystemExit({error.code!r}) is raised in line {line} of {Path(file).name}, which would end this program as if "
        "all were done: raise another error that says what is wrong, or return"
    )
