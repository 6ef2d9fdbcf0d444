"""Runs of samplers: those of Optuna's own loop, the same whoever goes on with them."""

from __future__ import annotations

import warnings
from typing import Any

import optuna
import pytest

from relaxbench.space import Choice, Float, Int, Space, Value
from relaxbench.store.facts import SearchFacts
from relaxbench.study.coordination.distributions import distributions
from relaxbench.study.coordination.samplers import make_sampler
from relaxbench.study.coordination.tuner import Finished, Tuner

SPACE: Space = {"x": Float(1e-3, 1.0, 0.1, log=True), "n": Int(1, 9, 3)}
CHOICES: Space = {**SPACE, "kind": Choice(("a", "b"), "a")}
TRIALS, SIZE = 9, 3
OPTUNA: dict[str, Any] = {
    "tpe": lambda: optuna.samplers.TPESampler(seed=7, n_startup_trials=3, multivariate=True),
    "gp": lambda: optuna.samplers.GPSampler(seed=7, n_startup_trials=3, warn_independent_sampling=False),
    "cmaes": lambda: optuna.samplers.CmaEsSampler(seed=7, popsize=3),
    "qmc": lambda: optuna.samplers.QMCSampler(seed=7, scramble=True, warn_independent_sampling=False),
}


def facts(name: str) -> SearchFacts:
    return {"sampler": name, "options": {"popsize": 3} if name == "cmaes" else {}, "generation": SIZE}


def loss(params: dict[str, Value]) -> float:
    return float(params["x"]) + abs(int(params["n"]) - 4) + (params.get("kind") == "b")


def run(name: str, space: Space, fresh: bool) -> list[dict[str, Value]]:
    """The settings of a whole run: by one tuner, or by a fresh one for every generation."""
    tuner = Tuner(space, make_sampler(facts(name), 7, TRIALS))
    generations: list[list[Finished]] = []
    for _ in range(TRIALS // SIZE):
        if fresh:
            tuner = Tuner(space, make_sampler(facts(name), 7, TRIALS))
        proposed = tuner.propose(generations, SIZE)
        assert tuner.propose(generations, SIZE) == proposed  # asked again
        generations.append([Finished(params, loss(params)) for params in proposed])
    return [dict(finished.params) for generation in generations for finished in generation]


@pytest.mark.parametrize("name", list(OPTUNA))
def test_a_run_is_that_of_optunas_own_loop_however_often_it_is_repeated(name: str) -> None:
    if name == "cmaes":
        pytest.importorskip("cmaes", reason="CMA-ES needs the package cmaes (relaxbench[samplers])")
    space = SPACE if name == "cmaes" else CHOICES
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        study, searched = optuna.create_study(sampler=OPTUNA[name]()), distributions(space)
        plain: list[dict[str, Value]] = []
        for _ in range(TRIALS // SIZE):
            asked = [study.ask(searched) for _ in range(SIZE)]
            plain += [dict(trial.params) for trial in asked]
            for trial in asked:
                study.tell(trial, loss(trial.params))
    assert run(name, space, fresh=False) == plain
    assert run(name, space, fresh=True) == plain
    assert len({tuple(params.values()) for params in plain}) > TRIALS // 2


def test_a_sampler_learns_from_what_was_run_and_not_from_what_it_would_have_proposed() -> None:
    """Another machine may have rounded otherwise: its settings and results are told."""
    first = Tuner(SPACE, make_sampler(facts("tpe"), 7, TRIALS)).propose([], SIZE)
    far = [Finished({"x": 0.5, "n": 4}, float(place)) for place in range(SIZE)]
    tuner = Tuner(SPACE, make_sampler(facts("tpe"), 7, TRIALS))
    tuner.propose([far], SIZE)
    told = [trial.params for trial in tuner._study.trials[:SIZE]]
    assert told == [finished.params for finished in far] != first
