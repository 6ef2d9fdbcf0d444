"""Problems by name: built in, of other packages, given as objects, or defined in a Python file."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import partial
from pathlib import Path

from relaxbench import given, plugins
from relaxbench.errors import UserError, unknown
from relaxbench.problems import text
from relaxbench.problems.digit_variants import imbalanced_digits, small_steps
from relaxbench.problems.digits import digits_mlp
from relaxbench.problems.image_problems import RECIPES, image_problem
from relaxbench.problems.landscapes.landscape import ChainedRosenbrock, Rosenbrock, Rugged1D
from relaxbench.problems.landscapes.linear_net import LinearNet
from relaxbench.problems.landscapes.quadratic import Quadratic
from relaxbench.problems.landscapes.wells import DoubleWell, GaussianWells
from relaxbench.problems.problem import Problem
from relaxbench.problems.science.catalogue import SCIENCE
from relaxbench.problems.sparse_codes import lista
from relaxbench.problems.tabular import NAME as TABULAR
from relaxbench.problems.tabular import TabularProblem

SPECTRUM = [10 ** (-3 * i / 19) for i in range(20)]
"""Spectrum of the quadratics: 20 eigenvalues from 1 down to 1/1000, evenly spaced in their logarithms."""

PROBLEMS: dict[str, Callable[[], Problem]] = {
    "digits-mlp": digits_mlp,
    "rosenbrock": Rosenbrock,
    "rosenbrock-mild": lambda: Rosenbrock("rosenbrock-mild", 0.0, 1.0, budget=2000),
    "rosenbrock-noisy": lambda: Rosenbrock("rosenbrock-noisy", 0.0, 3.0, budget=5000),
    "rosenbrock-10": ChainedRosenbrock,
    "rosenbrock-50": lambda: ChainedRosenbrock(50),
    "rugged-1d": Rugged1D,
    "double-well": DoubleWell,
    "gaussian-wells": GaussianWells,
    "quadratic": lambda: Quadratic(SPECTRUM),
    "quadratic-noisy": lambda: Quadratic(SPECTRUM, 0.03, "quadratic-noisy", tolerance=1e-3),
    "linear-net": LinearNet,
    **{name: partial(image_problem, name) for recipe in RECIPES for name in (recipe, f"{recipe}-small")},
    "digits-ode": small_steps,
    "digits-ode-small": lambda: small_steps("digits-ode-small", blocks=4, budget=200),
    "digits-imbalanced": imbalanced_digits,
    "digits-imbalanced-small": lambda: imbalanced_digits("digits-imbalanced-small", budget=200),
    "lista": lista,
    "lista-small": lambda: lista("lista-small", measured=16, size=32, layers=5, budget=300),
    TABULAR: TabularProblem,
    **SCIENCE,
    **{name: partial(text.text_problem, name) for recipe in text.RECIPES for name in (recipe, f"{recipe}-small")},
}
"""The built-in problems."""

ATTRIBUTES = ("name", "title", "loss", "budget", "worst", "margin", "space")
METHODS = ("layout", "init", "sampler", "outputs", "split")
"""What a subclass of `Problem` must have."""


def problem_names() -> list[str]:
    """Return the names of all problems: built in, then those of other packages."""
    return [*PROBLEMS, *(name for name in plugins.points_of(plugins.PROBLEMS) if name not in PROBLEMS)]


def ignored_problems() -> dict[str, str]:
    """Return the problems of other packages that have the name of a built-in one, see `plugins.ignored`."""
    return plugins.ignored(plugins.PROBLEMS, PROBLEMS)


def takes_data(name: str) -> bool:
    """Return whether a name is that of a network with other data after a colon, as ``lenet:fashion-mnist``."""
    network, colon, _ = name.partition(":")
    return bool(colon) and network.removesuffix("-small") in (*RECIPES, *text.RECIPES, TABULAR)


def require_known(name: str, study: str) -> None:
    """Check that a problem of a study can be made here, unless it is in a file.

    Raises:
        UserError: if it was an object of a program, or belongs to a package that is not installed.
    """
    known = name.endswith(".py") or takes_data(name) or name in (*problem_names(), *given.names("problem"))
    if not known:
        raise UserError(
            f"problem {name!r} of study {study!r} is unknown here: if it was an object of a program, run that program "
            "again; if it is of another package, install it"
        )


def problem(name: str) -> Problem:
    """Make the problem of a name, of a Python file (a path that ends in ``.py``), or of a network with other data.

    The latter are named as ``lenet:fashion-mnist``, ``allcnn-bn:FOLDER`` or ``char-lstm:FILE.txt``.

    Raises:
        UserError: for an unknown name (the message has the nearest one), and for a file or another package that does
            not define a problem.
    """
    if name.endswith(".py"):
        return from_file(Path(name))
    if name in PROBLEMS:
        return PROBLEMS[name]()
    if name.startswith(f"{TABULAR}:"):
        return TabularProblem(name.partition(":")[2])
    if takes_data(name):
        return text.text_problem(name) if name.startswith((*text.RECIPES,)) else image_problem(name)
    own: Problem | None = given.lookup("problem", name)
    if own is not None:
        _refuse_unfinished(own, f"problem {name!r}")
        return copy.copy(own)  # a study may set its rounds; the data are shared
    if name not in plugins.points_of(plugins.PROBLEMS):
        names = [*problem_names(), *given.names("problem")]
        raise unknown("problem", name, names, "python -m relaxbench list shows all; a file's path ends in .py")
    make = plugins.load(plugins.PROBLEMS, name)
    try:
        other = make()
    except UserError:
        raise
    except (Exception, SystemExit) as error:
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        raise UserError(f"problem {name!r} of another package fails when it is made: {reason}") from error
    if isinstance(other, Problem):
        _refuse_unfinished(other, f"problem {name!r} of another package")
    if not isinstance(other, Problem) or other.name != name:
        what = f"a problem named {other.name!r}" if isinstance(other, Problem) else f"a {type(other).__name__}"
        raise UserError(f"problem {name!r} of another package is {what}: expected a relaxbench Problem of that name")
    return other


def _refuse_unfinished(own: Problem, what: str) -> None:
    """Refuse a subclass that lacks attributes or methods, before one of them is missed in the midst of work."""
    values = [key for key in ATTRIBUTES if not hasattr(own, key)]
    methods = [f"{key}()" for key in METHODS if getattr(type(own), key) is getattr(Problem, key)]
    if values or methods:
        raise UserError(
            f"{what} defines a {type(own).__name__} without {', '.join([*values, *methods])}: every Problem needs "
            "these (docs/add-a-problem.md); use SupervisedProblem(...), or relaxbench.trial() in a loop of your own, "
            "with several losses or networks (docs/your-loop.md)"
        )


def from_file(path: Path) -> Problem:
    """Run a Python file and return its object ``problem``.

    Raises:
        UserError: if the file is missing, fails when run, defines no such `Problem`, or gives it a built-in name.
    """
    own = getattr(plugins.run_file(path, "problem", "`problem`"), "problem", None)
    if not isinstance(own, Problem):
        found = "no `problem`" if own is None else f"`problem` as {type(own).__name__}"
        raise UserError(
            f"problem file {str(path)!r} defines {found}; expected a relaxbench Problem, for instance "
            "problem = relaxbench.problems.SupervisedProblem(...)"
        )
    _refuse_unfinished(own, f"problem file {str(path)!r}")
    if own.name in PROBLEMS:
        raise UserError(f"problem file {str(path)!r} calls its problem {own.name!r}, which is built in: rename it")
    return own
