"""The search of a method with a pruner: as many generations in every block as T trials' gradients pay for.

A generation has no more trials than could run to their end, so a block never spends more than T whole trials. What
pruned trials leave starts further generations, until less than one whole trial is left. It stays unspent: a trial that
cannot run to its end cannot win. Like every choice of the plan, this is a function of finished trials by their numbers.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from sqlalchemy import Row

from relaxbench.space import Space, Value
from relaxbench.store.allowance import affordable
from relaxbench.store.facts import RANDOM, MethodFacts, ProblemFacts, PrunerFacts, known_on
from relaxbench.store.schema import CURVE_COLUMNS
from relaxbench.study.coordination.judge import BlockPruner, Judge, Past
from relaxbench.study.coordination.learned_search import LearnedSearch
from relaxbench.study.coordination.pruners import make_pruner
from relaxbench.study.coordination.random_search import sample
from relaxbench.study.coordination.samplers import make_sampler
from relaxbench.study.coordination.tuner import Tuner
from relaxbench.util.seeds import derive

LOSS = CURVE_COLUMNS.index("validation_loss")


@dataclass
class PrunedSearch(LearnedSearch):
    """A search of one method on one problem by any sampler, with a pruner.

    Attributes:
        pruner: its name and options.
        budget: gradients of a whole trial.
        rounds: of a whole trial.
    """

    pruner: PrunerFacts = field(kw_only=True)
    budget: int = field(kw_only=True)
    rounds: int = field(kw_only=True)
    _over: set[int] = field(default_factory=set)  # blocks that have spent what they have
    _pruners: dict[int, BlockPruner] = field(default_factory=dict)  # by block

    @classmethod
    def on(
        cls, method: MethodFacts, problem: ProblemFacts, space: Space, place: tuple[int, str, str], trials: int
    ) -> LearnedSearch | None:
        """The search of a method, with its pruner or without; None where it has random trials alone, or none."""
        pruner, budget = method["search"].get("pruner"), problem["budget"]
        if pruner is None or not trials or budget is None:
            return LearnedSearch.of(method, space, place, trials)
        known, rounds = known_on(method, space), problem["rounds"] or 1
        return cls(method["search"], space, place, trials, known, pruner=pruner, budget=budget, rounds=rounds)

    def following(
        self, block: int, done: int, finished: Callable[[], Sequence[Row[Any]]]
    ) -> list[tuple[int, dict[str, Value]]]:
        """The numbers and settings of a block's next generation; none while one is incomplete, or nothing is left.

        Args:
            block: its number.
            done: how many of its trials are finished.
            finished: returns their rows, see `past_of`.
        """
        if block in self._over or self._planned.get(block, 0) > done:
            return []
        past = past_of(finished())
        earlier, coming = self.divided(past)
        if not coming:
            self._over.add(block)
            self._tuners.pop(block, None)
            self._pruners.pop(block, None)
            return []
        if any(number in past for number in coming):
            return []  # it has begun
        if self.facts["sampler"] == RANDOM:
            return [(number, self._random(block, number)) for number in coming]
        told = [[trial.told for trial in generation] for generation in earlier]
        return list(zip(coming, self._tuner(block).propose(told, len(coming)), strict=True))

    def divided(self, past: Mapping[int, Past]) -> tuple[list[list[Past]], range]:
        """Divide the trials of a block into complete generations, and the numbers of the one that comes after them.

        Args:
            past: the finished trials, by number.
        """
        generations: list[list[Past]] = []
        first = 0
        while True:
            spent = math.fsum(trial.cost for generation in generations for trial in generation)
            count = min(self.facts["generation"], affordable(self.trials, self.budget, spent))
            coming = range(first, first + count)
            if not coming or any(number not in past for number in coming):
                return generations, coming
            generations.append([past[number] for number in coming])
            first += count

    def judge(self, block: int, number: int, params: Mapping[str, Value], finished: Sequence[Row[Any]]) -> Judge | None:
        """Return what stops a trial; None for one that runs to its end.

        Args:
            block: of the trial.
            number: in it.
            params: its settings.
            finished: the rows of the finished trials of its block, see `past_of`.
        """
        generations, _ = self.divided(past_of(finished))
        earlier = [generation for generation in generations if generation[-1].number < number]
        if block not in self._pruners:
            self._pruners[block] = BlockPruner(self._name(block), self.space, self._make)
        return self._pruners[block].judge(earlier, number, params)

    def planned(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Take note of trials that have rows now, in the order of their numbers."""
        for row in rows:
            self._planned[row["block"]] = row["number"] + 1

    def _make(self) -> Any:
        return make_pruner(self.pruner, self.trials, self.rounds)

    def _random(self, block: int, number: int) -> dict[str, Value]:
        """The settings that the same trial would have without a pruner."""
        if number < len(self.known):
            return dict(self.known[number])
        return sample(self.space, derive(self.place[0], "explore", *self.place[1:], block, number))

    def _name(self, block: int) -> str:
        """The name of Optuna's study of a block: Hyperband derives a trial's bracket from it and the trial's number."""
        return str(derive(self.place[0], "pruner", *self.place[1:], block))

    def _tuner(self, block: int) -> Tuner:
        if block not in self._tuners:
            seed = derive(self.place[0], "sampler", *self.place[1:], block)
            sampler = make_sampler(self.facts, seed, self.trials)
            self._tuners[block] = Tuner(self.space, sampler, self.known, self._make(), self._name(block))
        return self._tuners[block]


def past_of(rows: Sequence[Row[Any]]) -> dict[int, Past]:
    """Return finished trials by number, from rows with number, params, value, status, diverged, ledger and curve."""
    past = {}
    for row in rows:
        cost = float(row.ledger.get("gradients", 0.0)) + float(row.ledger.get("jvps", 0.0))
        what = (row.number, row.params, row.value, row.status == "pruned", row.diverged)
        past[row.number] = Past(*what, cost, losses_of(row.curve))
    return past


def losses_of(curve: bytes | None) -> list[float]:
    """Return the validation loss of each round of a trial, from its curve as stored."""
    points = np.frombuffer(curve or b"", dtype="<f4").reshape(len(CURVE_COLUMNS), -1)
    return [float(loss) for loss in points[LOSS]]
