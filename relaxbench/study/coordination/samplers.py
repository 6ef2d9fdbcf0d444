"""Optuna's samplers by name, and those of other packages by the path of their class."""

from __future__ import annotations

import importlib.util
import warnings
from collections.abc import Mapping
from typing import Any

import optuna
from optuna.samplers import BaseSampler

from relaxbench.errors import UserError
from relaxbench.store.facts import RANDOM, SearchFacts
from relaxbench.study.coordination.class_paths import class_at, needs, options_of

CLASSES = {"tpe": "TPESampler", "gp": "GPSampler", "cmaes": "CmaEsSampler", "qmc": "QMCSampler"}
"""Optuna's classes, by the name in a study file."""
SETTINGS: Mapping[str, Mapping[str, Any]] = {
    "tpe": {"multivariate": True, "constant_liar": True},
    "qmc": {"scramble": True},
}
"""Options that are set: TPE models hyperparameters together and keeps a generation's trials apart (Optuna's default,
on which generations rest), and blocks of QMC differ by seed."""
LEARNING = ("tpe", "gp")
"""Samplers whose first trials are random; by default a third of a block, at most Optuna's ten."""
FEWEST_RANDOM, MOST_RANDOM = 2, 10
PACKAGES = {"cmaes": "cmaes"}
"""Packages that a sampler needs and relaxbench does not."""
WITHOUT_CHOICES = ("cmaes",)
"""Samplers that cannot search a choice: they would draw it at random."""


def sampler_class(name: str) -> type[BaseSampler]:
    """The class of a sampler.

    Args:
        name: a key of `CLASSES`, or the path of a class.

    Raises:
        UserError: for an unknown name, a class that cannot be imported, or a package that is not installed.
    """
    if name in CLASSES:
        package = PACKAGES.get(name)
        if package and importlib.util.find_spec(package) is None:
            raise UserError(
                f"sampler {name!r} needs the package {package}, which is not installed: "
                "pip install 'relaxbench[samplers]'"
            )
        built_in: type[BaseSampler] = getattr(optuna.samplers, CLASSES[name])
        return built_in
    return class_at(name, BaseSampler, "sampler", RANDOM, CLASSES)


def make_sampler(search: SearchFacts, seed: int, trials: int) -> BaseSampler:
    """Make the sampler of a block.

    Args:
        search: its name and options.
        seed: any whole number.
        trials: of a block.

    Raises:
        UserError: for an unknown sampler, options that it does not take or refuses, or one that takes no seed.
    """
    name, given = search["sampler"], search["options"]
    kind = sampler_class(name)
    known = options_of(kind, given, "sampler", name, but=("seed",))
    if "seed" not in known:
        raise UserError(f"sampler {name!r} takes no seed, so its trials could not be repeated: choose another one")
    usual: dict[str, Any] = {"warn_independent_sampling": False} if "warn_independent_sampling" in known else {}
    usual |= SETTINGS.get(name, {})
    if name in LEARNING:
        usual["n_startup_trials"] = min(MOST_RANDOM, max(FEWEST_RANDOM, trials // 3))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Optuna's notes on experimental and deprecated arguments
            return kind(**{**usual, **given, "seed": seed % 2**32})
    except UserError:
        raise
    except ImportError as error:
        raise UserError(f"sampler {name!r} needs a package that is not installed ({error}): install it") from None
    except Exception as error:
        words = " ".join(str(error).split()) + needs(kind, (*given, "seed"))
        raise UserError(f"options of sampler {name!r} = {dict(given)!r}: {words}") from None
