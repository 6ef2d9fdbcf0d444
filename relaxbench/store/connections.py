"""Close idle connections, because a study may have more workers than its server has connections.

A new connection for every transaction would also work, but each costs the server a new process. So a connection serves
a burst of transactions, is closed when it has been idle for `IDLE_SECONDS`, and is replaced after `HELD_SECONDS`
however busy it is, because other workers may be waiting.
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
"""A connection that is older than this is closed before its next use (SQLAlchemy's ``pool_recycle``)."""


def close_idle(engine: Engine) -> Engine:
    """Close an engine's idle connections, and replace connections that do not answer; returns the engine.

    The pool itself must not ping (``pool_pre_ping``), because this module could close the connection meanwhile.
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
