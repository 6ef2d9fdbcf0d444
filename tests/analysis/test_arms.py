"""`analysis.arms`: from trials to outcomes, against the pure functions and by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from relaxbench.analysis.all_subsets import confirmed_ranks, ranking
from relaxbench.analysis.arm import Arm
from relaxbench.analysis.arms import Limits, arm_of, claimable, family_of, outcomes
from relaxbench.analysis.equivalence import Margin
from relaxbench.analysis.jackknife import best_of_random
from relaxbench.analysis.simultaneous import Family, Judgement
from relaxbench.store.facts import ProblemFacts, SpecFacts, problem_facts


def about(**known: object) -> ProblemFacts:
    return {**problem_facts({}, "p"), **known}  # type: ignore[typeddict-item]


def test_limits_are_half_an_example_the_budget_or_nothing() -> None:
    assert Limits.of(about(unit="%", metric_scale=100.0, test_examples=360)) == Limits(50 / 360)
    assert Limits.of(about(censored=True, budget=2000)) == Limits(0.0, 2000, in_full=True)
    assert Limits.of(about(unit="nats")) == Limits()


def test_an_arm_needs_all_random_trials_and_the_best_of_them_confirmed() -> None:
    generator = np.random.default_rng(0)
    values, metrics = generator.random((7, 4)), generator.lognormal(size=(7, 4))
    places = [(block + 3, number) for block in range(7) for number in range(4)]
    explored = dict(zip(places, values.ravel(), strict=True))
    needed = [places[index] for index in ranking(values)[: confirmed_ranks(28, 4)]]
    confirmed = {place: metrics[place[0] - 3, place[1]] for place in needed}
    arm = arm_of(explored, confirmed, range(3, 10), 4, Limits())
    expected = best_of_random(values, np.log(metrics))
    assert arm is not None
    assert arm.estimate == pytest.approx(float(expected.estimate), abs=1e-12)
    assert arm.blocks == 7
    assert arm_of(explored, dict(list(confirmed.items())[1:]), range(3, 10), 4, Limits()) is None
    assert arm_of(dict(list(explored.items())[1:]), confirmed, range(3, 10), 4, Limits()) is None


@pytest.mark.parametrize("trials", [0, 4])
def test_a_disaster_counts_little_unless_runs_count_in_full(trials: int) -> None:
    places = [(block, number) for block in range(10) for number in range(max(trials, 1))]
    explored = dict.fromkeys(places, 1.0) if trials else {}
    confirmed = dict.fromkeys(places, 2.0) | {(0, 0): 500.0}
    little, full = (arm_of(explored, confirmed, range(10), trials, Limits(in_full=full)) for full in (False, True))
    assert little is not None and full is not None
    assert math.log(2) < little.estimate < full.estimate
    assert little.variance < full.variance


def test_later_runs_do_not_change_an_arm() -> None:
    """A trial outside the best of the first look may be confirmed at a later one; here it diverged, without a log."""
    generator = np.random.default_rng(1)
    values, metrics = generator.random((6, 3)), generator.lognormal(size=(6, 3))
    places = [(block, number) for block in range(6) for number in range(3)]
    explored = dict(zip(places, values.ravel(), strict=True))
    order = [places[index] for index in ranking(values)]
    count = confirmed_ranks(18, 3)
    first = {place: metrics[place] for place in order[:count]}
    late = first | dict.fromkeys(order[count:], -1.0)
    arm, later = (arm_of(explored, runs, range(6), 3, Limits(), order[count:]) for runs in (first, late))
    assert arm == later and arm is not None
    assert (arm.runs, arm.diverged) == (count, 0)


def ended(runs: int, diverged: int = 0, missed: int = 0) -> Arm:
    return Arm(np.array(0.0), np.array(0.01), 10, runs, diverged, missed)


@pytest.mark.parametrize(
    ("verdict", "ours", "theirs", "obstacle"),
    [
        ("worse", ended(10, diverged=10), ended(10), "diverged"),
        ("worse", ended(10, diverged=9), ended(10), ""),
        ("better", ended(10), ended(10, diverged=10), "reference diverged"),
        ("equivalent", ended(10, missed=10), ended(8, missed=8), "missed"),
        ("undecided", ended(10, missed=10), ended(8, missed=8), "missed"),
        ("worse", ended(10, missed=10), ended(8, missed=7), ""),
        ("equivalent", ended(10, missed=1), ended(8, missed=1), "hidden"),
        ("equivalent", ended(10, missed=1), ended(8), ""),
        ("equivalent", ended(0), ended(0), ""),
    ],
)
def test_runs_that_say_nothing_leave_no_claim(verdict: str, ours: Arm, theirs: Arm, obstacle: str) -> None:
    judged = Judgement(verdict, 0.0, -1.0, 1.0, 0.1, 9.0)
    found = claimable(judged, ours, theirs)
    if not obstacle:
        assert found is judged
    else:
        assert (found.verdict, found.obstacle) == ("no claim", obstacle) and found.over
        assert math.isnan(found.low) and math.isnan(found.high) and found.difference == 0


def test_a_method_as_published_has_one_run_per_block() -> None:
    runs = {(block, 0): math.exp(block) for block in range(6)}
    arm = arm_of({}, runs, range(6), 0, Limits())
    assert arm is not None
    assert arm.estimate == pytest.approx(2.5)
    assert arm.variance == pytest.approx(np.var(range(6), ddof=1) / 6)
    assert arm_of({}, runs, range(7), 0, Limits()) is None


def test_outcomes_stop_at_the_first_look_that_is_not_complete_or_decides() -> None:
    def arm(estimate: float, blocks: int, error: float = 0.01) -> Arm:
        return Arm(np.array(estimate), np.array(error**2), blocks)

    arms = {
        "sgd": [arm(0, 10), arm(0, 20), None],
        "better": [arm(-1, 10), None, None],
        "open": [arm(0, 10, 1.0), arm(0, 20, 1.0), None],
        "late": [None, None, None],
    }
    found = outcomes(arms, {name: "sgd" for name in arms if name != "sgd"}, Family(3, 3), Margin(0.1, "ratio"))
    better, open_one = found["better"], found["open"]
    assert better is not None and (better.verdict, better.look) == ("better", 1)
    assert open_one is not None and (open_one.verdict, open_one.look) == ("undecided", 2)
    assert found["late"] is None and "sgd" not in found


def test_the_family_is_every_method_on_every_problem_at_every_declared_look() -> None:
    spec: SpecFacts = {
        "methods": ["sgd", "a", "b"],
        "problems": ["p@600", "p@2000", "q@600", "q@2000"],
        "looks": [6, 9],
    }
    assert family_of(spec) == Family(comparisons=8, looks=2)
    assert family_of({**spec, "more_blocks": 3}) == Family(comparisons=8, looks=2)
    assert family_of({**spec, "methods": ["sgd"]}) == Family(1, 2)
    old: SpecFacts = {"methods": ["sgd", "a"], "problems": ["p"], "blocks": 10}  # type: ignore[typeddict-unknown-key]
    assert family_of(old) == Family(1, 1)
