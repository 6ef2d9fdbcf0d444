"""The process that workers are forked from looks for garbage seldom while it imports."""

from __future__ import annotations

import subprocess
import sys

from relaxbench.cli.forked import IMPORTED

COUNT = """
import gc, importlib, sys
runs = lambda: sum(generation["collections"] for generation in gc.get_stats())
before = runs()
for name in sys.argv[1:]:
    importlib.import_module(name)
print(runs() - before)
"""


def collections(names: list[str]) -> int:
    """Return how often a new process looks for garbage while it imports these."""
    done = subprocess.run([sys.executable, "-c", COUNT, *names], capture_output=True, text=True, check=True)
    return int(done.stdout)


def test_garbage_is_looked_for_a_quarter_as_often() -> None:
    assert IMPORTED[0] == "relaxbench.util.importing"
    names = ["sqlalchemy.orm", "typer"]
    assert 4 * collections([IMPORTED[0], *names]) < collections(names)
