"""The rules by name: built in, from other packages, and given as classes."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from contextlib import suppress

from relaxbench import given, plugins
from relaxbench.errors import UserError, unknown
from relaxbench.optim.rule import Rule
from relaxbench.optim.rules.adam_lbfgs import AdamLBFGS
from relaxbench.optim.rules.adamw import AdamW
from relaxbench.optim.rules.asam import ASAM
from relaxbench.optim.rules.averaged_adamw import AdamWEMA, AdamWLAWA
from relaxbench.optim.rules.curveball import CurveBall
from relaxbench.optim.rules.diloco import DiLoCo
from relaxbench.optim.rules.elastic_sgd import ElasticSGD
from relaxbench.optim.rules.entropy_sgd import EntropySGD
from relaxbench.optim.rules.gpa import GPA
from relaxbench.optim.rules.hamilton_jacobi import HJ, HJImplicit
from relaxbench.optim.rules.heat import Heat
from relaxbench.optim.rules.lbfgs import LBFGS
from relaxbench.optim.rules.levenberg_marquardt import LevenbergMarquardt
from relaxbench.optim.rules.lookahead import Lookahead
from relaxbench.optim.rules.lpf_sgd import LPFSGD
from relaxbench.optim.rules.muon import Muon
from relaxbench.optim.rules.parle import Parle
from relaxbench.optim.rules.sam import SAM
from relaxbench.optim.rules.schedule_free import ScheduleFreeAdamW, ScheduleFreeSGD
from relaxbench.optim.rules.sgd import SGD, SGDEMA
from relaxbench.optim.rules.sgld import SGLD
from relaxbench.optim.wrapped import locate
from relaxbench.optim.wrapped.arguments import Option
from relaxbench.optim.wrapped.make import wrapped_class

RULES: dict[str, type[Rule]] = {
    rule.name: rule
    for rule in (
        SGD,
        SGDEMA,
        Lookahead,
        AdamW,
        AdamWEMA,
        AdamWLAWA,
        ScheduleFreeSGD,
        ScheduleFreeAdamW,
        Muon,
        DiLoCo,
        GPA,
        SGLD,
        SAM,
        ASAM,
        LPFSGD,
        EntropySGD,
        HJ,
        HJImplicit,
        Heat,
        ElasticSGD,
        Parle,
        CurveBall,
        LevenbergMarquardt,
        LBFGS,
        AdamLBFGS,
    )
}
"""The rules that are built in."""


def rule_names() -> list[str]:
    """List all rules: those that are built in, then those of other packages, then those that are given."""
    others = [name for name in plugins.points_of(plugins.RULES) if name not in RULES]
    return [*RULES, *others, *(name for name in given.names("rule") if name not in others)]


def ignored_rules() -> dict[str, str]:
    """Return the rules of other packages that have the name of a built-in one, see `plugins.ignored`."""
    return plugins.ignored(plugins.RULES, RULES)


def is_rule(name: str) -> bool:
    """Return whether a name is that of a rule, or the path of an optimizer, which may not exist."""
    return locate.is_path(name) or name in rule_names()


def rule_class(name: str, options: Mapping[str, Option] | None = None) -> type[Rule]:
    """Return the rule of a name.

    Args:
        name: of a rule, or ``torch:`` and the path of an optimizer.
        options: of a wrapped optimizer; they decide which hyperparameters there are.

    Raises:
        UserError: if there is no such rule, with the nearest name; if another package offers something else under it.
    """
    if locate.is_path(name):
        return wrapped_class(name, options)
    if name in RULES:
        return RULES[name]
    if (own := given.lookup("rule", name)) is not None:
        return _complete(own, f"method {name!r}")
    if name not in plugins.points_of(plugins.RULES):
        raise unknown("method", name, rule_names(), "python -m relaxbench list shows all")
    rule = plugins.load(plugins.RULES, name)
    if not (isinstance(rule, type) and issubclass(rule, Rule)):
        raise UserError(f"method {name!r} of another package is {rule!r}: expected a subclass of relaxbench's Rule")
    if getattr(rule, "name", None) != name:
        wrong = getattr(rule, "name", None)
        raise UserError(f"method {name!r} of another package calls itself {wrong!r}: expected the same name")
    return _complete(rule, f"method {name!r} of another package")


def _complete(rule: type[Rule], what: str) -> type[Rule]:
    """Return a rule unless it lacks what every rule has."""
    missing = [key for key in ("title", "source", "space", "copies") if not hasattr(rule, key)]
    if missing:
        raise UserError(f"{what} lacks {', '.join(missing)}: every Rule needs these (docs/add-an-optimizer.md)")
    return rule


def loadable_rules() -> list[type[Rule]]:
    """Return all rules but those of other packages that do not load: their own use alone is refused."""
    rules = []
    for name in rule_names():
        with suppress(UserError):
            rules.append(rule_class(name))
    return rules


def option_defaults(name: str) -> dict[str, Option]:
    """Return the options that a rule has where none are stated; empty for a wrapped optimizer, and for no rule."""
    if locate.is_path(name) or not is_rule(name):
        return {}
    parameters = inspect.signature(rule_class(name)).parameters.values()
    return {each.name: each.default for each in parameters if each.default is not each.empty}
