"""`relaxbench.trial`: the trial of this process, given by a study or, outside one, by the script itself."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from relaxbench.loop.arguments import job_asked, study_path
from relaxbench.loop.trial import Trial, TrialOver, seed_all
from relaxbench.space import Value

_given: Trial | None = None
"""The trial of a study, if a host runs this process."""
_taken = False


def trial(
    method: str = "",
    params: Mapping[str, Value] | None = None,
    budget: float = 1000,
    seed: int = 0,
    study: str | Path | None = None,
) -> Trial:
    """Return the trial that this script is to run, and seed Python's, NumPy's and PyTorch's global generators with it.

    In a study everything is given by the study. The arguments are for a run of the script by itself, which prints what
    it reports.

    Args:
        method: label of the method; with `study`, one of its methods, by default the baseline.
        params: its hyperparameters by name. With `study` they replace the middle of its ranges.
        budget: gradients of the run, unless `study` says it.
        seed: of everything random, a whole number from 0 to 2³² − 1.
        study: a study file of this script, from which method, budget and params are taken.

    Raises:
        UserError: if that file cannot be read, is of no script, or has no such method.
        TypeError: if an argument is of another kind, outside a study.
        ValueError: if it is out of range.
    """
    global _taken
    _taken, found = True, _given
    if found is None:
        job = job_asked(method, params, budget, seed)
        if study is not None:
            from relaxbench.loop.plain import job_of

            job = job_of(study_path(study), job)
        found = Trial(job, _show)
    seed_all(found.seed)
    return found


def give(given: Trial) -> None:
    """Let `trial` return this trial, in a process that a host has started for it."""
    global _given
    _given = given


def taken() -> bool:
    """Whether the script has called `trial`."""
    return _taken


def _show(message: dict[str, Any]) -> None:
    """Print a message of a run outside a study."""
    kind = message["kind"]
    if kind == "report":
        names = [name for name in ("training", "loss", "validation") if not math.isnan(message.get(name, math.nan))]
        values = ", ".join(f"{name} {message[name]:.6g}" for name in names) or "validation nan"
        print(f"{message['gradients']:g} gradients: {values}", flush=True)
    elif kind == "test":
        print(f"test {message['value']:.6g}", flush=True)
    elif kind == "diverged":
        print(f"diverged after {message['gradients']:g} gradients", flush=True)


__all__ = ["Trial", "TrialOver", "give", "trial"]
