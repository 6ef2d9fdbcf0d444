"""Caveats of a report: what an unfinished study lacks, and warnings about its results, one sentence each."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import pandas as pd

from relaxbench.analysis.comparison import MethodResult
from relaxbench.analysis.edges import crowded_edges
from relaxbench.analysis.frames import StudyFrames
from relaxbench.analysis.problem_caveats import same_examples, shared_examples, worse_than_diverged
from relaxbench.analysis.pruning import prunings, without_pruner
from relaxbench.analysis.publications import warning
from relaxbench.analysis.sentences import decimals_of, listed, number, ratio
from relaxbench.analysis.simultaneous import LEVEL, MIN_BLOCKS
from relaxbench.store.facts import protocol
from relaxbench.util.text import counted, percent

OLD = (
    "This study was made by the old protocol: a fixed number of blocks whose winners were confirmed. Its verdicts rest "
    "on the logarithms of these runs, with one look at all blocks."
)
"""The warning of a study that an older relaxbench began."""

LEAST_BILLED, MOST_BILLED = 0.95, 1.01
"""Shares of the budget that the runs of a training script bill on average without a warning."""
LEFT_OUT = (
    "The figures of random trials (tuning budget, importance, results of random search) are drawn without such a "
    "method."
)
"""What trials that are not independent change in a report."""
DIVERGED = 0.2
"""A larger share of diverged explore trials is worth a warning."""


def missing(frames: StudyFrames, counts: pd.DataFrame) -> list[str]:
    """Return what an unfinished study lacks, one sentence per problem and method; empty for a finished one.

    Args:
        frames: the study.
        counts: its progress.
    """
    if not frames.problems or not frames.methods:
        return ["The study names no problem or no method."]
    lacking = counts[counts["done"] < counts["planned"]]
    nouns = {
        "explore": "explore trials",
        "confirm": "confirming runs",
        "exploit": "exploit trials",
        "recommend": "runs of the recommended settings",
        "spot-check": "spot checks of pruning",
    }
    sentences = []
    for (problem, method), rows in lacking.groupby(["problem", "method"], sort=False):
        parts = [f"{row.done:,} of {row.planned:,} {nouns[row.phase]}" for row in rows.itertuples()]
        sentences.append(f"{frames.method(method)['title']} on {problem}: {', '.join(parts)} done.")
    return sentences


def cautions(frames: StudyFrames, results: Sequence[MethodResult]) -> list[str]:
    """Return warnings about the results of a study, one sentence each."""
    warnings: list[str] = []
    if frames.baseline is None:
        name = frames.spec.get("baseline")
        warnings.append(f"There is no baseline: {f'{name!r} is not among the methods' if name else 'none was named'}.")
    if protocol(frames.spec) == 1:
        warnings.append(OLD)
    beyond = [each for result in results for each in result.comparisons if each.look > each.looks]
    if beyond:
        farthest = max(beyond, key=lambda each: each.look)
        warnings.append(
            f"The study was looked at {counted(farthest.look - farthest.looks, 'time')} beyond its "
            f"{counted(farthest.looks, 'declared look')}: the chance of any wrong verdict in it is bounded by "
            f"{percent(farthest.wrong)}, no longer by {percent(LEVEL)}."
        )
    warnings += (
        given_up(frames)
        + restated(frames)
        + same_examples(frames)
        + shared_examples(frames)
        + undefined(frames)
        + worse_than_diverged(frames)
        + billed(frames)
        + unmeasured(frames)
        + dependent(frames)
        + pruners(frames)
        + known_settings(frames)
    )
    warnings += _few(results) + poorly_tuned(frames, results)
    for result in results:
        warnings += [f"{result.title} on {result.problem}: {warning}" for warning in _about(frames, result)]
    return warnings + _dimensions(frames)


def given_up(frames: StudyFrames) -> list[str]:
    """Return whose trials failed too often, which the same command does not run again, one sentence each."""
    failed = frames.trials[frames.trials["status"] == "failed"]
    told = []
    for (problem, method), rows in failed.groupby(["problem", "method"], sort=False):
        them = "it is" if len(rows) == 1 else "they are"
        again = "it is run again" if len(rows) == 1 else "they are run again"
        told.append(
            f"{frames.method(method)['title']} on {problem}: {counted(len(rows), 'trial')} failed too often, so {them} "
            f"missing. `status {frames.name}` says why; {again} by `reap {frames.name} --failed` and the same command."
        )
    return told


def all_diverged(results: Iterable[MethodResult]) -> list[str]:
    """Return which methods have no explore trial that did not diverge, one sentence each."""
    return [f"{result.title} on {result.problem}: {line}" for result in results for line in _all_diverged(result)]


def _all_diverged(result: MethodResult) -> list[str]:
    if not 0 < result.explored == result.diverged:
        return []
    return [
        f"all {counted(result.explored, 'explore trial')} diverged, so nothing was tuned: look at the ranges, and at "
        "what is trained."
    ]


def poorly_tuned(frames: StudyFrames, results: Sequence[MethodResult]) -> list[str]:
    """Return the problems on which the baseline is worse than its own published settings, one sentence each."""
    told = []
    for result in results:
        comparison, label = result.against("baseline"), result.baseline
        if result.arm != "published" or result.verdict != "better" or comparison is None or label is None:
            continue
        if frames.method(result.method)["rule"] == frames.method(label)["rule"]:
            trials = frames.tuning(label)
            told.append(
                f"{result.problem}: {result.title} is better than the tuned {result.baseline_title} "
                f"({ratio(comparison.ratio)} times), so {counted(trials, 'trial')} per block "
                f"{'does' if trials == 1 else 'do'} not tune {result.baseline_title} well here. Methods that are "
                "better than it are better than this search of it."
            )
    return told


def restated(frames: StudyFrames) -> list[str]:
    """Return what was stated otherwise before test data were read, one sentence each."""
    return [
        f"Changed after the test data were seen ({each['at'][:10]}): {each['what']}, first {each['was']}, now "
        f"{each['now']}. The guarantee does not cover verdicts that rest on it."
        for each in frames.manifest.get("restated", [])
    ]


def unmeasured(frames: StudyFrames) -> list[str]:
    """Return the problems whose flatness could not be measured, with the reason, one sentence each."""
    return [
        f"{problem}: flatness could not be measured ({reason.rstrip('.')}); the runs count."
        for problem, reason in frames.unmeasured.items()
    ]


def undefined(frames: StudyFrames) -> list[str]:
    """Return the problems on which runs have a finite validation loss, but no finite test loss, one sentence each."""
    trials = frames.trials
    tested = trials[(trials["phase"] == "confirm") & (trials["status"] == "done") & trials["validation_loss"].notna()]
    lost = tested["test_loss"].isna() & ~tested["diverged"].astype(bool)
    counts = lost.groupby(tested["problem"]).agg(["sum", "size"])
    return [
        f"{problem}: {lacking:,} of {runs:,} confirming runs have no finite test loss: look for NaN or infinity among "
        "the test examples."
        for problem, lacking, runs in counts.itertuples()
        if lacking
    ]


def billed(frames: StudyFrames) -> list[str]:
    """Return the methods of a training script whose runs billed more or less than their budget, one sentence each.

    The script, not relaxbench, ends its runs.
    """
    ended = frames.trials[(frames.trials["status"] == "done") & ~frames.trials["diverged"].astype(bool)]
    if not frames.spec.get("script") or not len(ended):
        return []
    told = []
    for (problem, method), gradients in ended.groupby(["problem", "method"], sort=False)["gradients"]:
        budget = frames.problem(problem)["budget"]
        share = float(gradients.mean()) / budget if budget else 1.0
        if not LEAST_BILLED <= share <= MOST_BILLED:
            told.append(
                f"{frames.method(method)['title']} on {problem}: its runs billed {percent(share)} of their budget on "
                "average, so the comparison is not at equal gradients."
            )
    return told


def dependent(frames: StudyFrames) -> list[str]:
    """Return what samplers and pruners change: one sentence for all methods whose trials depend on each other."""
    told = []
    for label, sampler in {**dict.fromkeys(frames.pruned, ""), **frames.learned}.items():
        pruner = frames.pruned[label]["name"] if label in frames.pruned else ""
        by = [f"sampler {sampler}" if sampler else "", f"pruner {pruner}" if pruner else ""]
        told.append((frames.methods.index(label), f"{frames.method(label)['title']} ({', '.join(filter(None, by))})"))
    if not told:
        return []
    which = listed(title for _, title in sorted(told))
    return [
        f"The trials of a block depend on each other for {which}: a verdict on {'it' if len(told) == 1 else 'them'} "
        f"rests on one run of every block's winner, not on all subsets of trials. {LEFT_OUT}"
    ]


def pruners(frames: StudyFrames) -> list[str]:
    """Return what a pruner may do, in one sentence, and what each one did, one sentence per method and problem."""
    if not frames.pruned:
        return []
    whole = counted(int(frames.spec.get("trials") or 1), "whole trial")
    may = f"A block with a pruner has as many trials as the gradients of {whole} pay for: more, if some are stopped."
    told = [may, without_pruner(frames), *(found.sentence for found in prunings(frames))]
    return [" ".join(filter(None, told))]


def known_settings(frames: StudyFrames) -> list[str]:
    """Return which methods begin every block with known settings, and what their origins mean: a text per origin."""
    groups: dict[tuple[int, tuple[str, ...]], list[str]] = {}
    for label, settings in frames.known.items():
        origins = tuple(dict.fromkeys(each["origin"] for each in settings if each["origin"]))
        groups.setdefault((len(settings), origins), []).append(label)
    told = []
    for (count, origins), labels in groups.items():
        titles = listed(frames.method(label)["title"] for label in labels)
        source = f" (from {listed(origins)})" if origins else ""
        first = (
            f"Every block of {titles} begins with {counted(count, 'known setting')}{source}: its trials are not all "
            "drawn alike, so a verdict rests on one run of every block's winner, and holds for a tuning that begins "
            f"so. {LEFT_OUT}"
        )
        told.append(
            " ".join([first, *(line for origin in origins or ("",) for line in _origin(frames, titles, origin))])
        )
    return told


def small_search(origin: str, search: Sequence[int]) -> str:
    """Say that known settings come from a search too small for a claim, as of `study --quick`; else empty.

    Args:
        origin: the study.
        search: its blocks, and their trials.
    """
    if not search or search[0] >= MIN_BLOCKS:
        return ""
    blocks, trials = search
    return (
        f"Study {origin} was a quick try, {counted(blocks, 'block')} of {counted(trials, 'trial')}: its best settings "
        "are the best of few."
    )


def _origin(frames: StudyFrames, titles: str, origin: str) -> list[str]:
    """What the origin of known settings means for a verdict; empty for a study on other problems."""
    small = small_search(origin, frames.manifest.get("known_search", {}).get(origin, []))
    shared = frames.manifest.get("known_from", {}).get(origin)
    if shared is None:
        what = f"{origin} is" if origin else "they come from"
        return [
            f"Nobody can tell here whether the same test set was used to find them: {what} no study of this database."
        ]
    if not shared:
        return [small] if small else []
    tuned = [label for label in frames.methods if frames.method(label)["arm"] == "tuned"]
    fair = all(any(each["origin"] == origin for each in frames.known.get(label, [])) for label in tuned)
    whose, favoured = ("all tuned methods", "none of them") if fair else (titles, titles)
    told = (
        f"{origin} is a study on {listed(shared)} too, with the same test set: the search of {whose} began there, "
        f"outside the budget of this study, which favours {favoured}."
    )
    return [told, small] if small else [told]


def _few(results: Sequence[MethodResult]) -> list[str]:
    """Methods with too few blocks for a claim, one sentence per problem and number of blocks."""
    groups: dict[tuple[str, int], list[str]] = {}
    for result in results:
        if 0 < result.blocks < MIN_BLOCKS:
            groups.setdefault((result.problem, result.blocks), []).append(result.title)
    return [
        f"{listed(titles)} on {problem}: {counted(blocks, 'complete block')}{' each' if len(titles) > 1 else ''}, too "
        f"few for a claim (at least {MIN_BLOCKS})."
        for (problem, blocks), titles in groups.items()
    ]


def _about(frames: StudyFrames, result: MethodResult) -> list[str]:
    """Warnings about one method on one problem, without its name."""
    published = warning(frames.method(result.method)["publications"].get(result.problem))
    warnings = [published] if published else []
    warnings += _all_diverged(result)
    if result.explored > result.diverged > DIVERGED * result.explored:
        share = f"{result.diverged:,} of {result.explored:,} explore trials"
        warnings.append(f"{share} diverged, so its search was in effect a smaller one.")
    if result.confirm_diverged:
        count = "count" if result.confirm_diverged > 1 else "counts"
        runs = counted(result.confirm_diverged, "confirming run")
        warnings.append(f"{runs} diverged and {count} as the worst result.")
    return warnings + _disasters(result) + _edges(frames, result.problem, result.method)


def disasters(results: Iterable[MethodResult]) -> list[str]:
    """Return which methods failed badly on fresh seeds, how often, and how often they may, one sentence each."""
    return [f"{result.title} on {result.problem}: {line}" for result in results for line in _disasters(result)]


def _disasters(result: MethodResult) -> list[str]:
    found = result.disasters
    if not found or not found.count:
        return []
    were = "was a disaster" if found.count == 1 else "were disasters"
    limit = number(found.limit, max(0, decimals_of(found.limit, 3)))
    return [f"{found.count:,} of {counted(found.runs, 'run')} on fresh seeds {were}, above {limit}; {found.at_most}."]


def _edges(frames: StudyFrames, problem: str, method: str) -> list[str]:
    """Ends of ranges at which block winners crowd; those that are known settings were not searched."""
    of = (frames.blocks["problem"] == problem) & (frames.blocks["method"] == method)
    given = [facts["params"].items() for facts in frames.known.get(method, [])]
    won = frames.blocks.loc[of & frames.blocks["winner"].notna(), "params"]
    winners = [params for params in won if not any(items <= params.items() for items in given)]
    return [edge.sentence for edge in crowded_edges(winners, frames.space(method, problem))]


def _dimensions(frames: StudyFrames) -> list[str]:
    """Methods that search nothing, and those that search more or fewer dimensions than the baseline."""
    tuned = [about for about in map(frames.method, frames.methods) if about["arm"] == "tuned"]
    idle = [about["title"] for about in tuned if about["dimensions"] == 0]
    told = []
    if idle:
        verb, whose = ("searches", "its") if len(idle) == 1 else ("search", "their")
        told = [f"{listed(idle)} {verb} no hyperparameter: all of {whose} trials have the settings of the study file."]
    base = frames.method(frames.baseline) if frames.baseline is not None else None
    if base is None or not base["dimensions"]:
        return told
    usual = base["dimensions"]
    groups: dict[int, list[str]] = {}
    for about in tuned:
        count = about["dimensions"]
        if count and count != usual:
            groups.setdefault(count, []).append(about["title"])
    return told + [
        f"{listed(titles)} {'searches' if len(titles) == 1 else 'search'} {count} dimensions, {base['title']} "
        f"{usual}: the same number of trials covers "
        f"{'more dimensions less' if count > usual else 'fewer dimensions more'} densely."
        for count, titles in groups.items()
    ]
