"""Which space a method searches on a problem: everything is searched or fixed, and the study file has the last word."""

from __future__ import annotations

from typing import Any

import pytest

from relaxbench.errors import UserError
from relaxbench.optim.registry import RULES
from relaxbench.optim.rule import Rule
from relaxbench.problems import PROBLEMS, Problem, problem
from relaxbench.space import Choice, Float, Int
from relaxbench.study.coordination.random_search import sample
from relaxbench.study.definition.ranges import Bounds
from relaxbench.study.definition.spaces import Search, fixed_of, options_of, space_of, typical
from relaxbench.study.definition.validation import parse

DIGITS = problem("digits-mlp")
TASKS = {name: problem(name) for name in PROBLEMS}
ENTROPY = RULES["entropy-sgd"]


@pytest.fixture(params=PROBLEMS)
def task(request: pytest.FixtureRequest) -> Problem:
    return TASKS[request.param]


def test_every_hyperparameter_of_every_rule_is_searched_or_fixed(task: Problem) -> None:
    for name, rule in RULES.items():
        for search in (Search(rule), Search(rule, space="wide"), Search(rule, arm="published")):
            searched, fixed = space_of(search, task), fixed_of(search, task)
            assert set(searched) | set(fixed) == set(rule.wide) and not set(searched) & set(fixed), name
            assert list(searched) == [key for key in rule.wide if key in searched], name
            assert set({**sample(searched, 1), **fixed}) == set(typical(search, task)) == set(rule.wide), name
            assert set(task.fixed) & set(rule.wide) <= set(fixed), name
        assert searched == {}, f"{name}: an arm as published searches nothing"


def test_a_default_space_has_at_most_six_dimensions_on_every_problem(task: Problem) -> None:
    assert {name: size for name, rule in RULES.items() if (size := len(space_of(Search(rule), task))) > 6} == {}


def test_wide_ranges_of_a_shared_name_are_the_same_for_all_methods(task: Problem) -> None:
    ranges: dict[str, set[Any]] = {}
    for rule in RULES.values():
        for key, declared in space_of(Search(rule, space="wide"), task).items():
            shown = declared.options if isinstance(declared, Choice) else (declared.low, declared.high)
            ranges.setdefault(key, set()).add(shown)
    assert all(len(found) == 1 for found in ranges.values()), ranges


def test_networks_have_the_declared_default_space() -> None:
    search = Search(ENTROPY)
    assert space_of(search, DIGITS) == ENTROPY.space and fixed_of(search, DIGITS) == ENTROPY.default_fixed
    assert space_of(Search(ENTROPY, space="wide"), DIGITS) == ENTROPY.wide
    assert fixed_of(Search(ENTROPY, space="wide"), DIGITS) == {}


def test_what_an_option_overrules_is_searched_in_no_space_and_refused_where_it_is_stated() -> None:
    uniform = Search(ENTROPY, space="wide", options={"uniform_average": True})
    assert set(ENTROPY.wide) - set(space_of(uniform, DIGITS)) == {"averaging"} == set(fixed_of(uniform, DIGITS))
    off = Search(ENTROPY, space="wide", options={"uniform_average": False})
    assert space_of(off, DIGITS) == ENTROPY.wide
    for table in ({"fixed": {"averaging": 0.5}}, {"space": {"averaging": [0.1, 0.5]}}):
        method = {"mine": {"rule": "entropy-sgd", "options": {"uniform_average": True}, **table}}
        with pytest.raises(UserError, match=r"method\.mine: averaging has no effect with the option uniform_average"):
            parse({"name": "s", "problems": ["digits-mlp"], "methods": ["sgd", "mine"], "method": method}, "my.toml")


def ends(search: Search, task: Problem, name: str) -> tuple[float, float]:
    declared = space_of(search, task)[name]
    assert isinstance(declared, (Float, Int))
    return declared.low, declared.high


def test_ranges_of_a_problem_replace_those_of_networks_and_search_what_they_name() -> None:
    rosenbrock = problem("rosenbrock")
    space = space_of(Search(ENTROPY), rosenbrock)
    assert list(space) == ["inner_lr", "inner_steps", "gamma_start", "gamma_end", "schedule"]
    for name in ("inner_lr", "gamma_start", "gamma_end"):
        assert ends(Search(ENTROPY), rosenbrock, name) == rosenbrock.space[name]
    assert space["inner_steps"] == ENTROPY.space["inner_steps"]
    assert fixed_of(Search(ENTROPY), rosenbrock)["weight_decay"] == 0.0


def test_a_problem_narrows_but_does_not_move_what_theory_limits() -> None:
    search, rosenbrock = Search(RULES["hj-implicit"]), problem("rosenbrock")
    assert rosenbrock.space["gamma_start"] == (0.01, 10.0)
    assert ends(search, rosenbrock, "gamma_start") == (0.01, 1.0)
    assert ends(search, problem("rugged-1d"), "gamma_start") == (0.03, 1.0)
    assert fixed_of(search, rosenbrock)["gamma_end"] == 0.01
    apart = problem("digits-mlp")
    apart.space = {"gamma_start": (2.0, 10.0)}
    assert ends(search, apart, "gamma_start") == (0.01, 1.0), "ranges without a common part: the rule's"
    wide = Search(RULES["hj-implicit"], space="wide")
    assert ends(wide, rosenbrock, "gamma_start") == (0.01, 10.0)
    mine = Search(RULES["hj-implicit"], study={"gamma_start": [2.0, 10.0]})
    assert ends(mine, rosenbrock, "gamma_start") == (2.0, 10.0), "who asks for it by name gets it"


def test_ranges_of_the_study_and_of_the_method_search_what_the_default_fixes() -> None:
    study: dict[str, Bounds] = {"temperature": [1e-6, 1e-4], "inner_steps": [6, 12], "lr": [0.1, 0.2]}
    own: dict[str, Bounds] = {"inner_steps": [8, 14]}
    search = Search(ENTROPY, study=study, space=own, fixed={"schedule": "cosine"})
    assert list(space_of(search, DIGITS)) == ["inner_lr", "inner_steps", "gamma_start", "weight_decay", "temperature"]
    assert ends(search, DIGITS, "temperature") == (1e-6, 1e-4)
    assert ends(search, DIGITS, "inner_steps") == (8, 14), "on the grid of the wide space, not in steps of ten"
    fixed = fixed_of(search, DIGITS)
    assert fixed["schedule"] == "cosine" and "temperature" not in fixed and fixed["momentum"] == 0.9
    assert ends(Search(ENTROPY, study=study, space="wide"), DIGITS, "inner_steps") == (6, 12)


def test_a_fixed_value_wins_over_a_range() -> None:
    search = Search(ENTROPY, study={"temperature": [1e-6, 1e-4]}, fixed={"temperature": 0.0, "inner_lr": 0.1})
    assert fixed_of(search, DIGITS)["temperature"] == 0.0
    assert not {"temperature", "inner_lr"} & set(space_of(search, DIGITS))


def test_an_arm_as_published_has_the_settings_for_the_kind_of_problem() -> None:
    search = Search(ENTROPY, arm="published")
    mnist, cifar = fixed_of(search, DIGITS), fixed_of(search, problem("allcnn-bn-small"))
    assert (mnist["gamma_start"], mnist["weight_decay"], mnist["inner_steps"]) == (1e4, 0.0, 20)
    assert (cifar["gamma_start"], cifar["weight_decay"]) == (pytest.approx(100 / 3), 1e-3)
    assert fixed_of(Search(RULES["sgd"], arm="published"), problem("lenet"))["lr"] == 0.1
    assert options_of(search, DIGITS) == {"restart_momentum": True, "coupling_outside_momentum": True}
    assert options_of(Search(ENTROPY), DIGITS) == {}
    rosenbrock = fixed_of(Search(RULES["sgd"], arm="published"), problem("rosenbrock"))
    assert (rosenbrock["lr"], rosenbrock["weight_decay"]) == (1e-3, 0.0)
    decayed = problem("linear-net")
    assert fixed_of(Search(RULES["heat"], arm="published"), decayed)["weight_decay"] == 0.0, "the problem's own value"


def test_a_rule_without_published_settings_cannot_run_as_published() -> None:
    class Mine(Rule):
        name, title, source = "mine", "Mine", "nowhere"
        space = {"lr": Float(0.1, 1.0, 0.5)}

    assert fixed_of(Search(Mine), DIGITS) == {} and space_of(Search(Mine, space="wide"), DIGITS) == Mine.space
    with pytest.raises(UserError, match="method 'mine' has no published settings: leave out arm"):
        fixed_of(Search(Mine, arm="published"), DIGITS)


def test_a_study_file_reaches_the_spaces() -> None:
    table = {"rule": "entropy-sgd", "space": {"temperature": [1e-4, 1e-2]}, "fixed": {"inner_steps": 8}}
    s = parse({"name": "x", "problems": ["digits-mlp"], "methods": ["sgd", "hot"], "method": {"hot": table}}, "x")
    assert s.space_of("sgd", DIGITS) == RULES["sgd"].space
    assert list(s.space_of("hot", DIGITS)) == ["inner_lr", "gamma_start", "weight_decay", "schedule", "temperature"]
    assert s.fixed_of("hot", DIGITS)["inner_steps"] == 8 and s.fixed_of("hot", DIGITS)["averaging"] == 0.75
