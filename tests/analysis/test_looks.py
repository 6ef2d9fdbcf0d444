"""Looks: what is declared, what stays decided, which methods go on."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relaxbench.analysis.looks import Looks, Outcome, fold, going_on, wrong_verdict_bound
from relaxbench.analysis.simultaneous import DECIDED, Judgement

VERDICT = st.sampled_from([*DECIDED, "undecided", "no claim"])
OBSTACLE = st.sampled_from(["blocks", "logarithm", "diverged", "reference diverged", "missed", "hidden"])
CLAIM = st.builds(Judgement, VERDICT, st.floats(-1, 1), st.floats(-2, -1), st.floats(1, 2))
JUDGEMENT = CLAIM | st.builds(lambda obstacle: Judgement("no claim", 0.0, obstacle=obstacle), OBSTACLE)


def ends(judgement: Judgement) -> bool:
    """Whether no further look is taken after it."""
    return judgement.verdict in DECIDED or judgement.obstacle not in ("", "blocks")


@given(st.lists(JUDGEMENT, min_size=1, max_size=6), st.lists(JUDGEMENT, max_size=3))
def test_a_comparison_that_is_over_stays_as_it_was(judgements: list[Judgement], later: list[Judgement]) -> None:
    outcome = fold(judgements)
    assert outcome is not None
    assert outcome.judgement is judgements[outcome.look - 1]
    assert outcome.over == any(ends(judgement) for judgement in judgements)
    assert not any(ends(judgement) for judgement in judgements[: outcome.look - 1])
    assert outcome.history == tuple(judgements[: outcome.look])
    if outcome.over:
        assert fold([*judgements, *later]) == outcome
    else:
        assert outcome.look == len(judgements)


def test_before_the_first_look_there_is_no_outcome() -> None:
    assert fold([]) is None


def outcome(verdict: str) -> Outcome | None:
    return fold([Judgement(verdict, 0.0)])


def test_only_undecided_methods_and_the_baseline_go_on() -> None:
    outcomes = {"hj": outcome("better"), "heat": outcome("undecided"), "adamw": outcome("no claim"), "new": None}
    assert going_on(outcomes, dict.fromkeys(outcomes, "sgd")) == {"heat", "adamw", "new", "sgd"}
    lost = fold([Judgement("no claim", 0.0, obstacle="diverged")])
    assert going_on({"hj": outcome("equivalent"), "heat": outcome("worse"), "adamw": lost}, {}) == set()


def test_looks_that_have_been_taken() -> None:
    looks = Looks((10, 20, 40))
    assert [looks.taken(blocks) for blocks in (9, 10, 25, 60)] == [(), (10,), (10, 20), (10, 20, 40)]
    assert [looks.following(blocks) for blocks in (0, 10, 25, 40)] == [10, 20, 40, None]


@pytest.mark.parametrize("blocks", [(), (5, 10), (0,), (10, 10), (20, 10), (6, 12, 12)])
def test_what_are_no_looks_is_refused(blocks: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="look"):
        Looks(blocks)


def test_more_looks_than_declared_weaken_the_guarantee() -> None:
    assert [wrong_verdict_bound(3, taken) for taken in (0, 3, 4, 6)] == pytest.approx([0.05, 0.05, 0.2 / 3, 0.1])
    assert wrong_verdict_bound(1, 100) == 1
    with pytest.raises(ValueError, match="look"):
        wrong_verdict_bound(0, 1)
