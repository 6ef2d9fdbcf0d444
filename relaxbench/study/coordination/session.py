"""A worker's session on a study: claim what is ready, have it run, tell the results, until nothing is left.

It knows nothing of how a trial is run: a trainer is given a `Shift`, from which it takes trials of one method on one
problem as its slots fall free, and to which it gives their results.
"""

from __future__ import annotations

import logging
import math
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from relaxbench.errors import UserError
from relaxbench.store.claims import Claims, Result
from relaxbench.store.schema import Trial
from relaxbench.store.transactions import COURTESY_SECONDS
from relaxbench.store.workers import Presence
from relaxbench.study.coordination.manifest import turn
from relaxbench.study.coordination.optuna_mirror import behind, mirror
from relaxbench.study.coordination.plan import Plan

RENEW_SECONDS = 20.0
"""Between two signs of life."""
MIRROR_SECONDS = 60.0
"""Between two additions to Optuna's tables while trials are being run."""
SLICE_SECONDS = 1.0
"""That such an addition takes: Optuna writes some dozens of trials a second, and training waits for it."""
IDLE_SECONDS = (0.05, 1.0)
"""The first and the longest pause of a worker that waits for others."""

log = logging.getLogger("relaxbench")


@dataclass
class Shift:
    """Trials of one plan, for one trainer.

    Attributes:
        session: that it is a part of.
        plan: the method and the problem.
        alone: one trial is all that it gets, see `Claims.take`.
    """

    session: Session
    plan: Plan
    alone: bool = False
    _searched: set[int] = field(default_factory=set)
    _news: bool = True
    _fed: bool = False

    def feed(self, free: int) -> list[Trial]:
        """At most that many trials; none if there are no more for now."""
        claims, name, method = self.session.claims, self.plan.problem, self.plan.method
        if self.alone:
            taken = [] if self._fed else claims.take(name, method, 1, alone=True)
        else:
            taken = claims.take(name, method, free)
            if len(taken) < free and self._news:
                self._news = False
                if self.plan.unlock():
                    taken += claims.take(name, method, free - len(taken))
        self._fed = True
        self._searched |= {trial.id for trial in taken if trial.phase == "exploit"}
        return taken

    def report(self, results: Sequence[Result]) -> None:
        """Store results."""
        stored = self.session.claims.finish(results)
        self.session.presence.finished += stored
        self._news = True
        if any(result.trial in self._searched for result in results):
            self.plan.unlock()  # TPE's trials wait for each other: not for a slot to fall free as well
        self.session.mirror_now_and_then()
        self.session.observe()

    def go_on(self) -> bool:
        """Asked at the end of every round: False ends the shift, with its trials as they are."""
        self.session.observe()
        return not self.session.stopping()

    def lost(self) -> set[int]:
        """Trials that somebody else has been given since this was last asked: to be dropped."""
        claims = self.session.claims
        with claims.guard:
            lost, claims.lost = claims.lost, set()
        return lost


@dataclass
class Session:
    """One process at work on a study.

    Args:
        claims: of this worker.
        plans: what is to be done.
        presence: this worker's row.
        train: runs the trials of a shift; returns when there are no more for now, or when told not to go on.
        stopping: asked between rounds; True ends the session.
        observe: called often.
        optuna: address of Optuna's gRPC storage proxy, or None where Optuna's tables are reached directly.
    """

    claims: Claims
    plans: list[Plan]
    presence: Presence
    train: Callable[[Shift], None]
    stopping: Callable[[], bool] = lambda: False
    observe: Callable[[], None] = lambda: None
    optuna: str | None = None
    _mirrored: float = -math.inf
    _unlocked: dict[Plan, int] = field(default_factory=dict)

    def work(self) -> None:
        """Do everything that is not done yet, and wait for what others have claimed."""
        pause = IDLE_SECONDS[0]
        try:
            with heartbeat(self.claims, self.presence):
                while not self.stopping():
                    shift = self._next()
                    if shift is not None:
                        self._run(shift)
                        pause = IDLE_SECONDS[0]
                    elif self._over():
                        break
                    else:
                        self.presence.doing = "waiting for others"
                        self.observe()
                        time.sleep(pause * random.uniform(0.5, 1.0))
                        pause = min(2 * pause, IDLE_SECONDS[1])
                while behind(self.plans) and not self.stopping():
                    if not self.mirror(math.inf):
                        time.sleep(0.5)
                self.mirror(SLICE_SECONDS)  # of a session that is stopped, so that its trials can be looked at
        finally:
            self.presence.leave()

    def _next(self) -> Shift | None:
        """The plan with waiting trials that fewest are being run of; None if there is nothing to do for now."""
        for look in range(2):
            counts = self.claims.open()
            for kind in ("waiting", "alone"):
                ready = [plan for plan in self.plans if counts[plan.problem, plan.method][kind]]
                if ready:
                    plan = min(ready, key=lambda plan: counts[plan.problem, plan.method]["running"])
                    return Shift(self, plan, kind == "alone")
            if look == 0:
                self.claims.reap()
                for plan in self.plans:
                    done = counts[plan.problem, plan.method]["done"]
                    if self._unlocked.get(plan) != done:  # somebody has finished trials since
                        self._unlocked[plan] = done
                        plan.unlock()
        return None

    def _over(self) -> bool:
        """Whether there is nothing to wait for: none waits or is being run, nor do finished trials make any possible.

        Another worker's last trial may have been finished between any two looks; so nothing may change in between.
        """
        before = self._here()
        if any(counts[kind] for counts in before for kind in ("waiting", "alone", "running")):
            return False
        for plan in self.plans:
            plan.unlock()
        return self._here() == before

    def _here(self) -> list[Counter[str]]:
        """What there is of the plans, see `Claims.open`. Others of the study may be another session's business."""
        counts = self.claims.open()
        return [counts[plan.problem, plan.method] for plan in self.plans]

    def _run(self, shift: Shift) -> None:
        self.presence.doing = f"{shift.plan.problem} {shift.plan.method}"
        try:
            self.train(shift)
        except UserError:
            raise  # the trials are not to blame
        except Exception as error:
            self.claims.fail(_reason(error))
            raise
        finally:
            try:
                self.claims.release()
            except UserError as error:
                log.warning(f"trials could not be given back, and are free when their leases have run out: {error}")
            shift.lost()

    def mirror_now_and_then(self) -> None:
        """Once a minute, give Optuna a second's worth of what it does not have."""
        if time.monotonic() - self._mirrored > MIRROR_SECONDS:
            self.mirror(SLICE_SECONDS)
            self._mirrored = time.monotonic()

    def mirror(self, seconds: float) -> bool:
        """Give Optuna what it does not have, for so long; returns whether it was this worker's turn to do so."""
        plan, until = self.plans[0], time.monotonic() + seconds
        if not behind(self.plans):
            return True
        with turn(plan.database, plan.study, "mirror", self.claims.worker) as granted:
            if granted:
                mirror(self.plans, self.optuna, until)
        return granted


@contextmanager
def heartbeat(claims: Claims, presence: Presence) -> Iterator[None]:
    """Signs of life from a thread of their own: a round of a large network lasts longer than a lease."""
    over = threading.Event()

    def beat() -> None:
        while not over.wait(RENEW_SECONDS):
            try:
                claims.renew()
                presence.seen()
            except Exception as error:  # the work itself will meet it, and say so
                log.warning(f"no sign of life could be given: {_reason(error)}")

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
