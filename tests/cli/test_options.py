"""Options: the library says what is wrong, and the command line which option sets it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import relaxbench
from relaxbench.cli.options import described
from relaxbench.errors import UserError


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (UserError("no such file"), "no such file"),
        (UserError("0 workers: expected 1", "workers"), "0 workers: expected 1 (option --workers)"),
        (UserError("too many", "workers", "per_device"), "too many (options --workers, --per-device)"),
    ],
)
def test_an_error_is_followed_by_the_options_that_set_what_it_concerns(error: UserError, line: str) -> None:
    assert described(error) == line


def test_messages_of_store_and_coordination_name_no_option() -> None:
    """Ray's and Optuna's own commands have options too, which may be named."""
    package = Path(relaxbench.__file__).parent
    files = [*package.glob("store/**/*.py"), *package.glob("study/coordination/*.py")]
    options = {
        (file.name, option) for file in files for option in re.findall(r"(?<![\w-])--[a-z][a-z-]+", file.read_text())
    }
    assert options == {("ray_cluster.py", "--head"), ("ray_cluster.py", "--num-cpus"), ("ray_cluster.py", "--num-gpus")}
