"""Optuna's pruners by name, and those of other packages by the path of their class."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

import optuna
from optuna.pruners import BasePruner

from relaxbench.errors import UserError
from relaxbench.store.facts import PrunerFacts
from relaxbench.study.coordination.class_paths import class_at, needs, options_of

NONE = "none"
"""No pruner: every trial runs to its end."""
CLASSES = {
    "hyperband": "HyperbandPruner",
    "successive-halving": "SuccessiveHalvingPruner",
    "median": "MedianPruner",
    "wilcoxon": "WilcoxonPruner",
}
"""Optuna's classes, by the name in a study file."""
MOST_WHOLE = 5
"""Of the median pruner: complete trials before it prunes, at most; a third of a block's budget where that is less."""


def pruner_class(name: str) -> type[BasePruner]:
    """The class of a pruner.

    Args:
        name: a key of `CLASSES`, or the path of a class.

    Raises:
        UserError: for an unknown name, or a class that cannot be imported.
    """
    if name in CLASSES:
        built_in: type[BasePruner] = getattr(optuna.pruners, CLASSES[name])
        return built_in
    return class_at(name, BasePruner, "pruner", NONE, CLASSES)


def make_pruner(facts: PrunerFacts, trials: int, rounds: int) -> BasePruner:
    """Make the pruner of a block, in the state in which it has seen nothing.

    Hyperband's brackets follow from the rounds of a trial, and the median pruner waits for no more complete trials than
    a third of a block pays for; options say otherwise.

    Args:
        facts: its name and options.
        trials: T, whole trials that a block pays for.
        rounds: of a whole trial; the steps that a pruner sees are their numbers, from 1.

    Raises:
        UserError: for an unknown pruner, or options that it does not take or refuses.
    """
    name, given = facts["name"], facts["options"]
    kind = pruner_class(name)
    options_of(kind, given, "pruner", name)
    usual: Mapping[str, Any] = {
        "hyperband": {"max_resource": max(1, rounds)},
        "median": {"n_startup_trials": min(MOST_WHOLE, max(1, trials // 3))},
    }.get(name, {})
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Optuna's notes on experimental features
            return kind(**{**usual, **given})
    except UserError:
        raise
    except Exception as error:
        words = " ".join(str(error).split()) + needs(kind, given)
        raise UserError(f"options of pruner {name!r} = {dict(given)!r}: {words}") from None
