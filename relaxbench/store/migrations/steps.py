"""Take steps between versions of our tables, by alembic."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from relaxbench.store.migrations import HEAD, VERSION_TABLE

if TYPE_CHECKING:
    from alembic.config import Config

_ALONE = threading.Lock()  # alembic passes the connection to its steps in module variables


def stamp(connection: Connection, revision: str) -> None:
    """Write down which version the tables have, without changing them."""
    from alembic.runtime.migration import MigrationContext
    from alembic.script import ScriptDirectory

    context = MigrationContext.configure(connection, opts={"version_table": VERSION_TABLE})
    context.stamp(ScriptDirectory.from_config(_config(connection)), revision)


def take(connection: Connection, current: str | None, target: str = HEAD) -> None:
    """Take the steps from one version (None: no tables) to a later one.

    Raises:
        DBAPIError: if one of them fails.
    """
    from alembic import command

    if current is not None:
        stamp(connection, current)  # tables of the first version have no alembic table
    try:
        with _ALONE:
            command.upgrade(_config(connection), target)
    except DBAPIError as error:
        raise _first(error) from None


def _first(error: BaseException) -> BaseException:
    """The error that came first. Alembic then tidies up, which fails where SQLite has rolled everything back."""
    earlier, first = error.__context__, error
    while earlier is not None:
        first = earlier if isinstance(earlier, DBAPIError) else first
        earlier = earlier.__context__
    return first


def _config(connection: Connection) -> Config:
    from alembic.config import Config

    config = Config(attributes={"connection": connection})
    config.set_main_option("script_location", "relaxbench.store:migrations")
    return config
