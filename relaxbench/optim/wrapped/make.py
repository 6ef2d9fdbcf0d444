"""Make a rule of an optimizer: `wrap` in Python, the path of its class in a study file."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any, TypeVar

from torch.optim import Optimizer

from relaxbench.errors import UserError
from relaxbench.optim.hyper import SCHEDULE
from relaxbench.optim.meanings import Meaning
from relaxbench.optim.wrapped.arguments import Option, Recipe, has_iterate, read, swallowing
from relaxbench.optim.wrapped.closures import require_that_steps_can_be_taken_again
from relaxbench.optim.wrapped.examine import LARGE, MANY, dimensions_of, require_that_it_can_be_stored
from relaxbench.optim.wrapped.lbfgs import LBFGSRule, takes
from relaxbench.optim.wrapped.locate import PREFIX, checked, find, path_of
from relaxbench.optim.wrapped.ranges import SEARCHED, range_of, searched_of
from relaxbench.optim.wrapped.rule import COMPANION, WrappedRule, in_words
from relaxbench.space import Hyperparameter, Value

Base = TypeVar("Base", bound=WrappedRule)
DEFAULT_COMPANION = f"{PREFIX}torch.optim.AdamW"
"""What takes the parameters that an optimizer does not take, if nothing else is said."""


def wrap(optimizer: type[Optimizer] | str, **options: Option) -> type[WrappedRule]:
    """Return a rule that takes the steps of an optimizer.

    Args:
        optimizer: its class, or its path such as ``"torch.optim.Adam"`` or ``"my_file.py:MyOptimizer"``.
        options: its arguments that all trials share. ``companion`` names the optimizer of parameters whose dimension
            this one does not take; options of the companion begin with ``companion_``.

    Raises:
        UserError: if the optimizer cannot be a rule, in one line.
    """
    if isinstance(optimizer, str):
        return wrapped_class(PREFIX + optimizer.removeprefix(PREFIX), options)
    path = path_of(optimizer)
    cls: Any = checked(optimizer, path)
    return _made(cls, path, tuple(sorted(options.items())))


def wrapped_class(name: str, options: Mapping[str, Option] | None = None) -> type[WrappedRule]:
    """Return the rule of a name such as ``torch:torch.optim.Adam``, see `wrap`."""
    path = name.removeprefix(PREFIX)
    cls: Any = find(path)
    return _made(cls, path, tuple(sorted((options or {}).items())))


@lru_cache(maxsize=256)
def _made(cls: Any, path: str, given: tuple[tuple[str, Option], ...]) -> type[WrappedRule]:
    """Make the rule of an optimizer's class once: its class is its identity within a process."""
    options = dict(given)
    theirs = {n.removeprefix(COMPANION): v for n, v in options.items() if n.startswith(COMPANION)}
    name = options.get("companion")
    recipe = read(cls, path, {n: v for n, v in options.items() if n != "companion" and not n.startswith(COMPANION)})
    if takes(recipe):
        evaluating = _class(recipe, _companion(recipe, name, theirs, False), frozenset(), options, LBFGSRule)
        require_that_steps_can_be_taken_again(evaluating)
        evaluating.copies = _copies(evaluating)
        return evaluating
    dimensions = dimensions_of(recipe)
    companion = _companion(recipe, name, theirs, bool(dimensions))
    rule = _class(recipe, companion, dimensions, options, WrappedRule)
    require_that_it_can_be_stored(rule)
    rule.copies = _copies(rule)
    return rule


def require_that_many_steps_can_be_stored(rule: type[WrappedRule]) -> None:
    """Try a rule of `wrap` for longer, once per process: an optimizer may change with the number of its steps.

    Raises:
        UserError: naming what does not hold.
    """
    kind: Any = rule
    _tried_for_longer(kind)


@lru_cache(maxsize=256)
def _tried_for_longer(rule: Any) -> None:
    if issubclass(rule, LBFGSRule):
        require_that_steps_can_be_taken_again(rule, MANY)
    else:
        require_that_it_can_be_stored(rule, MANY)


def _companion(recipe: Recipe, name: Option | None, options: dict[str, Option], needed: bool) -> Recipe | None:
    if not needed:
        if name is not None or options:
            key = "companion" if name is not None else f"{COMPANION}{next(iter(options))}"
            raise UserError(f"option {key} of {recipe.path}: it takes all parameters itself, so leave the option out")
        return None
    if name is not None and not isinstance(name, str):
        raise UserError(f"option companion of {recipe.path} = {name!r}: expected such as {DEFAULT_COMPANION!r}")
    path = (name or DEFAULT_COMPANION).removeprefix(PREFIX)
    companion = read(find(path), path, options)
    taken = dimensions_of(companion)
    if taken:
        raise UserError(
            f"option companion of {recipe.path} = {path!r}: it takes {in_words(taken)} alone: name one that takes all"
        )
    return companion


def _class(
    recipe: Recipe,
    companion: Recipe | None,
    dimensions: frozenset[int],
    options: Mapping[str, Option],
    base: type[Base],
) -> type[Base]:
    """Make the class of the rule, with its spaces and words."""
    wide: dict[str, Hyperparameter] = {}
    space: dict[str, Hyperparameter] = {}
    meanings: dict[str, Meaning] = {}
    for each, prefix in ((recipe, ""), (companion, COMPANION)):
        if each is None:
            continue
        searched = searched_of(each, prefix)
        for name, place in each.places.items():
            declared = range_of(each, name)
            wide[prefix + name] = declared
            element = "" if place.index is None else f", element {place.index + 1}"
            meanings[prefix + name] = Meaning(f"Argument {place.argument} of {each.shown}{element}")
            if name in searched:
                space[prefix + name] = declared
    fixed: dict[str, Value] = {name: _default(recipe, companion, name) for name in wide if name not in space}
    if "lr" in wide:
        wide["schedule"] = SCHEDULE
        if has_iterate(recipe.cls):
            fixed["schedule"] = "constant"
        else:
            space["schedule"] = SCHEDULE
    hidden = swallowing(recipe.cls)
    if not wide and hidden:
        raise UserError(
            f"optimizer {recipe.path!r} takes {hidden} in its __init__, whose names cannot be read: write them out, "
            "with defaults, such as lr=0.1"
        )
    if not wide:
        raise UserError(f"optimizer {recipe.path!r} has no real number that could be tuned: name another one")
    words = f"{recipe.shown}, wrapped"
    if companion is not None:
        words += f"; it takes {in_words(dimensions)}, {companion.shown} the other parameters"
    body: dict[str, Any] = {
        "__doc__": f"The steps of {words}.",
        "__module__": __name__,
        "name": PREFIX + recipe.path,
        "title": recipe.cls.__name__,
        "source": words,
        "wide": wide,
        "space": space,
        "default_fixed": fixed,
        "reasons": {name: SEARCHED if name in space else "its default" for name in wide},
        "meanings": meanings,
        "copies": 0,
        "recipe": recipe,
        "companion": companion,
        "dimensions": dimensions,
        "options": dict(options),
    }
    return type(recipe.cls.__name__, (base,), body)


def _default(recipe: Recipe, companion: Recipe | None, name: str) -> float:
    if name in recipe.places:
        return recipe.places[name].default
    assert companion is not None
    return companion.places[name.removeprefix(COMPANION)].default


def _copies(rule: type[WrappedRule]) -> int:
    """Return the memory on parameters of a usual network: the copies on a problem are measured with its own."""
    made = rule()
    made.bind(LARGE)
    return made.copies
