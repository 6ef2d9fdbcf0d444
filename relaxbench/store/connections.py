"""Connections are not kept for nothing: a study may have more workers than its server has connections.

A new one for every transaction would do as well, but costs a server a new process each time. So a connection stays for
a burst of transactions, is closed when nobody has used it for a moment, and is not kept for long however busy it is:
others may be waiting.
"""

from __future__ import annotations

import threading
import time
from typing import Any

from sqlalchemy import Engine, event
from sqlalchemy.exc import DisconnectionError

IDLE_SECONDS = 0.05
"""A connection that has not been used for this long is closed."""
HELD_SECONDS = 2
"""One that is older than this is closed before its next use (SQLAlchemy's ``pool_recycle``)."""


def close_idle(engine: Engine) -> Engine:
    """Have the idle connections of an engine closed, and others opened in the place of those that do not answer.

    The pool must not ping on its own account (``pool_pre_ping``): it would while we may close the connection.
    """
    guard = threading.Lock()
    idle: dict[Any, float] = {}
    watched = False

    def watch() -> None:
        nonlocal watched
        watched = bool(idle)
        if watched:
            timer = threading.Timer(IDLE_SECONDS, look)
            timer.daemon = True
            timer.start()

    def look() -> None:
        with guard:
            for connection, since in list(idle.items()):
                if time.monotonic() - since >= IDLE_SECONDS:
                    del idle[connection]
                    connection.close()
            watch()

    @event.listens_for(engine, "checkin")
    def _given_back(connection: Any, _: Any) -> None:
        with guard:
            if connection is not None and not connection.closed:
                idle[connection] = time.monotonic()
                if not watched:
                    watch()

    @event.listens_for(engine, "checkout")
    def _taken(connection: Any, _: Any, __: Any) -> None:
        with guard:
            idle.pop(connection, None)
        try:
            answers = not connection.closed and engine.dialect.do_ping(connection)
        except engine.dialect.loaded_dbapi.Error:
            answers = False
        if not answers:
            raise DisconnectionError

    @event.listens_for(engine, "close")
    def _closed(connection: Any, _: Any) -> None:
        with guard:
            idle.pop(connection, None)

    return engine
