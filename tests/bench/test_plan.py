"""The part `plan`: what it reads from a plan, and when a ratio is good enough."""

from __future__ import annotations

from pathlib import Path

import pytest

from relaxbench.bench import plan
from relaxbench.bench.tables import plan_tables
from relaxbench.util.text import duration


@pytest.mark.parametrize("seconds", [45.0, 150.0, 9000.0])
def test_the_total_is_that_of_the_first_look(seconds: float) -> None:
    text = f"problem method\ntotal     1,126  {duration(seconds)}   2,252  99 h  252,000\n"
    assert plan.total(text) == pytest.approx(seconds, rel=0.02)
    with pytest.raises(ValueError, match="no total"):
        plan.total("")


def test_too_long_and_too_short_are_both_missed() -> None:
    taken = {"right": 14.0, "long": 16.0, "short": 6.0}
    rows = {name: {"planned": 10.0, "taken": value, "budget": 40} for name, value in taken.items()}
    (table,) = plan_tables({"within": 1.5, "problems": rows})
    assert [(row[0], row[4], row[5]) for row in table.rows] == [
        ("right", "1.40 ×", "✓"), ("long", "1.60 ×", "✗"), ("short", "0.60 ×", "✗"),
    ]  # fmt: skip


def test_the_study_that_runs_is_the_one_that_was_planned(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[str, str]] = []

    def command(folder: str, name: str, *_: str) -> str:
        seen.append((name, Path(folder, "study.toml").read_text()))
        return "total     126  30 s  75,600"

    monkeypatch.setattr(plan, "_command", command)
    monkeypatch.setattr(plan, "throughput", lambda *_, seconds: 100.0)
    (row,) = plan.measure(True, lambda text: None)["problems"].values()
    assert row["planned"] == 30 and row["budget"] == 434  # 138 runs of 434 gradients of 10 ms: just below 600 s
    assert [name for name, _ in seen] == ["plan", "study"] and seen[0][1] == seen[1][1]
    assert "budget = 434" in seen[0][1]
