"""Find the class of an optimizer from its path in a study file."""

from __future__ import annotations

import importlib
import inspect
import os
import sys
from functools import cache
from importlib import metadata
from pathlib import Path
from types import ModuleType
from typing import Any

from torch.optim import Optimizer

from relaxbench import given, plugins
from relaxbench.errors import UserError, kind_of, unknown

PREFIX = "torch:"
"""A rule of a study file that begins so is an optimizer of PyTorch or of another package."""
EXPECTED = f'expected "{PREFIX}MODULE.CLASS", such as "{PREFIX}torch.optim.Adam", or "{PREFIX}FILE.py:CLASS"'
EXTRA = ("schedulefree", "pytorch_optimizer")
"""Packages of the extra `optimizers`."""
LONGEST = 200
"""Longest quotation of an error, in characters."""


def is_path(name: str) -> bool:
    """Return whether the name of a rule is the path of an optimizer."""
    return name.startswith(PREFIX)


def find(path: str) -> type[Optimizer]:
    """Return the class of a path such as ``torch.optim.Adam`` or ``my_file.py:MyOptimizer``.

    Raises:
        UserError: if there is none, or if it cannot be an optimizer.
    """
    if (own := given.lookup("optimizer", path)) is not None:
        return checked(own, path)
    module, _, name = path.rpartition(".")
    if module == "__main__" and not hasattr(sys.modules[module], name):
        raise UserError(
            f"optimizer {path!r} was an object of a program, which alone has it: run that program again, or define the "
            "class in a Python file"
        )
    file, _, name = path.rpartition(":")
    if file.endswith(".py"):
        return checked(_attribute(_file(file, _age(file)), name, path), path)
    module, _, name = path.rpartition(".")
    if path.endswith(".py") or not all(part.isidentifier() for part in path.split(".")) or not module:
        raise UserError(f"rule {PREFIX + path!r}: {EXPECTED}")
    return checked(_attribute(_module(module, path), name, path), path)


def checked(cls: Any, path: str) -> type[Optimizer]:
    """Return a value if it is a class of optimizers that can be made.

    Raises:
        UserError: if it is not.
    """
    if not isinstance(cls, type):
        raise UserError(f"optimizer {path!r} is {kind_of(cls)}: expected a subclass of torch.optim.Optimizer")
    if not issubclass(cls, Optimizer):
        raise UserError(f"optimizer {path!r} is a class, but no subclass of torch.optim.Optimizer: name one")
    if inspect.isabstract(cls) or cls.step is Optimizer.step:
        lacks = ", ".join(sorted(getattr(cls, "__abstractmethods__", ()))) or "step"
        raise UserError(f"optimizer {path!r} is abstract, it lacks {lacks}: name a subclass that has it")
    return cls


def path_of(cls: type[Optimizer]) -> str:
    """Return the shortest path under which a class can be imported."""
    parts = cls.__module__.split(".")
    for end in range(1, len(parts)):
        module = importlib.import_module(".".join(parts[:end]))
        if getattr(module, cls.__name__, None) is cls:
            return f"{module.__name__}.{cls.__name__}"
    return f"{cls.__module__}.{cls.__name__}"


def package_of(path: str) -> str:
    """Return the package that a path belongs to, with its version, as ``torch 2.11.0``; "" for a file."""
    if ".py:" in path:
        return ""
    top = path.split(".")[0]
    for name in (top, top.replace("_", "-")):
        try:
            return f"{name} {metadata.version(name).split('+')[0]}"
        except metadata.PackageNotFoundError:
            continue
    return ""


def quoted(error: BaseException) -> str:
    """Return the kind and the first line of an error, or two lines where the first one only announces the second."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    line = " ".join(lines[:2] if lines and lines[0].endswith(":") else lines[:1])
    return f"{type(error).__name__}: {line[:LONGEST]}" if line else type(error).__name__


def _module(name: str, path: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        missing = error.name or name
        if not (name == missing or name.startswith(f"{missing}.")):
            reason = f"cannot be imported: it needs the package {missing!r}, which is not installed"
        elif "." in missing:
            reason = f"does not exist: there is no module {missing!r}"
        else:
            reason = f"cannot be imported: the package {missing!r} is not installed"
        known = "pip install 'relaxbench[optimizers]'" if missing in EXTRA else "install it"
        raise UserError(f"optimizer {path!r} {reason}; {known}, or name another one") from None
    except (Exception, SystemExit) as error:
        raise UserError(f"optimizer {path!r} cannot be imported: {quoted(error)}; mend its package") from error


def _attribute(module: ModuleType, name: str, path: str) -> Any:
    try:
        return getattr(module, name)
    except AttributeError:
        known = [
            each for each, value in vars(module).items() if isinstance(value, type) and issubclass(value, Optimizer)
        ]
        where = module.__name__ if ".py:" not in path else path.rpartition(":")[0]
        raise unknown(f"optimizer of {where}:", name, known) from None


def _age(file: str) -> float:
    return os.stat(file).st_mtime if Path(file).is_file() else 0.0


@cache
def _file(file: str, age: float) -> ModuleType:
    """Run a file once per process and edit: a class that is made twice is two classes."""
    return plugins.run_file(Path(file), "optimizer", "a subclass of torch.optim.Optimizer")
