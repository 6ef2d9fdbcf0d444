"""Compare the time that `plan` states with the time that a small study takes, problem by problem."""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from relaxbench.optim.registry import RULES
from relaxbench.problems import problem
from relaxbench.problems.registry import PROBLEMS
from relaxbench.training.engine import throughput
from relaxbench.training.oracle import Oracle

WITHIN = 1.5
"""Target: neither time is more than this many times the other."""
LONGEST, RUNS, LEAST = 600.0, 138, 100
"""Seconds that a study would take at most if its runs trained one by one, and about how many they are: the budget of a
slow problem is cut. One that would have fewer gradients than the last number is left out."""
QUICK = ("digits-mlp",)
SCIENCE, ONE_OF_THEM = ("pinn-", "pde-id-", "multigrid-"), "pinn-poisson2d-small"
"""Beginnings of many alike problems, of which one stands for all."""
METHODS = ("sgd", "entropy-sgd", "heat")
STUDY = """
name = "plan"
problems = ["{problem}"]
methods = {methods}
looks = [6]
trials = 4
exploit = 4
recommend = 2
budget = {budget}
"""
SECONDS = {"s": 1.0, "min": 60.0, "h": 3600.0}


def measure(quick: bool, tell: Callable[[str], object]) -> dict[str, Any]:
    """Plan and run a study on each problem whose data are here, one right after the other, as commands.

    Returns:
        ``within``, and by problem ``planned`` and ``taken`` seconds, from the start of the command to its end, and the
        ``budget`` of a run.
    """
    found: dict[str, Any] = {}
    for name in QUICK if quick else PROBLEMS:
        if name.startswith(SCIENCE) and name != ONE_OF_THEM:
            continue
        task = problem(name)
        if task.missing():
            continue
        rate = throughput(Oracle(task, "direct"), RULES["sgd"](), 1, torch.device("cpu"), seconds=0.0)
        budget = min(task.budget, int(LONGEST / RUNS * rate))
        if budget < min(LEAST, task.budget):
            tell(f"{name} is left out: its gradients take too long here")
            continue
        tell(f"plan and study on {name}")
        found[name] = {**compare(STUDY.format(problem=name, methods=list(METHODS), budget=budget)), "budget": budget}
    return {"within": WITHIN, "problems": found}


def compare(study: str) -> dict[str, float]:
    """Return the seconds that are planned for a study file and those that it takes."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "study.toml").write_text(study)
        planned = total(_command(folder, "plan"))
        begin = time.perf_counter()
        _command(folder, "study", "--no-report")
        return {"planned": planned, "taken": time.perf_counter() - begin}


def total(text: str) -> float:
    """Read the seconds of the row ``total`` of a plan, the time at the first look.

    Raises:
        ValueError: if there is none.
    """
    found = re.search(rf"^total\s+[\d,]+\s+([\d.,]+) ({'|'.join(SECONDS)})\b", text, re.MULTILINE)
    if found is None:
        raise ValueError(f"no total in the plan: {text[:500]}")
    return float(found[1].replace(",", "")) * SECONDS[found[2]]


def _command(folder: str, *arguments: str) -> str:
    command = [sys.executable, "-m", "relaxbench", *arguments, "study.toml", "--storage", "study.db"]
    return subprocess.run(command, cwd=folder, check=True, text=True, capture_output=True).stdout
