"""Declared hyperparameters: fair between methods, sound, and the same number in every tensor."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from relaxbench.optim.hyper import ANNEALED, OPTIONS, SCHEDULES, SCOPINGS, defaults, encode, stack
from relaxbench.optim.registry import RULES
from relaxbench.space import Choice, Float, Hyperparameter, Int, Value

DECLARED = [(rule, name) for rule in RULES for name in RULES[rule].wide]


def span(declared: Hyperparameter) -> Hyperparameter:
    """A declaration without its default: what is searched."""
    if isinstance(declared, Choice):
        return replace(declared, default="")
    return replace(declared, default=0)


def values(declared: Hyperparameter) -> st.SearchStrategy[Value]:
    if isinstance(declared, Float):
        return st.floats(declared.low, declared.high)
    if isinstance(declared, Int):
        return st.sampled_from(range(declared.low, declared.high + 1, declared.step))
    return st.sampled_from(declared.options)


def settings(rule: str) -> st.SearchStrategy[dict[str, Value]]:
    return st.fixed_dictionaries({name: values(declared) for name, declared in RULES[rule].wide.items()})


@pytest.mark.parametrize("name", sorted({name for _, name in DECLARED}))
def test_every_wide_space_has_the_same_range_of_a_shared_name(name: str) -> None:
    spans = {span(rule.wide[name]) for rule in RULES.values() if name in rule.wide}
    assert len(spans) == 1


def test_the_step_size_on_a_gradient_has_one_range_whatever_it_is_called() -> None:
    """`lr` of SGD is what `inner_lr` is inside an inner loop: the same range and the same default."""
    assert len({rule.wide[name] for rule in RULES.values() for name in ("lr", "inner_lr") if name in rule.wide}) == 1


@pytest.mark.parametrize("rule", RULES)
def test_every_method_has_the_things_that_every_method_has(rule: str) -> None:
    space = RULES[rule].wide
    if RULES[rule].finds_steps:
        assert "weight_decay" in space and not {"schedule", "warmup"} & set(space)
        return
    assert ("schedule" in space) != ("warmup" in space)  # a schedule-free method has a warm-up in its place
    if "adam_lr" in space:  # a momentum, a decay and a step size of other meanings, hence of other names
        assert {"beta1", "beta2", "decoupled_decay"} <= set(space) and not {"lr", "inner_lr", "anneal"} & set(space)
        return
    assert "weight_decay" in space
    if RULES[rule].curvature:  # its momentum is computed, and its step size is one on Newton's
        assert "newton_lr" in space and not {"momentum", "lr", "inner_lr"} & set(space)
        return
    assert ("momentum" in space) != (rule == "sgld")  # a chain without a velocity
    assert ("lr" in space) != ("inner_lr" in space)
    assert ("inner_lr" in space) == ("outer_lr" in space) == ("anneal" in space)


@pytest.mark.parametrize(("rule", "name"), DECLARED)
def test_a_declaration_is_sound(rule: str, name: str) -> None:
    declared = RULES[rule].wide[name]
    if isinstance(declared, Choice):
        assert declared.default in declared.options
        assert len(set(declared.options)) == len(declared.options) > 1
        assert set(declared.options) <= set(OPTIONS[name])
        return
    assert declared.low < declared.high
    assert declared.low <= declared.default <= declared.high
    if isinstance(declared, Float):
        assert declared.low > 0 or not declared.log
    else:
        assert (declared.high - declared.low) % declared.step == 0
        assert (declared.default - declared.low) % declared.step == 0


@pytest.mark.parametrize("rule", [rule for rule in RULES if "inner_steps" in RULES[rule].wide])
def test_inner_steps_are_even_and_not_close_to_sgd(rule: str) -> None:
    declared = RULES[rule].wide["inner_steps"]
    assert isinstance(declared, Int)
    assert declared.low >= 5  # one gradient an outer step is SGD (specification, T11)
    assert all(length % 2 == 0 for length in range(declared.low, declared.high + 1, declared.step))
    assert declared.default % 2 == 0


@pytest.mark.parametrize(("rule", "name"), [pair for pair in DECLARED if pair[1] in ("gamma_start", "sigma_start")])
def test_scopes_shrink_by_default(rule: str, name: str) -> None:
    space = RULES[rule].wide
    start, end = space[name], space[name.replace("_start", "_end")]
    assert isinstance(start, Float) and isinstance(end, Float)
    assert end.default < start.default and end.low <= start.low and end.high <= start.high
    assert RULES[rule].scope == name.removesuffix("_start")


def test_momentum_and_averaging_stay_below_one() -> None:
    for rule in RULES.values():
        for name in ("momentum", "outer_momentum", "averaging", "beta1", "beta2"):
            if name in rule.wide:
                assert 0 <= rule.wide[name].low < rule.wide[name].high < 1  # type: ignore[union-attr]


def test_defaults_are_the_declared_ones_and_a_fresh_dict() -> None:
    space = RULES["entropy-sgd"].wide
    first = defaults(space)
    assert first == {name: declared.default for name, declared in space.items()}
    first["inner_lr"] = 7.0
    assert defaults(space)["inner_lr"] == 0.1


@pytest.mark.parametrize(("name", "options"), [("schedule", SCHEDULES), ("scoping", SCOPINGS), ("anneal", ANNEALED)])
def test_a_choice_is_encoded_as_its_place_among_all_options(name: str, options: tuple[str, ...]) -> None:
    assert [encode(name, option) for option in options] == list(range(len(options)))
    with pytest.raises(ValueError, match="not in tuple"):
        encode(name, "quadratic")


def test_a_narrowed_choice_keeps_its_numbers() -> None:
    """A space that leaves "constant" out of the scopings still encodes what it keeps as the schedules read it."""
    for rule in RULES.values():
        for name, declared in rule.wide.items():
            if isinstance(declared, Choice):
                assert [encode(name, o) for o in declared.options] == [OPTIONS[name].index(o) for o in declared.options]


@given(st.one_of(st.floats(-1e300, 1e300), st.integers(-(2**53), 2**53)))
def test_numbers_are_encoded_as_themselves(number: float) -> None:
    assert encode("lr", number) == number and isinstance(encode("lr", number), float)


@given(st.data(), st.sampled_from(list(RULES)), st.sampled_from([torch.float32, torch.float64]))
def test_stack_holds_every_members_values(data: st.DataObject, rule: str, dtype: torch.dtype) -> None:
    members = data.draw(st.lists(settings(rule), min_size=1, max_size=4))
    tensors = stack(members, torch.device("cpu"), dtype)
    assert set(tensors) == set(RULES[rule].wide)
    for name, tensor in tensors.items():
        assert tensor.shape == (len(members), 1) and tensor.dtype == dtype
        for k, member in enumerate(members):
            value = member[name]
            number = OPTIONS[name].index(value) if isinstance(value, str) else value
            assert float(tensor[k]) == float(torch.tensor(number, dtype=torch.float64).to(dtype))


@given(st.data(), st.sampled_from(list(RULES)))
def test_period_is_the_number_of_queries_in_an_outer_step(data: st.DataObject, rule: str) -> None:
    members = data.draw(st.lists(settings(rule), min_size=1, max_size=4))
    period = RULES[rule]().period(stack(members, torch.device("cpu"), torch.float32))
    more, fixed = {"hj-implicit": 1}.get(rule, 0), {"sam": 2, "asam": 2}.get(rule, 1)
    expected = [int(m.get("inner_steps", m.get("samples", fixed))) + more for m in members]
    assert period.dtype == torch.int64 and period.tolist() == [[n] for n in expected]
