"""Rates measured in turn, with known clocks and rates."""

from __future__ import annotations

import itertools
import time

import numpy as np
import pytest
import torch

from relaxbench.bench.interleave import interleaved, median_ratio, stretch

CPU = torch.device("cpu")


class Known:
    """A contender that records its calls, and whose rate grows with the rounds."""

    def __init__(self, name: str, calls: list[str], rate: float) -> None:
        self.name, self.calls, self.rates = name, calls, (rate * (1 + turn) for turn in itertools.count())

    def rate(self, seconds: float) -> float:
        assert seconds == 0.5
        self.calls.append(self.name)
        return next(self.rates)


def test_every_contender_runs_in_every_round_and_the_order_rotates() -> None:
    calls: list[str] = []
    rates = interleaved({name: Known(name, calls, rate) for name, rate in (("a", 1.0), ("b", 2.0), ("c", 4.0))}, 6, 0.5)
    rounds = [calls[i : i + 3] for i in range(0, 18, 3)]
    assert len(calls) == 18 and all(sorted(each) == ["a", "b", "c"] for each in rounds)
    assert {each[0] for each in rounds} == {each[-1] for each in rounds} == {"a", "b", "c"}
    assert rates["c"] == [4.0 * (1 + turn) for turn in range(6)]
    assert median_ratio(rates["c"], rates["a"]) == {"ratio": 4, "low": 4, "high": 4}  # whatever disturbs both


def test_a_ratio_compares_neighbours_and_has_the_interval_of_a_median() -> None:
    rng = np.random.default_rng(2)
    theirs, ratios = rng.lognormal(0, 2, 401), rng.lognormal(0.1, 0.3, 401)
    found = median_ratio(list(theirs * ratios), list(theirs))
    assert found["ratio"] == pytest.approx(np.median(ratios))
    density = 1 / (0.3 * np.sqrt(2 * np.pi)) / np.exp(0.1)  # the standard error of a median is 1/(2 f √n)
    assert (found["high"] - found["low"]) / 2 == pytest.approx(1.96 / (2 * density * np.sqrt(401)), rel=0.3)


@pytest.mark.parametrize(("lead", "seconds", "calls"), [(1, 1.0, 1 + 4), (0, 1.0, 4), (3, 0.0, 3 + 1)])
def test_a_stretch_times_whole_steps_after_its_lead(
    lead: int, seconds: float, calls: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    now, made = [100.0], [0]
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])

    def step() -> int:
        now[0] += 0.25
        made[0] += 1
        return 8

    assert stretch(step, seconds, CPU, lead) == 8 / 0.25
    assert made[0] == calls
