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


def named(values: Mapping[str, Any], found: Found) -> dict[str, Any]:
    """Return the values of a study with names in place of objects, which are added to `found`.

    A problem has its own name. A class in `methods` is called as its rule, or as the optimizer's class in lower case.

    Args:
        values: by the keys of a study file. In `problems` may stand a `Problem`; in `methods`, `baseline` and
            `controls`, and as the `rule` of a `method`: a subclass of `Rule`, of `torch.optim.Optimizer`, or a class of
            `relaxbench.optim`.
        found: what was given before.

    Raises:
        UserError: for two objects of one name, and for the name of something that is built in.
    """
    result = dict(values)
    table = {label: dict(own) if isinstance(own, Mapping) else own for label, own in _table(values).items()}
    problems = values.get("problems", [])
    if not isinstance(problems, list | tuple | str):
        raise UserError(f"problems = {kind_of(problems)}: expected a list")
    if isinstance(problems, list | tuple) and problems:
        result["problems"] = [_problem(each, found) for each in problems]
    for key in ("methods", "controls"):
        if isinstance(values.get(key), list | tuple):
            result[key] = [_method(each, table, found) for each in values[key]]
    if "baseline" in values:
        result["baseline"] = _method(values["baseline"], table, found)
    for label, own in table.items():
        if isinstance(own, dict) and not isinstance(rule := own.get("rule", ""), str):
            if not isinstance(rule, type):
                raise UserError(f"method.{label}.rule = {kind_of(rule)}: expected a name, or the class of an optimizer")
            own["rule"] = _rule(rule, found)
    return {**result, "method": table} if table else result


def _table(values: Mapping[str, Any]) -> Mapping[str, Any]:
    table = values.get("method", {})
    return table if isinstance(table, Mapping) else {}


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


def _method(value: Any, table: dict[str, Any], found: Found) -> Any:
    """Return the label of a method; that of an optimizer's class gets an entry in the table of methods."""
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
    if table.setdefault(label, {"rule": rule}).get("rule") not in (rule, value):
        raise UserError(f"methods: {label!r} stands for {value.__name__} and for another method: rename one of them")
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
