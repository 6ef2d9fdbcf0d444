"""The versions of our tables: a step a file in ``versions/``, taken by alembic within a transaction of the caller.

The version lies in a table of our own, for Optuna, whose tables are in the same database, keeps its in alembic's.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

if TYPE_CHECKING:
    from alembic.config import Config

VERSION_TABLE = "relaxbench_version"
REVISIONS = ("0001", "0002")
"""All steps, oldest first. They stand here, too, so that reading a study need not load alembic."""
HEAD = REVISIONS[-1]

_ALONE = threading.Lock()  # alembic gives the connection to its steps through variables of its modules


def stamp(connection: Connection, revision: str) -> None:
    """Write down which version the tables have, without touching them."""
    from alembic.runtime.migration import MigrationContext
    from alembic.script import ScriptDirectory

    context = MigrationContext.configure(connection, opts={"version_table": VERSION_TABLE})
    context.stamp(ScriptDirectory.from_config(_config(connection)), revision)


def upgrade(connection: Connection, found: str | None, wanted: str = HEAD) -> None:
    """Take the steps from one version (None: no tables) to a later one.

    Raises:
        DBAPIError: if one of them cannot be taken.
    """
    from alembic import command

    if found is not None:
        stamp(connection, found)  # tables of the first version have none of alembic's
    try:
        with _ALONE:
            command.upgrade(_config(connection), wanted)
    except DBAPIError as error:
        raise _first(error) from None


def _first(error: BaseException) -> BaseException:
    """What went wrong at first: alembic then tidies up, in vain where SQLite has taken everything back already."""
    earlier, first = error.__context__, error
    while earlier is not None:
        first = earlier if isinstance(earlier, DBAPIError) else first
        earlier = earlier.__context__
    return first


def _config(connection: Connection) -> Config:
    from alembic.config import Config

    config = Config(attributes={"connection": connection})
    config.set_main_option("script_location", f"{__name__.rpartition('.')[0]}:migrations")
    return config
