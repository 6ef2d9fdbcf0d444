"""Read a storage's URL, show it without passwords, and describe the errors of its database."""

from __future__ import annotations

import os
import re

from sqlalchemy.engine import URL, Engine, make_url
from sqlalchemy.exc import ArgumentError

from relaxbench.errors import UserError

DRIVERS = {
    "sqlite": "sqlite",
    "sqlite+pysqlite": "sqlite",
    "postgres": "postgresql+psycopg",
    "postgresql": "postgresql+psycopg",
    "postgresql+psycopg": "postgresql+psycopg",
}
"""Beginning of a URL → SQLAlchemy's dialect and driver."""

SECRETS = ("password", "sslpassword")
"""Parameters of PostgreSQL's URLs that are never shown."""

ENCODING = "client_encoding"
"""A parameter of PostgreSQL's URLs that is added to every URL without it, and not shown."""

EXPECTED = "expected sqlite:///file.db or postgresql+psycopg://user@host/name"
URL_LIKE = re.compile(rf"(file|{'|'.join(map(re.escape, DRIVERS))}):|.*:.*@|.*\b({'|'.join(SECRETS)})=")
"""Matches a text without ``://`` that looks like a URL rather than a path."""

FULL = r"disk is full|no space left"
"""Matches the message of a full disk."""
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
    (r"database is locked|lock timeout", "another process is using it; retry when that has ended"),
    (FULL, "free some space"),
    (r"disk I/O error|locking protocol", "check the disk and its file system; what was finished is kept"),
    (
        r"has no equivalent in encoding|invalid byte sequence",
        "use a database in UTF-8: createdb -E UTF8 -T template0 NAME",
    ),
    (
        r"malformed|not a database|codec can't decode",
        "the file is damaged: restore a copy of it, or use another storage",
    ),
    (r"read-?only", "use a storage that can be written"),
)
"""What the user can do, by the database's message."""


def parse_url(text: str) -> URL:
    """Read the URL of a storage; a bare path means a SQLite file, and ~ at its beginning the home folder.

    Raises:
        UserError: if it is not a URL, or names an unsupported database.
    """
    label = _hidden(text)
    if text and not text.strip():
        raise UserError(f"storage {text!r} names no file: {EXPECTED}")
    if "\0" in text:
        raise UserError(f"storage {label!r} contains a NUL character: {EXPECTED}")
    if not text.isascii() and any("\ud800" <= letter <= "\udfff" for letter in text):
        raise UserError(f"storage {label!r} holds bytes that are not UTF-8: {EXPECTED}")
    if "://" not in text:
        if URL_LIKE.match(text):
            raise UserError(f"storage {label!r} is not a database URL: {EXPECTED}")
        text = str(URL.create("sqlite", database=text))
    try:
        url = make_url(text)
    except (ArgumentError, ValueError):
        raise UserError(f"storage {label!r} is not a database URL: {EXPECTED}") from None
    if "@" in (url.host or "") or (url.password and "@" in (url.database or "")):  # the rest of a password
        raise UserError(f"storage {label!r} has more than one @: write those of the user and the password as %40")
    if url.drivername not in DRIVERS:
        raise UserError(f"storage {label!r}: the database or driver {url.drivername!r} is not supported: {EXPECTED}")
    url = url.set(drivername=DRIVERS[url.drivername])
    if _in_memory(url):
        raise UserError(
            f"storage {label!r} must be a file, because a study outlives its process: use sqlite:///file.db"
        )
    if url.get_backend_name() == "sqlite":
        url = url.set(database=os.path.expanduser(str(url.database)))  # a shell leaves it in sqlite:///~ and in quotes
    if url.get_backend_name() == "sqlite" and url.query:
        raise UserError(f"storage {label!r} has options after the ?, which a SQLite file does not take: leave them out")
    return url


def is_server(text: str) -> bool:
    """Return whether a storage is a server, which other machines can reach.

    Raises:
        UserError: see `parse_url`.
    """
    return parse_url(text).get_backend_name() != "sqlite"


def place_of(text: str, storage: str) -> tuple[str, str | None]:
    """Return the storage and the name of a study; the name is None where only a database is given.

    Args:
        text: a study of `storage`, a database (a URL, or a file whose name ends in .db), or a database and a study
            joined by #.
        storage: the database of a study that is given by its name alone.
    """
    place, name = split_study(text)
    return (place, name) if _is_database(place) else (storage, text)


def split_study(text: str) -> tuple[str, str | None]:
    """Return the storage and the study of ``FILE#STUDY`` or ``URL#STUDY``; without a study the text itself, and None.

    A # may also stand in the name of a file: one that exists, or that ends in .db, has no study behind it.
    """
    place, mark, name = text.rpartition("#")
    whole = not mark or text.endswith(".db") or os.path.exists(text)
    is_split = not whole and (_is_database(place) or os.path.exists(place))
    return (place, name or None) if is_split else (text, None)


def lasting_url(engine: Engine) -> URL | None:
    """The URL of a database from wherever the program goes to: a SQLite file by its whole path; None in memory."""
    url = engine.url
    if url.get_backend_name() != "sqlite":
        return url
    return None if _in_memory(url) else url.set(database=os.path.abspath(str(url.database)))


def _in_memory(url: URL) -> bool:
    """Whether a database is SQLite's in the memory of the program."""
    return url.get_backend_name() == "sqlite" and url.database in (None, "", ":memory:")


def show_url(url: URL) -> str:
    """A URL as text, without its passwords."""
    return _hidden(url.difference_update_query([ENCODING]).render_as_string(hide_password=True))


def reason(error: Exception, *urls: URL) -> str:
    """The database's message of an error, in one line without the passwords of these URLs."""
    cause = getattr(error, "orig", None) or error
    message = next(iter(str(cause).strip().splitlines()), type(cause).__name__)
    for url in urls:
        for secret in (url.password, *(url.query.get(name) for name in SECRETS)):
            if secret:
                message = message.replace(str(secret), "***")
    return message


def advice(error: Exception) -> str:
    """What the user can do about a database's error."""
    message = reason(error)
    matching = (what for pattern, what in ADVICE if re.search(pattern, message, re.IGNORECASE))
    return next(matching, "check the path, its permissions or the server")


def _hidden(text: str) -> str:
    """A URL, or a text like one, without passwords: before the last @, and among its parameters."""
    text = re.sub(r"((?:^|/)[^/:@]*:)(?!//).*@", r"\1***@", text)
    return re.sub(rf"\b({'|'.join(SECRETS)})=[^&\s]*", r"\1=***", text)


def _is_database(text: str) -> bool:
    return "://" in text or text.endswith(".db")
