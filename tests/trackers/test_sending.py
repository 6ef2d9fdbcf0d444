"""Sending to a tracker that cannot even be opened, and what is told of an error."""

from __future__ import annotations

import pytest

from relaxbench.trackers import sending
from relaxbench.trackers.sending import Sending
from relaxbench.trackers.tracker import Destination, Tracker


class LibraryError(Exception):
    """What a client makes of the system's error, after two steps of its own."""


def wrapped(cause: Exception) -> Exception:
    try:
        try:
            raise cause
        except Exception as error:
            raise LibraryError("HTTPConnectionPool(host='localhost', port=1)") from error
    except LibraryError:
        try:
            raise LibraryError("Max retries exceeded with url: /api")
        except LibraryError as last:
            return last


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (FileNotFoundError(2, "No such file or directory", "/proc/x"), "'/proc/x': No such file or directory"),
        (ConnectionError("the server is gone\nand more"), "the server is gone"),
        (TimeoutError(), "TimeoutError"),
        (KeyError("x"), "KeyError: 'x'"),
        (OSError("no " * 100), "no " * 66 + "n…"),
        (wrapped(ConnectionRefusedError(111, "Connection refused")), "Connection refused"),
        (wrapped(KeyError("of no network")), "Max retries exceeded with url: /api"),
    ],
)
def test_a_tracker_that_cannot_be_opened_is_said(error: Exception, told: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(destination: Destination) -> Tracker:
        raise error

    monkeypatch.setattr(sending, "open_tracker", fail)
    attempt = Sending(Destination("mlflow"))
    attempt.send([])
    assert attempt.reason == told and attempt.sent == 0 and attempt.place == "mlflow"
