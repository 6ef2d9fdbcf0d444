"""The code of a Dataset: a sample of its examples does not show every change of it."""

from __future__ import annotations

import ast
import hashlib
import inspect
import sysconfig
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from torch.utils.data import Dataset

DEEPEST = 8
"""Datasets within Datasets that are looked at."""


def code_of(dataset: Any) -> str:
    """Return the names of the classes of a Dataset and of those that it is made of, with a digest of their own code.

    Comments, docstrings and the form of the code do not count; nor does the code of packages, whose versions may
    differ between machines.
    """
    return " ".join(dict.fromkeys(_described(type(part)) for part in _parts(dataset, DEEPEST)))


def _parts(dataset: Any, depth: int) -> Iterator[Any]:
    """Yield a Dataset and those among its attributes, as of a Subset or a ConcatDataset."""
    yield dataset
    for value in vars(dataset).values() if depth and hasattr(dataset, "__dict__") else ():
        for inner in value if isinstance(value, (list, tuple)) and len(value) < 1000 else (value,):
            if isinstance(inner, Dataset):
                yield from _parts(inner, depth - 1)


def _described(cls: type) -> str:
    name = f"{cls.__module__}.{cls.__qualname__}".split(".")[-1]
    if cls.__module__ == "__main__":  # of a notebook or a program, of which workers have copies without a text
        return name
    try:
        file, source = inspect.getsourcefile(cls), inspect.getsource(cls)
    except (OSError, TypeError):
        return name
    if file is None or _is_package(Path(file)):
        return name
    try:
        tree = ast.parse(textwrap.dedent(source))
    except SyntaxError:
        return name
    for node in ast.walk(tree):
        if isinstance(node, (ast.ClassDef, ast.FunctionDef)) and ast.get_docstring(node, clean=False) is not None:
            node.body = node.body[1:] or [ast.Pass()]
    code = ast.unparse(_Unquoted().visit(tree))
    return f"{name}:{hashlib.sha256(code.encode()).hexdigest()[:8]}"


class _Unquoted(ast.NodeTransformer):
    """Writes an f-string as a call with its parts: Python 3.11 and 3.12 quote what is within its braces differently."""

    def visit_JoinedStr(self, node: ast.JoinedStr) -> ast.Call:
        self.generic_visit(node)
        # The first releases of 3.12 add an empty text after the width of `{x:{width}}`.
        parts = [part for part in node.values if not (isinstance(part, ast.Constant) and part.value == "")]
        return ast.Call(ast.Name("f"), parts, [])

    def visit_FormattedValue(self, node: ast.FormattedValue) -> ast.Tuple:
        self.generic_visit(node)
        parts = [node.value, ast.Constant(node.conversion), node.format_spec or ast.Constant(None)]
        return ast.Tuple(parts)


def _is_package(file: Path) -> bool:
    """Return whether a file belongs to Python or to an installed package."""
    places = {sysconfig.get_path(name) for name in ("stdlib", "purelib", "platlib")}
    return any(file.resolve().is_relative_to(Path(place).resolve()) for place in places if place)
