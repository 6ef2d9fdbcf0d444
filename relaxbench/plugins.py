"""Rules and problems from other packages (entry points) and from your own Python files.

A package adds rules and problems by entry points in its pyproject.toml:

    [project.entry-points."relaxbench.rules"]
    my-rule = "my_package:MyRule"
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
from collections.abc import Collection
from contextlib import suppress
from functools import lru_cache
from importlib.machinery import SourceFileLoader
from importlib.metadata import EntryPoint, EntryPoints, entry_points
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

from relaxbench.errors import UserError

RULES = "relaxbench.rules"
"""Group of entry points that are subclasses of `optim.rule.Rule`; an entry point's name is the rule's name."""
PROBLEMS = "relaxbench.problems"
"""Group of entry points that are callables without arguments and return a `problems.Problem`."""

FILE = "relaxbench_file_"
"""Begins the names of the modules that `run_file` makes."""


def points_of(group: str) -> dict[str, list[EntryPoint]]:
    """The installed entry points of a group by name, without importing them. Several of one name are a conflict."""
    names: dict[str, list[EntryPoint]] = {}
    for point in _installed(group, tuple(_folder(place) for place in sys.path)):
        names.setdefault(point.name, []).append(point)
    return dict(sorted(names.items()))


@lru_cache(maxsize=2)
def _installed(group: str, folders: tuple[tuple[str, int], ...]) -> EntryPoints:
    """A group's entry points; read again when the search path or one of its folders has changed. A study asks often."""
    return entry_points(group=group)


def _folder(place: str) -> tuple[str, int]:
    """A folder of the search path, and when something was last added to it or removed from it."""
    with suppress(OSError):
        return place, os.stat(place or ".").st_mtime_ns
    return place, 0


def ignored(group: str, builtin: Collection[str]) -> dict[str, str]:
    """The entry points that are never loaded, because something built in has their name: name → what to do, a line."""
    what = "rule" if group == RULES else "problem"
    return {
        name: f"{what} {name!r} of {package(points[0])} is ignored: a built-in one has this name; rename it there"
        for name, points in points_of(group).items()
        if name in builtin
    }


def load(group: str, name: str) -> Any:
    """Import the object of a name that `points_of` lists.

    Raises:
        UserError: if two packages define that name, or importing fails; it names the package and the reason.
    """
    points = points_of(group)[name]
    packages = sorted({package(point) for point in points})
    if len(packages) > 1:
        raise UserError(f"{name!r} is defined by several packages, {' and '.join(packages)}: uninstall all but one")
    try:
        return points[0].load()
    except (Exception, SystemExit) as error:
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        raise UserError(
            f"{name!r} of package {packages[0]} cannot be imported from {points[0].value!r}: {reason}; fix the "
            "package, or uninstall it"
        ) from error


def package(point: EntryPoint) -> str:
    """The name of the package that an entry point belongs to."""
    return point.dist.name if point.dist else "an unnamed package"


class _FromText(SourceFileLoader):
    """Compile a file from its text each time: stored bytecode may be of another text of the same second and size."""

    def get_code(self, fullname: str) -> CodeType:
        return self.source_to_code(self.get_data(self.path), self.path)


def run_file(path: Path, kind: str, defines: str) -> ModuleType:
    """Run a Python file as a module.

    Args:
        path: the file.
        kind: what the file defines, e.g. ``"problem"``.
        defines: a description of the required definition, for the message.

    Raises:
        UserError: if the file is missing or fails when run.
    """
    if path.is_dir():
        raise UserError(f"{kind} file {str(path)!r} is a folder: give a Python file that defines {defines}")
    if not path.is_file():
        raise UserError(
            f"{kind} file {str(path)!r} does not exist: give the path of a Python file that defines {defines}"
        )
    name = f"{FILE}{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path, loader=_FromText(name, str(path)))
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    _find_helpers_in(path.parent.resolve())
    sys.modules[module.__name__] = module  # dataclasses and pickle look modules up there
    try:
        spec.loader.exec_module(module)
    except UserError as error:
        del sys.modules[module.__name__]
        raise UserError(f"{kind} file {str(path)!r}: {error}") from None
    except (Exception, SystemExit) as error:
        del sys.modules[module.__name__]
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        raise UserError(f"{kind} file {str(path)!r} fails when run: {reason}") from error
    return module


def files_run() -> list[str]:
    """Return the paths of the files that were run as modules: another process runs them to have their classes."""
    return [os.path.abspath(str(module.__file__)) for name, module in sys.modules.items() if name.startswith(FILE)]


_folders: list[str] = []
"""Folders of the files that have been run, the last one first."""


def _find_helpers_in(folder: Path) -> None:
    """Let a file import the modules beside it, wherever the program runs; installed packages come first.

    A module of the same name beside another file is forgotten, so that each file imports its own.
    """
    others = dict.fromkeys(place for place in _folders if place != str(folder))
    for name, module in list(sys.modules.items()) if others else ():
        file = getattr(module, "__file__", None)
        # Thousands of modules are loaded: making a Path of each took longer than running the file.
        if file and file.rpartition(os.sep)[0] in others and (folder / os.path.basename(file)).is_file():
            del sys.modules[name]
    sys.path[:] = [place for place in sys.path if place not in _folders]
    _folders[:] = [str(folder), *others]
    sys.path.extend(place for place in _folders if place not in sys.path)
    importlib.invalidate_caches()
