"""Names for the problems and optimizers that stand as objects among the values of a study."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

from relaxbench.errors import UserError, kind_of

if TYPE_CHECKING:
    from relaxbench.given import Kind
    from relaxbench.optim.rule import Rule

Found = dict[tuple["Kind", str], Any]
"""Objects by kind and name."""
Added = dict[str, str]
"""Labels of optimizers whose classes stand in `methods`, and their rules."""


def named(values: Mapping[str, Any], found: Found, added: Added) -> dict[str, Any]:
    """Return the values of a study with names in place of objects.

    A problem has its own name. A class in `methods` is called as its rule, or as the optimizer's class in lower case.

    Args:
        values: by the keys of a study file. In `problems` may stand a `Problem`; in `methods`, `baseline` and
            `controls`, and as the `rule` of a `method`: a subclass of `Rule`, of `torch.optim.Optimizer`, or a class of
            `relaxbench.optim`.
        found: receives the objects.
        added: receives methods that need an entry in the table of methods (see `with_methods`).

    Raises:
        UserError: for two objects of one name, and for the name of something that is built in.
    """
    result = dict(values)
    problems = values.get("problems", [])
    if not isinstance(problems, list | tuple | str):
        raise UserError(f"problems = {kind_of(problems)}: expected a list")
    if isinstance(problems, list | tuple) and problems:
        result["problems"] = [_problem(each, found) for each in problems]
    for key in ("methods", "controls"):
        if isinstance(values.get(key), list | tuple):
            result[key] = [_method(each, found, added) for each in values[key]]
    if "baseline" in values:
        result["baseline"] = _method(values["baseline"], found, added)
    if isinstance(table := values.get("method"), Mapping):
        result["method"] = {label: _with_rule(label, own, found) for label, own in table.items()}
    return result


def with_methods(study: Mapping[str, Any], added: Added) -> dict[str, Any]:
    """Return a study whose table of methods has those that were added.

    Raises:
        UserError: if one of them has the label of another method of the table.
    """
    table = study.get("method", {})
    if not added or not isinstance(table, Mapping):  # which is refused later
        return dict(study)
    for label, rule in added.items():
        own = table.get(label, {"rule": rule})
        if isinstance(own, Mapping) and own.get("rule", label) != rule:
            raise UserError(f"methods: {label!r} stands for {rule} and for another method: rename one of them")
    return {**study, "method": {label: {"rule": rule} for label, rule in added.items()} | dict(table)}


def _with_rule(label: str, own: Any, found: Found) -> Any:
    if not isinstance(own, Mapping) or isinstance(rule := own.get("rule", ""), str):
        return own
    if not isinstance(rule, type):
        raise UserError(f"method.{label}.rule = {kind_of(rule)}: expected a name, or the class of an optimizer")
    return {**own, "rule": _rule(rule, found)}


def _problem(value: Any, found: Found) -> Any:
    from relaxbench.problems import PROBLEMS, Problem

    if isinstance(value, str | PurePath):
        return value
    if not isinstance(value, Problem):
        raise UserError(
            f"problems: {kind_of(value)} is no problem: give a name, the path of a Python file, or "
            "relaxbench.problems.SupervisedProblem(name, model, data)"
        )
    name = str(getattr(value, "name", ""))
    if name in PROBLEMS or name.endswith(".py") or not name:
        taken = "is built in" if name in PROBLEMS else "is no name"
        raise UserError(f"problems: an object is called {name!r}, which {taken}: give it another name")
    return _add("problem", name, value, found)


def _method(value: Any, found: Found, added: Added) -> str:
    """Return the label of a method."""
    if isinstance(value, str):
        return value
    if not isinstance(value, type):
        raise UserError(f"methods: {kind_of(value)}: expected a name, or the class of an optimizer")
    from relaxbench.optim.registry import RULES

    rule = _rule(value, found)
    if not rule.startswith("torch:"):
        return rule
    label = value.__name__.lower()
    if label in RULES:
        raise UserError(
            f"methods: {value.__name__} would be called {label!r}, which is built in: give it a label of its own, such "
            f'as method={{"my-{label}": {{"rule": {value.__name__}}}}}'
        )
    if added.setdefault(label, rule) != rule:
        raise UserError(f"methods: {label!r} stands for {rule} and for {added[label]}: rename one of them")
    return label


def _rule(value: type, found: Found) -> str:
    """Return the name of a rule, or ``torch:`` and the path of an optimizer."""
    from torch.optim import Optimizer

    from relaxbench.optim.registry import RULES
    from relaxbench.optim.rule import Rule
    from relaxbench.optim.wrapped.locate import PREFIX, find, path_of

    rule: type[Rule] | None = getattr(value, "rule_class", None) if issubclass(value, Optimizer) else None
    if rule is None and issubclass(value, Rule):
        rule = value
    if rule is not None:
        name = str(getattr(rule, "name", ""))
        if RULES.get(name) is rule:
            return name
        if name in RULES or not name:
            raise UserError(f"method {rule.__name__} is called {name!r}: give the class a name that is not built in")
        return str(_add("rule", name, rule, found))
    if not issubclass(value, Optimizer):
        raise UserError(f"method {value.__name__} is a class, but neither an optimizer of PyTorch nor a Rule")
    path = path_of(value)
    try:
        known = path.split(".")[0] != "__main__" and find(path) is value
    except UserError:
        known = False
    return PREFIX + (path if known else str(_add("optimizer", path, value, found)))


def _add(kind: Kind, name: str, value: Any, found: Found) -> str:
    if found.setdefault((kind, name), value) is not value:
        raise UserError(f"two objects are called {name!r}: rename one of them")
    return name
