"""Load study files: TOML files of your own, and those that relaxbench ships."""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from relaxbench.errors import UserError
from relaxbench.study.definition.ablation import expanded, opponents_in
from relaxbench.study.definition.spec import StudySpec
from relaxbench.study.definition.validation import parse

NEAREST = 3
"""So many study files are named where one does not exist."""


def load(
    file: Path, overrides: Mapping[str, Any] | None = None, names: Mapping[str, str] | None = None
) -> tuple[StudySpec, str]:
    """Load a study, and the text of its file.

    Args:
        file: the TOML file.
        overrides: values that replace those of the file, by key. The baseline is always among the methods.
        names: how error messages name the overridden keys.

    Raises:
        UserError: if the file is missing, not TOML, or not a study.
    """
    values, text = read(file)
    return define(values, str(file), overrides or {}, names), text


def define(
    values: Mapping[str, Any], where: str, overrides: Mapping[str, Any], names: Mapping[str, str] | None = None
) -> StudySpec:
    """Make a study of the values of a file, and of those that replace some of them; see `load`.

    Raises:
        UserError: if they are not a study.
    """
    try:
        values = {**expanded(values), **overrides}
    except UserError as error:
        raise UserError(f"{where}: {error}") from None
    if "budget" in overrides:
        values.pop("budgets", None)
    if "methods" in overrides:
        twice = [label for label in overrides["methods"] if overrides["methods"].count(label) > 1]
        if twice:
            raise UserError(f"method {twice[0]!r} is named twice: name it once")
        named = [values.get("baseline", "sgd"), *overrides["methods"]]
        values["methods"] = list(dict.fromkeys([*named[:1], *opponents_in(values, named), *named[1:]]))
        return parse(values, where, names)
    spec = parse(values, where, names)
    for key, labels in (("controls", spec.controls), ("[method.…]", spec.method), ("known", _known(spec))):
        idle = [label for label in labels if label not in spec.methods]
        if idle:
            raise UserError(f"{where}: {key} names {idle[0]!r}, which is not among the methods: add it to `methods`")
    _check_idle_ranges(spec, where)
    return spec


def _known(spec: StudySpec) -> list[str]:
    return [known.method for known in spec.known or []]


def _check_idle_ranges(spec: StudySpec, where: str) -> None:
    """Check that every range of [space] is for a hyperparameter of some method: another one would change nothing."""
    used = {name for label in spec.methods for name in spec.hyperparameters(label)}
    for name in spec.space:
        if name not in used:
            raise UserError(f"{where}: [space] has a range of {name}, which no method of this study has: leave it out")


def studies_folder() -> Path:
    """Return the folder of the shipped study files: in the installed package, or next to it in a checkout."""
    inside = Path(__file__).parents[2] / "studies"
    return inside if inside.is_dir() else Path(__file__).parents[3] / "studies"


def shipped() -> list[str]:
    """Return the names of the shipped study files."""
    return sorted(f"studies/{path.name}" for path in studies_folder().glob("*.toml"))


def find(file: str | None) -> Path:
    """Return the path of a study file; None is the default study.

    ``studies/NAME.toml`` is the shipped file if the current folder has none of that name.
    """
    path = Path(file or "studies/digits.toml")
    if file is None or (not path.exists() and path.parent == Path("studies")):
        packaged = studies_folder() / path.name
        return packaged if packaged.exists() else path
    return path


def read(file: Path) -> tuple[dict[str, Any], str]:
    """Return the values of a TOML file by key, and its text."""
    if file.is_dir():
        raise UserError(f"study file {str(file)!r} is a folder: {_nearest(file)}")
    if not file.is_file():
        raise UserError(f"study file {str(file)!r} does not exist: {_nearest(file)}")
    refused = f"study file {str(file)!r} cannot be read"
    if file.suffix == ".py":
        raise UserError(f"{refused}: it is a Python file; give a problem as --problem")
    try:
        text = file.read_text(encoding="utf-8-sig")  # with or without the mark that Windows writes first
    except UnicodeDecodeError as error:
        raise UserError(f"{refused}: byte {error.start + 1:,} is not UTF-8; save it as UTF-8 text") from None
    except OSError as error:
        raise UserError(f"{refused}: {error.strerror}") from None
    try:
        return tomllib.loads(text), text
    except RecursionError:
        raise UserError(f"{refused}: its lists or tables are nested too deeply") from None
    except ValueError as error:  # TOMLDecodeError, or a number of thousands of digits
        raise UserError(f"{refused}: {_toml(error, text)}") from None


def _nearest(file: Path) -> str:
    """Return what to give in place of a path that is no file: study files with names like it, and where others are."""
    folder = file if file.is_dir() else file.parent
    here = sorted(str(path) for path in folder.glob("*.toml") if path.name != "pyproject.toml")
    names = {Path(name).stem: name for name in (*shipped(), *here)}
    nearest = [names[stem] for stem in difflib.get_close_matches(file.stem, names, n=NEAREST, cutoff=0.0)]
    return f"give a TOML file, such as {', '.join(nearest)} (relaxbench's own are in {studies_folder()})"


def _toml(error: ValueError, text: str) -> str:
    """Return an error of a TOML file in words that need no knowledge of the parser."""
    words, lines = str(error), text.rstrip().splitlines() or [""]
    place = re.search(r"\(at line (\d+)", words)
    number = int(place[1]) if place else len(lines)  # at the end of the document
    line = lines[min(number, len(lines)) - 1].strip()
    if re.match(r"Cannot (overwrite|declare|mutate|redefine)", words):
        return f"{line!r} (at line {number}) gives a key or table that the file has given before: keep one of them"
    if "integer string conversion" in words:
        return "it has a number of thousands of digits"
    return f"{words}: {line!r}" if line else words
