"""The drop-in classes: every rule as a PyTorch optimizer, see `optim.drop_in.base`."""

from __future__ import annotations

import types
from contextlib import suppress
from functools import cache
from typing import Any, SupportsIndex

from relaxbench.errors import UserError
from relaxbench.optim.drop_in.base import RuleOptimizer
from relaxbench.optim.drop_in.curveball import CurvatureOptimizer, CurveBall
from relaxbench.optim.registry import rule_class
from relaxbench.optim.rule import Rule
from relaxbench.optim.rules import (
    adamw,
    asam,
    averaged_adamw,
    diloco,
    elastic_sgd,
    entropy_sgd,
    gpa,
    hamilton_jacobi,
    heat,
    lookahead,
    lpf_sgd,
    muon,
    parle,
    sam,
    schedule_free,
    sgd,
    sgld,
)
from relaxbench.optim.wrapped.rule import WrappedRule


class SGD(RuleOptimizer):
    """Stochastic gradient descent with momentum and weight decay."""

    rule_class = sgd.SGD


class SGDEMA(RuleOptimizer):
    """Stochastic gradient descent that deploys an average of its weights."""

    rule_class = sgd.SGDEMA


class Lookahead(RuleOptimizer):
    """SGD in an inner loop, whose result the slow weights follow."""

    rule_class = lookahead.Lookahead


class AdamW(RuleOptimizer):
    """Adam with decoupled weight decay."""

    rule_class = adamw.AdamW


class AdamWEMA(RuleOptimizer):
    """AdamW that deploys an exponential moving average of its weights."""

    rule_class = averaged_adamw.AdamWEMA


class AdamWLAWA(RuleOptimizer):
    """AdamW that deploys the mean of its latest checkpoints."""

    rule_class = averaged_adamw.AdamWLAWA


class ScheduleFreeSGD(RuleOptimizer):
    """SGD with an average of its points in place of a schedule."""

    rule_class = schedule_free.ScheduleFreeSGD


class ScheduleFreeAdamW(RuleOptimizer):
    """AdamW with an average of its points in place of a schedule."""

    rule_class = schedule_free.ScheduleFreeAdamW


class Muon(RuleOptimizer):
    """Momentum whose matrices are made orthogonal; AdamW for the other parameters."""

    rule_class = muon.Muon


class DiLoCo(RuleOptimizer):
    """AdamW in an inner loop, and momentum on the way that it goes."""

    rule_class = diloco.DiLoCo


class GPA(RuleOptimizer):
    """AdamW with gradients between its point and an average of its points (generalized primal averaging)."""

    rule_class = gpa.GPA


class SGLD(RuleOptimizer):
    """SGD with the noise of Langevin dynamics."""

    rule_class = sgld.SGLD


class SAM(RuleOptimizer):
    """Descent with the gradient at a nearby point where the loss is higher (sharpness-aware minimization)."""

    rule_class = sam.SAM


class ASAM(RuleOptimizer):
    """SAM with a neighbourhood that scales with the parameters."""

    rule_class = asam.ASAM


class LPFSGD(RuleOptimizer):
    """Descent on the loss smoothed by a Gaussian whose width follows the norm of each filter."""

    rule_class = lpf_sgd.LPFSGD


class EntropySGD(RuleOptimizer):
    """Descent on the local entropy, whose gradient an inner Langevin loop estimates."""

    rule_class = entropy_sgd.EntropySGD


class HamiltonJacobi(RuleOptimizer):
    """Descent on the Moreau envelope of the loss, with an inner loop of gradient steps."""

    rule_class = hamilton_jacobi.HJ


class HamiltonJacobiImplicit(RuleOptimizer):
    """Descent on the Moreau envelope of the loss by implicit gradient steps."""

    rule_class = hamilton_jacobi.HJImplicit


class HeatSGD(RuleOptimizer):
    """Descent on the loss smoothed by a Gaussian, the solution of the heat equation."""

    rule_class = heat.Heat


class ElasticSGD(RuleOptimizer):
    """Replicas that explore, each tied to a centre that follows their mean."""

    rule_class = elastic_sgd.ElasticSGD


class Parle(RuleOptimizer):
    """Replicas of Entropy-SGD that attract each other."""

    rule_class = parle.Parle


DROP_INS: dict[str, type[RuleOptimizer]] = {
    cls.rule_class.name: cls
    for cls in (
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
        HamiltonJacobi,
        HamiltonJacobiImplicit,
        HeatSGD,
        ElasticSGD,
        Parle,
        CurveBall,
    )
}
"""The drop-in classes by the names of their rules, of those that have a step size."""


def drop_in(rule: str | type[Rule]) -> type[RuleOptimizer]:
    """Return the drop-in class of any rule: built in, of another package, or your own.

    Args:
        rule: the name of a rule (built in, or of an installed package), or the class of a rule.

    Raises:
        UserError: for an unknown name.
        TypeError: for anything but a name or the class of a rule.
    """
    cls: Any = rule_class(rule) if isinstance(rule, str) else rule
    if not (isinstance(cls, type) and issubclass(cls, Rule)):
        raise TypeError(f"rule = {rule!r}: expected the name of a rule, or a subclass of relaxbench's Rule")
    if issubclass(cls, WrappedRule):
        raise TypeError(f"rule = {rule!r}: {cls.recipe.path} is an optimizer of PyTorch already: use it itself")
    if cls.compares_losses:
        raise TypeError(
            f"rule = {rule!r}: {cls.title} compares losses, which loss.backward(); step() does not show: it is for "
            'studies; in your own loop use torch.optim.LBFGS(…, line_search_fn="strong_wolfe")'
        )
    ready = DROP_INS.get(cls.name)
    if ready is not None and ready.rule_class is cls:
        return ready
    kind: Any = cls  # hashable, which is not declared of classes
    return _made(kind)


@cache
def _made(cls: Any) -> type[RuleOptimizer]:
    """Make the drop-in class of a rule once: copies and ``isinstance`` need the same one each time."""
    constructor = f"drop_in({cls.__name__})"
    with suppress(UserError):  # of a rule that is not installed under its name
        if rule_class(cls.name) is cls:
            constructor = f'drop_in("{cls.name}")'
    base = CurvatureOptimizer if cls.curvature else RuleOptimizer
    body = {
        "rule_class": cls,
        "__doc__": f"{cls.title} as a PyTorch optimizer.",
        "__module__": cls.__module__,
        "__reduce_ex__": _reduced,
    }
    return types.new_class(cls.__name__, (base,), {"constructor": constructor}, lambda space: space.update(body))


def _reduced(optimizer: RuleOptimizer, protocol: SupportsIndex) -> tuple[Any, ...]:
    """Pickle an optimizer by its rule: its own class has no place from which it could be imported."""
    parts: Any = object.__reduce_ex__(optimizer, protocol)
    if type(optimizer) is not drop_in(optimizer.rule_class):
        return tuple(parts)  # a subclass, which has one
    return _blank, (optimizer.rule_class,), *parts[2:]


def _blank(rule: type[Rule]) -> RuleOptimizer:
    """Return an optimizer that its pickled state will fill."""
    cls = drop_in(rule)
    return cls.__new__(cls)
