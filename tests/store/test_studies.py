"""Choosing a study of a database by its name."""

from __future__ import annotations

import pytest
from sqlalchemy import Engine, select

from relaxbench.errors import UserError
from relaxbench.store.schema import Study, Trial
from relaxbench.store.studies import find_study


def test_a_study_is_found_by_its_name_or_as_the_only_one(database: Engine) -> None:
    assert find_study(database, None) == find_study(database, "s") == (1, "s")
    with pytest.raises(UserError, match="unknown study 'x'"):
        find_study(database, "x")
    with database.begin() as connection:
        row = connection.execute(select(Study.__table__)).one()._asdict()
        connection.execute(Study.__table__.insert().values(**{**row, "id": 2, "name": "t"}))  # type: ignore[attr-defined]
    with pytest.raises(UserError, match=r"which study\? there are 2: s, t \(name one of them in the command\)"):
        find_study(database, None)
    with database.begin() as connection:
        connection.execute(Trial.__table__.delete())  # type: ignore[attr-defined]
        connection.execute(Study.__table__.delete())  # type: ignore[attr-defined]
    with pytest.raises(UserError, match="there is no study in this database"):
        find_study(database, None)
    with pytest.raises(UserError, match="unknown study 's': there is none yet"):
        find_study(database, "s")
