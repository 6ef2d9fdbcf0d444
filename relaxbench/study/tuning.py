"""Exploit: TPE in small generations, each a function of the completed earlier ones."""

from __future__ import annotations

import warnings

import optuna
from optuna.samplers import TPESampler
from optuna.trial import TrialState, create_trial

from relaxbench.optim.hyper import Value
from relaxbench.seeds import derive
from relaxbench.study.suggest import distributions
from relaxbench.study.trials import GENERATION, Plan


def propose(plan: Plan, generation: int) -> list[dict[str, Value]]:
    """The settings of a generation (at most 4), from the completed generations before it.

    The sampler is made anew with a seed of (study seed, generation), so that neither interruptions nor the number of
    workers change what is tried.
    """
    count = min(GENERATION, plan.spec.exploit - generation * GENERATION)
    space = distributions(plan.spec.space_of(plan.method, plan.problem))
    seed = derive(plan.spec.seed, "tpe", plan.problem.name, plan.method, generation) % 2**32
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        sampler = TPESampler(seed=seed, n_startup_trials=2 * GENERATION, multivariate=True, constant_liar=True)
    study = optuna.create_study(direction="minimize", sampler=sampler)
    for trial in plan.finished("exploit"):
        if trial.block < generation:
            params = {name: trial.params[name] for name in space}
            study.add_trial(
                create_trial(state=TrialState.COMPLETE, value=trial.value, params=params, distributions=space)
            )
    return [dict(study.ask(space).params) for _ in range(count)]
