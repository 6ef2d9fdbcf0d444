"""Problems and optimizers that a program gives to a study as objects: they have a name there, but no file.

They belong to the call that gives them. The worker processes of this call receive copies, made by cloudpickle, which
also copies what a notebook or the program itself defines.
"""

from __future__ import annotations

import os
import pickle
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

from relaxbench.errors import UserError

Kind = Literal["problem", "rule", "optimizer"]
Objects = Mapping[tuple[Kind, str], Any]
"""By kind and name; the name of an optimizer is its path, such as ``__main__.MyAdam``."""
FILE = "RELAXBENCH_GIVEN"
"""Names, in a worker's environment, the file from which it receives the objects."""

_objects: ContextVar[Objects] = ContextVar("objects", default=MappingProxyType({}))


@contextmanager
def giving(objects: Objects) -> Iterator[None]:
    """Give objects to what is called in this block."""
    token = _objects.set(objects)
    try:
        yield
    finally:
        _objects.reset(token)


def lookup(kind: Kind, name: str) -> Any:
    """Return the object of a name; None if none was given."""
    return _objects.get().get((kind, name))


def names(kind: Kind | None = None) -> list[str]:
    """Return the names of the objects of a kind, or of all."""
    return [name for own, name in _objects.get() if kind in (own, None)]


def packed() -> bytes:
    """Return all objects as bytes, and where the modules are that they need.

    Raises:
        UserError: naming the first one that cannot be copied to another process.
    """
    import cloudpickle

    parts = {}
    for (kind, name), each in _objects.get().items():
        try:
            parts[kind, name] = cloudpickle.dumps(each)
        except Exception as error:  # pickle raises many kinds
            raise UserError(
                f"{kind} {name!r} cannot be sent to worker processes ({type(error).__name__}: "
                f"{next(iter(str(error).splitlines()), '')}): define it in a Python file, and name the file"
            ) from None
    return pickle.dumps((sys.path, parts))


@contextmanager
def for_workers() -> Iterator[dict[str, str]]:
    """Write the objects to a file for as long as workers may start; yields what their environment needs.

    Raises:
        UserError: as `packed`.
    """
    if not _objects.get():
        yield {}
        return
    with tempfile.TemporaryDirectory(prefix="relaxbench-given-") as folder:
        file = Path(folder) / "objects.pickle"
        file.write_bytes(packed())
        yield {FILE: str(file)}


def receive() -> None:
    """In a worker: take the objects of the program that started it, if it gave any."""
    if FILE in os.environ:
        places, parts = pickle.loads(Path(os.environ[FILE]).read_bytes())
        sys.path += [place for place in places if place not in sys.path]  # before modules there are needed
        _objects.set({name: pickle.loads(part) for name, part in parts.items()})
