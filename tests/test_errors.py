"""A name that does not exist: what is proposed in its place, and what is not."""

from __future__ import annotations

import pytest

from relaxbench.errors import FEW, SOME, unknown

MEANT = [
    *(
        ("sdg", "sgd"),
        ("SGD", "sgd"),
        ("haet", "heat"),
        ("wien", "wine"),
        ("tyni", "tiny"),
        ("rl", "lr"),
        ("tpee", "tpe"),
        ("auc", "auroc"),
    ),
    *(("look", "looks"), ("trails", "trials"), ("bugdet", "budget"), ("serach", "search"), ("mehtod", "method")),
    *(("digit-mlp", "digits-mlp"), ("digits-mpl", "digits-mlp"), ("entropysgd", "entropy-sgd"), ("cma-es", "cmaes")),
    *(
        ("entropy", "entropy-sgd"),
        ("weight_dacay", "weight_decay"),
        ("compild", "compiled"),
        ("l00kahead", "lookahead"),
    ),
]
"""What somebody types, and what was meant."""

OTHERS = [
    *(("sampler", "name"), ("pruner", "problems"), ("search", "space"), ("epochs", "exploit"), ("patience", "options")),
    *(
        ("learning_rate", "lr"),
        ("momentum", "comment"),
        ("gradients", "trials"),
        ("dropout", "budgets"),
        ("gradient", "name"),
    ),
    *(
        ("device", "seed"),
        ("workers", "looks"),
        ("momentum", "gamma"),
        ("qqq", "sgd"),
        ("nope", "name"),
        ("nope", "compiled"),
        ("", "sgd"),
        ("lr", "gp"),
    ),
]
"""Two words that are not each other."""

FAR = ["zzzz", "yyyy", "xxxx"]


@pytest.mark.parametrize(("given", "name"), MEANT)
def test_a_slip_of_the_finger_is_understood(given: str, name: str) -> None:
    assert str(unknown("name", given, [*FAR, name])) == f"unknown name {given!r}: did you mean {name!r}?"


@pytest.mark.parametrize(("given", "name"), OTHERS)
def test_another_word_is_not_proposed(given: str, name: str) -> None:
    """Of few names all are listed as known; of many, the first."""
    assert str(unknown("key", given, [*FAR, name])).endswith(f"known: {', '.join(sorted([*FAR, name]))}")
    many = [f"{number:03}" for number in range(FEW)]
    listed = ", ".join(many[:SOME])
    assert str(unknown("key", given, [*many, name])).endswith(f"known: {listed} and {FEW + 1 - SOME} more")


def test_without_any_name_that_is_said() -> None:
    assert str(unknown("study", "x", [])) == "unknown study 'x': known: none"
