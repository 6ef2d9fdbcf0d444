"""Default spaces and published settings of every rule: complete, sourced, comparable, and inside what theory allows."""

from __future__ import annotations

import math
from collections import Counter

import pytest

from relaxbench.optim.hyper import defaults, expected
from relaxbench.optim.meanings import Meaning
from relaxbench.optim.published import KINDS, REASONS, Published, scope_ends
from relaxbench.optim.registry import RULES, rule_class, rule_names
from relaxbench.optim.rules.sgd import SGD
from relaxbench.problems import PROBLEMS, problem
from relaxbench.space import Choice, Float, Hyperparameter, Int, Value

NAMES = rule_names()
PUBLISHED = [(name, published) for name in NAMES for published in rule_class(name).publications]

OUTSIDE_WIDE = {
    # Zero cannot lie on a log axis; the low end of the range has hardly an effect.
    "weight_decay": {0.0},
    "decoupled_decay": {0.0},
    # Wide ranges are those of studies that were made before there were others, so that these can be repeated.
    "gamma_start": {1e4, 1e3},
    "gamma_end": {960.0, 750.0},
    "sigma_start": {5.8e-4},
    "temperature": {1e-8},
    "ema_steps": {1e3},
    "window_steps": {2346.0},
    "inner_steps": {5, 25},  # odd, and the wide range is even, because HEAT draws pairs
    "inner_steps of lookahead": {5},
    "inner_steps of diloco": {500},
}
"""Published values that no wide space contains, with the reason."""

BEYOND_WIDE = {
    ("lookahead", "inner_steps"): "5 and 10 are the published ones, and the wide range is even from 6",
    ("entropy-sgd", "gamma_start"): "the published 1e4",
    ("hj", "gamma_start"): "the published 1e3, in the range of Entropy-SGD",
    ("hj-implicit", "lr"): "a step along a mean of gradients",
    ("hj-implicit", "inner_steps"): "the published 5",
    ("hj-implicit", "gamma_start"): "the wide range begins above the value at which the iteration contracts",
    ("schedule-free-sgd", "lr"): "a step without a velocity, which multiplies SGD's by 1/(1 − 0.9)",
    ("heat", "lr"): "a step along a mean of gradients",
    ("parle", "inner_steps"): "the published 25 is odd",
    ("parle", "gamma_start"): "three decades from the published end",
}
"""Default ranges that reach beyond the wide range, with the reason."""


def contains(declared: Hyperparameter, value: Value) -> bool:
    if isinstance(declared, Choice):
        return value in declared.options
    assert not isinstance(value, str)
    on_grid = not isinstance(declared, Int) or (value - declared.low) % declared.step == 0
    return declared.low <= value <= declared.high and on_grid


def values_of(declared: Hyperparameter) -> list[Value]:
    """All options, or the ends."""
    if isinstance(declared, Choice):
        return list(declared.options)
    if isinstance(declared, Int):
        return list(range(declared.low, declared.high + 1, declared.step))
    return [declared.low, declared.high]


def decades(declared: Hyperparameter) -> float:
    assert isinstance(declared, Float) and declared.log
    return math.log10(declared.high / declared.low)


@pytest.mark.parametrize("name", NAMES)
def test_a_default_space_and_what_it_fixes_are_the_whole_rule(name: str) -> None:
    rule = rule_class(name)
    assert set(rule.space) | set(rule.default_fixed) == set(rule.wide)
    assert not set(rule.space) & set(rule.default_fixed)
    assert list(rule.space) == [hyper for hyper in rule.wide if hyper in rule.space], "one order in every table"
    for hyper, value in rule.default_fixed.items():
        assert expected(hyper, rule.wide[hyper], value) is None


@pytest.mark.parametrize("name", NAMES)
def test_a_default_space_has_few_dimensions(name: str) -> None:
    """SGD's own number, and two for the scoping."""
    assert len(rule_class(name).space) <= len(SGD.space) + 2 == 6


@pytest.mark.parametrize("name", RULES)
def test_a_default_range_is_sound(name: str) -> None:
    for hyper, declared in RULES[name].space.items():
        assert contains(declared, declared.default), hyper
        assert len(set(values_of(declared))) > 1
        for value in values_of(declared):
            assert expected(hyper, declared, value) is None
        if isinstance(declared, Int):
            assert (declared.high - declared.low) % declared.step == 0
        assert type(declared) is type(RULES[name].wide[hyper])
        if isinstance(declared, Float):
            assert declared.log == RULES[name].wide[hyper].log  # type: ignore[union-attr]


@pytest.mark.parametrize("name", RULES)
def test_a_default_range_lies_within_the_wide_one_or_says_why_not(name: str) -> None:
    rule = RULES[name]
    beyond = {
        (name, hyper)
        for hyper, declared in rule.space.items()
        if not all(contains(rule.wide[hyper], value) for value in values_of(declared))
    }
    assert beyond == {key for key in BEYOND_WIDE if key[0] == name}


@pytest.mark.parametrize("name", RULES)
def test_no_method_searches_a_step_size_over_fewer_or_more_decades_than_sgd(name: str) -> None:
    rates = [hyper for hyper in ("lr", "inner_lr", "adam_lr") if hyper in RULES[name].space]
    newton = RULES[name].finds_steps or RULES[name].curvature  # its step is Newton's, of which 1 is the whole
    assert len(rates) == (not newton or "switch" in RULES[name].wide)
    for rate in (*rates, *({"muon_lr"} & set(RULES[name].space))):
        assert decades(RULES[name].space[rate]) == pytest.approx(decades(SGD.space["lr"]))


@pytest.mark.parametrize("name", RULES)
def test_every_method_searches_decay_and_schedule_as_sgd_does(name: str) -> None:
    space = RULES[name].space
    unscheduled = "warmup" in RULES[name].wide or RULES[name].finds_steps
    assert unscheduled or space["schedule"] == SGD.space["schedule"]
    if "decoupled_decay" in space:
        assert decades(space["decoupled_decay"]) == pytest.approx(decades(SGD.space["weight_decay"]))
    else:
        assert space["weight_decay"] == SGD.space["weight_decay"]


@pytest.mark.parametrize("name", [name for name, rule in RULES.items() if rule.scope])
def test_a_relaxation_rule_searches_step_size_inner_loop_and_scope(name: str) -> None:
    space = RULES[name].space
    assert {"lr", "inner_lr"} & set(space)
    assert ("inner_steps" in space) == ("inner_steps" in RULES[name].wide)
    start, end = (f"{RULES[name].scope}_{side}" for side in ("start", "end"))
    searched, last = space[start], RULES[name].default_fixed[end]
    assert isinstance(searched, Float) and isinstance(last, float)
    assert last <= searched.low, "a scope never grows"


@pytest.mark.parametrize(("name", "published"), PUBLISHED, ids=lambda value: getattr(value, "kind", value))
def test_a_published_start_of_a_scope_lies_in_the_default_range(name: str, published: Published) -> None:
    searched = rule_class(name).space.get("gamma_start")
    if searched is not None:
        assert contains(searched, published.values["gamma_start"])


def test_the_implicit_iteration_contracts_where_sgd_is_stable() -> None:
    """γλ < (1 + b)/(1 − b), with the curvature λ at which SGD with Nesterov's momentum becomes unstable."""
    rule = RULES["hj-implicit"]
    b, gamma = rule.default_fixed["averaging"], rule.space["gamma_start"]
    assert isinstance(b, float) and isinstance(gamma, Float)
    stable = 2 * (1 + 0.9) / ((1 + 2 * 0.9) * 0.1)
    assert stable == pytest.approx(13.57, abs=0.01)
    assert gamma.low * stable < (1 + b) / (1 - b)
    assert gamma.default * stable < (1 + b) / (1 - b)
    assert gamma.high < (1 + b) / (1 - b), "it contracts for every λ up to 1"
    assert rule.limited == {"gamma_start", "gamma_end"}


def test_parle_is_stable_at_every_default() -> None:
    """η_x ρ < 1.357 at outer momentum 0.9 (specification of the mathematics, section 3)."""
    fixed = RULES["parle"].default_fixed
    rate, attraction = fixed["outer_lr"], fixed["rho_end"]
    assert isinstance(rate, float) and isinstance(attraction, float)
    assert fixed["outer_momentum"] == 0.9 and rate * attraction < 1.357


def test_heat_draws_pairs() -> None:
    assert all(isinstance(steps, int) and steps % 2 == 0 for steps in values_of(RULES["heat"].space["inner_steps"]))


@pytest.mark.parametrize(("name", "published"), PUBLISHED, ids=lambda value: getattr(value, "kind", value))
def test_published_settings_are_complete_and_sourced(name: str, published: Published) -> None:
    rule = rule_class(name)
    assert set(published.values) == set(rule.wide) and published.kind in KINDS
    assert published.source.strip() and set(published.assumed) <= set(published.values)
    assert all(reason.strip() for reason in published.assumed.values())
    rule(**published.options)
    for hyper, value in published.values.items():
        assert expected(hyper, rule.wide[hyper], value) is None
        if not contains(rule.wide[hyper], value):
            assert value in OUTSIDE_WIDE[hyper] | OUTSIDE_WIDE.get(f"{hyper} of {name}", set())
    for hyper, value in rule.default_fixed.items():
        if name not in ("entropy-sgd", "hj", "heat") or not hyper.endswith("_end"):
            assert value == published.values[hyper], "what the default fixes is what was published"


@pytest.mark.parametrize("name", RULES)
def test_every_built_in_rule_has_published_settings_once_per_kind(name: str) -> None:
    rule = RULES[name]
    kinds = Counter(published.kind for published in rule.publications)
    assert kinds and set(kinds.values()) == {1}
    assert rule.published == rule.publications[0].values
    for kind in (*KINDS, ""):
        publication = rule.publication(kind)
        assert publication and (publication.kind == kind) == (kind in kinds)
        assert rule.published_for(kind) == publication.values


@pytest.mark.parametrize("name", RULES)
def test_every_hyperparameter_has_a_reason(name: str) -> None:
    rule = RULES[name]
    assert all(rule.reason(hyper) for hyper in rule.wide)
    assert set(rule.reasons) <= set(rule.wide)
    assert not any(rule.reason(hyper).endswith(".") or not rule.reason(hyper).isprintable() for hyper in rule.wide)
    assert set(REASONS) <= {hyper for other in RULES.values() for hyper in other.wide}


@pytest.mark.parametrize("name", PROBLEMS)
def test_every_built_in_problem_is_of_a_known_kind(name: str) -> None:
    assert problem(name).kind in KINDS


def test_released_couplings_are_converted_to_times() -> None:
    """By hand: 1.001^2345 = 10.42 and 1.001^3910 = 49.8; the coupling g is 1/γ."""
    assert scope_ends(1e-4, 1e-3, 2345) == {"gamma_start": 1e4, "gamma_end": 960.0}
    cifar = RULES["entropy-sgd"].published_for("cifar-10")
    assert cifar["gamma_start"] == pytest.approx(100 / 3) and cifar["gamma_end"] == 0.67
    assert scope_ends(0.01, 0.5, 100, most=1.0)["gamma_end"] == 1.0


def test_a_rule_with_one_space_of_its_own_inherits_no_others() -> None:
    class Mine(RULES["entropy-sgd"]):  # type: ignore[misc,name-defined]
        space = {"inner_lr": Float(0.1, 1.0, 0.5)}
        meanings = {"inner_lr": Meaning("A step size")}

    assert Mine.wide == Mine.space and Mine.default_fixed == {} and Mine.publications == ()
    assert Mine.published == {} and Mine.published_for("cifar-10") == {} and Mine.publication("cifar-10") is None

    class Same(RULES["entropy-sgd"]):  # type: ignore[misc,name-defined]
        pass

    assert Same.wide is RULES["entropy-sgd"].wide and Same.published == RULES["entropy-sgd"].published


def test_defaults_of_the_constructor_are_those_of_the_wide_space() -> None:
    """A study's default space does not change what code that uses a drop-in class does."""
    assert defaults(RULES["entropy-sgd"].wide)["gamma_start"] == 30.0
    assert defaults(RULES["entropy-sgd"].wide)["outer_lr"] == 0.5
