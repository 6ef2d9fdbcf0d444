"""Exploit: TPE in small generations, each a function of the complete earlier ones."""

from __future__ import annotations

import warnings
from collections.abc import Iterable

import optuna
from optuna.samplers import TPESampler
from optuna.trial import TrialState, create_trial

from relaxbench.space import Space, Value
from relaxbench.study.coordination.distributions import distributions

GENERATION = 4
"""Trials per generation of TPE. In larger ones TPE would learn too rarely."""


def propose(space: Space, seed: int, finished: Iterable[tuple[dict[str, Value], float]]) -> list[dict[str, Value]]:
    """Propose the settings of a generation from all trials (settings and value) of the earlier generations.

    Every generation has a new sampler with its own seed, so that neither interruptions nor the number of workers change
    the settings.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        sampler = TPESampler(seed=seed, n_startup_trials=2 * GENERATION, multivariate=True, constant_liar=True)
    study, searched = optuna.create_study(direction="minimize", sampler=sampler), distributions(space)
    for settings, value in finished:
        params = {name: settings[name] for name in searched}
        study.add_trial(create_trial(state=TrialState.COMPLETE, value=value, params=params, distributions=searched))
    return [dict(study.ask(searched).params) for _ in range(GENERATION)]
