"""Plan the trials of a study. Every row is a function of the study's seed and of finished trials alone."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any

from sqlalchemy import Engine as Database
from sqlalchemy import Executable, Row, func, select

from relaxbench.space import Space, Value
from relaxbench.store.allowance import affordable, bills
from relaxbench.store.facts import (
    FlatnessFacts,
    fixed_on,
    known_on,
    method_facts,
    opponent_of,
    problem_facts,
    space_on,
)
from relaxbench.store.schema import FINISHED, SEARCHED, SPOT_CHECK, Study, Trial
from relaxbench.store.transactions import read
from relaxbench.store.winners import best_so_far, rank, winner_of_complete_search
from relaxbench.study.coordination.judge import Judge
from relaxbench.study.coordination.learned_search import LearnedSearch
from relaxbench.study.coordination.looks import Monitor
from relaxbench.study.coordination.plan_rows import PlanRows
from relaxbench.study.coordination.pruned_search import PrunedSearch
from relaxbench.study.coordination.random_search import sample
from relaxbench.study.coordination.size import Size
from relaxbench.study.coordination.spot_checks import chosen
from relaxbench.study.coordination.tpe import GENERATION, propose
from relaxbench.util.seeds import derive

Done = Mapping[tuple[str, str, int], int]
"""Finished trials by method, phase and block."""


@dataclass(frozen=True, eq=False)
class Plan(PlanRows):
    """The trials of one method on one problem.

    Attributes:
        space: the searched hyperparameters.
        fixed: the other hyperparameters, with their values.
        monitor: of the problem's looks; None for a plan that ends with its first look.
        flat: how flatness is measured; None for all that could be, in full.
        learned: the search by a sampler that learns, or with a pruner; None for random trials.
        known: settings that replace the first random trials of every block.
    """

    space: Space
    fixed: dict[str, Value]
    monitor: Monitor | None = None
    flat: FlatnessFacts | None = None
    learned: LearnedSearch | None = None
    known: Sequence[dict[str, Value]] = ()
    # What this process knows for certain, by repetition: nothing of it can change.
    _reached: dict[int, int] = field(default_factory=dict)  # index of the look
    _ended: set[int] = field(default_factory=set)  # no further look comes
    _explored: dict[int, int] = field(default_factory=dict)  # the look up to which random trials are planned
    _confirmed: dict[int, int] = field(default_factory=dict)  # the look up to which the best trials are confirmed
    _spent: set[int] = field(default_factory=set)  # blocks that have no gradients left, of a method with a pruner
    _planned: Counter[str] = field(default_factory=Counter)  # by phase: there are at least so many trials
    _checked: set[int] = field(default_factory=set)  # ids of the pruned trials whose spot checks are decided

    @property
    def look(self) -> int:
        """Index of the look that is under way, as far as this process knows: the earliest of all repetitions."""
        return min(self._reached.values(), default=0)

    def begin(self) -> None:
        """Add the random trials of the first look, and the first generation of TPE's trials."""
        self.unlock()

    def unlock(self) -> int:
        """Add the trials that finished ones have made possible; returns how many are new.

        The rows are the same whichever worker calls this, and however often.
        """
        done = self._advance()
        return self._search(done) + self._spot_checks() + self._generation(done) + self._recommend(done)

    def _search(self, done: Done) -> int:
        """Add the random trials of the look that each repetition has reached, and the runs that confirm the best.

        A method that is run as published has one confirmation per block, and no random trials.
        """
        explore: list[dict[str, Any]] = []
        confirm: list[dict[str, Any]] = []
        explored = {repetition for repetition in self._reached if self._is_explored(repetition, done)}
        for repetition, look in self._reached.items():
            if self.learned is not None:
                explore += self._generations(self.learned, repetition, look, done)
            elif self._explored.get(repetition, -1) < look:
                (explore if self.size.trials else confirm).extend(self._blocks(repetition, look))
            if self.size.trials and repetition in explored and self._confirmed.get(repetition, -1) < look:
                confirm += self._best(repetition, look)
        added = self._insert(explore) + self._insert(confirm)
        if self.learned is not None:
            self.learned.planned(explore)
        self._explored.update(self._reached)
        self._confirmed.update({repetition: self._reached[repetition] for repetition in explored})
        return added

    def _advance(self) -> Done:
        """Take note of the looks that this method has reached; returns the finished trials, also of its opponent."""
        done = self._done()
        for repetition in range(self.size.repetitions):
            look = self._reached.setdefault(repetition, 0)
            while repetition not in self._ended:
                if self.monitor is None or look + 1 >= len(self.size.looks):
                    self._ended.add(repetition)
                    break
                if not self._may_be_over(repetition, done):
                    break
                on = self.monitor.goes_on(self.method, repetition, look)
                if on is None:
                    break
                if on:
                    look = self._reached[repetition] = look + 1
                else:
                    self._ended.add(repetition)
        return done

    def goes_on(self, look: int) -> bool:
        """Whether the method has a look after this number, or could have one: it is not finished with its trials."""
        self._advance()
        return len(self._ended) < self.size.repetitions or max(self._reached.values()) >= look

    def _may_be_over(self, repetition: int, done: Done) -> bool:
        """Whether the look that a repetition has reached can be complete: this method and its opponent are done."""
        blocks = self._range(repetition, self.size.looks[self._reached[repetition]])
        confirmed = sum(done[self.method, "confirm", block] for block in blocks)
        if not self._is_explored(repetition, done) or confirmed < self.size.confirmed(len(blocks)):
            return False
        return any(done[self._opponent(), "confirm", block] for block in blocks)

    def _opponent(self) -> str:
        """The method that this one is compared with; itself for the baseline."""
        return (opponent_of(self.monitor.spec, self.method) if self.monitor else None) or self.method

    def _is_explored(self, repetition: int, done: Done) -> bool:
        """Whether all random trials of the look that a repetition has reached are done."""
        blocks = self._range(repetition, self.size.looks[self._reached[repetition]])
        if self.size.budget is not None:
            return self._have_spent(blocks, self.size.budget)
        return sum(done[self.method, "explore", block] for block in blocks) >= len(blocks) * self.size.trials

    def _have_spent(self, blocks: range, budget: int) -> bool:
        """Whether no block has the gradients of a whole trial left; those of a trial that still runs are not spent."""
        if not self._spent.issuperset(blocks):
            query = bills(*self.here, Trial.block.between(blocks.start, blocks.stop - 1))
            paid = read(self.database, lambda connection: connection.execute(query).all())
            self._spent.update(
                block for _, _, block, _, spent in paid if not affordable(self.size.trials, budget, spent)
            )
        return self._spent.issuperset(blocks)

    def _range(self, repetition: int, blocks: int, first: int = 0) -> range:
        """The numbers of a repetition's blocks."""
        start = repetition * self.size.looks[-1]
        return range(start + first, start + blocks)

    def _blocks(self, repetition: int, look: int) -> list[dict[str, Any]]:
        """The rows of a repetition's blocks up to a look, as far as this process has not added them."""
        known = self._explored.get(repetition, -1)
        blocks = self._range(repetition, self.size.looks[look], self.size.looks[known] if known >= 0 else 0)
        rows = []
        for block in blocks:
            for number in range(self.size.trials):
                seed = derive(self.size.seed, "explore", self.problem, self.method, block, number)
                first = self.known[number] if number < len(self.known) else sample(self.space, seed)
                rows.append(self._row("explore", block, number, seed, {**first, **self.fixed}))
            if not self.size.trials:
                rows.append(self._row("confirm", block, 0, self._fresh(block, 0), dict(self.fixed)))
        return rows

    def _generations(self, learned: LearnedSearch, repetition: int, look: int, done: Done) -> list[dict[str, Any]]:
        """The rows of the next generation of every block up to a look whose earlier ones are complete."""
        rows = []
        for block in self._range(repetition, self.size.looks[look]):
            read_block = partial(self._so_far, block)
            for number, params in learned.following(block, done[self.method, "explore", block], read_block):
                seed = derive(self.size.seed, "explore", self.problem, self.method, block, number)
                rows.append(self._row("explore", block, number, seed, {**params, **self.fixed}))
        return rows

    def judge(self, trial: Trial) -> Judge | None:
        """Return what stops a trial; None for one that runs to its end."""
        if trial.phase != "explore" or not isinstance(self.learned, PrunedSearch):
            return None
        return self.learned.judge(trial.block, trial.number, trial.params, self._so_far(trial.block))

    def _spot_checks(self) -> int:
        """Add the runs to the end of those pruned trials that are chosen for it."""
        if not isinstance(self.learned, PrunedSearch):
            return 0
        place, share = (self.size.seed, self.problem, self.method), self.learned.pruner["spot_checks"]
        trials, seen = chosen(self.database, self.here, place, share, self._checked)
        added = self._insert([self._row(SPOT_CHECK, t.block, t.number, t.seed, t.params, t.id) for t in trials])
        self._checked.update(seen)
        return added

    def _best(self, repetition: int, look: int) -> list[dict[str, Any]]:
        """The rows that run the best of a look's random trials on fresh seeds, or the winner of every block."""
        blocks = self._range(repetition, self.size.looks[look])
        explored = self.finished("explore", blocks)
        if self.size.winners_only:
            winners = (best_so_far(trial for trial in explored if trial.block == block) for block in blocks)
            trials = [winner for winner in winners if winner is not None]
        else:
            trials = sorted(explored, key=rank)[: self.size.confirmed(len(blocks))]
        return [self._row("confirm", t.block, t.number, self._fresh(t.block, t.number), t.params, t.id) for t in trials]

    def _fresh(self, block: int, number: int) -> int:
        """The seed of a confirmation."""
        return derive(self.size.seed, "confirm", self.problem, self.method, block, number)

    def _generation(self, counted: Done) -> int:
        """Add the next generation of TPE's trials, when the earlier generations are complete."""
        if not self._planned["exploit"] <= self._finished(counted, "exploit") < self.size.exploit:
            return 0
        planned, done = self._exploited()
        self._planned["exploit"] = planned
        if done < planned or planned >= self.size.exploit:
            return 0
        generation = done // GENERATION
        count = min(GENERATION, self.size.exploit - generation * GENERATION)
        earlier = [(trial.params, trial.value) for trial in self.finished("exploit") if trial.block < generation]
        seed = derive(self.size.seed, "tpe", self.problem, self.method, generation) % 2**32
        rows = []
        for number, params in enumerate(propose(self.space, seed, earlier)[:count]):
            seed = derive(self.size.seed, "exploit", self.problem, self.method, generation, number)
            rows.append(self._row("exploit", generation, number, seed, {**params, **self.fixed}))
        return self._insert(rows)  # a study that was smaller may have ended within a generation: add the rest

    def _finished(self, done: Done, *phases: str) -> int:
        """The number of this method's finished trials of some phases."""
        return sum(count for (method, phase, _), count in done.items() if method == self.method and phase in phases)

    def _recommend(self, done: Done) -> int:
        """Add runs of the best settings of all, on fresh seeds."""
        if not self.size.recommend or self._planned["recommend"]:
            return 0
        best = self._winner(done)
        if best is None:
            return 0
        seeds = [derive(self.size.seed, "recommend", self.problem, n) for n in range(self.size.recommend)]
        rows = [self._row("recommend", 0, n, seed, best.params, parent=best.id) for n, seed in enumerate(seeds)]
        self._drop_stale("recommend", best.id)
        added = self._insert(rows)
        self._planned["recommend"] = len(rows)
        return added

    def winner_of_complete_search(self) -> Row[Any] | None:
        """The winner of random search and TPE, once no further look comes and both are complete; None before."""
        return self._winner(self._advance())

    def _winner(self, done: Done) -> Row[Any] | None:
        if len(self._ended) < self.size.repetitions:
            return None
        planned = sum(self.size.looks[look] for look in self._reached.values()) * self.size.trials + self.size.exploit
        if self.size.budget is None:
            if self._finished(done, *SEARCHED) < planned:
                return None
        # Asked before the trials are read: another worker may finish the last one in between.
        elif not all(self._is_explored(repetition, done) for repetition in self._reached):
            return None
        trials = [trial for phase in SEARCHED for trial in self.finished(phase)]
        if self.size.budget is not None:  # the number of its trials follows from results
            planned = self.size.exploit + sum(trial.phase == "explore" for trial in trials)
        return winner_of_complete_search(trials, planned)

    def is_flatness_planned(self, trial: Trial) -> bool:
        """Whether a trial is one of the runs whose flatness is measured.

        These are the recommended runs, and the confirmations of the blocks of the first look: of each block's winner,
        or the block's only run of a method as published. All trials of the block are done before. Of both, they are
        the first ones, if not all are paid for.
        """
        limit = math.inf if self.flat is None else self.flat["runs"]
        if trial.phase != "confirm":
            return trial.phase == "recommend" and trial.number < limit
        if trial.block % self.size.looks[-1] >= min(self.size.looks[0], limit):
            return False
        if not self.size.trials:
            return True
        planned = self.size.trials if self.size.budget is None else 1  # with a pruner, how many are complete varies
        winner = winner_of_complete_search(self.finished("explore", range(trial.block, trial.block + 1)), planned)
        return winner is not None and trial.parent == winner.id

    @cached_property
    def _count(self) -> Executable:
        """Built once, because it is asked whenever trials may have become possible."""
        methods = {self.method, self._opponent()}
        place = (Trial.method, Trial.phase, Trial.block)
        here = (Trial.study_id == self.study, Trial.problem == self.problem, Trial.method.in_(methods))
        return select(*place, func.count()).where(*here, Trial.status.in_(FINISHED)).group_by(*place)

    def _done(self) -> Done:
        """Count the finished trials and confirmations of this method and of its opponent by block."""
        rows = read(self.database, lambda connection: connection.execute(self._count).all())
        return Counter({(method, phase, block): count for method, phase, block, count in rows})


def plans(database: Database, study: int, problems: Sequence[str] = (), methods: Sequence[str] = ()) -> list[Plan]:
    """The plans of a study, for some or all of its problems and methods, from its row alone.

    The problems and rules are not imported.
    """
    query = select(Study.name, Study.spec, Study.manifest).where(Study.id == study)
    row = read(database, lambda connection: connection.execute(query).one())
    spec, manifest = row.spec, row.manifest
    chosen = []
    for problem in _part(spec["problems"], problems):
        monitor = Monitor.of(database, study, problem, spec, manifest)
        for method in _part(spec["methods"], methods):
            about = method_facts(manifest, method)
            size, fixed = Size.of(spec, about, manifest, problem), fixed_on(about, problem)
            space, place = space_on(about, problem), (size.seed, problem, method)
            flat = manifest.get("flatness", {}).get(problem)
            learned = PrunedSearch.on(about, problem_facts(manifest, problem), space, place, size.trials)
            named = (study, row.name, size, problem, method)
            chosen.append(Plan(database, *named, space, fixed, monitor, flat, learned, known_on(about, space)))
    return chosen


def _part(names: Iterable[str], requested: Sequence[str]) -> list[str]:
    return [name for name in names if not requested or name in requested]
