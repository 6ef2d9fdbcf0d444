"""The changelog has a dated section for the package's version, and says nothing twice."""

from __future__ import annotations

import re
from datetime import date
from pathlib import Path

import relaxbench

ROOT = Path(__file__).resolve().parent.parent
LINES = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8").splitlines()


def test_the_version_has_a_dated_section() -> None:
    (day,) = [
        line.removeprefix(f"## [{relaxbench.__version__}] - ") for line in LINES if relaxbench.__version__ in line
    ]
    assert date.fromisoformat(day)
    assert f'date-released: "{day}"' in (ROOT / "CITATION.cff").read_text(encoding="utf-8")


def test_versions_are_in_order_and_occur_once() -> None:
    versions = [match.group(1) for line in LINES if (match := re.match(r"## \[(.+?)\]", line))]
    numbers = [tuple(map(int, version.split("."))) for version in versions if version != "Unreleased"]
    assert numbers == sorted(set(numbers), reverse=True)


def test_no_line_occurs_twice() -> None:
    lines = [line.strip() for line in LINES if line.strip() and not line.startswith("#")]
    assert sorted(lines) == sorted(set(lines))


def test_no_subject_has_two_entries() -> None:
    """An entry begins with what it is about; two entries that begin alike are one entry."""
    starts = [" ".join(line.split()[1:4]) for line in LINES if line.startswith("- ")]
    assert sorted(starts) == sorted(set(starts))
