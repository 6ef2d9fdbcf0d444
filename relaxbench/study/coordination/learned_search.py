"""The search of a method by a sampler that learns: every block is a run of its own, in generations.

The next generation of a block is a function of the block's complete earlier ones, seen in the order of their numbers.
Blocks do not wait for each other, so that their generations keep the slots of a population full.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Row

from relaxbench.space import Space, Value
from relaxbench.store.facts import RANDOM, MethodFacts, SearchFacts, known_on
from relaxbench.study.coordination.samplers import make_sampler
from relaxbench.study.coordination.tuner import Finished, Tuner
from relaxbench.util.seeds import derive


@dataclass
class LearnedSearch:
    """A sampler's search of one method on one problem.

    Attributes:
        facts: the sampler, its options and the size of a generation.
        space: that is searched.
        place: what the seeds of the blocks derive from: the study's seed, the problem and the method.
        trials: T, trials per block.
        known: settings that every block tries first.
    """

    facts: SearchFacts
    space: Space
    place: tuple[int, str, str]
    trials: int
    known: Sequence[Mapping[str, Value]] = ()
    _tuners: dict[int, Tuner] = field(default_factory=dict)  # by block
    _planned: dict[int, int] = field(default_factory=dict)  # trials of a block that certainly have rows

    @classmethod
    def of(cls, method: MethodFacts, space: Space, place: tuple[int, str, str], trials: int) -> LearnedSearch | None:
        """The search of a method; None where it has random trials, or none."""
        if method["search"]["sampler"] == RANDOM or not trials:
            return None
        return cls(method["search"], space, place, trials, known_on(method, space))

    def following(
        self, block: int, done: int, finished: Callable[[], Sequence[Row[Any]]]
    ) -> list[tuple[int, dict[str, Value]]]:
        """The numbers and settings of a block's next generation; none while an earlier one is incomplete.

        Args:
            block: its number.
            done: how many of its trials are finished.
            finished: returns their rows (params, value), in the order of their numbers.
        """
        size = self.facts["generation"]
        if done % size or done >= self.trials or self._planned.get(block, 0) > done:
            return []
        results: list[Finished] = [Finished(trial.params, trial.value) for trial in finished()]
        generations = [results[first : first + size] for first in range(0, len(results), size)]
        count = min(size, self.trials - done)
        params = self._tuner(block).propose(generations, count)
        return [(done + place, settings) for place, settings in enumerate(params)]

    def planned(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Take note of trials that have rows now, in the order of their numbers."""
        for row in rows:
            self._planned[row["block"]] = row["number"] + 1
            if row["number"] + 1 >= self.trials:
                self._tuners.pop(row["block"], None)  # its last generation has been proposed

    def _tuner(self, block: int) -> Tuner:
        if block not in self._tuners:
            seed = derive(self.place[0], "sampler", *self.place[1:], block)
            self._tuners[block] = Tuner(self.space, make_sampler(self.facts, seed, self.trials), self.known)
        return self._tuners[block]
