"""optuna-dashboard on the database of a study, read-only."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from sqlalchemy import Engine, inspect
from sqlalchemy.exc import DBAPIError

from relaxbench.errors import UserError
from relaxbench.store.database import open_database
from relaxbench.store.urls import reason, show_url

if TYPE_CHECKING:
    from wsgiref.types import WSGIApplication

READ_ONLY = {"options": "-c default_transaction_read_only=on"}
"""Connection arguments that make PostgreSQL refuse writes."""


@contextmanager
def dashboard_app(storage: str) -> Iterator[WSGIApplication]:
    """Open the dashboard as an application whose writes to the database fail.

    Raises:
        UserError: if optuna-dashboard is not installed, or if the database cannot be opened, has no tables of Optuna
            yet, or has tables of another version of Optuna.
    """
    try:
        from optuna_dashboard import wsgi
    except ImportError:
        raise UserError(
            "optuna-dashboard is not installed: pip install 'relaxbench[dashboard]', or use python -m relaxbench report"
        ) from None
    from optuna.storages import RDBStorage

    engine = open_database(storage, create=False, read_only=True)
    try:
        shown = show_url(engine.url)
        if not inspect(engine).has_table("trials"):
            raise UserError(f"storage {shown!r} has no trials of Optuna yet: run some trials of a study first")
        url, options = _optuna(engine)
        try:
            # Do not let Optuna create tables: they exist, with their version.
            rdb = RDBStorage(url, options, skip_table_creation=True)
        except (RuntimeError, DBAPIError) as error:
            raise UserError(f"storage {shown!r} cannot be shown ({reason(error, engine.url)})") from None
        try:
            yield wsgi(rdb)
        finally:
            rdb.remove_session()
            rdb.engine.dispose()
    finally:
        engine.dispose()


def _optuna(engine: Engine) -> tuple[str, dict[str, Any]]:
    """Return the URL and options of Optuna's storage. For SQLite it uses our read-only connections."""
    if engine.dialect.name == "sqlite":
        return "sqlite://", {"pool": engine.pool}
    return engine.url.render_as_string(hide_password=False), {"connect_args": READ_ONLY, "pool_pre_ping": True}
