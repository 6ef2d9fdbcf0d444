"""What a person may get wrong in a problem's data, numbers and texts is one line, before a database exists."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from relaxbench.errors import UserError
from relaxbench.problems import SupervisedProblem
from relaxbench.study.definition.validation import check_on
from relaxbench.training.compatibility import try_out
from tests.study import tiny

X = torch.arange(120.0).view(40, 3).sin()
Y = (X.sum(1) > 0).long()


SPOILT = X.clone()
SPOILT[31, 1] = torch.nan


def data(x: Any = X, y: Any = Y, **others: Any) -> Any:
    return lambda: {**dict.fromkeys(("train", "validation", "test"), (x, y)), **others}


class Norm(nn.BatchNorm1d):
    pass


class Reading(nn.Linear):
    def __init__(self) -> None:
        super().__init__(3, 2)

    def forward(self, x: Tensor) -> Tensor:
        return x @ self.get_parameter("weight").T


class Rounding(nn.Linear):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.bfloat16()).float()


ONE = nn.Linear(3, 2)


def seeded() -> nn.Module:
    torch.manual_seed(0)
    return nn.Linear(3, 2)


def absent() -> None:
    raise FileNotFoundError("my.csv")


def with_parameter() -> nn.Module:
    model = nn.Linear(3, 2)
    model.extra = nn.Parameter(torch.ones(2, dtype=torch.complex64))
    return model


def mixed() -> nn.Module:
    return nn.Sequential(Rounding(3, 4).bfloat16(), nn.Linear(4, 2))


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
    ("worst of no metric", {"worst_metric": 2.0}, "worst_metric = 2.0 belongs to a metric of your own"),
    (
        "worst below 0",
        {"metric": ("a", lambda o, y: 1.0), "worst_metric": -1.0},
        "worst_metric = -1: expe",
    ),
    (
        "negative metric",
        {"metric": ("a", lambda o, y: -o.std())},
        "expected 0 or more, because methods are compared by",
    ),
    (
        "metric beyond the worst",
        {"metric": ("a", lambda o, y: 7 + 0 * o.mean())},
        "'a' is 7 on the validation data at the initial weights, more than the 1 that a diverged run counts as",
    ),
    ("random metric", {"metric": ("a", lambda o, y: torch.rand(()))}, "'a' of the same outputs is"),
    ("numpy's metric", {"metric": ("a", lambda o, y: np.random.rand())}, "draws random numbers, or keeps a state"),
    ("sum", {"loss": nn.CrossEntropyLoss(reduction="sum")}, "expected the mean over the examples, not their sum"),
    ("fewer labels", {"data": data(y=Y[1:])}, "train has 40 inputs and 39 labels: expected as many labels as inputs"),
    (
        "lazy",
        {"model": lambda: nn.LazyLinear(2)},
        "parameter 'weight' of the model has no shape yet, as in nn.LazyLinear",
    ),
    (
        "complex parameter",
        {"model": with_parameter},
        "parameter 'extra' of the model is complex64: expected real numbers",
    ),
    (
        "mixed types",
        {"model": mixed},
        "types of its parameters differ ('0.weight' is bfloat16, and '1.weight' float32)",
    ),
    (
        "a seed of its own",
        {"model": seeded},
        "the model function sets PyTorch's seed, so all trials would begin with",
    ),
    ("one model", {"model": lambda: ONE}, "the model function returns the same model again, so all trials would begin"),
    ("a failing model", {"model": lambda: 1 / 0}, "the model function fails (ZeroDivisionError: division by zero, in "),
    ("data that are not there", {"data": absent}, "data() fails (FileNotFoundError: my.csv, in "),
    ("a model for a function", {"model": nn.Linear(3, 2)}, "the model is an instance of Linear: expected a function"),
    ("arguments", {"model": nn.Linear}, "Linear cannot be called without arguments (missing a required argument: 'in_"),
    (
        "NaN",
        {"data": data(train=(SPOILT, Y))},
        "1 training example hold NaN or infinity (the first is number 31",
    ),
    (
        "broadcast",
        {"model": lambda: nn.Linear(3, 1), "data": data(y=X[:, 0]), "loss": lambda o, y: ((o - y) ** 2).mean()},
        "outputs of shape (8, 1) and labels of shape (8,) are compared each with each",
    ),
    ("sparse gradient", {"model": lambda: nn.Embedding(5, 2, sparse=True)}, "layer '' (Embedding) has sparse=True"),
    ("get_parameter", {"model": Reading}, "read them as attributes, as self.layer.weight, not by get_parameter"),
    ("own norm", {"model": lambda: nn.Sequential(nn.Linear(3, 2), Norm(2))}, "'1' (Norm) is a subclass of BatchNorm1d"),
    ("pretrained", {"pretrained": {"9.weight": X}}, "which the model has not: its first names are weight, bias"),
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


@pytest.mark.parametrize(
    "loss",
    [
        lambda o, y: ((o[:, 0] - y) ** 2).mean(),
        lambda o, y: ((o - y[:, None]) ** 2).mean(),
        lambda o, y: (((o - o.T) - (y[:, None] - y)) ** 2).mean(),  # of all pairs, on purpose
    ],
)
def test_a_loss_may_take_a_column_and_a_row(loss: Any) -> None:
    begin({"model": lambda: nn.Linear(3, 1), "data": data(y=X[:, 0]), "loss": loss})


def test_a_model_may_take_values_that_are_missing() -> None:
    class Filling(nn.Linear):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x.nan_to_num())

    begin({"model": lambda: Filling(3, 2), "data": data(train=(SPOILT, Y))})


def contrastive(outputs: Tensor, labels: Tensor) -> Tensor:
    """Compare every example with every other: the loss of more examples is larger, and is no sum over them."""
    return nn.functional.cross_entropy(outputs @ outputs.T, torch.arange(len(outputs)))


@pytest.mark.parametrize("loss", [nn.CrossEntropyLoss(), contrastive], ids=["mean", "contrastive"])
def test_a_loss_that_is_no_sum_is_accepted(loss: Any) -> None:
    begin({"loss": loss, "metric": "auroc"})
