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
