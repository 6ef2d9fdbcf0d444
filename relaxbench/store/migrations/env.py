"""What alembic runs to begin: the connection comes with the configuration, and so does its transaction."""

from __future__ import annotations

from alembic import context

from relaxbench.store.migrations import VERSION_TABLE

context.configure(
    connection=context.config.attributes["connection"],
    version_table=VERSION_TABLE,
    transactional_ddl=True,  # of SQLite as well: we say BEGIN ourselves
)
context.run_migrations()
