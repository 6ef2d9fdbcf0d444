"""Step costs with known times; and every class takes real steps."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Callable

import numpy as np
import pytest
import torch

from relaxbench.bench import steps
from relaxbench.bench.steps import NAMES, mean_of_medians, step_costs
from relaxbench.errors import UserError
from relaxbench.optim.drop_in.classes import DROP_INS

CPU = torch.device("cpu")


def test_one_phase_gives_the_median_and_its_interval() -> None:
    rng = np.random.default_rng(1)
    ratios = rng.lognormal(0.1, 0.3, 401)
    point, low, high = mean_of_medians([0] * 401, list(ratios))
    assert point == np.median(ratios)
    # The standard error of a median is 1/(2 f √n), with f the density there.
    density = 1 / (0.3 * np.sqrt(2 * np.pi)) / np.exp(0.1)
    assert (high - low) / 2 == pytest.approx(1.96 / (2 * density * np.sqrt(401)), rel=0.3)
    assert low < point < high


def test_a_rare_expensive_step_counts_in_full_and_a_disturbed_one_does_not() -> None:
    phases, ratios = [0, 1, 2, 3, 4] * 30, [1.0, 1.0, 1.0, 1.0, 3.0] * 30
    ratios[7] = 1000.0
    assert mean_of_medians(phases, ratios) == pytest.approx((1.4, 1.4, 1.4))


@pytest.mark.parametrize("period", [1, 4, 7])
def test_steps_are_taken_in_turn_and_reported_by_their_place_in_an_outer_step(
    period: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls, count = list[str](), itertools.count()

    def base() -> None:
        calls.append("base")

    def step() -> None:
        calls.append("step")

    def clock(which: Callable[[], object], _: torch.device) -> float:
        which()
        return 2.0 if which is base else 2.0 + 2.0 * (next(count) % period)

    monkeypatch.setattr(steps, "_time", clock)
    phases, ratios = steps._time_pairs(base, step, period, 10, CPU)
    assert len(ratios) >= 10 and len(ratios) % period == 0
    assert ratios == [1.0 + phase for phase in phases]
    measured = calls[-2 * len(ratios) :]
    assert all(set(pair) == {"base", "step"} for pair in zip(measured[::2], measured[1::2], strict=True))
    assert measured[::2].count("base") == len(ratios) // 2  # neither always goes first


def test_every_class_is_measured_and_reported_with_its_bill(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(steps, "BATCH", 2)
    monkeypatch.setattr(steps, "INNER_STEPS", 1)
    found = dict(step_costs(CPU, pairs=1, least=1))
    assert tuple(found) == NAMES and set(DROP_INS) <= set(NAMES)
    bills = {"sam": 2, "asam": 2, "curveball": 41 / 15}
    for name, figures in found.items():
        assert figures["low"] <= figures["ratio"] <= figures["high"] and figures["low"] > 0, name
        assert figures["gradients"] == pytest.approx(bills.get(name, 1)), name


@pytest.mark.parametrize(
    ("name", "period"), [("sgd", 1), ("entropy-sgd", 5), ("hj-implicit", 6), ("parle", 15), ("sam", 1)]
)
def test_the_calls_of_an_outer_step_are_counted(name: str, period: int) -> None:
    assert steps._training(CPU, name, False)[1] == period


def test_without_a_compiler_nothing_is_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(UserError, match=r"there is no C\+\+ compiler") as refusal:
        steps.check_compiler(CPU)
    assert refusal.value.settings == ("compile",)
    steps.check_compiler(torch.device("cuda"))  # Triton brings its own
