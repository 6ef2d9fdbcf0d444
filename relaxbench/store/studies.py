"""Choose a study of a database by its name."""

from __future__ import annotations

from collections.abc import Collection

from sqlalchemy import Engine as Database
from sqlalchemy import select

from relaxbench.errors import UserError, unknown
from relaxbench.store.schema import Study
from relaxbench.store.soundness import sound
from relaxbench.store.transactions import read


def choose_study(names: Collection[str], name: str | None) -> str:
    """Choose one of these names; None means the only one.

    Raises:
        UserError: if it does not exist, or no name is given and there is not exactly one study.
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
    """The id and the name of a study; None means the only study.

    Raises:
        UserError: if it does not exist, or no name is given and there is not exactly one study.
    """
    query = select(Study.name, Study.id).order_by(Study.id)
    ids = {row.name: row.id for row in read(database, lambda connection: connection.execute(query).all())}
    name = choose_study(ids, name)
    return ids[name], name


def study_problems(database: Database) -> dict[str, list[str]]:
    """Return the names of every study's problems, by the name of the study.

    Raises:
        UserError: naming a study whose stored specification is damaged.
    """
    query = select(Study.name, Study.spec).order_by(Study.id)
    problems = {}
    for name, spec in read(database, lambda connection: connection.execute(query).all()):
        with sound(name):
            problems[name] = [str(problem) for problem in spec["problems"]]
    return problems
