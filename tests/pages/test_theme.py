"""Names, labels and ranges of figures."""

from __future__ import annotations

import itertools
import re

import pytest

from relaxbench.pages.theme import (
    Look,
    file_name,
    log_axis,
    plain,
    rows_height,
    tick_text,
    two_lines,
    visible,
    with_unit,
)


@pytest.mark.parametrize(("name", "safe"), [("digits", "digits"), ("a.b_c-1", "a.b_c-1")])
def test_plain_names_stay(name: str, safe: str) -> None:
    assert file_name(name) == safe


@pytest.mark.parametrize(
    "name", ["../../etc/passwd", "..", "a/b", "", "ü", "x" * 300, ".hidden", "a b", "nul\0", "index", "a.HTML"]
)
def test_other_names_are_made_safe(name: str) -> None:
    safe = file_name(name)
    assert re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,100}", safe) and file_name(name + "!") != safe


def test_text_is_shortened_and_escaped_for_plotly() -> None:
    assert plain("<b>%{x}</b>") == "&lt;b&gt;%&#123;x}&lt;/b&gt;"
    assert plain("x" * 40) == "x" * 27 + "…" and plain("x" * 40, 60) == "x" * 40


@pytest.mark.parametrize(
    ("title", "label"),
    [
        ("Hamilton–Jacobi", "Hamilton–Jacobi"),
        ("Hamilton–Jacobi (implicit)", "Hamilton–Jacobi<br>(implicit)"),
        ("Entropy-SGD as published", "Entropy-SGD<br>as published"),
        ("Entropy-SGD with a < 1 & no noise", "Entropy-SGD with<br>a &lt; 1 &amp; no noise"),
        ("x" * 40, f"{'x' * 20}<br>{'x' * 20}"),
        ("x" * 80, f"{'x' * 23}…<br>{'x' * 23}…"),
    ],
)
def test_long_labels_of_rows_have_two_lines(title: str, label: str) -> None:
    assert two_lines(title) == label
    assert rows_height(["SGD", label], 30) == (72 if "<br>" in label else 60) and rows_height([label], 42) == 42


def test_a_unit_is_named_once() -> None:
    assert with_unit("test error", "%") == "test error (%)" and with_unit("test loss", "") == "test loss"
    assert with_unit("gradients to tolerance", "gradients") == "gradients to tolerance"


def test_an_extreme_method_does_not_flatten_the_others() -> None:
    low, high = visible([1.0, 1.2, 0.9, 500.0], [2.0, 2.2, 1.9, 501.0])
    assert low < 0.9 and 2.2 < high < 3


def test_methods_that_are_one_point_do_not_hide_another() -> None:
    low, high = visible([0.0, 0.0, 0.0, -3.9], [0.0, 0.0, 0.0, -3.4])
    assert low < -3.9 and 0 < high < 1


def test_ticks_of_a_logarithmic_axis() -> None:
    narrow, wide = log_axis(1, 10), log_axis(1e-7, 10)
    assert {1, 2, 5, 10} <= set(narrow["tickvals"]) and len(narrow["tickvals"]) == len(narrow["ticktext"])
    assert "10⁻⁷" in wide["ticktext"] and not any(text.startswith("2") for text in wide["ticktext"])


@pytest.mark.parametrize(
    ("low", "high", "texts"),
    [
        (10.7, 11.3, ["10.8", "11", "11.2"]),
        (2.2, 9.0, ["4", "6", "8"]),
        (0.011, 0.019, ["0.012", "0.014", "0.016", "0.018"]),
        (1000.1, 1000.4, ["1,000.1", "1,000.2", "1,000.3", "1,000.4"]),
        (2.1e-6, 2.9e-6, ["2.2·10⁻⁶", "2.4·10⁻⁶", "2.6·10⁻⁶", "2.8·10⁻⁶"]),
    ],
)
def test_a_narrow_logarithmic_axis_has_ticks(low: float, high: float, texts: list[str]) -> None:
    axis = log_axis(low, high)
    assert axis["ticktext"] == texts
    assert all(low <= tick <= high for tick in axis["tickvals"])


def test_every_logarithmic_axis_has_two_ticks_that_differ() -> None:
    for low, factor in itertools.product(
        (1e-9, 0.37, 1.0, 4.4, 99.0, 7e11), (1.0001, 1.01, 1.3, 2, 4, 9, 60, 900, 1e5)
    ):
        axis = log_axis(low, low * factor)
        inside = {
            text for tick, text in zip(axis["tickvals"], axis["ticktext"], strict=True) if low <= tick <= low * factor
        }
        assert len(inside) >= 2, (low, factor)
    assert log_axis(11.0, 11.0)["ticktext"] == ["11"] and "1" in log_axis(1, 1)["ticktext"]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        *((0, "0"), (0.05, "0.05"), (1e4, "10,000"), (2.2613, "2.26"), (-0.5, "−0.5")),
        *((1e-6, "10⁻⁶"), (2e-5, "2·10⁻⁵"), (3.14159e7, "3.14·10⁷"), (-1e5, "−1·10⁵")),
    ],
)
def test_numbers_on_an_axis_have_three_digits(value: float, text: str) -> None:
    assert tick_text(value) == text


@pytest.mark.parametrize(("low", "high"), [(1e-150, 1e150), (1e-300, 1e302), (1e-37, 1e37)])
def test_an_axis_of_hundreds_of_decades_has_few_ticks(low: float, high: float) -> None:
    axis = log_axis(low, high)
    assert 5 <= len(axis["tickvals"]) <= 14 and axis["tickvals"][-1] > 1e10
    assert all(text.startswith(("10", "0.")) or text == "1" for text in axis["ticktext"])


def test_a_known_rule_keeps_its_colour_and_the_baseline_is_neutral() -> None:
    facts = {label: {"rule": label, "title": label.upper()} for label in ("sgd", "sam", "heat")}
    look, alone = Look.of(facts, "sgd"), Look.of({"heat": facts["heat"]}, None)
    assert look.colours["heat"] == alone.colours["heat"] != look.colours["sam"]
    assert look.colours["sgd"] == "#010203" and look.title("heat") == "HEAT"


def test_no_two_methods_look_alike() -> None:
    rules = (
        "sgd",
        "adamw",
        "curveball",
        "parle",
        "entropy-sgd",
        "hj",
        "heat",
        "hj-implicit",
        "lookahead",
        "sam",
        "own",
    )
    look = Look.of({rule: {"rule": rule, "title": rule} for rule in rules}, "sgd")
    drawn = [(look.colours[rule], look.dash(rule)) for rule in rules]
    assert len(set(drawn)) == len({(look.colours[rule], look.symbol(rule)) for rule in rules}) == len(rules)
    few = Look.of({rule: {"rule": rule, "title": rule} for rule in rules[:8]}, "sgd")
    assert len(set(few.colours.values())) == 8 and {few.dash(rule) for rule in rules[:8]} == {"solid"}
    assert few.colours["curveball"] == look.colours["curveball"]  # a known rule keeps its colour, whatever comes before
