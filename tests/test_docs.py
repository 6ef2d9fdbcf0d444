"""The code of the documentation runs (docs/add-….md is tried in test_plugins.py)."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

PAGE = (Path(__file__).parents[1] / "docs" / "training-loops.md").read_text()
BLOCKS = [each for each in re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL) if "lightning" not in each]


def test_there_are_examples() -> None:
    assert len(BLOCKS) == 3


@pytest.mark.parametrize("code", BLOCKS, ids=range(len(BLOCKS)))
def test_an_example_runs(code: str) -> None:
    exec(code, {})
