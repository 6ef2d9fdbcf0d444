"""The engine facts of a training script, and the cost of its gradients: measured on short runs, methods in turn."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch

from relaxbench.loop.runs import Host, Told
from relaxbench.store.facts import CostFacts, EngineFacts
from relaxbench.study.definition.script_problem import LoopProblem
from relaxbench.study.definition.script_table import script_middle
from relaxbench.study.definition.spec import StudySpec
from relaxbench.training.costs import levels

RUNS = 3
"""Runs of each method."""
SHARE = 0.1
"""Budget of each, as a share of that of a trial."""


def script_engine(device: torch.device) -> EngineFacts:
    """Return the facts of how a script's trials are run: one at a time in every worker."""
    return {
        "path": "script",
        "population": 1,
        "device": str(device),
        "dtype": "float32",
        "precision": "float32",
        "threads": torch.get_num_threads(),
        "invariance": "as far as the script itself repeats them",
        "note": "",
    }


def script_costs(
    own: LoopProblem, spec: StudySpec, methods: Sequence[str], engine: EngineFacts, begin: Callable[[int], bool]
) -> list[CostFacts]:
    """Measure seconds per gradient and memory of methods of a script, in turn.

    The seconds are those between the first and the last bill of a run, without evaluation between `Trial.due` and
    `Trial.report`; the memory is the most that the process of a run held. A run that ends at once, or fails, is left
    out.

    Args:
        own: the script.
        spec: the study.
        methods: labels.
        engine: how it is run.
        begin: called with the index of a method before it is timed; False stops.

    Returns:
        a cost for each method; none if `begin` has stopped it.
    """
    seconds, peaks = np.full((RUNS, len(methods)), math.nan), np.zeros(len(methods))
    budget = max(2, math.ceil(SHARE * own.budget))
    with Host(own.path, engine["threads"], own.script.silence) as host:
        for turn in range(RUNS):
            for index, label in enumerate(methods):
                if not begin(index):
                    return []
                told = host.run(own.job(label, script_middle(spec, label), turn, "try-out", budget))
                seconds[turn, index] = _each(told)
                peaks[index] = max(peaks[index], told.peak_bytes)
    whole = seconds[np.isfinite(seconds).all(axis=1)]
    if not len(whole):
        return [_cost(1e-3, 1.0, peak) for peak in peaks]  # of a script that cannot be timed
    level, spread = levels(whole)
    return [_cost(*known) for known in zip(level, spread, peaks, strict=True)]


def _each(told: Told) -> float:
    """Return the seconds per gradient of a run."""
    if told.gradients and told.seconds > 0:
        return told.seconds / told.gradients
    return told.wall_seconds / told.billed if told.billed else math.nan


def _cost(seconds: float, spread: float, peak: float) -> CostFacts:
    return {"seconds_per_gradient": float(seconds), "seconds_spread": float(spread), "peak_bytes": float(peak)}
