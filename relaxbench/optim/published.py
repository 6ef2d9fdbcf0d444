"""Settings that authors published, and the reasons for the ranges that several default spaces share.

A rule declares three spaces beside its mathematics: `published` (settings without any search), `space` (the default
of a study: around the published settings) and `wide` (every hyperparameter over a range that suits any problem). No
number of them was chosen by a result of this program: each comes from a paper, from released code or from theory.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from relaxbench.space import Value

KINDS: Mapping[str, str] = {
    "fully-connected": "a fully connected network",
    "mnist-conv": "a convolutional network on MNIST",
    "cifar-10": "a convolutional network on CIFAR-10 or other photographs",
    "char-lstm": "a recurrent network on the characters of a text",
    "transformer": "a transformer on a text",
    "equation": "a network that solves or finds a differential equation",
    "rosenbrock": "Rosenbrock's function",
    "linear-net": "a degenerate linear network",
    "landscape": "another function of a few variables",
}
"""The kinds of problems for which settings were published; `problems.Problem.kind` is one of them, or empty."""

MNIST_STEPS, CIFAR_STEPS = 469, 391
"""Mini-batches of 128 in an epoch of 60,000 and of 50,000 images: outer steps in an outer epoch of released code."""


@dataclass(frozen=True)
class Published:
    """Settings that authors published for one kind of problem.

    Attributes:
        kind: a key of `KINDS`.
        values: a value for every hyperparameter of the rule.
        source: where they stand.
        assumed: the hyperparameters whose value the source does not give, and why it is what it is here.
        options: arguments of the rule's constructor with which the source's program is reproduced.
    """

    kind: str
    values: Mapping[str, Value]
    source: str
    assumed: Mapping[str, str] = field(default_factory=dict)
    options: Mapping[str, bool | int] = field(default_factory=dict)


def scope_ends(coupling: float, rate: float, steps: int, most: float = float("inf")) -> dict[str, Value]:
    """Convert a coupling g = 1/γ that grows by a factor at every outer step to `gamma_start` and `gamma_end`.

    g_k = min(g₀ (1 + g₁)^k, most), as in released code, is γ from 1/g₀ to 1/g_n on the curve "geometric".

    Args:
        coupling: g₀.
        rate: g₁.
        steps: n, outer steps of the published run.
        most: the largest g.
    """
    last = min(coupling * (1 + rate) ** steps, most)
    return {"gamma_start": 1 / coupling, "gamma_end": float(f"{1 / last:.2g}")}


NEAREST_STEP = (
    "the released schedule lowers the step size at other times or by another factor; `step` is the nearest of ours"
)

REASONS: Mapping[str, str] = {
    "lr": "SGD's range, so that no method has a better one: three decades around the published 0.1",
    "inner_lr": "SGD's range, because it is a step size on a gradient: three decades around the published 0.1",
    "momentum": "0.9 in every published run of this method",
    "weight_decay": "SGD's range, because the best decay depends on the data; published are 0 to 1e-3",
    "schedule": "SGD's options, because the best curve depends on the budget",
    "warmup": "the 5 % of the schedule `warmup`; the authors recommend a warm-up and leave its length open",
    "scoping": "the published curve; the authors report that others behave alike (arXiv 1704.04932)",
    "anneal": "the authors anneal the outer step size and report that annealing the inner one hurts",
    "outer_momentum": "0 in the released code in which the outer step size is 1",
}
"""Why a hyperparameter that several rules share is searched, or fixed, as it is by default."""
