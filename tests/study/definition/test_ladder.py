"""A ladder of budgets: every rung is a problem of its own; and what a budget or a margin may not be on a problem."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from relaxbench.errors import UserError
from relaxbench.problems import problem
from relaxbench.store.database import open_database
from relaxbench.store.schema import Trial
from relaxbench.study.definition.facts import describe_problem
from relaxbench.study.definition.files import load
from relaxbench.study.definition.prepare import prepare
from relaxbench.study.definition.validation import check_on
from relaxbench.study.execution.join import Part, join
from tests.study import tiny
from tests.study.results import DATA, study_row

LADDER: dict[str, Any] = {"budget": None, "budgets": [30, 60], "methods": ["sgd"], "exploit": 0, "recommend": 0}


def test_every_rung_is_a_problem_with_facts_of_its_own() -> None:
    s = tiny.spec(problems=["rosenbrock", "digits-mlp"], **LADDER)
    problems = prepare(s)
    assert [p.name for p in problems] == ["rosenbrock@30", "rosenbrock@60", "digits-mlp@30", "digits-mlp@60"]
    assert [s.budget_of(p) for p in problems] == [30, 60, 30, 60]
    facts = describe_problem(problems[3], s)
    assert (facts["base"], facts["rung"], facts["budget"]) == ("digits-mlp", 60, 60)
    assert facts["title"].endswith(", 60 gradients")
    assert facts["fingerprint"] == describe_problem(problems[2], s)["fingerprint"]
    assert problems[1].worst_metric == 60.0  # a diverged run has used the whole budget
    alone = tiny.spec()
    (problem,) = prepare(alone)
    facts = describe_problem(problem, alone)
    assert (facts["base"], facts["rung"], facts["budget"]) == ("rosenbrock", None, 40)


@pytest.mark.usefixtures("steady")
def test_a_ladder_is_run_joined_and_continued(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A problem from a file, whose path a worker may have to name."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.dont_write_bytecode", True)
    (tmp_path / "mine.py").write_text(DATA.format(scale=1))
    s = tiny.spec(problems=["mine.py"], **LADDER)
    tiny.run(tmp_path, s, tiny.After(0))
    row = study_row(tmp_path)
    assert row.spec["problems"] == ["mine@30", "mine@60"] and row.spec["budgets"] == [30, 60]
    assert set(row.manifest["origins"]) == set(row.manifest["problems"]) == {"mine@30", "mine@60"}
    database = open_database(str(tmp_path / "study.db"))
    assert [p.name for p in join(database, "tiny").problems] == ["mine@30", "mine@60"]
    assert [p.name for p in join(database, "tiny", part=Part(["mine@60"])).problems] == ["mine@60"]
    assert [p.name for p in join(database, "tiny", part=Part(["mine"])).problems] == ["mine@30", "mine@60"]
    (tmp_path / "mine.py").rename(tmp_path / "moved.py")
    with pytest.raises(UserError, match="problem 'mine@30' of study 'tiny' is not here"):
        join(database, "tiny")
    assert [p.name for p in join(database, "tiny", part=Part(["moved.py"])).problems] == ["mine@30", "mine@60"]
    (tmp_path / "moved.py").rename(tmp_path / "mine.py")
    summary = tiny.run(tmp_path, s)
    assert (summary.missing, summary.total) == (0, 2 * (4 + 3))
    with database.connect() as connection:
        gradients = {row.problem: row.ledger["gradients"] for row in connection.execute(select(Trial.__table__))}
    database.dispose()
    assert gradients == {"mine@30": 30, "mine@60": 60}
    with pytest.raises(UserError, match=r"budgets: \[30, 60\] → \[30, 60, 90\] \(declared before the study began\)"):
        tiny.run(tmp_path, tiny.spec(**{**LADDER, "problems": ["mine.py"], "budgets": [30, 60, 90]}))


def test_a_budget_from_elsewhere_replaces_the_ladder(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text('name = "mine"\nproblems = ["rosenbrock"]\nmethods = ["sgd"]\nbudgets = [30, 60]\n')
    assert load(file)[0].budgets == [30, 60]
    spec, _ = load(file, {"budget": 50})
    assert (spec.budget, spec.budgets) == (50, [])


@pytest.mark.parametrize(
    ("changes", "parts"),
    [
        (
            {"budgets": [5, 60], "budget": None},
            ("budgets = 5: smaller than one outer step of heat on rosenbrock@5", "inner_steps"),
        ),
        ({"margin": 40}, ("margin = 40: the gradients to tolerance of 'rosenbrock' is at most 40 gradients",)),
        ({"margin": 100, "problems": ["digits-mlp"]}, ("margin = 100", "'digits-mlp' is at most 100 %", '"10 %"')),
    ],
)
def test_what_does_not_fit_a_problem_is_refused_in_one_line(changes: dict[str, Any], parts: tuple[str, ...]) -> None:
    with pytest.raises(UserError) as refused:
        prepare(tiny.spec(**changes))
    line = str(refused.value)
    assert "\n" not in line
    for part in parts:
        assert part in line


@pytest.mark.parametrize(("margin", "told"), [(5000.0, "'rosenbrock' is at most 5000"), ("150 %", "below 100 %")])
def test_a_problem_s_own_margin_is_refused_like_that_of_a_study_file(margin: float | str, told: str) -> None:
    rosenbrock = problem("rosenbrock")
    rosenbrock.margin, rosenbrock.budget = margin, 5000
    with pytest.raises(UserError, match=rf"problem 'rosenbrock': margin = .*{told}"):
        check_on(tiny.spec(budget=None), [rosenbrock])


@pytest.mark.parametrize("key", ["worst", "worst_metric"])
def test_a_diverged_trial_must_have_a_finite_value(key: str) -> None:
    rosenbrock = problem("rosenbrock")
    setattr(rosenbrock, key, float("inf"))
    with pytest.raises(UserError, match=rf"problem 'rosenbrock': {key} = inf: expected a finite number"):
        check_on(tiny.spec(), [rosenbrock])
