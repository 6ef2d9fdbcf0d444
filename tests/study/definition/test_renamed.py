"""A file that holds a problem of another name than before is no further problem of its study."""

from pathlib import Path

import pytest
from sqlalchemy import select

from relaxbench.errors import UserError
from relaxbench.store.database import open_database
from relaxbench.store.schema import Study
from relaxbench.study.definition.opening import open_study
from relaxbench.study.definition.prepare import prepare
from relaxbench.study.definition.renamed import refuse_renamed
from tests.study import tiny

FILE = """
import torch
from torch import nn
from relaxbench.problems import SupervisedProblem
x = torch.arange(120.0).view(40, 3).sin()
splits = {{name: (x, (x.sum(1) > 0).long()) for name in ("train", "validation", "test")}}
problem = SupervisedProblem("{name}", lambda: nn.Linear(3, 2), lambda: splits, loss="cross-entropy", batch_size=8)
"""


def test_a_renamed_problem_is_refused_and_the_study_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.dont_write_bytecode", True)
    database = open_database("study.db")
    spec = tiny.spec(problems=["mine.py"], methods=["sgd"])
    Path("mine.py").write_text(FILE.format(name="one"))
    open_study(database, spec, "", prepare(spec))
    with database.connect() as connection:
        before = connection.execute(select(Study.__table__)).all()
    Path("mine.py").write_text(FILE.format(name="two"))
    with pytest.raises(UserError, match=r"mine\.py: the problem is called 'two' and was 'one' when study 'tiny' began"):
        open_study(database, spec, "", prepare(spec))
    with database.connect() as connection:
        assert connection.execute(select(Study.__table__)).all() == before
    database.dispose()


@pytest.mark.parametrize(
    "now",
    [
        {"a": "/x/a.py"},  # the same
        {"b": "/x/b.py"},  # another file
        {"a": "/y/a.py"},  # moved
        {"b": "digits-mlp"},  # built in
        {"digits-mlp@40": "digits-mlp"},  # another rung of the same problem
    ],
)
def test_what_is_not_renamed_goes_on(now: dict[str, str]) -> None:
    refuse_renamed({"a": "/x/a.py", "digits-mlp@20": "digits-mlp"}, now, "s")


def test_rungs_of_a_renamed_file_are_refused() -> None:
    with pytest.raises(UserError, match="called 'b@20' and was 'a@20'"):
        refuse_renamed({"a@20": "/x/a.py", "a@40": "/x/a.py"}, {"b@20": "/x/a.py", "b@40": "/x/a.py"}, "s")
