"""Send what a tracker does not have, one run after another, until all is there or the tracker fails."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from socket import gaierror

from relaxbench.errors import UserError
from relaxbench.trackers.runs import Summary, TrackedRun
from relaxbench.trackers.tracker import Destination, Tracker, open_tracker
from relaxbench.util.text import one_line

LONGEST = 200
"""Characters of an error that are told."""


@dataclass
class Sending:
    """What was sent of a study, over all attempts.

    Attributes:
        destination: where to.
        sent: runs that were sent.
        present: runs that were there before the first attempt.
        left: runs that the latest attempt did not send.
        reason: why it failed; "" if it did not.
    """

    destination: Destination
    sent: int = 0
    present: int = 0
    left: int = 0
    reason: str = ""
    _tracker: Tracker | None = field(default=None, repr=False)

    def send(self, runs: Iterable[TrackedRun]) -> None:
        """Send the runs of a study that the tracker does not have.

        Raises:
            UserError: if the tracker cannot be used here at all.
        """
        wanted = list(runs)
        self.left = len(wanted)

        def send_missing(tracker: Tracker) -> None:
            missing = tracker.missing(wanted)
            self.left, self.present = len(missing), len(wanted) - len(missing) - self.sent
            for run in missing:
                tracker.send(run)
                self.sent, self.left = self.sent + 1, self.left - 1

        self._attempt(send_missing)

    def summarize(self, summary: Summary) -> None:
        """Send the summary of a study, unless the runs could not be sent.

        Raises:
            UserError: if the tracker cannot be used here at all.
        """
        if not self.reason:
            self._attempt(lambda tracker: tracker.summarize(summary))

    @property
    def place(self) -> str:
        """Where the runs go, for people."""
        return f"{self.destination.to}, {self._tracker.place}" if self._tracker else self.destination.to

    def _attempt(self, send: Callable[[Tracker], None]) -> None:
        """Connect once, and send; note why an attempt failed, whatever a library or a network raised."""
        self.reason = ""
        try:
            self._tracker = self._tracker or open_tracker(self.destination)
            send(self._tracker)
        except UserError:
            raise
        except Exception as error:
            self.reason = _words(error)


def _words(error: Exception) -> str:
    """Return what a library or the system says of an error, in one line: its first one, or what it is called.

    Where a connection failed, the system's words say so best: a library quotes its own retries and addresses.
    """
    error = _network_error(error) or error
    if isinstance(error, OSError) and error.strerror:
        where = f"{str(error.filename)!r}: " if error.filename else ""
        return f"{where}{error.strerror}"
    words = one_line(str(error).strip().split("\n")[0])
    words = words if len(words) <= LONGEST else f"{words[: LONGEST - 1]}…"
    name = type(error).__name__
    if isinstance(error, OSError) or type(error).__module__ != "builtins":  # else a bug, which its name helps to find
        return words or name
    return f"{name}: {words}" if words else name


def _network_error(error: BaseException | None) -> Exception | None:
    """Return the failed connection that an error comes from, the first one; None where there is none."""
    if error is None:
        return None
    earlier = _network_error(error.__cause__) or _network_error(error.__context__)
    return earlier or (error if isinstance(error, ConnectionError | TimeoutError | gaierror) else None)
