"""Classes of Optuna's kind, by the path that a study file gives: ``package.module:Class``."""

from __future__ import annotations

import inspect
import pkgutil
from collections.abc import Collection, Mapping
from typing import Any

from relaxbench.errors import UserError, unknown
from relaxbench.util.text import listed


def is_path(name: str) -> bool:
    """Whether a name is the path of a class: ``package.module:Class``."""
    module, colon, attribute = name.partition(":")
    return bool(colon) and all(part.isidentifier() for part in [*module.split("."), *attribute.split(".")])


def class_at(name: str, base: type, kind: str, default: str, classes: Mapping[str, str]) -> type[Any]:
    """Import a class.

    Args:
        name: its path.
        base: of which it must be a subclass.
        kind: what it is, in messages: sampler, pruner.
        default: the name of what is no class.
        classes: Optuna's classes by the names that a study file may give instead of a path.

    Raises:
        UserError: for a name that is no path, or a class that cannot be imported or is of another kind.
    """
    if not is_path(name):
        hint = 'or the path of a class, "package.module:Class"'
        for short, own in classes.items():
            if name.rpartition(".")[2] == own:  # as Optuna calls it
                raise UserError(f"unknown {kind} {name!r}: did you mean {short!r}? ({hint})")
        raise unknown(kind, name, (default, *classes), hint)
    try:
        found = pkgutil.resolve_name(name)
    except (ImportError, AttributeError, ValueError) as error:
        raise UserError(
            f"{kind} {name!r} cannot be imported ({error}): install its package, or correct the path"
        ) from None
    if not (inspect.isclass(found) and issubclass(found, base)):
        raise UserError(f"{kind} {name!r} is not a class of {kind}s: expected a subclass of optuna's {base.__name__}")
    if inspect.isabstract(found):
        raise UserError(f"{kind} {name!r} is abstract, what {kind}s have in common: name one that is complete")
    return found


PLAIN: Mapping[str, tuple[type, ...]] = {"bool": (bool,), "int": (int,), "float": (int, float), "str": (str,)}
"""Types of arguments that are checked, by the names in annotations: a class may take the text "no" for a truth."""
BEYOND = "which a study file cannot give"
WORDS = {"bool": "true or false", "int": "a whole number", "float": "a number", "str": "a text in quotes"}

COUNTS = ("n_", "num_", "popsize")
"""Beginnings of the names of counts: Optuna takes a negative one for 0, without a word."""


def options_of(made: type[Any], given: Mapping[str, Any], kind: str, name: str, but: Collection[str] = ()) -> set[str]:
    """Return the names of the arguments of a class, after a check that it takes the given ones.

    Args:
        made: the class.
        given: its arguments, by name.
        kind: what it is, in messages.
        name: in the study file.
        but: arguments that a study file may not give.

    Raises:
        UserError: for an argument that it does not take, or not with a value of this type.
    """
    known = inspect.signature(made).parameters
    if not any(parameter.kind is parameter.VAR_KEYWORD for parameter in known.values()):
        for option in given:
            if option not in known or option in but:
                raise unknown(f"option of {kind} {name!r}:", option, set(known) - set(but))
    for option, value in given.items():
        text = _text(known[option].annotation) if option in known else ""
        if _is_object(text):
            what = "a function" if "Callable" in text else "an object"
            raise UserError(f"option of {kind} {name!r}: {option} = {value!r}: it is {what}, {BEYOND}: leave it out")
        types = _plain_types(text)
        if types and not any(_is(value, each) for each in types):
            wanted = " or ".join(WORDS[each] for each in types)
            raise UserError(f"option of {kind} {name!r}: {option} = {value!r}: expected {wanted}")
        if option.startswith(COUNTS) and isinstance(value, (int, float)) and value < 0:
            raise UserError(f"option of {kind} {name!r}: {option} = {value!r}: expected a number that is not negative")
    return set(known)


def needs(made: type[Any], given: Collection[str]) -> str:
    """Return which arguments a class lacks, to follow its own words; empty if it lacks none."""
    lacking = [
        argument
        for key, argument in inspect.signature(made).parameters.items()
        if argument.default is argument.empty
        and key not in given
        and argument.kind not in (argument.VAR_KEYWORD, argument.VAR_POSITIONAL)
    ]
    objects = [argument.name for argument in lacking if _is_object(_text(argument.annotation))]
    if objects:
        return f"; it needs {listed(objects)}, {BEYOND}: use another one"
    return f"; it needs {', '.join(argument.name for argument in lacking)}" if lacking else ""


def _text(annotation: Any) -> str:
    """An annotation as it is written; empty without one."""
    return annotation if isinstance(annotation, str) else getattr(annotation, "__name__", "")


def _is_object(annotation: str) -> bool:
    """Whether an argument is a function, or one of Optuna's objects."""
    return any(word in annotation for word in ("Callable", "BaseSampler", "BasePruner"))


def _plain_types(text: str) -> list[str]:
    """Return the types of an annotation, without None; none if any of them is not plain, or nothing is stated."""
    names = [name for name in text.split(" | ") if name != "None"]
    return names if all(name in PLAIN for name in names) else []


def _is(value: object, name: str) -> bool:
    return isinstance(value, PLAIN[name]) and (name == "bool" or not isinstance(value, bool))
