"""A clock that is set while a worker waits ends no worker; what is done on the side takes a small share of the time."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

import relaxbench
from relaxbench.util.pause import rest, sleep


def test_a_sleep_that_the_system_refuses_is_waited_for_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(seconds: float) -> None:
        raise OSError(22, "Invalid argument")

    monkeypatch.setattr(time, "sleep", refuse)
    began = time.monotonic()
    sleep(0.05)
    assert 0.04 < time.monotonic() - began < 5


@pytest.mark.parametrize(
    ("took", "seconds"), [(0.0, 0.5), (0.01, 0.5), (0.1, 2.0), (1.5, 30.0), (3600.0, 30.0)]
)  # fmt: skip
def test_work_on_the_side_rests_in_proportion_within_limits(took: float, seconds: float) -> None:
    assert rest(took, 20, 0.5, 30.0) == pytest.approx(seconds)


def test_nothing_waits_in_another_way() -> None:
    package = Path(relaxbench.__file__).parent
    waiting = [file.name for file in package.rglob("*.py") if "time.sleep(" in file.read_text()]
    assert waiting == ["pause.py"]
