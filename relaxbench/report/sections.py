"""The contents of the report for every problem, section by section."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from relaxbench.analysis.comparison import MethodResult
from relaxbench.analysis.findings import Findings
from relaxbench.analysis.frames import StudyFrames
from relaxbench.analysis.pruning import Pruning, prunings
from relaxbench.analysis.theory_numbers import Theorem
from relaxbench.analysis.worth import Ablated, ablated
from relaxbench.pages.figure import Figure
from relaxbench.pages.theme import Look
from relaxbench.report.figures import (
    blocks,
    gradients_to_target,
    learning_curves,
    random_search,
    scope_schedules,
    tuning_budget,
)
from relaxbench.report.figures.cost import costs, measurement_share, relative
from relaxbench.report.figures.importance import importance, importances
from relaxbench.report.figures.incumbents import history, incumbents
from relaxbench.report.figures.interaction import interaction
from relaxbench.report.figures.ladder import ladder
from relaxbench.report.figures.looks import looks
from relaxbench.report.figures.parallel_coordinates import parallel
from relaxbench.report.figures.parts import parts
from relaxbench.report.figures.search_space import explore_trials, reference
from relaxbench.report.figures.sharpness import confirmed_flatness, sharpness
from relaxbench.report.figures.slices import slices
from relaxbench.report.figures.solution import chosen, solutions
from relaxbench.report.figures.theory import expectation, measured
from relaxbench.report.figures.verdicts import forest
from relaxbench.store.facts import ProblemFacts


@dataclass(frozen=True)
class Recommended:
    """The best params of a method on a problem, and their results on fresh seeds.

    Attributes:
        title: the method's title.
        params: the params.
        trial, phase: where they were found: id and phase of the trial.
        value: the trial's validation loss.
        runs: number of fresh seeds.
        mean, std: of the test metric over the fresh seeds, in display units.
        decimals: number of decimals of the metric.
    """

    title: str
    params: Mapping[str, float | int | str]
    trial: int
    phase: str
    value: float
    runs: int
    mean: float
    std: float
    decimals: int


@dataclass(frozen=True)
class ProblemSections:
    """Everything that the page shows of a problem; lists and dicts are empty where there is nothing to show.

    Attributes:
        name, about: the problem's name and facts.
        results: one per method, with all comparisons.
        headline: the shortest true answer.
        forest: the figure of ratios to the baseline.
        parts: the figure of what each part of a method is worth, and `ablated` its rows.
        verdicts: figures of the looks and of every block.
        curves: one panel of learning curves per method.
        solution: panels of the exact solution, and of the baseline's and the best method's, for equations.
        target: gradients to a target.
        budget: panels over the tuning budget, by kind.
        why: figures of hyperparameters, by kind.
        costs: rows of the table of costs.
        measured: the cost of all measurements relative to that of training.
        pruning: what pruners did, one entry per method with one.
        cost, theory, flatness, search: figures of the sections of these names.
        recommended: one entry per method with finished runs.
    """

    name: str
    about: ProblemFacts
    results: Sequence[MethodResult]
    headline: str
    forest: list[Figure]
    parts: list[Figure]
    ablated: list[Ablated]
    verdicts: list[Figure]
    curves: list[Figure]
    solution: list[Figure]
    target: list[Figure]
    budget: dict[str, list[Figure]]
    why: dict[str, list[Figure]]
    costs: list[dict[str, Any]]
    measured: float
    pruning: list[Pruning]
    cost: list[Figure]
    theory: list[Figure]
    flatness: list[Figure]
    search: list[Figure]
    recommended: list[Recommended]


def problems(findings: Findings, look: Look, theory: Mapping[str, Theorem]) -> list[ProblemSections]:
    """Return the contents of the page for every problem."""
    frames = findings.frames
    shares = importances(frames)
    return [_problem(findings, look, name, shares, theory.get(name)) for name in frames.problems]


def overall(frames: StudyFrames, look: Look) -> list[Figure]:
    """Return the figures over all problems: performance profiles, where there are enough problems for them."""
    if frames.repetitions > 1:
        return []
    return _some(gradients_to_target.profile(*gradients_to_target.profiles(frames), look))


def ladders(findings: Findings, look: Look) -> dict[str, list[Figure]]:
    """Return the panels of every ladder of budgets, by the problem's own name; empty without one."""
    bases = dict.fromkeys(result.base for result in findings.results)
    figures = {base: ladder(findings.results, look, base) for base in bases}
    return {base: panels for base, panels in figures.items() if panels}


def _problem(
    findings: Findings, look: Look, name: str, shares: pd.DataFrame, theorem: Theorem | None
) -> ProblemSections:
    frames, results = findings.frames, findings.on(name)
    cost = costs(frames, name)
    return ProblemSections(
        name=name,
        about=frames.problem(name),
        results=results,
        headline=findings.headlines[name],
        forest=[] if frames.repetitions > 1 else _some(forest(results, look, name)),
        parts=[] if frames.repetitions > 1 else _some(parts(results, look, name)),
        ablated=[] if frames.repetitions > 1 else ablated(results),
        verdicts=[] if frames.repetitions > 1 else _verdicts(frames, results, look, name),
        curves=_curves(frames, look, name),
        solution=solutions(chosen(frames, name), look, name, frames.problem(name)),
        target=_some(gradients_to_target.target(gradients_to_target.to_target(frames, name), look, name)),
        budget=_budget(frames, look, name),
        why=_why(frames, look, name, shares),
        costs=[{str(key): value for key, value in row.items()} for row in cost.to_dict("records")],
        measured=measurement_share(frames, name),
        pruning=[found for found in prunings(frames) if found.problem == name],
        cost=_some(relative(cost, look, name)),
        theory=[expectation(theorem, measured(frames, name), look, name)] if theorem else [],
        flatness=_some(_flatness(frames, look, name)),
        search=_search(frames, look, name),
        recommended=_recommended(frames, results, name),
    )


def _verdicts(frames: StudyFrames, results: Sequence[MethodResult], look: Look, name: str) -> list[Figure]:
    values = blocks.results(frames, name)
    return _some(
        looks(results, look, name),
        blocks.dots(
            values,
            {result.method: result.level for result in results},
            look,
            name,
            frames.problem(name),
            {method for method in frames.methods if frames.tuning(method) and not frames.is_random(method)},
        ),
    )


def _curves(frames: StudyFrames, look: Look, name: str) -> list[Figure]:
    about = frames.problem(name)
    views = {"validation loss": learning_curves.bands(frames, name, "validation_loss")}
    if not about["censored"]:  # gradients to a tolerance have no curve
        unit = f" ({about['unit']})" if about["unit"] else ""
        metric = str(about["metric"]).replace("test", "validation") + unit
        views[metric] = learning_curves.bands(frames, name, "validation_metric")
    views = {label: frame for label, frame in views.items() if len(frame)}
    return learning_curves.curves(views, learning_curves.scales(frames, name), look, name) if views else []


def _why(frames: StudyFrames, look: Look, name: str, shares: pd.DataFrame) -> dict[str, list[Figure]]:
    """Figures by kind: importances of all methods, then one figure per method; empty without a search."""
    others = {method: reference(frames, name, look.opponent(method)) for method in frames.methods}
    trials = {method: explore_trials(frames, name, method) for method in frames.methods}
    scopes = {method: str(scope) for method in frames.methods if (scope := frames.method(method)["scope"])}
    figures = {
        "importance": _some(importance(shares, look, name)),
        "schedules": _schedules(frames, look, name),
        "interactions": _some(*(interaction(trials[m], look, name, m, scope) for m, scope in scopes.items())),
        "slices": _some(*(slices(trials[m], look, name, m, others[m]) for m in scopes)),
        "others": _some(*(slices(trials[m], look, name, m, others[m]) for m in frames.methods if m not in scopes)),
        "parallel": _some(*(parallel(trials[m], look, name, m, others[m]) for m in frames.methods)),
    }
    return {kind: group for kind, group in figures.items() if group}


def _search(frames: StudyFrames, look: Look, name: str) -> list[Figure]:
    return _some(
        random_search.search(random_search.spreads(frames, name), look, name),
        history(incumbents(frames, name), look, name, reference(frames, name)),
    )


def _schedules(frames: StudyFrames, look: Look, name: str) -> list[Figure]:
    return _some(
        *(
            scope_schedules.schedules(scope_schedules.sampled(frames, name, method), look, name, method, str(scope))
            for method in frames.methods
            if (scope := frames.method(method)["scope"])
        )
    )


def _budget(frames: StudyFrames, look: Look, name: str) -> dict[str, list[Figure]]:
    """Panels by kind; empty without a search."""
    table, medians = tuning_budget.by_budget(frames, name), tuning_budget.medians(frames, name)
    loss = tuning_budget.loss_name(frames, name)
    panels = {
        "verdict": tuning_budget.differences(table, look, name, loss),
        "best": tuning_budget.best(table, medians, look, name, loss),
    }
    return {kind: group for kind, group in panels.items() if group}


def _flatness(frames: StudyFrames, look: Look, name: str) -> Figure | None:
    about = frames.problem(name)
    if about["censored"]:  # gradients to a tolerance are no measure of generalization
        return None
    facts = frames.manifest.get("flatness", {}).get(name)
    return sharpness(confirmed_flatness(frames, name), look, name, about, facts["examples"] if facts else None)


def _recommended(frames: StudyFrames, results: Sequence[MethodResult], name: str) -> list[Recommended]:
    """The best params of each method with their results on fresh seeds."""
    recommended = []
    for result in results:
        of = (frames.recommended["problem"] == name) & (frames.recommended["method"] == result.method)
        runs = frames.recommended[of]
        if len(runs):
            first = runs.iloc[0]
            recommended.append(
                Recommended(
                    title=result.title,
                    params=first["params"],
                    trial=int(first["source"]),
                    phase=first["source_phase"],
                    value=float(first["source_value"]),
                    runs=len(runs),
                    mean=float(runs["test_metric"].mean()),
                    std=float(runs["test_metric"].std(ddof=1)),
                    decimals=result.decimals,
                )
            )
    return recommended


def _some(*figures: Figure | None) -> list[Figure]:
    return [figure for figure in figures if figure is not None]
