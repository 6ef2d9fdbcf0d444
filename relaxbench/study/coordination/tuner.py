"""One run of one of Optuna's samplers, in generations: the same settings whoever asks, and however often.

A sampler keeps its state in itself and in Optuna's study: the covariance of CMA-ES, the kernel of a Gaussian process,
the index of a quasi-random sequence. So a run is never rebuilt from its results. It is repeated from its seed: ask a
generation, tell its results in the order of their numbers, ask the next. Whoever repeats it gets the same settings, and
the worker that goes on need not repeat anything.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import optuna
from optuna.pruners import BasePruner
from optuna.samplers import BaseSampler
from optuna.trial import TrialState

from relaxbench.space import Space, Value
from relaxbench.study.coordination.distributions import distributions


class Finished(NamedTuple):
    """A finished trial, as a sampler is told of it.

    Attributes:
        params: its settings.
        value: its validation loss.
        losses: the validation loss of each of its rounds; none where no pruner has asked for them.
        pruned: whether it was stopped after the last of them.
    """

    params: Mapping[str, Value]
    value: float
    losses: Sequence[float] = ()
    pruned: bool = False


class Tuner:
    """A run of a sampler.

    Args:
        space: that it searches.
        sampler: a fresh one, with its seed.
        known: settings of the first trials; the sampler learns from them as from its own.
        pruner: that stops its trials: Optuna's samplers ask Hyperband for the bracket of a trial.
        name: of Optuna's study, from which Hyperband derives brackets.
    """

    def __init__(
        self,
        space: Space,
        sampler: BaseSampler,
        known: Sequence[Mapping[str, Value]] = (),
        pruner: BasePruner | None = None,
        name: str | None = None,
    ) -> None:
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self._space, self._prunes = distributions(space), pruner is not None
        self._study = optuna.create_study(direction="minimize", sampler=sampler, pruner=pruner, study_name=name)
        for params in known:
            self._study.enqueue_trial(dict(params))
        self._asked: list[optuna.Trial] = []  # the generation that is not told yet
        self._told = 0  # generations

    def propose(self, earlier: Sequence[Sequence[Finished]], size: int) -> list[dict[str, Value]]:
        """Propose the settings of the next generation.

        Args:
            earlier: the results of all earlier generations, each in the order of its trials' numbers.
            size: of the next one.
        """
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Optuna's notes on experimental features
            for generation in earlier[self._told :]:
                self._ask(len(generation))
                for trial, finished in zip(self._asked, generation, strict=True):
                    self._tell(trial, finished)
                self._asked = []
                self._told += 1
            self._ask(size)
        return [dict(trial.params) for trial in self._asked]

    def _ask(self, size: int) -> None:
        self._asked += [self._study.ask(self._space) for _ in range(size - len(self._asked))]

    def _tell(self, trial: optuna.Trial, finished: Finished) -> None:
        """Tell a result, and the settings that were run: another machine may have rounded the last digit otherwise."""
        for name, distribution in self._space.items():
            if trial.params[name] != finished.params[name]:
                internal = distribution.to_internal_repr(finished.params[name])
                self._study._storage.set_trial_param(trial._trial_id, name, internal, distribution)
        if self._prunes:
            for step, loss in enumerate(finished.losses, start=1):
                trial.report(loss, step)
                trial.should_prune()  # Hyperband makes its brackets when it is asked; whether to stop, `judge` decides
        if finished.pruned:
            self._study.tell(trial, state=TrialState.PRUNED)
        else:
            self._study.tell(trial, finished.value)
