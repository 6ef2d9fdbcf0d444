"""The cost of a gradient: how times of a busy machine become levels, and memory. No test depends on a clock."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from relaxbench.optim.hyper import defaults
from relaxbench.optim.registry import RULES
from relaxbench.optim.rule import Rule
from relaxbench.problems.digits import digits_mlp
from relaxbench.training import costs
from relaxbench.training.costs import Stopwatch, calibrate, expected_seconds, levels, peak_bytes

CPU = torch.device("cpu")
pytestmark = pytest.mark.usefixtures("at_length")
TRUE = np.array([1.0, 1.2, 0.9, 2.0])


class Scripted:
    """A stopwatch that reads times from a table, in the order of its stretches."""

    table: np.ndarray
    made: int

    def __init__(self, *_: object) -> None:
        self.index, self.turn = Scripted.made, 0
        Scripted.made += 1

    def stretch(self) -> float:
        self.turn += 1
        return float(Scripted.table[self.turn - 1, self.index])


def scripted(monkeypatch: pytest.MonkeyPatch, table: np.ndarray) -> None:
    Scripted.table, Scripted.made = table, 0
    monkeypatch.setattr(costs, "Stopwatch", Scripted)


def rules(count: int) -> list[Rule]:
    return [RULES["sgd"]() for _ in range(count)]


@given(st.integers(0, 10**6), st.integers(8, 30))
def test_slow_rounds_and_single_disturbances_move_no_ratio(seed: int, rounds: int) -> None:
    """Rounds up to three times as slow, and in a fifth of the rounds one method stopped for a while."""
    rng = np.random.default_rng(seed)
    times = TRUE * rng.uniform(1, 3, size=(rounds, 1))
    for turn in range(0, rounds, 5):
        times[turn, rng.integers(4)] *= 50
    seconds, spread = levels(times)
    np.testing.assert_allclose(seconds / seconds[0], TRUE, rtol=1e-6)
    assert (spread < 1e-6).all()


def test_the_spread_is_that_of_repeated_calibrations() -> None:
    """Over 400 calibrations with noise of 5 %, a ratio lies within the two spreads of the truth in about 95 %."""
    rng = np.random.default_rng(0)
    inside = []
    for _ in range(400):
        times = TRUE * np.exp(0.05 * rng.standard_normal((20, 4))) * rng.uniform(1, 2, size=(20, 1))
        seconds, spread = levels(times)
        error = np.log(seconds[1:] / seconds[0]) - np.log(TRUE[1:])
        inside.append(np.abs(error) < np.hypot(spread[1:], spread[0]))
    assert 0.93 < np.mean(inside) < 0.98


def test_a_quiet_machine_is_measured_briefly_and_a_busy_one_for_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(1)
    for noise, count in ((0.001, costs.LEAST), (0.2, costs.MOST)):
        scripted(monkeypatch, TRUE * np.exp(noise * rng.standard_normal((costs.MOST, 4))))
        started: list[int] = []

        def begin(index: int, started: list[int] = started) -> bool:
            started.append(index)
            return True

        found = calibrate(digits_mlp(), rules(4), CPU, begin=begin)
        assert sorted(started) == sorted(list(range(4)) * count)
        assert len({tuple(started[place : place + 4]) for place in range(0, len(started), 4)}) >= 4  # the order changes
        assert [cost["seconds_per_gradient"] for cost in found] == pytest.approx(TRUE, rel=4 * noise)
        assert all((cost["seconds_spread"] > costs.GOAL) == (count == costs.MOST) for cost in found)


def test_a_calibration_of_a_short_study_on_a_busy_machine_is_brief(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(1)
    scripted(monkeypatch, TRUE * np.exp(0.2 * rng.standard_normal((costs.MOST, 4))))
    started: list[int] = []
    found = calibrate(digits_mlp(), rules(4), CPU, begin=lambda index: started.append(index) is None, allowed=0.0)
    assert sorted(started) == sorted(list(range(4)) * costs.LEAST)
    assert all(cost["seconds_spread"] > costs.GOAL for cost in found)  # it says how exact it is


def test_slow_gradients_are_timed_three_times(monkeypatch: pytest.MonkeyPatch) -> None:
    scripted(monkeypatch, TRUE * np.ones((costs.MOST, 1)))
    monkeypatch.setattr(costs, "PATIENCE_SECONDS", -1.0)  # it has passed already
    started: list[int] = []
    calibrate(digits_mlp(), rules(4), CPU, begin=lambda index: started.append(index) is None)
    assert sorted(started) == sorted(list(range(4)) * 3)


def test_states_that_are_large_together_are_not_held_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    scripted(monkeypatch, np.ones((1, 2 * costs.LEAST)))
    monkeypatch.setattr(costs, "KEPT_BYTES", 2 * RULES["sgd"].copies * digits_mlp().size * 4 - 1)
    calibrate(digits_mlp(), rules(2), CPU)
    assert Scripted.made == 2 * costs.LEAST


def test_a_worker_that_is_to_stop_has_measured_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    scripted(monkeypatch, np.ones((costs.MOST, 2)))
    assert calibrate(digits_mlp(), rules(2), CPU, begin=lambda index: False) == []


def test_a_stretch_is_a_number_of_whole_outer_steps() -> None:
    watch = Stopwatch(digits_mlp(), RULES["entropy-sgd"](), CPU)
    assert watch.steps % 20 == 0 or watch.steps < 20  # a very slow machine may not even manage one
    assert watch.stretch() > 0


@pytest.mark.parametrize("name", RULES)
def test_memory_counts_the_state_the_activations_and_what_a_step_makes_in_passing(name: str) -> None:
    """At least the state, the gradient and the layers of 64 examples of one replica; less than four times as much."""
    task = digits_mlp()
    rule = RULES[name]()
    rule.bind([shape for _, shape in task.layout()])
    state = rule.init(task.init(0)[None], torch.tensor([[0]]))
    least = sum(value.nbytes for value in state.values()) + 4 * task.size + 4 * 64 * (64 + 32 + 10)
    _, again = (peak_bytes(task, rule, CPU) for _ in range(2))  # the noise of 64 steps is kept from the first one
    assert least <= again < 4 * least


def test_the_state_takes_no_more_copies_than_are_declared() -> None:
    """Copies are tensors as large as the parameters, the gradient included, and a query's points if they are new."""
    task = digits_mlp()
    for rule in RULES.values():
        state = rule().init(task.init(0)[None], torch.tensor([[0]]))
        assert sum(value.numel() == task.size for value in state.values()) + 1 <= rule.copies
        assert defaults(rule.wide)


@pytest.mark.parametrize(
    ("gradient", "seconds"),
    [
        (1e-5, 24 * 0.02),  # 24 stretches of 0.02 s, the middle of 8 and 40
        (1e-3, 24 * 0.06),  # of 60 gradients
        (0.01, 24 * 0.1),
        (0.5, 4.0 + 1.0),  # patience ends after 4 s; two gradients come before
        (3.0, 3 * 3.0 + 6.0),
    ],
)
def test_the_time_of_a_calibration_is_that_of_its_stretches(gradient: float, seconds: float) -> None:
    assert expected_seconds(gradient) == pytest.approx(seconds, rel=0.01)


@pytest.mark.parametrize(
    ("allowed", "seconds"),
    [(0.0, 8 * 0.06), (0.7, 0.7), (100.0, 24 * 0.06)],  # a gradient takes 1 ms
)
def test_the_time_of_a_calibration_is_a_part_of_that_of_a_short_study(allowed: float, seconds: float) -> None:
    assert expected_seconds(1e-3, allowed) == pytest.approx(seconds, rel=0.01)
