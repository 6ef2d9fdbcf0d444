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

EXPECTED = "expected sqlite:///file.db or postgresql+psycopg://user@host/name"
MEANT = re.compile(rf"({'|'.join(map(re.escape, DRIVERS))}):|.*:.*@|.*\b({'|'.join(SECRETS)})=")
"""What begins a text without ``://`` that was meant to be a URL, and not a path."""

ADVICE = (
    (r"password authentication failed|no password supplied", "check the user and the password, or set PGPASSWORD"),
    (
        r"time(d )?out|refused|reachable|resolve|translate|name or service|no such file",
        "check the host and the port, and that the server runs",
    ),
    (r'database ".*" does not exist', "create it first, with createdb"),
    (r"invalid port", "expected a port from 1 to 65535"),
    (r"invalid connection option|invalid URI query", "check what stands after the ? of the URL"),
    (
        r"permission denied for (table|relation|sequence)",
        "ask the owner for rights on the tables (GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public, "
        "GRANT USAGE ON ALL SEQUENCES IN SCHEMA public)",
    ),
    (
        r"permission denied",
        "ask the owner for the right to make tables there (GRANT CREATE ON SCHEMA public), or use another database",
    ),
    (r"must be owner", "have the owner of the tables run python -m relaxbench upgrade"),
    (r"database is locked|lock timeout", "another process is using it; try again when that has ended"),
    (r"disk is full|no space left", "free some space"),
    (r"malformed|not a database", "the file is damaged: restore a copy of it, or use another storage"),
    (r"read-?only", "use a storage that can be written"),
)
"""What to do, by what the database says."""


def parse_url(text: str) -> URL:
    """The URL of a storage; a bare path means a SQLite file.

    Raises:
        UserError: if it cannot be read as one, or names a database that is not supported.
    """
    shown = _hidden(text)
    if "://" not in text:
        if MEANT.match(text):
            raise UserError(f"storage {shown!r} is not a database URL: {EXPECTED}")
        text = str(URL.create("sqlite", database=text))
    try:
        url = make_url(text)
    except (ArgumentError, ValueError):
        raise UserError(f"storage {shown!r} is not a database URL: {EXPECTED}") from None
    if "@" in (url.host or "") or (url.password and "@" in (url.database or "")):  # the rest of the password
        raise UserError(f"storage {shown!r} has more than one @: write those of the user and the password as %40")
    if url.drivername not in DRIVERS:
        raise UserError(f"storage {shown!r}: the database or driver {url.drivername!r} is not supported: {EXPECTED}")
    url = url.set(drivername=DRIVERS[url.drivername])
    if url.get_backend_name() == "sqlite" and url.database in (None, "", ":memory:"):
        raise UserError(f"storage {shown!r} must be a file, for a study outlives its process: use sqlite:///file.db")
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
    """A text, a URL or what was meant to be one, without passwords: before the last @, and among its parameters."""
    text = re.sub(r"((?:^|/)[^/:@]*:)(?!//).*@", r"\1***@", text)
    return re.sub(rf"\b({'|'.join(SECRETS)})=[^&\s]*", r"\1=***", text)
