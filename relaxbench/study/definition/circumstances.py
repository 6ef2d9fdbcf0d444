"""The machine and the programs on which a study begins."""

from __future__ import annotations

import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import cast

from relaxbench.problems import Problem
from relaxbench.store.facts import Circumstances, MachineFacts
from relaxbench.training.devices import machine
from relaxbench.training.precision import Precision, dtype_for


def circumstances(precision: Precision, problems: Iterable[Problem]) -> Circumstances:
    """Describe the machine and the programs on which a study of a precision begins, for its manifest."""
    facts = cast(MachineFacts, machine())
    dtype = ", ".join(sorted({str(dtype_for(task, precision)).removeprefix("torch.") for task in problems}))
    return {**facts, "optuna": _optuna_version(), "git_commit": _git_commit(), "dtype": dtype}


def _optuna_version() -> str:
    import optuna

    return optuna.__version__


def _git_commit() -> str | None:
    """Return the commit of relaxbench's checkout; None if it does not run from one."""
    root = Path(__file__).parents[3]
    if not (root / ".git").exists():
        return None
    command = ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=12"]
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=10, check=True).stdout.strip() or None
    except (OSError, subprocess.SubprocessError):
        return None
