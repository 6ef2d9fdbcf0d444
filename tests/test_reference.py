"""The API reference covers the public names, and every room's docstring says where to start."""

from __future__ import annotations

import ast
import importlib
import re
from pathlib import Path
from types import ModuleType

import pytest
import yaml

import relaxbench

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "relaxbench"
REFERENCE = [
    path
    for page in sorted((ROOT / "docs" / "api").glob("*.md"))
    for path in re.findall(r"^::: (\S+)", page.read_text(encoding="utf-8"), re.MULTILINE)
]
ROOMS = [file.parent for file in sorted(PACKAGE.rglob("__init__.py")) if file.parent.name != "versions"]


def defined(path: str) -> set[str]:
    """The public names that a line ``::: path`` documents: those of a module, or the object itself."""
    file = ROOT.joinpath(*path.split(".")).with_suffix(".py")
    if not file.exists():
        module = ROOT.joinpath(*path.split("."))
        return set(importlib.import_module(path).__all__) if module.is_dir() else {path.rpartition(".")[2]}
    names = set()
    for node in ast.parse(file.read_text(encoding="utf-8")).body:
        match node:
            case ast.FunctionDef(name=name) | ast.ClassDef(name=name):
                names.add(name)
            case ast.Assign(targets=[ast.Name(id=name)]) | ast.AnnAssign(target=ast.Name(id=name)):
                names.add(name)
    return names


@pytest.mark.parametrize("module", [relaxbench.optim, relaxbench.problems], ids=lambda module: module.__name__)
def test_every_public_name_is_in_the_reference(module: ModuleType) -> None:
    documented = set().union(*(defined(path) for path in REFERENCE))
    assert set(module.__all__) <= documented
    assert {"load_study", "StudyFrames"} <= documented


def test_every_line_of_the_reference_names_something_that_exists() -> None:
    for path in REFERENCE:
        if ROOT.joinpath(*path.split(".")).is_dir() or ROOT.joinpath(*path.split(".")).with_suffix(".py").exists():
            assert importlib.import_module(path)
        else:
            module, _, name = path.rpartition(".")
            assert hasattr(importlib.import_module(module), name), path


def test_bad_docstrings_break_the_build() -> None:
    plugins = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))["plugins"]
    (python,) = [plugin["mkdocstrings"]["handlers"]["python"] for plugin in plugins if "mkdocstrings" in plugin]
    assert python["options"]["docstring_options"]["warnings"] is True


@pytest.mark.parametrize("room", ROOMS, ids=lambda room: room.relative_to(ROOT).as_posix())
def test_a_room_says_what_it_holds_and_names_its_own_files(room: Path) -> None:
    text = ast.get_docstring(ast.parse((room / "__init__.py").read_text(encoding="utf-8")))
    assert text and len(text.splitlines()) >= 3, "say what the room holds, and where to start"
    for name in re.findall(r"(?<!`)`([a-z_.]+)`(?!`)", text):
        places = [base.joinpath(*name.split(".")[:length]) for base in (room, PACKAGE) for length in (1, 2)]
        defines = any(place.is_dir() or place.with_suffix(".py").is_file() for place in places)
        assert defines or hasattr(importlib.import_module(room.relative_to(ROOT).as_posix().replace("/", ".")), name)
