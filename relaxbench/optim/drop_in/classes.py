"""The drop-in classes: each the very rule of its name, see `optim.drop_in.base` for how they are used."""

from __future__ import annotations

from typing import Any

from relaxbench.optim.drop_in.base import RuleOptimizer
from relaxbench.optim.drop_in.curveball import CurvatureOptimizer, CurveBall
from relaxbench.optim.registry import rule_class
from relaxbench.optim.rule import Rule
from relaxbench.optim.rules import (
    adamw,
    elastic_sgd,
    entropy_sgd,
    hamilton_jacobi,
    heat,
    lookahead,
    lpf_sgd,
    parle,
    sam,
    sgd,
)


class SGD(RuleOptimizer):
    """SGD with momentum and weight decay, under the schedules that all rules share. See `optim.rules.sgd.SGD`."""

    rule_class = sgd.SGD


class SGDEMA(RuleOptimizer):
    """SGD, deployed at the average of its weights. See `optim.rules.sgd.SGDEMA`."""

    rule_class = sgd.SGDEMA


class Lookahead(RuleOptimizer):
    """Lookahead over SGD. See `optim.rules.lookahead.Lookahead`."""

    rule_class = lookahead.Lookahead


class AdamW(RuleOptimizer):
    """AdamW, under the schedules that all rules share. See `optim.rules.adamw.AdamW`."""

    rule_class = adamw.AdamW


class SAM(RuleOptimizer):
    """SAM: `optimizer.step(closure)`, which takes two gradients of a mini-batch. See `optim.rules.sam.SAM`."""

    rule_class = sam.SAM


class LPFSGD(RuleOptimizer):
    """LPF-SGD. See `optim.rules.lpf_sgd.LPFSGD`."""

    rule_class = lpf_sgd.LPFSGD


class EntropySGD(RuleOptimizer):
    """Entropy-SGD. See `optim.rules.entropy_sgd.EntropySGD`."""

    rule_class = entropy_sgd.EntropySGD


class HamiltonJacobi(RuleOptimizer):
    """Hamilton–Jacobi relaxation, descent form. See `optim.rules.hamilton_jacobi.HJ`."""

    rule_class = hamilton_jacobi.HJ


class HamiltonJacobiImplicit(RuleOptimizer):
    """Hamilton–Jacobi relaxation, implicit form. See `optim.rules.hamilton_jacobi.HJImplicit`."""

    rule_class = hamilton_jacobi.HJImplicit


class HeatSGD(RuleOptimizer):
    """Heat-equation smoothing. See `optim.rules.heat.Heat`."""

    rule_class = heat.Heat


class ElasticSGD(RuleOptimizer):
    """Elastic-SGD: n steps, each on its own mini-batch, are one sweep. See `optim.rules.elastic_sgd.ElasticSGD`."""

    rule_class = elastic_sgd.ElasticSGD


class Parle(RuleOptimizer):
    """Parle: n steps, each on a mini-batch of its own, are one step of all replicas. See `optim.rules.parle.Parle`."""

    rule_class = parle.Parle


DROP_INS: dict[str, type[RuleOptimizer]] = {
    cls.rule_class.name: cls
    for cls in (
        SGD,
        SGDEMA,
        Lookahead,
        AdamW,
        SAM,
        LPFSGD,
        EntropySGD,
        HamiltonJacobi,
        HamiltonJacobiImplicit,
        HeatSGD,
        ElasticSGD,
        Parle,
        CurveBall,
    )
}
"""The drop-in class of every rule, by the rule's name."""


def drop_in(rule: str | type[Rule]) -> type[RuleOptimizer]:
    """The drop-in class of any rule, of another package's or of one's own.

    Args:
        rule: the rule's name (built in, or of an installed package), or its class.

    Raises:
        UserError: for an unknown name.
        TypeError: for something else.
    """
    cls: Any = rule_class(rule) if isinstance(rule, str) else rule
    if not (isinstance(cls, type) and issubclass(cls, Rule)):
        raise TypeError(f"rule = {rule!r}: expected the name of a rule, or a subclass of relaxbench's Rule")
    ready = DROP_INS.get(cls.name)
    if ready is not None and ready.rule_class is cls:
        return ready
    base = CurvatureOptimizer if cls.curvature else RuleOptimizer
    return type(cls.__name__, (base,), {"rule_class": cls, "__doc__": cls.__doc__, "__module__": cls.__module__})
