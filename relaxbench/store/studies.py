"""Which study of a database is meant."""

from __future__ import annotations

from collections.abc import Collection

from sqlalchemy import Engine as Database
from sqlalchemy import select

from relaxbench.errors import UserError, unknown
from relaxbench.store.schema import Study
from relaxbench.store.transactions import read


def choose_study(names: Collection[str], name: str | None) -> str:
    """The study that is meant among these; None means the only one.

    Raises:
        UserError: if it is not there, or none was named and there is not exactly one.
    """
    if name is not None:
        if name not in names:
            raise unknown("study", name, names) if names else UserError(f"unknown study {name!r}: there is none yet")
        return name
    if not names:
        raise UserError("there is no study in this database: run python -m relaxbench study first")
    if len(names) > 1:
        raise UserError(f"which study? there are {len(names)}: {', '.join(names)} (name one of them in the command)")
    return next(iter(names))


def find_study(database: Database, name: str | None) -> tuple[int, str]:
    """The id and the name of a study; None means the only one there is.

    Raises:
        UserError: if there is none of that name, or more than one to choose from.
    """
    query = select(Study.name, Study.id).order_by(Study.id)
    ids = {row.name: row.id for row in read(database, lambda connection: connection.execute(query).all())}
    name = choose_study(ids, name)
    return ids[name], name
