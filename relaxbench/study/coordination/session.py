"""A worker's session on a study: claim trials, have a trainer run them, store the results, until nothing is left.

The session does not know how a trial is run. A trainer gets a `Shift`, takes trials of one method on one problem from
it whenever it has free slots, and reports their results to it.
"""

from __future__ import annotations

import logging
import math
import random
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from relaxbench.errors import UserError
from relaxbench.store.claims import Claims, Result
from relaxbench.store.schema import FINISHED, Trial
from relaxbench.store.transactions import COURTESY_SECONDS
from relaxbench.store.workers import Presence, at_work, workers
from relaxbench.study.coordination.manifest import turn
from relaxbench.study.coordination.optuna_mirror import behind, mirror
from relaxbench.study.coordination.plan import Plan
from relaxbench.util.pause import sleep

RENEW_SECONDS = 20.0
"""Time between two signs of life."""
MIRROR_SECONDS = 60.0
"""Time between two additions to Optuna's tables while trials run."""
SLICE_SECONDS = 1.0
"""Longest duration of such an addition: training waits meanwhile."""
IDLE_SECONDS = (0.05, 1.0)
"""The first and the longest pause of a worker that waits for other workers."""
COUNTED_SECONDS = 1.0
"""Time for which a count of the workers, and of what is left, holds while this worker ends no trials."""

log = logging.getLogger("relaxbench")


@dataclass
class Shift:
    """Trials of one plan, for one trainer.

    Attributes:
        session: to which it belongs.
        plan: of the method on the problem.
        alone: it gets one trial only, see `Claims.take`.
        look: of the plan, when the shift begins.
    """

    session: Session
    plan: Plan
    alone: bool
    look: int
    _searched: set[int] = field(default_factory=set)
    _news: bool = True
    _fed: bool = False

    def feed(self, free: int) -> list[Trial]:
        """Claim at most this many trials; none if there are no more at present, or others come first.

        Several workers share what is left: one would take the last trials into its slots while others are idle.
        """
        if free > 1:
            free = min(free, self.session.room())
        if self.alone:
            trials = [] if self._fed else self._take(1)
        else:
            trials = self._take(free)
            if len(trials) < free and self._news:
                self._news = False
                if self.plan.unlock():
                    trials += self._take(free - len(trials))
        self._fed = True
        learned = ("exploit",) if self.plan.learned is None else ("exploit", "explore")
        self._searched |= {trial.id for trial in trials if trial.phase in learned}
        return trials

    def _take(self, limit: int) -> list[Trial]:
        """Claim trials, but none of a later look than the shift's while other plans wait at an earlier one."""
        if self.plan.look > self.look and self.session.waits_before(self.plan):
            return []
        return self.session.claims.take(self.plan.problem, self.plan.method, limit, alone=self.alone)

    def report(self, results: Sequence[Result]) -> None:
        """Store results."""
        stored = self.session.claims.finish(results)
        self.session.presence.finished += stored
        self._news, self.session.counted = True, -math.inf
        if any(result.trial in self._searched for result in results):
            self.plan.unlock()  # the next generation need not also wait for a free slot
        self.session.mirror_now_and_then()
        self.session.observe()

    def go_on(self) -> bool:
        """Called at the end of every round: False ends the shift, with its trials unfinished."""
        self.session.observe()
        return not self.session.stopping()

    def lost(self) -> set[int]:
        """The trials that other workers have claimed since the last call: drop them."""
        claims = self.session.claims
        with claims.guard:
            lost, claims.lost = claims.lost, set()
        return lost


@dataclass
class Session:
    """One worker process on a study.

    Args:
        claims: of this worker.
        plans: of the trials to run.
        presence: this worker's row.
        train: runs the trials of a shift; returns when there are no more, or when `Shift.go_on` is False.
        stopping: called between rounds; True ends the session.
        observe: called often.
        optuna: address of Optuna's gRPC storage proxy; None to use Optuna's tables directly.
        between: called after every shift.

    Attributes:
        counted: when workers, and what is left for them, were counted; -∞ to count anew.
    """

    claims: Claims
    plans: list[Plan]
    presence: Presence
    train: Callable[[Shift], None]
    stopping: Callable[[], bool] = lambda: False
    observe: Callable[[], None] = lambda: None
    optuna: str | None = None
    between: Callable[[], None] = lambda: None
    _mirrored: float = -math.inf
    counted: float = field(default=-math.inf, init=False)
    _workers: int = 1
    _left: int = 0
    _unlocked: dict[Plan, int] = field(default_factory=dict)

    def work(self) -> None:
        """Run all unfinished trials, and wait for those that other workers have claimed."""
        pause = IDLE_SECONDS[0]
        try:
            with heartbeat(self.claims, self.presence):
                while not self.stopping():
                    shift = self._next()
                    if shift is not None:
                        self._run(shift)
                        self.between()
                        pause = IDLE_SECONDS[0]
                    elif self._over():
                        break
                    else:
                        self.presence.doing = "waiting for others"
                        self.observe()
                        sleep(pause * random.uniform(0.5, 1.0))
                        pause = min(2 * pause, IDLE_SECONDS[1])
                while behind(self.plans) and not self.stopping():
                    if not self.mirror(math.inf):
                        sleep(0.5)
                self.mirror(SLICE_SECONDS)  # after a stop, so that Optuna shows this session's trials
        finally:
            self.presence.leave()

    def room(self) -> int:
        """How many more trials this worker takes, so that every worker at work has as many of those that are left."""
        if time.monotonic() - self.counted > COUNTED_SECONDS:
            plan, self.counted = self.plans[0], time.monotonic()
            self._workers = sum(at_work(row) for row in workers(plan.database, plan.study))
            self._left = sum(count[kind] for count in self._here() for kind in ("waiting", "alone", "running"))
        if self._workers <= 1:
            return sys.maxsize
        with self.claims.guard:
            mine = len(self.claims.tokens)
        return max(0 if mine else 1, math.ceil(self._left / self._workers) - mine)

    def waits_before(self, plan: Plan) -> bool:
        """Return whether trials of another plan wait at an earlier look than this plan's."""
        counts = self.claims.open()
        earlier = (counts[other.problem, other.method] for other in self.plans if other.look < plan.look)
        return any(count["waiting"] + count["alone"] for count in earlier)

    def _next(self) -> Shift | None:
        """The plan with waiting trials at the earliest look, then the fewest running ones; None for nothing to do.

        Every method has its first look before any has its second, so that all of them have an answer early.
        """
        for attempt in range(2):
            counts = self.claims.open()
            for kind in ("waiting", "alone"):
                ready = [plan for plan in self.plans if counts[plan.problem, plan.method][kind]]
                if ready:
                    plan = self._earliest(ready, counts)
                    return Shift(self, plan, kind == "alone", plan.look)
            if attempt == 0:
                self.claims.reap()
                done: Counter[str] = Counter()  # of all methods: the baseline's results let the others go on
                for (problem, _), count in counts.items():
                    done[problem] += sum(count[status] for status in FINISHED)
                for plan in self.plans:
                    if self._unlocked.get(plan) != done[plan.problem]:  # trials have been finished since
                        self._unlocked[plan] = done[plan.problem]
                        plan.unlock()
        return None

    def _earliest(self, ready: Sequence[Plan], counts: Mapping[tuple[str, str], Counter[str]]) -> Plan:
        """The plan at the earliest look, and of several the one with the fewest running trials."""
        while True:
            plan = min(ready, key=lambda plan: (plan.look, counts[plan.problem, plan.method]["running"]))
            look = plan.look
            if len(ready) > 1:
                plan.unlock()  # another worker may have seen it go on
            if plan.look == look:
                return plan

    def _over(self) -> bool:
        """Whether no trial waits or runs, and finished trials make no new ones possible.

        Another worker may finish its last trial between two queries, so the counts must not change in between.
        """
        before = self._here()
        if any(counts[kind] for counts in before for kind in ("waiting", "alone", "running")):
            return False
        for plan in self.plans:
            plan.unlock()
        return self._here() == before

    def _here(self) -> list[Counter[str]]:
        """The counts of this session's plans, see `Claims.open`; other sessions may work on the study's other plans."""
        counts = self.claims.open()
        return [counts[plan.problem, plan.method] for plan in self.plans]

    def _run(self, shift: Shift) -> None:
        self.presence.doing = f"{shift.plan.problem} {shift.plan.method}"
        self.counted = -math.inf
        try:
            self.train(shift)
        except UserError:
            raise  # not the trials' failure
        except Exception as error:
            self.claims.fail(_reason(error))
            raise
        finally:
            try:
                self.claims.release()
            except UserError as error:
                log.warning(f"trials could not be given back, and are free when their leases have expired: {error}")
            shift.lost()

    def mirror_now_and_then(self) -> None:
        """Once per minute, add trials to Optuna for a second."""
        if time.monotonic() - self._mirrored > MIRROR_SECONDS:
            self.mirror(SLICE_SECONDS)
            self._mirrored = time.monotonic()

    def mirror(self, seconds: float) -> bool:
        """Add trials to Optuna for at most this long; returns whether this worker had the turn to do so."""
        plan, until = self.plans[0], time.monotonic() + seconds
        if not behind(self.plans):
            return True
        with turn(plan.database, plan.study, "mirror", self.claims.worker) as granted:
            if granted:
                mirror(self.plans, self.optuna, until)
        return granted


@contextmanager
def heartbeat(claims: Claims, presence: Presence) -> Iterator[None]:
    """Give signs of life from a separate thread, because a round of a large network may outlast a lease."""
    over = threading.Event()

    def beat() -> None:
        while not over.wait(RENEW_SECONDS):
            try:
                claims.renew()
                presence.seen()
            except Exception as error:  # the main thread will meet the same error and report it
                log.warning(f"no sign of life could be stored: {_reason(error)}")

    thread = threading.Thread(target=beat, name="heartbeat", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join(timeout=COURTESY_SECONDS)


def _reason(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0][:500]}" if lines else type(error).__name__
