"""Studies that do not go on: changed ones, and those that cannot run here."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from relaxbench.errors import UserError
from relaxbench.store.database import open_database
from relaxbench.store.schema import Study
from relaxbench.study.execution.options import RunOptions, parse_device
from tests.study import tiny
from tests.study.results import DATA, study_row


@pytest.mark.parametrize(
    ("change", "names"),
    [
        ({"seed": 1}, "seed: 0 → 1"),
        ({"budget": 41}, "budget: 40 → 41"),
        ({"looks": [3]}, "looks: [2] → [3] (declared before the study began)"),
        ({"looks": [2, 3]}, "looks: [2] → [2, 3] (declared before the study began)"),
        ({"trials": 1}, "trials: 2 → 1 (declared before the study began)"),
        ({"exploit": 0, "recommend": 1}, "recommend: 2 → 1 (may grow, not shrink)"),
        ({"space": {"lr": [1e-4, 1e-2]}}, "space:"),
    ],
)
@pytest.mark.usefixtures("steady")
def test_a_changed_study_is_refused_with_the_difference(change: dict[str, Any], names: str, tmp_path: Path) -> None:
    s = tiny.spec(methods=["sgd"], exploit=0)
    tiny.run(tmp_path, s, tiny.After(0))
    before, stored = tiny.results(tmp_path), study_row(tmp_path)
    with pytest.raises(UserError) as refused:
        tiny.run(tmp_path, tiny.spec(**{"methods": ["sgd"], "exploit": 0, **change}))
    assert names in str(refused.value) and "\n" not in str(refused.value)
    assert tiny.results(tmp_path) == before and study_row(tmp_path) == stored


@pytest.mark.usefixtures("steady")
def test_a_study_whose_data_have_changed_is_refused_and_left_as_it_was(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text(DATA.format(scale=1))
    s = tiny.spec(problems=[str(file)], methods=["sgd"], exploit=0, recommend=0)
    tiny.run(tmp_path, s)
    assert study_row(tmp_path).spec["problems"] == ["mine"]
    before, stored = tiny.results(tmp_path), study_row(tmp_path)
    file.write_text(DATA.format(scale=2))
    with pytest.raises(UserError, match=r"data of problem 'mine' have changed .*→") as refused:
        tiny.run(tmp_path, s.model_copy(update={"more_blocks": 3}))
    assert "\n" not in str(refused.value)
    assert study_row(tmp_path) == stored
    assert tiny.results(tmp_path) == before


@pytest.mark.usefixtures("steady")
def test_two_problems_of_one_name_are_refused(tmp_path: Path) -> None:
    """Their trials would fall on the same rows."""
    for name in ("a.py", "b.py"):
        (tmp_path / name).write_text(DATA.format(scale=1))
    s = tiny.spec(problems=[str(tmp_path / "a.py"), str(tmp_path / "b.py")], methods=["sgd"], exploit=0, recommend=0)
    with pytest.raises(UserError, match="'mine'"):
        tiny.run(tmp_path, s)


@pytest.mark.usefixtures("steady")
def test_a_budget_below_one_outer_step_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    """HEAT may draw an inner loop of 10."""
    with pytest.raises(UserError, match="budget"):
        tiny.run(tmp_path, tiny.spec(budget=9))
    database = tiny.opened(tmp_path)
    with database.connect() as connection:
        assert connection.execute(select(Study.id)).all() == []
    database.dispose()


@pytest.mark.usefixtures("steady")
def test_a_device_that_is_not_there_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    database = open_database(str(tmp_path / "study.db"))
    with pytest.raises(UserError, match="cuda:77"):
        tiny.run_in(database, tiny.spec(), RunOptions(device=parse_device("cuda:77")))
    with database.connect() as connection:
        assert connection.execute(select(Study.id)).all() == []
    database.dispose()
