"""Alembic's entry point: run migrations on the caller's connection, within its transaction."""

from __future__ import annotations

from alembic import context

from relaxbench.store.migrations import VERSION_TABLE

context.configure(
    connection=context.config.attributes["connection"],
    version_table=VERSION_TABLE,
    transactional_ddl=True,  # for SQLite too, whose transactions we begin ourselves
)
context.run_migrations()
