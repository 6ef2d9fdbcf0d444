"""Caveats of a problem's data and metric, whatever the methods: one sentence per problem."""

from __future__ import annotations

from relaxbench.analysis.at_seconds import worst_metric
from relaxbench.analysis.frames import StudyFrames
from relaxbench.analysis.sentences import listed
from relaxbench.store.identity_facts import SAME, SHARED

LEAST_SHARED = 0.01
"""Share of a split's examples that are also in another one from which on it is told."""


def worse_than_diverged(frames: StudyFrames) -> list[str]:
    """Return the problems on which runs that ended are worse than what diverged runs count as, with both numbers."""
    trials, told = frames.trials, []
    tested = (trials["phase"] == "confirm") & (trials["status"] == "done") & ~trials["diverged"].astype(bool)
    for problem, metrics in trials[tested].groupby("problem", sort=False)["test_metric"]:
        about, worst = frames.problem(problem), worst_metric(frames, problem)
        count = int((metrics > worst).sum())
        if count and not about["censored"]:
            unit = f" {about['unit']}" if about["unit"] else ""
            key = "worst" if about["worst"] == about["worst_metric"] else "worst_metric"
            level = f"{about['metric']} up to {metrics.max():.3g}{unit}"
            told.append(
                f"{problem}: {count:,} of {len(metrics):,} confirming runs that did not diverge are worse than what a "
                f"diverged run counts as ({level}, and {worst:.3g}{unit}), so diverging looks better than it is: state "
                f"a larger {key} in the problem, and begin a study of another name."
            )
    return told


def shared_examples(frames: StudyFrames) -> list[str]:
    """Return the splits of which many examples are also in an earlier split, with their number."""
    told = []
    for problem, splits in _splits(frames).items():
        for split, facts in splits.items():
            total = int(facts.get("examples", 0))
            counts = {key.removeprefix(SHARED): int(count) for key, count in facts.items() if key.startswith(SHARED)}
            told += [
                f"{problem}: {count:,} of {total:,} {split} examples are also in {other}, so the results say less "
                "about new ones: leave them out of one of the two."
                for other, count in counts.items()
                if count >= LEAST_SHARED * total
            ]
    return told


def same_examples(frames: StudyFrames) -> list[str]:
    """Return the problems of which several splits are the same examples."""
    told = []
    for problem, splits in _splits(frames).items():
        groups: dict[str, list[str]] = {}
        for split, facts in splits.items():
            if first := str(facts.get(SAME, "")):
                groups.setdefault(first, [first]).append(split)
        told += [
            f"{problem}: {listed(same)} are the same examples, so the results do not say how the methods do on new "
            "ones: give data() three splits without a common example."
            for same in groups.values()
        ]
    return told


def _splits(frames: StudyFrames) -> dict[str, dict[str, dict[str, str | int | float]]]:
    """What is known of each split, by problem."""
    problems = frames.manifest.get("identity", {"problems": {}})["problems"]
    return {problem: identity.get("splits", {}) for problem, identity in problems.items()}
