"""The theorem's numbers for a report, on those problems of a study that are landscapes of `SCENES`."""

from __future__ import annotations

import functools
from collections.abc import Iterable

from relaxbench.analysis.theory_numbers import Theorem
from relaxbench.theory.expectation import Estimate, expect
from relaxbench.theory.scenes import SCENES

PARTICLES = 20_000
"""Particles of each kind: a few seconds, and error bars small enough for a figure."""


def theorems(problems: Iterable[str], particles: int = PARTICLES) -> dict[str, Theorem]:
    """Evaluate the theorem on every problem that is a landscape of `SCENES`; return results by problem name.

    Args:
        problems: names; those without a scene are left out.
        particles: with control, and as many without.
    """
    scenes = {scene.make().name: key for key, scene in SCENES.items()}
    return {name: _theorem(scenes[name], particles) for name in problems if name in scenes}


@functools.cache
def _theorem(key: str, particles: int) -> Theorem:
    """Evaluate the theorem once in a process: a study's report may be written many times."""
    scene = SCENES[key]
    result = expect(scene, particles)
    return Theorem(
        scene.make().title,
        scene.terminal_title,
        scene.terminal is None,
        _pair(result.plain),
        _pair(result.controlled),
        _pair(result.bound),
        scene.beta,
        scene.seconds,
        particles,
    )


def _pair(estimate: Estimate) -> tuple[float, float]:
    return estimate.mean, estimate.half
