"""Pruners of blocks: those of Optuna's own loop, and blind to a trial's contemporaries."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import optuna
import pytest
from optuna.trial import TrialState

from relaxbench.space import Float, Space, Value
from relaxbench.store.facts import PrunerFacts, SearchFacts
from relaxbench.study.coordination.distributions import distributions
from relaxbench.study.coordination.judge import BlockPruner, Past
from relaxbench.study.coordination.pruners import make_pruner
from relaxbench.study.coordination.samplers import make_sampler
from relaxbench.study.coordination.tuner import Tuner

SPACE: Space = {"x": Float(0.0, 1.0, 0.5)}
ROUNDS, T = 9, 12
OPTIONS: dict[str, dict[str, Any]] = {
    "hyperband": {},
    "successive-halving": {"reduction_factor": 2},
    "median": {"n_startup_trials": 2},
    "wilcoxon": {"p_threshold": 0.2},
}
OPTUNA: dict[str, Callable[[], optuna.pruners.BasePruner]] = {
    "hyperband": lambda: optuna.pruners.HyperbandPruner(max_resource=ROUNDS),
    "successive-halving": lambda: optuna.pruners.SuccessiveHalvingPruner(reduction_factor=2),
    "median": lambda: optuna.pruners.MedianPruner(n_startup_trials=2),
    "wilcoxon": lambda: optuna.pruners.WilcoxonPruner(p_threshold=0.2),
}


def facts(name: str) -> PrunerFacts:
    return {"name": name, "options": OPTIONS[name], "spot_checks": 0.1}


def curve(number: int, params: dict[str, Value]) -> list[float]:
    """Losses that are float32 numbers, as curves are stored."""
    noise = np.random.default_rng(number).normal(0, 0.05, ROUNDS)
    return [float(np.float32(1 / step + float(params["x"]) + noise[step - 1])) for step in range(1, ROUNDS + 1)]


def block_pruner(name: str) -> BlockPruner:
    return BlockPruner("block", SPACE, lambda: make_pruner(facts(name), T, ROUNDS))


def ended(losses: Sequence[float], judge: Callable[[list[float]], bool] | None) -> int:
    """The rounds that a trial has: it is asked after each but the last."""
    return next((n for n in range(1, ROUNDS) if judge is not None and judge(list(losses[:n]))), ROUNDS)


def past(number: int, params: dict[str, Value], losses: Sequence[float], rounds: int) -> Past:
    return Past(number, params, losses[rounds - 1], pruned=rounds < ROUNDS, losses=losses[:rounds])


def run(name: str, generations: Sequence[int], fresh: bool = False) -> list[Past]:
    """A block of random settings, in generations of these sizes."""
    made, earlier, numbers = block_pruner(name), list[list[Past]](), itertools.count()
    draw = np.random.default_rng(0)
    for size in generations:
        generation = []
        for number in itertools.islice(numbers, size):
            params: dict[str, Value] = {"x": float(draw.random())}
            losses = curve(number, params)
            judge = (block_pruner(name) if fresh else made).judge(earlier, number, params)
            generation.append(past(number, params, losses, ended(losses, judge)))
        earlier.append(generation)
    return [trial for generation in earlier for trial in generation]


@pytest.mark.parametrize("name", list(OPTUNA))
def test_one_trial_after_another_is_optunas_own_loop(name: str) -> None:
    """Without contemporaries nothing is hidden. Only the first trial is never stopped here."""
    draw, ends = np.random.default_rng(0), []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        study = optuna.create_study(study_name="block", pruner=OPTUNA[name]())
        for number in range(20):
            study.enqueue_trial({"x": float(draw.random())})
            trial = study.ask(distributions(SPACE))
            losses = curve(number, trial.params)
            for step in range(1, ROUNDS + 1):
                trial.report(losses[step - 1], step)
                if step < ROUNDS and trial.should_prune():
                    study.tell(trial, state=TrialState.PRUNED)
                    break
            else:
                study.tell(trial, losses[-1])
            ends.append(step)
    found = run(name, [1] * 20)
    assert [len(trial.losses) for trial in found] == ends
    assert 2 < sum(trial.pruned for trial in found) < 20


@pytest.mark.parametrize("name", list(OPTUNA))
def test_whoever_goes_on_with_a_block_gets_the_same_answers(name: str) -> None:
    whole, again = run(name, [4] * 5), run(name, [4] * 5, fresh=True)
    assert whole == again and any(trial.pruned for trial in whole)
    assert not any(trial.pruned for trial in whole[:4])


@pytest.mark.parametrize("name", list(OPTUNA))
def test_contemporaries_are_not_seen(name: str) -> None:
    """Whatever another trial of the generation does, and however many are asked in between."""
    earlier = [run(name, [4])[:4]]
    params: list[dict[str, Value]] = [{"x": x} for x in (0.9, 0.5, 0.1, 0.0)]
    losses = [curve(4 + place, own) for place, own in enumerate(params)]
    alone = [ended(losses[place], block_pruner(name).judge(earlier, 4 + place, params[place])) for place in range(4)]
    made = block_pruner(name)
    judges = [made.judge(earlier, 4 + place, params[place]) for place in range(4)]
    ends = [ROUNDS] * 4
    for n in range(1, ROUNDS):
        for place in (2, 0, 3, 1):  # the best one first
            judge = judges[place]
            if ends[place] == ROUNDS and judge is not None and judge(losses[place][:n]):
                ends[place] = n
    assert ends == alone


def test_a_trial_that_goes_on_from_a_checkpoint_gets_the_answers_of_one_that_was_not_stopped() -> None:
    earlier = [run("hyperband", [4])]
    for x in (0.05, 0.6, 0.95):
        losses = curve(5, {"x": x})
        whole = block_pruner("hyperband").judge(earlier, 5, {"x": x})
        end = ended(losses, whole)
        for stopped in range(1, end):
            resumed = block_pruner("hyperband").judge(earlier, 5, {"x": x})
            assert resumed is not None
            assert [resumed(losses[:n]) for n in range(stopped, end)] == [False] * (end - stopped)
            assert end == ROUNDS or resumed(losses[:end])


def test_nothing_is_stopped_before_a_trial_is_complete() -> None:
    """Also where the first generation has diverged: a block has a winner."""
    lost = [Past(n, {"x": 0.5}, 10.0, diverged=True, losses=[1.0, float("nan")]) for n in range(2)]
    made = block_pruner("hyperband")
    assert made.judge([lost], 2, {"x": 0.5}) is None
    good = [past(n, {"x": 0.1}, curve(n, {"x": 0.1}), ROUNDS) for n in (2, 3)]
    assert made.judge([lost, good], 4, {"x": 0.5}) is not None


def test_a_sampler_learns_from_pruned_trials_as_in_optunas_own_loop() -> None:
    """TPE beside Hyperband: it ranks pruned trials by their rounds, and looks at one bracket at a time."""
    search: SearchFacts = {"sampler": "tpe", "options": {"n_startup_trials": 3}, "generation": 1}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        sampler = optuna.samplers.TPESampler(seed=7, n_startup_trials=3, multivariate=True)
        study = optuna.create_study(study_name="block", sampler=sampler, pruner=OPTUNA["hyperband"]())
        tuner = Tuner(SPACE, make_sampler(search, 7, T), (), make_pruner(facts("hyperband"), T, ROUNDS), "block")
        made, earlier = block_pruner("hyperband"), list[list[Past]]()
        for number in range(16):
            trial = study.ask(distributions(SPACE))
            (params,) = tuner.propose([[each.told for each in generation] for generation in earlier], 1)
            assert params == trial.params
            losses = curve(number, params)
            judge = made.judge(earlier, number, params)
            for step in range(1, ROUNDS + 1):
                trial.report(losses[step - 1], step)
                stop = trial.should_prune() and step < ROUNDS
                assert judge is None or step == ROUNDS or judge(losses[:step]) == stop
                if stop:
                    break
            study.tell(trial, **({"state": TrialState.PRUNED} if stop else {"values": losses[-1]}))
            earlier.append([past(number, params, losses, step)])
    assert {each.pruned for generation in earlier for each in generation} == {True, False}
