"""`plan`: gradients at the first look and at the last, and what to expect until the comparisons are decided."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from relaxbench.analysis.planning import Expectation, Spreads
from relaxbench.cli.pace import Pace
from relaxbench.cli.plan import _not_counted
from relaxbench.cli.plan_expected import _blocks
from relaxbench.problems.landscapes.landscape import Landscape
from relaxbench.study.coordination.size import Size
from relaxbench.study.execution import processes
from tests.cli.commands import STUDY, nothing_written, printed
from tests.study import tiny

pytestmark = pytest.mark.usefixtures("folder")

PLAN = ("plan", "mine.toml", "--population", "8")


def test_plan_counts_gradients_and_writes_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    Path("mine.toml").write_text(STUDY)
    with nothing_written():
        out = printed(capsys, *PLAN)
    count = 6 * 1 + tiny.best(6, 1) + 2 + 2  # a method
    for method in ("sgd", "heat"):
        assert re.search(rf"^  {method}\s+{count}\s+\S+ \S+\s+{count * 40}\s", out, re.MULTILINE)
    assert re.search(r"^rosenbrock +$", out, re.MULTILINE)
    assert re.search(rf"total\s+{2 * count}\s+\S+ \S+\s+{2 * count * 40:,}\s", out)
    assert "give the spread of the log metric between blocks (--spread 0.3)" in " ".join(out.split())


def test_plan_shows_the_first_look_the_worst_case_and_what_to_expect(capsys: pytest.CaptureFixture[str]) -> None:
    Path("mine.toml").write_text('margin = "10 %"\n' + STUDY.replace("trials = 1", "trials = 3"))
    options = ("--looks", "6,12,24", "--method", "heat")
    out = " ".join(printed(capsys, *PLAN, *options, "--spread", "0.001").split())
    first, last = (blocks * 3 + tiny.best(blocks, 3) + 2 + 2 for blocks in (6, 24))
    assert re.search(rf"total {2 * first} \S+ \S+ {2 * last} \S+ \S+ {2 * last * 40:,} ", out)
    assert "first look (6 blocks), and at worst" in out and "last one (24 blocks)" in out
    # Hardly any spread: all is decided at the first look.
    assert re.search(rf"rosenbrock 1 100 % 6 {2 * first} \S+ \S+ 1.25 100 % 6 {2 * first} ", out)
    assert "rosenbrock: for the stated spread of 0.001 between blocks." in out
    out = " ".join(printed(capsys, *PLAN, *options, "--spread", "3").split())
    (decided, runs) = re.search(r"rosenbrock 1 ([\d.]+) % 24 (\d+) ", out).groups()  # type: ignore[union-attr]
    assert float(decided) <= 5 and 0.95 * 2 * last < int(runs) < 2 * last  # a false difference now and then


def test_a_margin_in_points_needs_a_first_study_whose_spread_is_used(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("mine.toml").write_text(STUDY)
    out = " ".join(printed(capsys, *PLAN, "--spread", "0.3").split())
    assert "rosenbrock: the margin is in the metric's unit" in out
    tiny.set_engine(monkeypatch)
    tiny.run(Path(), tiny.spec(name="before", looks=[6], trials=1, exploit=0, recommend=0, flatness=False))
    out = " ".join(printed(capsys, *PLAN, "--storage", "study.db").split())
    assert "for the spreads between blocks that study 'before' found" in out and "the margin is in" not in out


def test_plan_says_how_many_workers_share_the_runs(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those that `study` would start, with its number of threads: a plan leaves torch's number as it was."""
    Path("mine.toml").write_text(STUDY)
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr(processes, "cores", lambda: 6)
    monkeypatch.setattr(processes.psutil, "virtual_memory", lambda: SimpleNamespace(available=100 * 2**30))
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    threads = torch.get_num_threads()
    assert "K = 8 on cpu, by 1 worker of 2 threads" in " ".join(printed(capsys, *PLAN).split())  # soon done
    monkeypatch.setattr(processes, "gradient_seconds", lambda problem: 10.0)
    assert "K = 8 on cpu, by 3 workers of 2 threads" in " ".join(printed(capsys, *PLAN).split())
    assert torch.get_num_threads() == threads


def test_the_time_of_a_plan_is_the_sum_of_its_rows(capsys: pytest.CaptureFixture[str]) -> None:
    Path("mine.toml").write_text(STUDY.replace("trials = 1", "trials = 400"))
    rows = re.findall(
        r"^(?:  sgd|  heat|start|total) .*? (\d+(?:\.\d+)?) (s|min)\b", printed(capsys, *PLAN), re.MULTILINE
    )
    *parts, total = (float(number) * (60 if unit == "min" else 1) for number, unit in rows)
    assert len(parts) == 3
    assert total == pytest.approx(sum(parts), rel=0.05, abs=2)  # shown without decimals


def test_the_parts_of_a_plan_add_up_to_its_total_and_lie_in_its_range(capsys: pytest.CaptureFixture[str]) -> None:
    Path("mine.toml").write_text(STUDY.replace("trials = 1", "trials = 400").replace("flatness = false", ""))
    out = " ".join(printed(capsys, *PLAN).split())
    number = r"(\d+(?:\.\d+)?) (s|min)"

    def seconds(pattern: str) -> list[float]:
        found = re.findall(pattern, out)
        return [float(value) * (60 if unit == "min" else 1) for value, unit in found]

    (total,) = seconds(rf"total [\d,]+ {number}")
    parts = seconds(rf"(?:programs and data|choice of engines|calibration|training|evaluation|flatness) {number}")
    assert len(parts) == 6 and sum(parts) == pytest.approx(total, rel=0.05, abs=4)  # shown without decimals
    (low,), (high,) = seconds(rf"Expect {number} to"), seconds(rf"to {number} until the first look")
    assert low < total < high and high / low == pytest.approx(1.5**2, rel=0.2)


def test_plan_names_the_publication_of_published_settings(capsys: pytest.CaptureFixture[str]) -> None:
    Path("mine.toml").write_text(STUDY.replace('"heat"', '"p"') + '[method.p]\nrule = "heat"\narm = "published"\n')
    out = " ".join(printed(capsys, *PLAN).split())
    assert "p on rosenbrock: its settings were published for a fully connected network: " in out
    assert "for Rosenbrock's function the rule has no published settings." in out


def test_a_pace_counts_what_a_study_runs() -> None:
    size = Size(0, (10,), trials=12, exploit=4, recommend=3, repetitions=2)
    pace = Pace("p", "m", size, budget=100, slots=64, wave=0, run=2)
    assert pace.runs(10) == 2 * (120 + 40) + 4 + 3
    assert pace.seconds(10) == pytest.approx(2 * pace.runs(10))
    assert replace(pace, workers=4).seconds(10) == pytest.approx(pace.seconds(10) / 4)
    measured = replace(pace, testing=10, flatness=1000)
    flat = 2 * 10 + 3  # the winner of each block, and the recommended runs
    assert measured.seconds(10) == pytest.approx(pace.seconds(10) + 10 * (2 * 40 + 3) + 1000 * flat)
    later = replace(measured, size=replace(pace.size, looks=(10, 20)))
    assert later.seconds(20) - replace(later, flatness=0).seconds(20) == pytest.approx(1000 * flat)
    some = replace(measured, flat=4)
    assert measured.seconds(10) - some.seconds(10) == pytest.approx(1000 * (flat - (2 * 4 + 3)))
    parts = replace(some, evaluation=0.5, workers=2).parts(10)
    tested, runs = 2 * 40 + 3, pace.runs(10)
    assert parts == pytest.approx(
        {"training": 1.5 * runs / 2, "evaluation": (0.5 * runs + 10 * tested) / 2, "flatness": 1000 * (2 * 4 + 3) / 2}
    )
    published = Pace("p", "m", Size(0, (10,), trials=0, exploit=0, recommend=0), budget=100, slots=8, wave=5, run=2)
    assert published.runs(10) == 10 and published.seconds(10) == 2 * 5 + 10 * 2


def test_a_pace_counts_waves_of_runs_that_wait_for_each_other() -> None:
    size = Size(0, (10, 20), trials=12, exploit=4, recommend=3)
    pace = Pace("p", "m", size, budget=100, slots=64, wave=1, run=0)
    # 120 random trials fill 64 slots twice, 40 confirmations once, 3 runs of the best settings once.
    assert pace.seconds(10) == pace.waves(10) == 2 + 1 + 1
    assert pace.waves(20) == 2 * (2 + 1) + 1
    assert replace(pace, slots=200).waves(10) == 3
    # TPE's generations of 4 train next to the others, one after another.
    assert replace(pace, size=replace(size, exploit=40)).waves(10) == 10 + 1


def test_plan_says_that_measurements_are_dear_and_that_flatness_is_left_out_or_cannot_be_measured(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("mine.toml").write_text(STUDY.replace("flatness = false", 'flatness = "full"'))
    monkeypatch.setattr("relaxbench.study.execution.flatness.duration", lambda *_: 0.0)
    assert "rosenbrock: flatness cannot be measured for this model" in " ".join(printed(capsys, *PLAN).split())
    Path("mine.toml").write_text(STUDY.replace("flatness = false", ""))
    monkeypatch.setattr(Landscape, "_stated_rounds", 100)
    out = " ".join(printed(capsys, *PLAN).split())
    assert "rosenbrock: flatness is left out, because with it measurements would cost more than 25 %" in out
    assert "rosenbrock: measurements in 100 rounds cost 84 % of a tested run's training, more than 25 %" in out


def test_plan_says_that_spot_checks_come_on_top() -> None:
    def search(share: float) -> Any:
        return {"arm": "tuned", "search": {"sampler": "random", "pruner": {"name": "median", "spot_checks": share}}}

    methods = {"sgd": search(0.1), "heat": search(0.1), "hj": search(0.5), "sam": search(0.0)}
    methods |= {"muon": {"arm": "tuned", "search": {"sampler": "random"}}, "known": search(0.1) | {"arm": "published"}}
    assert _not_counted(methods) == [
        f"Not counted: spot checks, which run {share} of the trials that the pruner stops to their end ({labels})."
        for share, labels in (("10 %", "sgd and heat"), ("50 %", "hj"))
    ]


def test_a_method_without_a_part_is_expected_against_the_whole() -> None:
    """A whole method that varies a lot leaves those without a part open, and goes on with them; SGD does not."""
    stored: Any = {"baseline": "sgd", "methods": ["sgd", "hj", "part"], "method": {"part": {"against": "hj"}}}

    def expect(spreads: Spreads) -> Expectation:
        open_ = spreads.reference > 1
        return Expectation(
            1.0, 0.0 if open_ else 1.0, tuple(40.0 if open_ else 10.0 for _ in spreads.methods), 40.0 if open_ else 10.0
        )

    blocks, decided = _blocks(stored, ["hj", "part"], Spreads(0.1, (5.0, 0.1)), expect)
    assert blocks == {"sgd": 10.0, "hj": 40.0, "part": 40.0} and decided == 0.5
