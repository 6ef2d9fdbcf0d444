"""The rules by name."""

from __future__ import annotations

from relaxbench.errors import unknown
from relaxbench.optim.entropy_sgd import EntropySGD
from relaxbench.optim.heat import Heat
from relaxbench.optim.hj import HJ, HJImplicit
from relaxbench.optim.lookahead import Lookahead
from relaxbench.optim.rule import Rule
from relaxbench.optim.sgd import SGD, SGDEMA

RULES: dict[str, type[Rule]] = {rule.name: rule for rule in (SGD, SGDEMA, Lookahead, EntropySGD, HJ, HJImplicit, Heat)}


def rule_class(name: str) -> type[Rule]:
    """The rule of a name.

    Raises:
        UserError: if there is none, with the nearest name.
    """
    if name not in RULES:
        raise unknown("method", name, RULES, "python -m relaxbench list shows all")
    return RULES[name]
