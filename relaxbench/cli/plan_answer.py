"""What `plan --json` prints: runs, gradients and seconds of every method, at the first look and at the last."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast

from relaxbench.cli.pace import Pace, paces_of

if TYPE_CHECKING:
    from relaxbench.problems import Problem
    from relaxbench.study.definition.spec import StudySpec
    from relaxbench.training.engine import Wish


def plan_answer(
    spec: StudySpec,
    problems: list[Problem],
    place: Any,
    population: int | None,
    wish: Wish,
    told: Sequence[str],
    shared: bool = False,
) -> dict[str, Any]:
    """Measure the speed of a study on this machine, and return what it costs.

    Args:
        spec: the study.
        problems: its problems, loaded.
        place: the device.
        population: trials that train in parallel; None for the fastest.
        wish: the path of training.
        told: a line for each method that is left out, and for each that is not searched as others are.
        shared: whether the storage is a server.
    """
    from relaxbench.store.facts import SpecFacts, planned_looks
    from relaxbench.study.definition.opening import stored_form

    stored = cast(SpecFacts, stored_form(spec, problems))
    looks = planned_looks(stored, {})
    paces, start, notes = paces_of(spec, stored, problems, place, population, wish, shared)
    begin = sum(start.values())
    return {
        "study": spec.name,
        "looks": list(looks),
        "start_seconds": begin,
        "first": _sum([_cost(pace, looks[0]) for pace in paces], begin),
        "last": _sum([_cost(pace, looks[-1]) for pace in paces], begin),
        "methods": [
            {
                "problem": pace.problem,
                "method": pace.method,
                "budget": pace.budget,
                "first": _cost(pace, looks[0]),
                "last": _cost(pace, looks[-1]),
            }
            for pace in paces
        ],
        "notes": [*told, *notes],
    }


def _cost(pace: Pace, blocks: int) -> dict[str, float]:
    """Return the runs, gradients and seconds of a method up to a number of blocks."""
    runs = round(pace.runs(blocks))
    return {"blocks": blocks, "runs": runs, "gradients": runs * pace.budget, "seconds": pace.seconds(blocks)}


def _sum(costs: Sequence[dict[str, float]], begin: float) -> dict[str, float]:
    """Return the cost of all methods with the start, at the blocks that they have in common."""
    total = {key: sum(cost[key] for cost in costs) for key in ("runs", "gradients", "seconds")}
    return {"blocks": costs[0]["blocks"], **total, "seconds": total["seconds"] + begin}
