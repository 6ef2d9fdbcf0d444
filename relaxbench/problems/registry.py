"""The problems by name, and problems from a file of one's own."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path

from relaxbench.errors import UserError, unknown
from relaxbench.problems.digits import digits_mlp
from relaxbench.problems.landscapes import ChainedRosenbrock, Rosenbrock, Rugged1D
from relaxbench.problems.linear_net import LinearNet
from relaxbench.problems.problem import Problem
from relaxbench.problems.quadratic import Quadratic
from relaxbench.problems.wells import DoubleWell, GaussianWells

SPECTRUM = [10 ** (-3 * i / 19) for i in range(20)]
"""Of the quadratics: 20 eigenvalues from 1 down to 1/1000, evenly spaced in their logarithms."""

PROBLEMS: dict[str, Callable[[], Problem]] = {
    "digits-mlp": digits_mlp,
    "rosenbrock": Rosenbrock,
    "rosenbrock-noisy": lambda: Rosenbrock("rosenbrock-noisy", 0.0, 3.0, budget=5000),
    "rosenbrock-10": ChainedRosenbrock,
    "rosenbrock-50": lambda: ChainedRosenbrock(50),
    "rugged-1d": Rugged1D,
    "double-well": DoubleWell,
    "gaussian-wells": GaussianWells,
    "quadratic": lambda: Quadratic(SPECTRUM),
    "quadratic-noisy": lambda: Quadratic(SPECTRUM, 0.03, "quadratic-noisy", tolerance=1e-3),
    "linear-net": LinearNet,
}


def problem(name: str) -> Problem:
    """The problem of a name, or the one in a Python file (a path that ends in ``.py``).

    Raises:
        UserError: if there is none, with the nearest name; if the file is missing or does not define a problem.
    """
    if name.endswith(".py"):
        return from_file(Path(name))
    if name not in PROBLEMS:
        raise unknown("problem", name, PROBLEMS, "python -m relaxbench list shows all; a file's path ends in .py")
    return PROBLEMS[name]()


def from_file(path: Path) -> Problem:
    """The object ``problem`` that a Python file defines.

    Raises:
        UserError: if the file is missing, fails when run, or defines no `Problem` of that name.
    """
    if not path.is_file():
        raise UserError(
            f"problem file {str(path)!r} does not exist: give the path of a Python file that defines `problem`"
        )
    spec = importlib.util.spec_from_file_location(f"relaxbench_problem_{path.stem}", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[module.__name__] = module  # dataclasses and pickle look there
    try:
        spec.loader.exec_module(module)
    except UserError as error:
        del sys.modules[module.__name__]
        raise UserError(f"problem file {str(path)!r}: {error}") from None
    except (Exception, SystemExit) as error:
        del sys.modules[module.__name__]
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        raise UserError(f"problem file {str(path)!r} fails when run: {reason}") from error
    found = getattr(module, "problem", None)
    if not isinstance(found, Problem):
        raise UserError(
            f"problem file {str(path)!r} defines `problem` as {type(found).__name__}; expected a relaxbench Problem, "
            "for instance relaxbench.problems.SupervisedProblem(...)"
        )
    if found.name in PROBLEMS:
        raise UserError(f"problem file {str(path)!r} calls its problem {found.name!r}, which is built in: rename it")
    return found
