"""Wrong arguments of a user's problem are named in one line."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from relaxbench.errors import UserError
from relaxbench.problems import SupervisedProblem


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"name": ""}, "problem '': name = '': expected a text"),
        ({"name": 5}, "problem 5: name = 5: expected a text"),
        ({"name": "p\nq"}, "expected a text of printable characters"),
        ({"title": 3}, "title = 3: expected a text"),
        ({"batch_size": 8.5}, "batch_size = 8.5: expected a whole number"),
        ({"budget": 40.5}, "budget = 40.5: expected a whole number"),
        ({"rounds": 2.5}, "rounds = 2.5: expected a whole number"),
        ({"data": {"train": 1}}, "data is dict: expected a function"),
        ({"data": lambda: None}, "data() gives NoneType: expected"),
        ({"space": 3}, "space = 3: expected names with (low, high)"),
        ({"space": {"lr": 3}}, "space of lr = 3: expected (low, high)"),
    ],
    ids=lambda value: value if isinstance(value, str) else next(iter(value)),
)
def test_a_wrong_argument_is_named(wrong: dict[str, Any], told: str) -> None:
    x = torch.ones(20, 3)
    given = {"name": "p", "model": lambda: nn.Linear(3, 2), "data": lambda: {"train": (x, x)}, **wrong}
    with pytest.raises(UserError) as caught:
        assert SupervisedProblem(**given).tensors
    assert told in str(caught.value) and "\n" not in str(caught.value)
