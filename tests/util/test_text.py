"""Numbers with their nouns."""

from __future__ import annotations

import pytest

from relaxbench.util.text import counted, one_line, percent, scientific


@pytest.mark.parametrize(
    ("count", "noun", "text"),
    [
        (0, "run", "0 runs"),
        (1, "run", "1 run"),
        (1200.0, "run", "1,200 runs"),
        (1, "study", "1 study"),
        (2, "study", "2 studies"),
    ],
)
def test_counted_uses_singular_and_plural(count: float, noun: str, text: str) -> None:
    assert counted(count, noun) == text


@pytest.mark.parametrize(
    ("value", "text"), [(5.123e-12, "5.12·10⁻¹²"), (-2e30, "−2.00·10³⁰"), (9.999e5, "1.00·10⁶"), (1.0, "1.00·10⁰")]
)
def test_powers_of_ten(value: float, text: str) -> None:
    assert scientific(value) == text


@pytest.mark.parametrize(("share", "text"), [(-0.0, "0 %"), (0.0, "0 %"), (0.004, "0.4 %"), (0.0812, "8.1 %")])
def test_percent(share: float, text: str) -> None:
    assert percent(share) == text


@pytest.mark.parametrize(
    ("message", "line"),
    [
        ("one\ntwo\t three", "one two three"),
        ("a path /home/" + "x" * 90 + "/" + "y" * 90, "a path /home/" + "x" * 90 + "/" + "y" * 90),
        ("--looks " + "9" * 5000 + ": no", "--looks " + "9" * 40 + "…(5,001 characters)…" + "9" * 9 + ": no"),
        ("red \x1b[31m, nul \0, half \udc80", r"red \x1b[31m, nul \x00, half \udc80"),
    ],
)
def test_a_message_is_one_line_that_any_terminal_shows(message: str, line: str) -> None:
    assert one_line(message) == line


def test_a_long_message_keeps_its_ends() -> None:
    line = one_line("begin " + "word " * 3000 + "end")
    assert len(line) < 1400 and line.startswith("begin word") and line.endswith("word end")
    assert "characters in all" in line
