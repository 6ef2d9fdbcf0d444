"""The theorem's numbers for a report: which of a study's problems are landscapes that the theory knows."""

from __future__ import annotations

from collections.abc import Iterable

from relaxbench.analysis.theory_numbers import Theorem
from relaxbench.theory.expectation import Estimate, expect
from relaxbench.theory.scenes import SCENES

PARTICLES = 20_000
"""Enough for error bars that a figure can show, in seconds."""


def theorems(problems: Iterable[str], particles: int = PARTICLES) -> dict[str, Theorem]:
    """The theorem on every problem that is a landscape of `SCENES`, by the problem's name.

    Args:
        problems: names of problems; others are left out.
        particles: of each kind.
    """
    scenes = {scene.make().name: scene for scene in SCENES.values()}
    found = {}
    for name in problems:
        if name in scenes:
            scene, result = scenes[name], expect(scenes[name], particles)
            found[name] = Theorem(
                scene.make().title, scene.terminal_title, scene.terminal is None, _pair(result.plain),
                _pair(result.controlled), _pair(result.bound), scene.beta, scene.seconds, particles,
            )  # fmt: skip
    return found


def _pair(estimate: Estimate) -> tuple[float, float]:
    return estimate.mean, estimate.half
