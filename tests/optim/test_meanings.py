"""Every hyperparameter is explained, once."""

from __future__ import annotations

import pytest

from relaxbench.optim.meanings import MEANINGS, Meaning
from relaxbench.optim.registry import RULES, rule_class, rule_names


@pytest.mark.parametrize("name", rule_names())
def test_every_hyperparameter_of_a_registered_rule_has_a_meaning(name: str) -> None:
    rule = rule_class(name)
    assert {hyper for hyper in rule.wide if rule.meaning(hyper) is None} == set()


@pytest.mark.parametrize("name", RULES)
def test_a_rule_explains_only_its_own_hyperparameters(name: str) -> None:
    assert set(RULES[name].meanings) <= set(RULES[name].wide)
    assert all(MEANINGS.get(hyper) != meaning for hyper, meaning in RULES[name].meanings.items())


def test_a_name_that_several_rules_share_is_explained_in_the_shared_table() -> None:
    rules = list(RULES.values())
    shared = {name for rule in rules for name in rule.wide if sum(name in other.wide for other in rules) > 1}
    assert shared <= set(MEANINGS)
    assert set(MEANINGS) <= shared | {"temperature"}


def test_meanings_read_as_the_beginning_of_a_sentence() -> None:
    every = {*MEANINGS.values(), *(meaning for rule in RULES.values() for meaning in rule.meanings.values())}
    assert all(meaning.text[0].isupper() and not meaning.text.endswith(".") for meaning in every)


def test_a_rule_overrides_the_shared_meaning() -> None:
    class Special(RULES["sgd"]):  # type: ignore[misc,name-defined]
        meanings = {"lr": Meaning("Another step size")}

    assert Special.meaning("lr") == Meaning("Another step size")
    assert Special.meaning("momentum") == MEANINGS["momentum"]
    assert Special.meaning("unknown") is None
