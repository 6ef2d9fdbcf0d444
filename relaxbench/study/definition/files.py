"""Load study files: TOML files of your own, and those that relaxbench ships."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from relaxbench.errors import UserError
from relaxbench.study.definition.spec import StudySpec
from relaxbench.study.definition.validation import parse


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
    overrides = overrides or {}
    values, text = _read(file)
    values |= overrides
    if "budget" in overrides:
        values.pop("budgets", None)
    if "methods" in overrides:
        values["methods"] = list(dict.fromkeys([values.get("baseline", "sgd"), *overrides["methods"]]))
        return parse(values, str(file), names), text
    spec = parse(values, str(file), names)
    for key, labels in (("controls", spec.controls), ("[method.…]", spec.method)):
        idle = [label for label in labels if label not in spec.methods]
        if idle:
            raise UserError(f"{file}: {key} names {idle[0]!r}, which is not among the methods: add it to `methods`")
    return spec, text


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


def _read(file: Path) -> tuple[dict[str, Any], str]:
    """Return the values of a TOML file by key, and its text."""
    hint = f"give a TOML file, e.g. one of {', '.join(shipped())}"
    if file.is_dir():
        raise UserError(f"study file {str(file)!r} is a folder: {hint}")
    if not file.is_file():
        raise UserError(f"study file {str(file)!r} does not exist: {hint}")
    try:
        text = file.read_text(encoding="utf-8")
        return tomllib.loads(text), text
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, OSError) as error:
        raise UserError(f"study file {str(file)!r} cannot be read: {error}") from None
