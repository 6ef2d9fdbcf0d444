"""A session in which others do the work: this process opens the study, shows how far it is, and sums up."""

from __future__ import annotations

import time
from collections.abc import Callable

from relaxbench.cli.progress import Display
from relaxbench.store.claims import Claims
from relaxbench.store.workers import at_work, workers
from relaxbench.study.coordination.optuna_mirror import behind
from relaxbench.study.coordination.progress import tally
from relaxbench.study.definition.opening import OpenStudy
from relaxbench.study.execution.run import StudyRun, Summary

LOOK_SECONDS = 0.5
"""Between two looks at the database, at least."""


class Watch:
    """Watches a study while others work on it.

    Args:
        run: the session.
        opened: the study.
        display: for people.
    """

    def __init__(self, run: StudyRun, opened: OpenStudy, display: Display) -> None:
        self.start, self.looked = time.monotonic(), 0.0
        self.run, self.opened, self.display = run, opened, display
        self.claims = Claims(run.database, opened.id, retries=run.options.retries)

    def over(self, work: Callable[[], None]) -> Summary:
        """Have others work, unless all is done; returns what they did."""
        self.claims.reap()
        before = tally(self.opened.plans)
        if any(p.done < p.total for p in before) or behind(self.opened.plans):
            work()
        ran = sum(p.done for p in tally(self.opened.plans)) - sum(p.done for p in before)
        return self.run.conclude(self.opened, ran, time.monotonic() - self.start)

    def tick(self) -> None:
        """Show where things stand, not more often than a person can see, and never at the price of the work."""
        if time.monotonic() >= self.looked:
            begin = time.monotonic()
            here = [row for row in workers(self.run.database, self.opened.id) if at_work(row)]
            self.display.update(tally(self.opened.plans), here)
            self.looked = time.monotonic() + max(LOOK_SECONDS, 20 * (time.monotonic() - begin))
