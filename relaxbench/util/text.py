"""Numbers and times as text."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

LONGEST_WORD = 100
"""Characters of a word of a message that are all shown; a longer one is cut in its middle."""
LONGEST_LINE = 2000


def counted(count: Any, noun: str) -> str:
    """A number with its noun: 1 block, 1,200 blocks, 2 studies."""
    number = int(count)
    plural = f"{noun[:-1]}ies" if noun.endswith("y") else f"{noun}s"
    return f"{number:,} {noun if number == 1 else plural}"


def duration(seconds: float) -> str:
    """A time as text: 45 s, 3.0 min, 2.5 h."""
    for size, unit in ((3600.0, "h"), (60.0, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.0f} s"


def percent(share: float) -> str:
    """A share as text: "8 %", "0.4 %", "12 %"."""
    value = 100 * share + 0.0  # no "−0 %"
    return f"{value:.0f} %" if value >= 9.95 else f"{value:.2g} %"


def scientific(value: float) -> str:
    """A number with a power of ten: 5.12·10⁻¹²."""
    factor, power = f"{value:.2e}".split("e")
    return f"{factor}·{power_of_ten(int(power))}".replace("-", "−")


def power_of_ten(power: int) -> str:
    """10⁻¹²."""
    return "10" + str(power).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))


def before_a_number(name: str) -> str:
    """Return the name of a quantity to be followed by its value: ``accuracy below 100 %:``, but ``test error``."""
    return name if name[-1:].isalpha() else f"{name}:"


def listed(values: Sequence[object]) -> str:
    """Values as text: 10; 10 and 20; 10, 20 and 40."""
    *most, last = map(str, values)
    return f"{', '.join(most)} and {last}" if most else last


def one_line(message: str) -> str:
    """A message as one line that any terminal shows: no control characters, and very long words and lines shortened."""
    line = " ".join("".join(letter if letter.isprintable() else _visible(letter) for letter in message).split())
    line = re.sub(rf"[^\s/]{{{LONGEST_WORD + 1},}}", lambda word: _cut(word[0], 40, "characters"), line)
    return line if len(line) <= LONGEST_LINE else _cut(line, LONGEST_LINE // 2, "characters in all")


def _visible(letter: str) -> str:
    return " " if letter.isspace() else letter.encode("unicode_escape", "backslashreplace").decode("ascii")


def _cut(text: str, kept: int, what: str) -> str:
    return f"{text[:kept]}…({len(text):,} {what})…{text[-kept // 4 :]}"
