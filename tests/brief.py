"""Measurements of time that last milliseconds, for tests: few of them look at what a study measures on its machine.

Those that do ask for the fixture `at_length` (of tests/conftest.py).
"""

from __future__ import annotations

from relaxbench.training import costs, durations, engine

BRIEF = (
    (costs, {"LEAST": 2, "MOST": 3, "STRETCH_SECONDS": 0.001, "STRETCH_STEPS": 4}),
    (engine, {"PAIRS": 1, "SECONDS": 0.02, "STRETCH_SECONDS": 0.004, "STRETCHES": 1}),
    (durations, {"ENOUGH": 0.03, "STRETCH_SECONDS": 0.005}),
)
USUAL = [(module, {name: getattr(module, name) for name in values}) for module, values in BRIEF]


def measure_briefly(brief: bool = True) -> None:
    """Measure briefly from now on, or as usual again: in this process, and in those that are forked from it."""
    for module, values in BRIEF if brief else USUAL:
        for name, value in values.items():
            setattr(module, name, value)
