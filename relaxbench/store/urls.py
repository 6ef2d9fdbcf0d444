"""A storage's URL: read, shown without passwords, and what is said when its database cannot be used."""

from __future__ import annotations

import re

from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError

from relaxbench.errors import UserError

DRIVERS = {
    "sqlite": "sqlite",
    "sqlite+pysqlite": "sqlite",
    "postgres": "postgresql+psycopg",
    "postgresql": "postgresql+psycopg",
    "postgresql+psycopg": "postgresql+psycopg",
}
"""How the beginning of a URL is read."""

SECRETS = ("password", "sslpassword")
"""Parameters of PostgreSQL that are never shown."""

ADVICE = (
    (r"password authentication failed|no password supplied", "check the user and the password, or set PGPASSWORD"),
    (
        r"time(d )?out|refused|reachable|resolve|translate|name or service|no such file",
        "check the host and the port, and that the server runs",
    ),
    (r'database ".*" does not exist', "create it first, with createdb"),
    (
        r"permission denied|must be owner",
        "ask the owner for the right to make tables there (GRANT CREATE ON SCHEMA public), or use another database",
    ),
    (r"database is locked|lock timeout", "another process is using it; try again when that has ended"),
    (r"disk is full|no space left", "free some space"),
)
"""What to do, by what the database says."""


def parse_url(text: str) -> URL:
    """The URL of a storage; a bare path means a SQLite file.

    Raises:
        UserError: if it cannot be read as one, or names a database that is not supported.
    """
    if "://" not in text:
        text = str(URL.create("sqlite", database=text))
    try:
        url = make_url(text)
    except (ArgumentError, ValueError):
        shown = _hidden(re.sub(r"(://[^/@]*:).*@", r"\1***@", text))
        raise UserError(
            f"storage {shown!r} is not a database URL: expected sqlite:///file.db or postgresql+psycopg://user@host/name"
        ) from None
    if url.drivername not in DRIVERS:
        raise UserError(
            f"storage {show_url(url)!r}: the database or driver {url.drivername!r} is not supported: expected "
            "sqlite:///file.db or postgresql+psycopg://user@host/name"
        )
    url = url.set(drivername=DRIVERS[url.drivername])
    if url.get_backend_name() == "sqlite" and url.database in (None, "", ":memory:"):
        raise UserError("storage must be a file, for a study outlives its process: use sqlite:///file.db")
    return url


def show_url(url: URL) -> str:
    """A URL for people to read, without its passwords."""
    return _hidden(url.render_as_string(hide_password=True))


def reason(error: Exception, *urls: URL) -> str:
    """What a database says of an error, in one line without the passwords of these URLs."""
    cause = getattr(error, "orig", None) or error
    said = next(iter(str(cause).strip().splitlines()), type(cause).__name__)
    for url in urls:
        for secret in (url.password, *(url.query.get(name) for name in SECRETS)):
            if secret:
                said = said.replace(str(secret), "***")
    return said


def advice(error: Exception) -> str:
    """What to do about an error of a database."""
    said = reason(error)
    fitting = (what for pattern, what in ADVICE if re.search(pattern, said, re.IGNORECASE))
    return next(fitting, "check the path, its permissions or the server")


def _hidden(text: str) -> str:
    """A text without the passwords among its parameters."""
    return re.sub(rf"\b({'|'.join(SECRETS)})=[^&]*", r"\1=***", text)
