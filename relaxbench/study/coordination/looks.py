"""Interim monitoring: which methods of a problem go on to the next look, from finished trials alone.

A comparison is over when a look has decided it, or has shown that no claim can be made. A method goes on to the next
look while its comparison is not over, and its opponent with it: the baseline, or the method that it is ``against``.
The estimates and the verdicts are those of the report (`analysis.arms`, `analysis.looks`). Every repetition of a study
goes through its looks alone.

An answer other than "not known yet" never changes, because it depends only on finished trials and on the declared
comparisons: every worker gets the same one, at any time. A session that extends a study reads its row anew.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import Engine as Database
from sqlalchemy import select

from relaxbench.store.facts import (
    Manifest,
    ProblemFacts,
    SpecFacts,
    is_random,
    method_facts,
    planned_looks,
    problem_facts,
)
from relaxbench.store.schema import Trial
from relaxbench.store.transactions import read

if TYPE_CHECKING:
    from relaxbench.analysis.arm import Arm
    from relaxbench.analysis.arms import Place
    from relaxbench.analysis.looks import Outcome

Places = dict[str, dict["Place", float]]
"""A number per trial: method → place → value."""


@dataclass(frozen=True)
class Monitor:
    """The looks at one problem of a study.

    Attributes:
        database: that holds the trials.
        study: id of the study.
        name: of the problem.
        spec: of the study.
        about: facts of the problem.
        whole: the methods of which a block is used whole, as one run: they are run as published, or a sampler that
            learns has found the block's winner.
        looks: the numbers of blocks of all looks, those beyond the declared ones too.
    """

    database: Database
    study: int
    name: str
    spec: SpecFacts
    about: ProblemFacts
    whole: frozenset[str]
    looks: tuple[int, ...]

    @classmethod
    def of(cls, database: Database, study: int, name: str, spec: SpecFacts, manifest: Manifest) -> Monitor:
        """The monitor of a problem, from the study's row."""
        about = {method: method_facts(manifest, method) for method in spec["methods"]}
        whole = frozenset(
            label for label, facts in about.items() if facts["arm"] == "published" or not is_random(facts)
        )
        looks = planned_looks(spec, manifest)
        return cls(database, study, name, spec, problem_facts(manifest, name), whole, looks)

    def goes_on(self, method: str, repetition: int, look: int) -> bool | None:
        """Whether a method goes on after a look; None while runs that decide it are missing.

        Args:
            method: its label.
            repetition: from 0.
            look: index of the look that the method has reached, from 0; not the last one.
        """
        from relaxbench.analysis.arms import opponents_of
        from relaxbench.analysis.looks import fold, going_on

        outcomes, opponents = self.outcomes(repetition), opponents_of(self.spec)
        known = {label: outcome for label, outcome in outcomes.items() if outcome is not None}
        judged = {label: fold(outcome.history[: look + 1]) for label, outcome in known.items()}
        at_look = {label: outcome for label, outcome in judged.items() if outcome and outcome.look == look + 1}
        if method in going_on(at_look, opponents):
            return True
        own = [label for label in outcomes if method in (label, opponents[label])]
        over = all(label in at_look or (label in known and known[label].over) for label in own)
        return False if over else None

    def outcomes(self, repetition: int) -> dict[str, Outcome | None]:
        """The comparison of every method with its opponent in a repetition, over the looks that are complete."""
        from relaxbench.analysis.arms import family_of, opponents_of, outcomes
        from relaxbench.analysis.equivalence import parse_margin

        margin = self.about["margin"] if self.spec.get("margin") is None else self.spec["margin"]
        return outcomes(self.arms(repetition), opponents_of(self.spec), family_of(self.spec), parse_margin(margin))

    def arms(self, repetition: int) -> dict[str, list[Arm | None]]:
        """The estimate of every method at every look of a repetition; None where the look is not complete."""
        from relaxbench.analysis.arms import Limits, arm_of

        looks, limits = self.looks, Limits.of(self.about)
        first = repetition * looks[-1]
        explored, confirmed, diverged = self._finished(range(first, first + looks[-1]))

        def estimates(method: str) -> Iterator[Arm | None]:
            size = 0 if method in self.whole else self.spec["trials"]
            trials, runs, lost = explored.get(method, {}), confirmed.get(method, {}), diverged.get(method, set())
            if not size:
                runs, lost = {(block, 0): run for (block, _), run in runs.items()}, {(block, 0) for block, _ in lost}
            complete = True
            for blocks in looks:  # the looks after an incomplete one are incomplete
                arm = arm_of(trials, runs, range(first, first + blocks), size, limits, lost) if complete else None
                complete = arm is not None
                yield arm

        return {method: list(estimates(method)) for method in self.spec["methods"]}

    def _finished(self, blocks: range) -> tuple[Places, Places, dict[str, set[Place]]]:
        """Validation losses of finished random trials; test metrics of finished confirmations, and which diverged."""
        place = (Trial.method, Trial.block, Trial.number)
        here = (Trial.study_id == self.study, Trial.problem == self.name, Trial.status == "done")
        within = Trial.block.between(blocks.start, blocks.stop - 1)
        searched = select(*place, Trial.value).where(*here, within, Trial.phase == "explore")
        tested = select(*place, Trial.measures, Trial.diverged).where(*here, within, Trial.phase == "confirm")
        explored: Places = {}
        confirmed: Places = {}
        lost: dict[str, set[Place]] = {}
        for method, block, number, value in read(self.database, lambda connection: connection.execute(searched).all()):
            explored.setdefault(method, {})[block, number] = float("inf") if value is None else value
        for row in read(self.database, lambda connection: connection.execute(tested).all()):
            confirmed.setdefault(row.method, {})[row.block, row.number] = self._metric(row.measures)
            if row.diverged:
                lost.setdefault(row.method, set()).add((row.block, row.number))
        return explored, confirmed, lost

    def _metric(self, measures: Mapping[str, Any]) -> float:
        metric = measures.get("test_metric")
        if metric is None:
            metric = self.about["worst_metric"]
        return float("nan") if metric is None else float(metric) * (self.about["metric_scale"] or 1.0)
