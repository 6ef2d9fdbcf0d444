"""The parts of a rule that can be left out, so that a study can ask what each of them is worth."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from relaxbench.space import Value

INFINITE, ZERO = 1e30, 1e-30
"""Of a scope or an attraction, which must be positive and finite: what they multiply or divide vanishes beside a
gradient, and added to a point it changes no digit."""


@dataclass(frozen=True)
class Part:
    """A part of a rule, and what the rule is without it: other values, other options, or another rule.

    Attributes:
        name: in the labels of methods, e.g. ``"scoping"``.
        title: as in "Entropy-SGD without …".
        instead: what stands in its place, as in "the same with …".
        fixed: values that are then not searched.
        options: arguments of the rule's constructor.
        half: an integer hyperparameter of which every value that is searched, or the fixed one, is halved.
        rule: name of the rule that is left; empty for the same one. What the whole keeps fixed stays fixed.
    """

    name: str
    title: str
    instead: str
    fixed: Mapping[str, Value] = field(default_factory=dict)
    options: Mapping[str, bool | int] = field(default_factory=dict)
    half: str = ""
    rule: str = ""


NO_SCOPING = Part(
    "scoping", "γ scoping", "γ constant at the geometric mean of its start and end", fixed={"scoping": "mean"}
)
NO_INNER_MOMENTUM = Part("inner-momentum", "inner momentum", "plain gradient steps inside", fixed={"momentum": 0.0})
NO_OUTER_MOMENTUM = Part("outer-momentum", "outer momentum", "plain outer steps", fixed={"outer_momentum": 0.0})
NO_MOMENTUM = Part("momentum", "momentum", "plain gradient steps", fixed={"momentum": 0.0})
HALF_STEPS = Part(
    "inner-steps", "the second half of its inner steps", "inner loops of half the length", half="inner_steps"
)
