"""A session in which other processes work: open the study, show its progress, and sum up."""

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
from relaxbench.util.pause import rest

SHARE, LOOK_SECONDS, REST_SECONDS = 50, 0.5, 30.0
"""Of pauses between two queries of the database, see `rest`."""


class Watch:
    """Watch a study while other processes work on it.

    Args:
        run: the session.
        opened: the study.
        display: shows the progress.
    """

    def __init__(self, run: StudyRun, opened: OpenStudy, display: Display) -> None:
        self.start, self.next_query = time.monotonic(), 0.0
        self.run, self.opened, self.display = run, opened, display
        self.claims = Claims(run.database, opened.id, retries=run.options.retries)

    def over(self, work: Callable[[], None]) -> Summary:
        """Say what is special of the study, call `work` unless all is done, and return what was done meanwhile."""
        for note in self.opened.notes:
            self.display.say(note)
        self.claims.reap()
        before = tally(self.opened.plans)
        if any(p.done < p.total for p in before) or behind(self.opened.plans):
            work()
        ran = sum(p.done for p in tally(self.opened.plans)) - sum(p.done for p in before)
        return self.run.conclude(self.opened, ran, time.monotonic() - self.start)

    def tick(self) -> None:
        """Show the progress, rarely enough that querying it does not slow the work."""
        if time.monotonic() >= self.next_query:
            begin = time.monotonic()
            present = [row for row in workers(self.run.database, self.opened.id) if at_work(row)]
            self.display.update(tally(self.opened.plans), present)
            now = time.monotonic()
            self.next_query = now + rest(now - begin, SHARE, LOOK_SECONDS, REST_SECONDS)
