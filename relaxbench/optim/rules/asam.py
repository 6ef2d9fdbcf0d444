"""ASAM, adaptive sharpness-aware minimization: SAM with a neighbourhood that scales with the parameters."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from torch import Tensor

from relaxbench.optim.hyper import Hyper
from relaxbench.optim.meanings import Meaning
from relaxbench.optim.parts import NO_MOMENTUM, Part
from relaxbench.optim.published import Published
from relaxbench.optim.rule import row_sums
from relaxbench.optim.rules.sam import SAM, TINY
from relaxbench.space import Float, Space, Value

CANONICAL: Mapping[str, Value] = {"lr": 0.1, "momentum": 0.9, "weight_decay": 5e-4, "schedule": "cosine"}


class ASAM(SAM):
    """e = r T² g/|T g| with g = ∇f(x) and T = |x| + c, element by element;  x ← x − η N(v, ∇f(x + e) + wd x).

    A layer whose weights are multiplied by a number, as in front of a ReLU or a normalization, has a neighbourhood that
    is multiplied as well. T acts on all parameters, as in the paper; its code leaves biases out.

    Memory: 4 copies: x, e, v, the gradient.
    """

    name, title = "asam", "ASAM"
    source = "Kwon, Kim, Park & Choi, arXiv 2102.11600, algorithm 1"
    wide: ClassVar[Space] = {
        **{name: declared for name, declared in SAM.wide.items() if name != "radius"},
        "relative_radius": Float(1e-2, 10.0, 0.5, log=True),
        "offset": Float(1e-4, 0.1, 0.01, log=True),
    }
    space: ClassVar[Space] = {
        **{name: declared for name, declared in SAM.space.items() if name != "radius"},
        "relative_radius": Float(0.1, 5.0, 0.5, log=True),
    }
    default_fixed: ClassVar[Mapping[str, Value]] = {**SAM.default_fixed, "offset": 0.01}
    publications = (
        Published(
            "cifar-10",
            {**CANONICAL, "relative_radius": 0.5, "offset": 0.01},
            "arXiv 2102.11600 and its code: ρ = 0.5, η = 0.01, lr 0.1, momentum (not Nesterov's), wd 5e-4, cosine",
        ),
    )
    parts = (
        Part("ascent", "the step uphill", "the gradient at x itself, which is SGD", rule="sgd"),
        Part("scaling", "scaling by the parameters", "a round neighbourhood, which is SAM", rule="sam"),
        NO_MOMENTUM,
    )
    reasons: ClassVar[Mapping[str, str]] = {
        "relative_radius": "SAM's range times ten: the released radii, 0.5 and 1 on CIFAR, are ten times those for SAM",
        "offset": "the η of the paper's code",
    }
    meanings: ClassVar[Mapping[str, Meaning]] = {
        "relative_radius": Meaning("Distance r of the nearby point, relative to the parameters"),
        "offset": Meaning("Number c that is added to the size of every parameter", "parameter"),
    }

    def _ascent(self, x: Tensor, grad: Tensor, hyper: Hyper) -> Tensor:
        scale = x.abs() + hyper["offset"]
        scaled = scale * grad
        return hyper["relative_radius"] * scale * scaled / (row_sums(scaled * scaled).sqrt() + TINY)
