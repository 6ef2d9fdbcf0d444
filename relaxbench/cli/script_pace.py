"""How long the runs of a training script take on this machine, from its try-outs."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

from relaxbench.cli.pace import Pace

if TYPE_CHECKING:
    from relaxbench.study.coordination.size import Size
    from relaxbench.study.definition.script_problem import LoopProblem, Measured


def script_paces(own: LoopProblem, sizes: Mapping[str, Size], workers: int) -> list[Pace]:
    """Return the pace of every method of a script: its runs do not train together.

    Args:
        own: the script, tried with every method.
        sizes: of the study, by method.
        workers: processes that share the runs.
    """
    return [
        Pace(own.name, label, size, own.budget, 1, 0.0, _seconds(own.measured[label], own.budget), workers)
        for label, size in sizes.items()
    ]


def calibration_seconds(own: LoopProblem) -> float:
    """Return how long it takes to measure the costs of all methods of a script."""
    from relaxbench.study.execution.script_cost import RUNS, SHARE

    return RUNS * sum(_seconds(cost, math.ceil(SHARE * own.budget)) for cost in own.measured.values())


def _seconds(cost: Measured, budget: float) -> float:
    """Return the seconds of a run."""
    return cost.start_seconds + budget * cost.seconds_per_gradient
