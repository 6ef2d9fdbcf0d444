"""Numbers with their nouns."""

from __future__ import annotations

import pytest

from relaxbench.util.text import counted


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
