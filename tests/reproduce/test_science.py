"""The table of scientific problems, and the sweeps of Gauss–Seidel, against plain recomputations."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from relaxbench.cli.main import main
from relaxbench.problems import problem
from relaxbench.problems.science.poisson import PoissonSource
from relaxbench.reproduce import hand_over, science
from relaxbench.reproduce.science import ROWS, Measured, Row, measure, setting_of

ROW = Row("pinn-poisson2d-small", "adamw", 0.1, "", {"adam_lr": 0.01}, 20)


@pytest.fixture
def coarse(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """A grid on which a loop over nodes is cheap."""
    monkeypatch.setattr(hand_over, "SIDE", 7)
    hand_over._system.cache_clear()
    yield 7
    hand_over._system.cache_clear()


def test_settings_are_whole_and_have_no_weight_decay() -> None:
    for row in ROWS:
        setting = setting_of(row.method, problem(row.problem), row.params)
        assert row.params.items() <= setting.items()
        assert all(value == 0 for name, value in setting.items() if name in ("weight_decay", "decoupled_decay"))


def test_a_row_is_trained_with_its_seeds_and_its_interval_is_students() -> None:
    (own,) = measure(3, [ROW])
    assert own.budget == 20 and len(set(own.errors)) == 3
    (again,) = measure(2, [ROW])
    assert list(again.errors) == pytest.approx(list(own.errors)[:2], rel=1e-9)  # a run does not depend on the others
    low, high = stats.t.interval(0.95, 2, np.mean(np.log10(own.errors)), stats.sem(np.log10(own.errors)))
    mean = math.prod(own.errors) ** (1 / 3)
    assert own.interval() == pytest.approx((mean, 10**low, 10**high))


def test_the_page_repeats_what_was_published_and_asked() -> None:
    text = (Path(__file__).parents[2] / "docs" / "science.md").read_text(encoding="utf-8")
    rows = re.findall(
        r"^\| `([\w-]+)` \| .+? \| ([\d,]+) \| ([\d.e-]+) \(.+?\) \| ([\d.e-]+) after", text, re.MULTILINE
    )
    assert len(rows) >= 4
    for method, gradients, _, published in rows:
        known = [row.published for row in ROWS if row.method == method and row.problem == "pinn-poisson2d"]
        budgets = {row.budget or 5000 for row in ROWS if row.method == method}
        assert float(published) in known and int(gradients.replace(",", "")) in budgets


def test_sweeps_are_those_of_a_loop_over_the_nodes(coarse: int) -> None:
    n, h = coarse, 1 / (coarse + 1)
    source = PoissonSource().source(hand_over.nodes()).view(n, n).numpy()
    u = np.zeros((n + 2, n + 2))

    def sweep() -> None:
        for i in range(1, n + 1):
            for j in range(1, n + 1):
                around = u[i - 1, j] + u[i + 1, j] + u[i, j - 1] + u[i, j + 1]
                u[i, j] = (around - h * h * source[i - 1, j - 1]) / 4

    for _ in range(300):  # 0.85 per sweep: to the end
        sweep()
    exact, u = u.copy(), np.zeros_like(u)
    count = 0
    while np.linalg.norm(u - exact) > hand_over.WITHIN * np.linalg.norm(exact):
        sweep()
        count += 1
    error, sweeps = hand_over.sweeps(np.zeros(n * n))
    assert (error, sweeps) == (1, count) and count > 10
    assert hand_over.sweeps(exact[1:-1, 1:-1].ravel())[1] == 0


def test_the_commands_print_their_tables(
    coarse: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(hand_over, "STARTS", (("adamw", {"adam_lr": 0.01}, 20),))
    assert main(["reproduce", "hand-over", "--runs", "2"]) == 0
    out = capsys.readouterr().out
    assert re.search(rf"zero +1 +{hand_over.sweeps(np.zeros(49))[1]}\b", out)
    assert "adamw, 20 gradients" in out and "7² nodes" in out
    monkeypatch.setattr(science, "measure", lambda runs: iter([Measured(row, 7, [0.1] * runs) for row in ROWS]))
    assert main(["reproduce", "science"]) == 0
    out = capsys.readouterr().out
    assert "published 6.4e-07" in " ".join(out.split()) and out.count("0.1 (0.1 to 0.1) after 7 gradients") == len(ROWS)
    assert main(["reproduce", "science", "some-study"]) == 2 and main(["reproduce", "hand-over", "--runs", "1"]) == 2
    err = capsys.readouterr().err
    assert (
        "science is measured now, not read from a study" in err and "--runs 1: expected at least 2, 3 as usual" in err
    )
