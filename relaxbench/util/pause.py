"""Wait, whatever the clock does."""

from __future__ import annotations

import threading
import time


def sleep(seconds: float) -> None:
    """Sleep; if the system refuses because its clock has just been set, wait in another way."""
    try:
        time.sleep(seconds)
    except OSError:
        threading.Event().wait(seconds)


def rest(took: float, share: float, least: float, most: float) -> float:
    """Return how long to pause after work on the side, so that it takes at most one part in `share` of the time.

    Args:
        took: seconds from its beginning to its end; a process that was stopped meanwhile (Ctrl-Z, a closed laptop) has
            taken hours without working, so the pause has a limit.
        share: how many times as long the pause is.
        least: seconds of the shortest pause.
        most: seconds of the longest one.
    """
    return min(max(least, share * took), most)
