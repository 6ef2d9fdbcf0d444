"""Exploit: TPE in small generations, each a function of the completed earlier ones."""

from __future__ import annotations

import warnings
from collections.abc import Iterable

import optuna
from optuna.samplers import TPESampler
from optuna.trial import TrialState, create_trial

from relaxbench.space import Space, Value
from relaxbench.study.coordination.distributions import distributions

GENERATION = 4
"""Trials of a TPE generation: more in flight would starve it."""


def propose(space: Space, seed: int, finished: Iterable[tuple[dict[str, Value], float]]) -> list[dict[str, Value]]:
    """The settings of a generation, from all trials (settings and value) of the generations before it.

    The sampler is made anew with a seed for the generation, so that neither interruptions nor the number of workers
    change what is tried.
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
