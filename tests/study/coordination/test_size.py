"""How many trials a method has, counted by hand."""

from __future__ import annotations

from typing import Any

import pytest

from relaxbench.store.facts import SpecFacts, method_facts
from relaxbench.study.coordination.size import Size
from tests.study import tiny

SPEC: Any = {
    **{"seed": 5, "looks": [6, 9, 12], "trials": 4, "exploit": 3, "recommend": 2, "repetitions": 1, "more_blocks": 0},
    **{"methods": ["sgd"], "problems": ["p"]},
}
TUNED = method_facts({}, "sgd")


def of(manifest: Any = None, arm: str = "tuned", **changes: object) -> Size:
    spec: SpecFacts = {**SPEC, **changes}
    return Size.of(spec, {**TUNED, "arm": arm}, manifest or {})  # type: ignore[typeddict-item]


def test_a_specification_gives_the_numbers_of_a_tuned_method() -> None:
    assert of() == Size(5, (6, 9, 12), trials=4, exploit=3, recommend=2, repetitions=1, declared=3)
    assert of(repetitions=7).repetitions == 7


def test_a_method_as_published_is_not_searched() -> None:
    size = of(arm="published")
    assert (size.trials, size.exploit, size.recommend) == (0, 0, 0) and size.looks == (6, 9, 12)
    assert size.planned([9]) == {"explore": 0, "confirm": 9, "exploit": 0, "recommend": 0}


def test_trials_of_a_generation_alone_are_ready_together() -> None:
    assert of(repetitions=2).ready == 2 * 6 * 4 and of(arm="published").ready == 6 and of(recommend=30).ready == 30
    pruner: Any = {"name": "median", "options": {}, "spot_checks": 0.1}
    for search in ({"sampler": "tpe"}, {"sampler": "random", "pruner": pruner}):
        for generation, trials in ((3, 3), (9, 4)):
            method: Any = {**TUNED, "search": {"options": {}, "generation": generation, **search}}
            assert Size.of(SPEC, method, {}).ready == 6 * trials


def test_every_extension_is_a_look_beyond_the_declared_ones() -> None:
    size = of(more_blocks=3)
    assert (size.looks, size.declared) == ((6, 9, 12, 15), 3)
    size = of({"extra_looks": [13, 15]}, more_blocks=8)
    assert (size.looks, size.declared) == ((6, 9, 12, 13, 15, 20), 3)


def test_a_study_without_looks_confirms_the_winner_of_every_block() -> None:
    old: Any = {key: value for key, value in SPEC.items() if key not in ("looks", "more_blocks")} | {"blocks": 10}
    size = Size.of(old, TUNED, {})
    assert (size.looks, size.declared, size.winners_only) == ((10,), 1, True)
    assert size.planned([10]) == {"explore": 40, "confirm": 10, "exploit": 3, "recommend": 2}


@pytest.mark.parametrize("trials", [1, 2, 4, 12])
@pytest.mark.parametrize("blocks", [1, 6, 40])
def test_the_best_third_is_confirmed_and_more_of_few_trials(blocks: int, trials: int) -> None:
    count = of(trials=trials).confirmed(blocks)
    assert count == tiny.best(blocks, trials)
    assert -(-blocks * trials // 3) <= count <= blocks * trials
    assert of(trials=trials).confirmed(0) == 0


def test_repetitions_that_reached_other_looks_are_added() -> None:
    size = of(repetitions=3)
    confirmed = tiny.best(6, 4) + 2 * tiny.best(12, 4)
    assert size.planned([6, 12, 12]) == {"explore": 120, "confirm": confirmed, "exploit": 3, "recommend": 2}
    assert size.first == [6, 6, 6]


def test_the_look_that_blocks_belong_to() -> None:
    size = of()
    assert [size.look(blocks) for blocks in (0, 6, 7, 9, 10, 12, 99)] == [1, 1, 2, 2, 3, 3, 3]
