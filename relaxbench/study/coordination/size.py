"""How many trials a method has: at its first look, at every further one, and besides."""

from __future__ import annotations

from dataclasses import dataclass

from relaxbench.store.facts import (
    RANDOM,
    Manifest,
    MethodFacts,
    SpecFacts,
    is_random,
    looks_of,
    planned_looks,
    problem_facts,
    protocol,
)
from relaxbench.store.schema import PHASES


@dataclass(frozen=True)
class Size:
    """The numbers of trials of one method on one problem; see `spec.StudySpec`.

    Attributes:
        seed: of the study.
        looks: the numbers of blocks at which a repetition is looked at; the last ones may lie beyond those declared.
        trials: T, trials per block; 0 for a method that is run as published.
        exploit: of TPE.
        recommend: of the best settings.
        repetitions: of all looks.
        declared: how many of the looks were declared.
        winners_only: whether the winner of every block is confirmed, and no other trial: of a sampler that learns, of a
            method with known settings, of one with a pruner, and in studies without looks.
        budget: gradients of a trial, of a method with a pruner: the trials of a block share T times as many. None where
            a block has T trials.
        generation: trials of a block that are chosen together, of a sampler that learns or beside a pruner; 0 where all
            are known from the beginning.
    """

    seed: int
    looks: tuple[int, ...]
    trials: int
    exploit: int
    recommend: int
    repetitions: int = 1
    declared: int = 1
    winners_only: bool = False
    budget: int | None = None
    generation: int = 0

    @classmethod
    def of(cls, spec: SpecFacts, method: MethodFacts, manifest: Manifest, problem: str = "") -> Size:
        """The size that a stored specification requests of a method.

        Args:
            spec: of the study.
            method: its facts.
            manifest: of the study; empty for one that has not begun.
            problem: on which a pruner stops trials; empty for the size in whole trials.
        """
        tuned = method["arm"] == "tuned"
        search = method["search"]
        pruned = bool(problem) and tuned and "pruner" in search
        waits = tuned and (search["sampler"] != RANDOM or "pruner" in search)
        return cls(
            spec["seed"],
            planned_looks(spec, manifest),
            spec["trials"] if tuned else 0,
            spec["exploit"] if tuned else 0,
            spec["recommend"] if tuned else 0,
            spec["repetitions"],
            len(looks_of(spec)),
            protocol(spec) == 1 or (tuned and not is_random(method)),
            problem_facts(manifest, problem)["budget"] if pruned else None,
            search["generation"] if waits else 0,
        )

    def confirmed(self, blocks: int) -> int:
        """The number of runs on fresh seeds at a look at this many blocks."""
        from relaxbench.analysis.all_subsets import confirmed_ranks

        if not self.trials or self.winners_only or not blocks:
            return blocks
        return confirmed_ranks(blocks * self.trials, self.trials)

    def planned(self, blocks: list[int]) -> dict[str, int]:
        """The number of trials by phase; with a pruner, of whole trials and without spot checks.

        Args:
            blocks: of every repetition.
        """
        explore, confirm = sum(blocks) * self.trials, sum(map(self.confirmed, blocks))
        counts = {"explore": explore, "confirm": confirm, "exploit": self.exploit, "recommend": self.recommend}
        return {phase: counts[phase] for phase in PHASES if phase in counts}

    @property
    def ready(self) -> int:
        """How many trials are ready to be trained together until the first look, at most: what keeps slots full."""
        block = min(self.generation, self.trials) or self.trials or 1
        return max(self.repetitions * self.looks[0] * block, self.recommend)

    @property
    def first(self) -> list[int]:
        """The blocks of the first look, of every repetition."""
        return [self.looks[0]] * self.repetitions

    def look(self, blocks: int) -> int:
        """The number of the look that this many blocks belong to, from 1."""
        return 1 + sum(look < blocks for look in self.looks[:-1])
