"""`ablate`: take a method apart, and compare it without each of its parts with the whole."""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import typer

from relaxbench.cli import study as command
from relaxbench.cli.console import say
from relaxbench.cli.options import File
from relaxbench.errors import UserError
from relaxbench.util.toml import toml_key, toml_lines, toml_value

KEPT = (
    *("problems", "seed", "looks", "trials", "exploit", "recommend", "budget", "budgets", "margin", "precision"),
    *("flatness", "space", "search"),
)
"""Keys of a study file that hold for the ablation as well."""
Method = Annotated[str, typer.Argument(help="Method to take apart: a rule, or one of the study file.")]
Part = Annotated[list[str] | None, typer.Option("--part", help="Leave out this part only; may be repeated.")]
Print = Annotated[bool, typer.Option("--print", help="Print the study file, and run nothing.")]


def ablate(
    method: str, file: str | None = None, part: list[str] | None = None, show: bool = False, **rest: Any
) -> None:
    """Tune a method without each of its parts and compare each with the whole method.

    The study file that says so is written to NAME.toml in this folder and run with the options of `study`.
    """
    name, text = ablation_file(method, file, part or [])
    if show:
        _refuse_options_of_study(rest)
        print(text, end="")
        return
    target = Path(re.sub(r"[^\w.-]+", "-", name) + ".toml")
    if target.exists() and (not target.is_file() or target.read_text(encoding="utf-8") != text):
        raise UserError(
            f"{str(target)!r} is here already and says something else: run python -m relaxbench study {target}, or "
            "remove it first"
        )
    new = not target.exists()
    if new:
        target.write_text(text, encoding="utf-8")
    try:
        if not rest["quiet"]:
            say(f"Study file: {target}")
        command.study(file=str(target), **rest)
    except UserError:
        if new:
            target.unlink(missing_ok=True)  # what is refused leaves nothing behind
        raise


def _refuse_options_of_study(given: Mapping[str, Any]) -> None:
    """Refuse options that a printed file would not show.

    Raises:
        UserError: naming the first one.
    """
    usual = inspect.signature(command.study).parameters
    for name, value in given.items():
        if name in usual and value != usual[name].default and value is not None:
            option = f"--{name.replace('_', '-')}"
            raise UserError(f"{option}: --print prints the file, without the options of study: leave {option} out")


def ablation_file(method: str, file: str | None, parts: list[str]) -> tuple[str, str]:
    """Return the name of the study that takes a method apart, and the text of its file.

    Args:
        method: a rule, or a method of the study file.
        file: the study file whose settings hold; None for the default study.
        parts: names of parts; empty for all that the method has here.

    Raises:
        UserError: if the file, the method or a part does not exist, or the method has no parts.
    """
    from relaxbench.study.definition.ablation import expanded, label_of, parts_of
    from relaxbench.study.definition.files import find, read
    from relaxbench.study.definition.validation import parse

    path = find(file)
    values, _ = read(path)
    if "script" in values:
        raise UserError(f"{path}: the parts of a training script are not known: write a study with `against` yourself")
    own = {method: values["method"][method]} if method in values.get("method", {}) else {}
    kept = {key: values[key] for key in KEPT if key in values}
    name = f"{values.get('name', path.stem)}-parts-of-{method}"
    there = parts_of(method, {**kept, "method": own})
    chosen = [each for each in there if not parts or each.name in parts]
    asked = {"methods": [method], "parts": parts or [each.name for each in chosen]}
    spec = parse(expanded({**kept, "name": name, "method": own, "ablation": asked}), str(path))
    searched = {key for label in spec.methods for key in spec.hyperparameters(label)}
    tables = {"space": {key: value for key, value in kept.pop("space", {}).items() if key in searched}}
    tables |= {"search": kept.pop("search", {}), f"method.{toml_key(method)}": own.get(method, {})}
    width = max(len(each.name) for each in chosen) + 3
    lines = [
        f"# What is each part of {method} worth? Every line of `parts` is a method of its own, without that part.",
        *toml_lines({"name": name, **kept}),
        *("", "[ablation]", f"methods = {toml_value([method])}", "parts = ["),
        *(f"    {toml_value(each.name) + ',':{width}}  # {label_of(method, each)}: {each.instead}" for each in chosen),
        "]",
    ]
    for heading, table in tables.items():
        lines += ["", f"[{heading}]", *toml_lines(table)] if table else []
    return name, "\n".join(lines) + "\n"


def _with_options_of_study() -> None:
    """Give the command all options of `study`, except those that say which methods there are."""
    own = {"method": Method, "file": File, "part": Part, "show": Print}
    hints = get_type_hints(command.study, include_extras=True)
    theirs = inspect.signature(command.study).parameters
    rest = {name: each for name, each in theirs.items() if name not in own}
    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    defaults = {"method": inspect.Parameter.empty, "file": None, "part": None, "show": False}
    parameters = [inspect.Parameter(n, kind, default=defaults[n], annotation=hint) for n, hint in own.items()]
    parameters += [each.replace(annotation=hints[name]) for name, each in rest.items()]
    ablate.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    ablate.__annotations__ = {**own, **{name: hints[name] for name in rest}}


_with_options_of_study()
