"""PostgreSQL in tests: those that need a server are skipped without one, or fail where everything must be tested."""

from __future__ import annotations

import os
from typing import NoReturn

import pytest

from relaxbench.errors import UserError
from relaxbench.stress.postgres import Server, free_port, program

__all__ = ["Server", "free_port", "missing", "program", "require"]


def require(*programs: str) -> None:
    """Skip a test where no server can be started; where everything must be tested, that is a failure."""
    try:
        import psycopg  # noqa: F401

        for name in programs or ("initdb", "pg_ctl"):
            program(name)
    except (ImportError, UserError) as error:
        missing(str(error))


def missing(what: str) -> NoReturn:
    """End a test because something is missing."""
    if os.environ.get("CI"):
        pytest.fail(f"cannot be skipped here: {what}")
    pytest.skip(what)
