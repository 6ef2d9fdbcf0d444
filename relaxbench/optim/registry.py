"""The rules by name."""

from __future__ import annotations

from relaxbench.errors import unknown
from relaxbench.optim.adamw import AdamW
from relaxbench.optim.curveball import CurveBall
from relaxbench.optim.elastic_sgd import ElasticSGD
from relaxbench.optim.entropy_sgd import EntropySGD
from relaxbench.optim.heat import Heat
from relaxbench.optim.hj import HJ, HJImplicit
from relaxbench.optim.lookahead import Lookahead
from relaxbench.optim.lpf_sgd import LPFSGD
from relaxbench.optim.parle import Parle
from relaxbench.optim.rule import Rule
from relaxbench.optim.sam import SAM
from relaxbench.optim.sgd import SGD, SGDEMA

RULES: dict[str, type[Rule]] = {
    rule.name: rule
    for rule in (
        SGD,
        SGDEMA,
        Lookahead,
        AdamW,
        SAM,
        LPFSGD,
        EntropySGD,
        HJ,
        HJImplicit,
        Heat,
        ElasticSGD,
        Parle,
        CurveBall,
    )
}


def rule_class(name: str) -> type[Rule]:
    """The rule of a name.

    Raises:
        UserError: if there is none, with the nearest name.
    """
    if name not in RULES:
        raise unknown("method", name, RULES, "python -m relaxbench list shows all")
    return RULES[name]
