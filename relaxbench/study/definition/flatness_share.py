"""How many runs have their flatness measured, and on how many examples: what a quarter of a study's training pays for.

All measurements of a problem are counted, up to the first look: validation, batch normalization and test of all runs,
and the flatness of some. What the former leave of the quarter is shared by the latter, the same for all methods. The
numbers follow from the declared looks, trials and budget, and from the share of methods that are tuned: TPE's trials,
recommended runs and repetitions may grow. They are stored when a study begins; one without them measures in full.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from typing import cast

from sqlalchemy import Connection, select

from relaxbench.errors import UserError
from relaxbench.problems import Problem
from relaxbench.problems.measurements import FORWARD, SHARE
from relaxbench.store.facts import FlatnessFacts, Manifest, SpecFacts
from relaxbench.store.schema import TESTED, Trial
from relaxbench.study.coordination.size import Size
from relaxbench.study.definition.spec import StudySpec
from relaxbench.training.flatness.hessian import most_examples
from relaxbench.training.flatness.measure import passes
from relaxbench.util.text import percent

LEAST = 256
"""Examples at least, of a training split that has so many: on fewer, the largest eigenvalue is mostly chance."""
FEWEST = 3
"""Runs of a method at least; otherwise none is measured."""


def affordable_flatness(problem: Problem, budget: int, sizes: Sequence[Size]) -> FlatnessFacts:
    """Choose the examples and the runs of each method: all runs on fewer examples, then fewer runs, then none.

    Args:
        problem: the problem, with the measurements of a run.
        budget: gradient equivalents of a run.
        sizes: of the study, one per method.
    """
    most = most_examples(problem)
    fixed, wanted = passes(problem, 0), sizes[0].looks[0]
    room = _left(problem, budget, sizes)
    kinds = sum(
        2 if size.trials else 1 for size in sizes
    )  # winners; recommended runs of tuned methods, at most as many
    for runs in range(wanted, min(FEWEST, wanted) - 1, -1):
        examples = min(most, math.floor((room / (kinds * runs) - fixed) / (passes(problem, 1) - fixed)))
        if examples >= min(most, LEAST):
            return {"examples": examples, "runs": runs}
    return {"examples": 0, "runs": 0}


def _left(problem: Problem, budget: int, sizes: Iterable[Size]) -> float:
    """Return what evaluation leaves of a quarter of training up to the first look, in forward passes of an example."""
    blocks = [(size.looks[0] * size.trials, size.confirmed(size.looks[0])) for size in sizes]
    runs, tested = sum(map(sum, blocks)), sum(confirmed for _, confirmed in blocks)
    left = SHARE * budget * runs * problem.batch_size / FORWARD
    left -= runs * problem.rounds * (problem.examples("validation") + problem.statistics_examples)
    return left - tested * (problem.examples("test") + problem.statistics_examples)


def planned_flatness(problem: Problem, spec: StudySpec, sizes: Sequence[Size]) -> FlatnessFacts | None:
    """Return what `affordable_flatness` chooses; None for a study that measures in full, or where nothing is known."""
    if spec.flatness == "full":
        return None
    with suppress(Exception):  # without a training split: the study says so when it measures, and its runs count
        return affordable_flatness(problem, spec.budget_of(problem), sizes)
    return None


def flat_runs(size: Size, blocks: float, runs: int | None) -> float:
    """How many runs of a method have their flatness measured up to this many blocks, as `Plan.is_flatness_planned`.

    Args:
        size: of the study.
        blocks: of every repetition.
        runs: at most, of each repetition and of the recommended ones; None for no limit.
    """
    limit = math.inf if runs is None else runs
    return size.repetitions * min(blocks, size.looks[0], limit) + min(size.recommend, limit)


def keep_flatness(manifest: Manifest, spec: StudySpec, problems: Sequence[Problem]) -> None:
    """Store the numbers of problems that are new in a study, unless it measures in full.

    Args:
        manifest: of the study, with its methods.
        spec: the study.
        problems: that are new.
    """
    if not problems:
        return
    facts = cast(SpecFacts, spec.model_dump())
    sizes = [Size.of(facts, manifest["methods"][label], Manifest()) for label in spec.methods]
    found = {problem.name: planned_flatness(problem, spec, sizes) for problem in problems}
    limited = {name: numbers for name, numbers in found.items() if numbers}
    if limited:
        manifest["flatness"] = {**manifest.get("flatness", {}), **limited}


def measure_fully(connection: Connection, study: int, manifest: Manifest, name: str) -> None:
    """Forget the numbers of a study that is asked to measure in full from now on.

    Args:
        connection: to the database.
        study: id.
        manifest: of the study; it is changed.
        name: of the study.

    Raises:
        UserError: if flatness has been measured by these numbers.
    """
    query = select(Trial.measures).where(Trial.study_id == study, Trial.phase.in_(TESTED))
    stored = manifest.get("flatness", {})
    if stored and any("hessian_top" in measures for measures in connection.scalars(query)):
        problem, facts = max(stored.items(), key=lambda item: item[1]["runs"])
        raise UserError(
            f'flatness = "full": study {name!r} has measured flatness on {facts["examples"]:,} examples of '
            f"{problem} since it began, and one page cannot hold both: leave the key as it was, or use another study "
            "name"
        )
    manifest["flatness"] = {}


def say_left_out(name: str, stored: Mapping[str, FlatnessFacts]) -> str:
    """Say in a line that no flatness of a problem is measured, because it would cost too much; "" if some is."""
    if name not in stored or stored[name]["runs"]:
        return ""
    return (
        f"{name}: flatness is left out, because with it measurements would cost more than {percent(SHARE)} of "
        'training; flatness = "full" in the study file measures it all the same.'
    )
