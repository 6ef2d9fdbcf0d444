"""Optuna's pruner of a block: asked at a trial's own rounds, it has seen the complete earlier generations alone.

A pruner keeps what it knows in Optuna's study: the rungs that a trial has reached, the values on its way. So the
finished trials of a block are repeated, generation by generation, as if each had been asked beside its elders alone.
A running trial is asked in a study of its own, in which its contemporaries are placeholders without a result. The
answer depends on the results of earlier generations and on its own losses alone: not on which trial ended first, on how
many workers there are, or on an interruption.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import optuna
from optuna.pruners import BasePruner
from optuna.samplers import RandomSampler
from optuna.trial import FrozenTrial, TrialState, create_trial

from relaxbench.space import Space, Value
from relaxbench.study.coordination.distributions import distributions
from relaxbench.study.coordination.tuner import Finished


@dataclass(frozen=True)
class Past:
    """A finished trial of a block.

    Attributes:
        number: of the trial in its block.
        params: its settings.
        value: its validation loss at its end.
        pruned: whether it was stopped.
        diverged: whether it diverged.
        cost: its gradients.
        losses: the validation loss of each of its rounds.
    """

    number: int
    params: Mapping[str, Value]
    value: float
    pruned: bool = False
    diverged: bool = False
    cost: float = 1.0
    losses: Sequence[float] = ()

    @property
    def told(self) -> Finished:
        """What a sampler is told of it."""
        return Finished(self.params, self.value, self.losses, self.pruned)

    @property
    def is_complete(self) -> bool:
        """Whether it has run to its end."""
        return not self.pruned and not self.diverged


class Judge:
    """The pruner of one trial.

    Args:
        study: of the trial, with its elders.
        trial: the trial.
        is_free: whether it may be stopped.
    """

    def __init__(self, study: optuna.Study, trial: optuna.Trial, is_free: bool) -> None:
        self._study, self._trial, self._is_free = study, trial, is_free
        self._seen, self._answer = 0, False

    def __call__(self, losses: Sequence[float]) -> bool:
        """Whether the trial is to stop, from the validation losses of all its rounds so far."""
        with warnings.catch_warnings():
            # Optuna notes experimental features, and losses that are not finite.
            warnings.simplefilter("ignore")
            for step in range(self._seen, len(losses)):
                self._trial.report(float(np.float32(losses[step])), step + 1)  # as curves are stored
                self._answer = self._trial.should_prune()
        self._seen = len(losses)
        return self._answer and self._is_free

    def end(self, past: Past) -> FrozenTrial:
        """End the trial as it did; return what Optuna knows of it."""
        if past.pruned:
            self._study.tell(self._trial, state=TrialState.PRUNED)
        else:
            self._study.tell(self._trial, past.value)
        return self._study.get_trials(deepcopy=False)[-1]


class BlockPruner:
    """The pruner of one block.

    Args:
        name: of Optuna's study; Hyperband derives brackets from it.
        space: that the block searches.
        pruner: makes one that has seen nothing.
    """

    def __init__(self, name: str, space: Space, pruner: Callable[[], BasePruner]) -> None:
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self._name, self._distributions, self._pruner = name, distributions(space), pruner
        self._known: list[FrozenTrial] = []
        self._told = 0  # generations
        self._has_complete = False

    def judge(self, earlier: Sequence[Sequence[Past]], number: int, params: Mapping[str, Value]) -> Judge | None:
        """Return the judge of a trial; None while nothing may be stopped, because no earlier trial is complete.

        So the first generation of a block runs to its end, and every block has a winner.

        Args:
            earlier: all earlier generations of its block, complete, each in the order of its trials' numbers.
            number: of the trial in its block.
            params: its settings.
        """
        self._learn(earlier)
        return self._ask(number, params) if self._has_complete else None

    def _learn(self, earlier: Sequence[Sequence[Past]]) -> None:
        """Repeat the generations that are not known yet."""
        for generation in earlier[self._told :]:
            self._known += [self._repeat(past) for past in generation]
            self._has_complete |= any(past.is_complete for past in generation)
            self._told += 1

    def _repeat(self, past: Past) -> FrozenTrial:
        judge = self._ask(past.number, past.params)
        judge(past.losses)
        return judge.end(past)

    def _ask(self, number: int, params: Mapping[str, Value]) -> Judge:
        study = optuna.create_study(study_name=self._name, sampler=RandomSampler(seed=0), pruner=self._pruner())
        study.add_trials(self._known)
        for _ in range(number - len(self._known)):  # contemporaries, of which nothing is known
            study.add_trial(create_trial(state=TrialState.FAIL))
        study.enqueue_trial({name: params[name] for name in self._distributions})
        return Judge(study, study.ask(self._distributions), self._has_complete)
