"""How much of a study is done, phase by phase: what its next look, or its last one, needs."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from relaxbench.analysis.all_subsets import confirmed_ranks
from relaxbench.analysis.frames import StudyFrames
from relaxbench.analysis.study_arms import StudyArms
from relaxbench.store.allowance import affordable
from relaxbench.store.facts import protocol
from relaxbench.store.schema import FINISHED, PHASES, SPOT_CHECK


def progress(frames: StudyFrames, arms: StudyArms | None = None) -> pd.DataFrame:
    """Count the ``done`` and ``planned`` trials: one row per problem, method and phase.

    Random trials and their confirmations are planned up to the look that a method goes to: the one that ended it,
    else its next one, or a later one that trials are already planned for; an opponent, such as the baseline, goes
    as far as the farthest method that is compared with it.

    Args:
        frames: the study.
        arms: those of the study, if they have been computed.
    """
    spec, arms = frames.spec, arms or StudyArms(frames)
    recommended = frames.recommended.groupby(["problem", "method"]).size().to_dict()
    rows = []
    for problem in frames.problems:
        going = [blocks_needed(arms, problem, repetition) for repetition in range(frames.repetitions)]
        for method in frames.methods:
            counts = {"explore": (0, 0), "confirm": (0, 0)}
            begun = _begun(arms, problem, method)
            for repetition, blocks in enumerate(going):
                needed = max(blocks[method], begun.get(repetition, 0))
                for phase, pair in _counts(arms, problem, method, repetition, needed).items():
                    counts[phase] = (counts[phase][0] + pair[0], counts[phase][1] + pair[1])
            tuned = frames.tuning(method) > 0
            exploited = _done(arms.trials(problem, method, "exploit"))
            counts["exploit"] = exploited, int(spec.get("exploit") or 0) if tuned else 0
            counts["recommend"] = recommended.get((problem, method), 0), int(spec.get("recommend") or 0) if tuned else 0
            checks = arms.trials(problem, method, SPOT_CHECK)
            counts[SPOT_CHECK] = _done(checks), len(checks)
            for phase in PHASES:
                done, planned = counts[phase]
                if planned:
                    rows.append((problem, method, phase, min(int(done), planned), planned))
    return pd.DataFrame(rows, columns=["problem", "method", "phase", "done", "planned"])


def blocks_needed(arms: StudyArms, problem: str, repetition: int = 0) -> dict[str, int]:
    """Return the number of blocks of the look that each method goes to; 0 where no look is declared."""
    frames = arms.frames
    looks, outcomes = frames.looks, arms.outcomes(problem, repetition)
    if not looks:
        return dict.fromkeys(frames.methods, 0)
    if not outcomes:
        return dict.fromkeys(frames.methods, looks[0] if frames.baseline else looks[-1])
    needed = {}
    for method, outcome in outcomes.items():
        following = 0 if outcome is None else outcome.look - outcome.over
        needed[method] = looks[min(following, len(looks) - 1)]
    return {method: _farthest(needed, frames.opponents, method) for method in frames.methods}


def _farthest(needed: Mapping[str, int], opponents: Mapping[str, str], method: str) -> int:
    """The blocks to which a method goes for its own comparison, and for those in which it is the opponent."""
    own = (label for label, opponent in opponents.items() if method in (label, opponent))
    return max(needed[label] for label in own)


def _done(trials: pd.DataFrame) -> int:
    return int((trials["status"] == "done").sum())


def _begun(arms: StudyArms, problem: str, method: str) -> dict[int, int]:
    """Repetition → blocks of which trials exist, finished or not."""
    own = arms.trials(problem, method, "explore" if arms.frames.tuning(method) else "confirm")
    counts = own.groupby("repetition")["block"].nunique()
    return {int(repetition): int(count) for repetition, count in counts.items()}


def _counts(arms: StudyArms, problem: str, method: str, repetition: int, blocks: int) -> dict[str, tuple[int, int]]:
    """Phase → done and planned, of the random trials of one repetition and of their confirmations."""
    runs = arms.runs(problem, method, repetition)
    if not blocks:
        return {}
    within = range(runs.first, runs.first + blocks)
    trials = arms.frames.tuning(method)
    if trials and (protocol(arms.frames.spec) == 1 or not arms.frames.is_random(method)):
        own = arms.trials(problem, method, "explore")
        own = own[own["block"].isin(within) & own["status"].isin(FINISHED)]
        budget = arms.frames.pruned_budget(method, problem)
        planned = trials * blocks
        if budget is not None:  # what is left of a block pays for so many whole trials
            spent = own.groupby("block")["gradients"].sum()
            planned = len(own) + sum(affordable(trials, budget, float(spent.get(block, 0.0))) for block in within)
        return {"explore": (len(own), planned), "confirm": (len(runs.within(blocks)), blocks)}
    if not trials:
        return {"confirm": (len(runs.within(blocks)), blocks)}
    places = sorted(
        (place for place in runs.explored if place[0] in within and place[1] < trials),
        key=lambda place: (not runs.explored[place] < float("inf"), runs.explored[place], *place),
    )
    count = confirmed_ranks(trials * blocks, trials)
    best = places[:count]
    return {
        "explore": (len(places), trials * blocks),
        "confirm": (sum(place in runs.confirmed for place in best), count),
    }
