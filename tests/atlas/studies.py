"""Small studies for the atlas, in databases of their own."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
from sqlalchemy import text

from relaxbench.atlas.atlas import Atlas
from relaxbench.atlas.sources import gather
from relaxbench.store.database import open_database
from tests import synthetic

EFFECTS = {"hj": -2.0, "heat": 2.5, "lookahead": 0.0}
"""Points of test error that a method differs from SGD by."""


def write(file: Path, name: str = "digits", fill: int = 0, finished: bool = True, **changes: object) -> Path:
    """Write a database with one study: SGD, a control that equals it, a better and a worse method.

    Args:
        file: the database; it may exist.
        name: of the study.
        fill: seed of its results, and of the study.
        finished: else, the trials of one method are missing.
        changes: of the study file.
    """
    methods = ["sgd", "lookahead", "hj", "heat"]
    usual = {"controls": ["lookahead"], "trials": 2, "exploit": 0, "recommend": 0, "seed": fill, "margin": 3.0}
    asked = synthetic.spec(name=name, methods=methods, **usual | changes)
    about = synthetic.manifest(asked) | {"key": f"{file.name}-{name}"}
    engine = open_database(str(file))
    synthetic.fill(synthetic.Writer(engine, asked, about), EFFECTS, spread=0.35, seed=fill)
    if not finished:
        with engine.begin() as connection:
            connection.execute(text("DELETE FROM relaxbench_trials WHERE method = 'heat' AND block > 2"))
    engine.dispose()
    return file


def table(*places: Path | str) -> tuple[Atlas, pd.DataFrame]:
    """The atlas of some places, and its cells by study, problem and method."""
    atlas = Atlas.of(*gather([str(place) for place in places]))
    return atlas, atlas.tables()["cells"].set_index(["study", "problem", "method"])
