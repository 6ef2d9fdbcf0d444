"""What a person may get wrong in a problem's data, numbers and texts is one line, before a database exists."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from relaxbench.errors import UserError
from relaxbench.problems import SupervisedProblem
from relaxbench.study.definition.validation import check_on
from relaxbench.training.compatibility import try_out
from tests.study import tiny

X = torch.arange(120.0).view(40, 3).sin()
Y = (X.sum(1) > 0).long()


def data(x: Any = X, y: Any = Y, **others: Any) -> Any:
    return lambda: {**dict.fromkeys(("train", "validation", "test"), (x, y)), **others}


WRONG: list[tuple[str, dict[str, Any], str]] = [
    ("sparse", {"data": data(X.to_sparse())}, "train holds a tensor of another kind (sparse_coo)"),
    ("sparse labels", {"data": data(y=Y.to_sparse())}, "another kind (sparse_coo)"),
    ("complex", {"data": data(X.to(torch.complex64))}, "another kind (complex)"),
    ("no values", {"data": data(X.to("meta"))}, "another kind (meta)"),
    ("a number", {"data": data(torch.tensor(1.0))}, "train holds one number"),
    ("narrow test", {"data": data(test=(X[:, :2], Y))}, "inputs of test"),
    ("failing data", {"data": lambda: 1 / 0}, "data() fails (ZeroDivisionError: division by zero"),
    ("kind", {"kind": "qqq"}, "unknown kind of problem 'mine': 'qqq'"),
    ("kind of a number", {"kind": 3}, "kind = 3: expected a text"),
    ("no statistics", {"statistics_limit": 0}, "statistics_limit = 0: expected a positive number"),
    ("half a statistic", {"statistics_limit": 1.5}, "statistics_limit = 1.5: expected a whole number"),
    ("source", {"source": "a\nb"}, "source = 'a\\nb': expected a text"),
    ("caution", {"caution": 3}, "caution = 3: expected a text"),
    ("published", {"published": None}, "published = None: expected a text"),
    ("blank name", {"name": " "}, "name = ' ': expected a text"),
    ("name of a file", {"name": "a.py"}, "does not end in .py"),
    ("long name", {"name": "x" * 300}, "at most 200 characters"),
    ("budget", {"budget": 10**30}, "expected at most 1,000,000,000,000"),
    ("most rounds", {"most_rounds": 1.5}, "most_rounds = 1.5: expected a whole number"),
    ("margin", {"margin": 1e9}, "problem 'mine': margin = 1e+09: the test error of 'mine' is at most 100 %"),
    ("metric's name", {"metric": ("a\nb", lambda o, y: 1.0)}, "metric = 'a\\nb': expected a text"),
    ("no metric's name", {"metric": ("", lambda o, y: 1.0)}, "metric = '\\n': expected a text"),
    ("worst metric", {"metric": ("a", lambda o, y: 1.0), "worst_metric": "x"}, "worst_metric = 'x': expected a finite"),
    ("space", {"space": {"qqq": (1, 2)}}, "unknown hyperparameter in the space of problem 'mine': 'qqq'"),
]


def begin(changes: dict[str, Any]) -> None:
    """Do with a problem what the command does before it opens a database."""
    arguments = {"name": "mine", "model": lambda: nn.Linear(3, 2), "data": data(), "batch_size": 8, "budget": 40}
    problem = SupervisedProblem(**{**arguments, **changes})
    check_on(tiny.spec(problems=["mine.py"], methods=["sgd"], budget=None), [problem])
    try_out(problem)


@pytest.mark.parametrize(("changes", "told"), [row[1:] for row in WRONG], ids=[row[0] for row in WRONG])
def test_a_wrong_problem_is_refused_in_one_line(changes: dict[str, Any], told: str) -> None:
    with pytest.raises(UserError) as refusal:
        begin(changes)
    assert told in str(refusal.value) and "\n" not in str(refusal.value)
