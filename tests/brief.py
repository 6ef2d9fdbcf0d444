"""What many tests would wait for and few look at: measurements of time, migrations, making tables, SQL.

Tests that look at what a study measures on its machine ask for the fixture `at_length` (of tests/conftest.py).
"""

from __future__ import annotations

from typing import Any

from optuna.storages._rdb import storage
from sqlalchemy import Connection, Engine
from sqlalchemy.dialects.sqlite.pysqlite import SQLiteDialect_pysqlite
from sqlalchemy.util import LRUCache

from relaxbench.store.migrations import VERSION_TABLE, upgrade
from relaxbench.training import costs, durations, engine

BRIEF = (
    (costs, {"LEAST": 2, "MOST": 3, "STRETCH_SECONDS": 0.001, "STRETCH_STEPS": 4}),
    (engine, {"PAIRS": 1, "SECONDS": 0.02, "STRETCH_SECONDS": 0.004, "STRETCHES": 1}),
    (durations, {"ENOUGH": 0.03, "STRETCH_SECONDS": 0.005}),
)
MAKE = upgrade._make
USUAL = [(module, {name: getattr(module, name) for name in values}) for module, values in BRIEF]


def measure_briefly(brief: bool = True) -> None:
    """Measure briefly from now on, or as usual again: in this process, and in those that are forked from it."""
    for module, values in BRIEF if brief else USUAL:
        for name, value in values.items():
            setattr(module, name, value)


def load_migrations_once() -> None:
    """Load Optuna's migration scripts once per process, not three times per new database (30 ms each)."""
    manager, loaded = storage._VersionManager, []
    load = manager._create_alembic_script

    def once(self: Any) -> Any:
        if not loaded:
            loaded.append(load(self))
        return loaded[0]

    manager._create_alembic_script = once  # type: ignore[method-assign]


def make_tables_once() -> None:
    """Let the tables of a SQLite file be made as those of the first one were, by the same statements as plain text.

    Tests make thousands of files: opening a new one then takes 4 ms instead of 11.
    """
    statements = list[str]()

    def once(connection: Connection, names: Any, label: str) -> None:
        if connection.dialect.name != "sqlite" or names:
            MAKE(connection, names, label)
        elif statements:
            for statement in statements:
                connection.exec_driver_sql(statement)
        else:
            MAKE(connection, names, label)
            for kind in ("table", "index"):
                found = connection.exec_driver_sql(f"SELECT sql FROM sqlite_master WHERE type = '{kind}' AND sql <> ''")
                statements.extend(sql for (sql,) in found)
            version = connection.exec_driver_sql(f"SELECT version_num FROM {VERSION_TABLE}").scalar_one()
            statements.append(f"INSERT INTO {VERSION_TABLE} VALUES ('{version}')")

    upgrade._make = once


def compile_statements_once() -> None:
    """Let SQLAlchemy compile a statement once per process, not once per database: tests open thousands of them."""
    shared, usual = LRUCache(4000), Engine.__init__

    def begin(self: Engine, *arguments: Any, **options: Any) -> None:
        usual(self, *arguments, **options)
        if type(self.dialect) is SQLiteDialect_pysqlite:
            self._compiled_cache = shared

    def alike(self: Any, other: Any) -> bool:
        return type(self) is type(other) and _settings(self) == _settings(other)

    Engine.__init__ = begin  # type: ignore[method-assign]
    SQLiteDialect_pysqlite.__eq__ = alike  # type: ignore[method-assign]
    SQLiteDialect_pysqlite.__hash__ = lambda self: hash(type(self))  # type: ignore[method-assign]


def _settings(dialect: Any) -> tuple[Any, ...]:
    """What statements are compiled for."""
    return dialect.paramstyle, dialect._json_serializer, dialect._json_deserializer, dialect.label_length
