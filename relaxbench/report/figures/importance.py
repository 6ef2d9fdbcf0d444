"""Which hyperparameters matter: shares of the variance of the validation loss, by fANOVA."""

from __future__ import annotations

import numpy as np
import pandas as pd

from relaxbench.analysis.frames import StudyFrames
from relaxbench.pages.figure import Drawing, Figure
from relaxbench.pages.theme import INK, PALETTE, PAPER, Look, axis, file_name, layout, plain
from relaxbench.report.figures.settings import Tried, order, tried
from relaxbench.util.seeds import derive

MAX_TRIALS = 5_000
"""Explore trials that all forests of a report are fitted to, shared among its problems and methods."""

FEWEST = 30
"""From fewer trials no importance is told."""

TREES, DEPTH = 16, 6
"""Of each forest: Optuna's usual 64 deep trees take ten times as long and give the same shares within 0.01."""

TOGETHER = "together"
"""The row of what no hyperparameter explains alone."""


def importances(frames: StudyFrames) -> pd.DataFrame:
    """Main effects of every method's hyperparameters: problem, method, hyperparameter, share, trials.

    A share is the part of a random forest's variance over the ranges searched that one hyperparameter explains alone;
    the row `TOGETHER` holds the rest, its interactions. Explore trials alone are independent and uniform over the
    ranges, so no other is used; diverged ones count with the problem's worst value, as they do in the tuning. The draw
    and the forests have seeds of their own: a study has the same importances whenever they are asked for.
    """
    pairs = [(problem, method) for problem in frames.problems for method in frames.methods]
    rows = []
    for problem, method in pairs:
        found = tried(frames, problem, method)
        seed = derive("importance", problem, method) % 2**32
        count = min(len(found.trials), MAX_TRIALS // len(pairs))
        shares = effects(found, count, seed)
        rows += [(problem, method, name, share, count) for name, share in shares.items()]
    return pd.DataFrame(rows, columns=["problem", "method", "hyperparameter", "share", "trials"])


def effects(tried: Tried, count: int, seed: int) -> dict[str, float]:
    """Each hyperparameter's share, and `TOGETHER`'s; empty where too few trials are done or all results are the same.

    Args:
        tried: what a method tried.
        count: of so many trials, drawn without order.
        seed: of the draw and of the forest.
    """
    drawn = np.random.default_rng(seed).choice(len(tried.trials), count, replace=False)
    values = tried.trials["value"].to_numpy()[drawn]
    ranges = [each for each in tried.ranges if each.high > each.low and tried.numbers[each.name].notna().all()]
    if count < FEWEST or not ranges or np.ptp(values) == 0:
        return {}
    import optuna
    from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution

    # Optuna would integrate over a logarithmic range as if it were linear: it is given places on the range's own scale.
    spaces: dict[str, BaseDistribution] = {
        each.name: CategoricalDistribution(range(len(each.choices))) if each.choices else FloatDistribution(0, 1)
        for each in ranges
    }
    settings = {}
    for each in ranges:
        numbers = tried.numbers[each.name].to_numpy()[drawn]
        settings[each.name] = numbers.astype(int) if each.choices else np.clip(each.places(numbers), 0, 1)
    trials = [
        optuna.trial.create_trial(
            params={name: column[row].item() for name, column in settings.items()}, distributions=spaces, value=value
        )
        for row, value in enumerate(values.tolist())
    ]
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study()
    study.add_trials(trials)
    evaluator = optuna.importance.FanovaImportanceEvaluator(n_trees=TREES, max_depth=DEPTH, seed=seed)
    shares = evaluator.evaluate(study)
    ordered = {each.name: shares[each.name] for each in ranges}
    return ordered | {TOGETHER: max(1 - sum(ordered.values()), 0.0)}


def importance(frame: pd.DataFrame, look: Look, problem: str) -> Figure | None:
    """A map of methods and hyperparameters, the share written in each cell (a frame of `importances`)."""
    rows = frame[frame["problem"] == problem]
    if rows.empty:
        return None
    methods = [method for method in look.titles if method in set(rows["method"])]
    names = sorted(dict.fromkeys(rows["hyperparameter"]), key=lambda name: (name == TOGETHER, order(name)))
    shares = rows.pivot(index="hyperparameter", columns="method", values="share").loc[names, methods].to_numpy(float)
    figure = Drawing()
    figure.add(
        "heatmap",
        z=shares.astype(np.float32),
        zmin=0,
        zmax=1,
        showscale=False,
        colorscale=[[0, PAPER], [1, PALETTE[0]]],
        text=[["" if np.isnan(share) else f"{100 * share:.0f}" for share in line] for line in shares],
        texttemplate="%{text}",
        textfont={"size": 12},
        xgap=2,
        ygap=2,
        hovertemplate="%{z:.1%}<extra></extra>",
        hoverongaps=False,
    )
    columns = {"tickvals": list(range(len(methods))), "ticktext": [look.title(method) for method in methods]}
    lines = {"tickvals": list(range(len(names))), "ticktext": [plain(name, 20) for name in names]}
    told = {"nticks": None, "showgrid": False, "tickfont": {"color": INK, "size": 12}}
    figure.update_layout(
        layout(
            height=130 + 28 * len(names),
            margin={"l": 8, "r": 8, "t": 8, "b": 8},
            xaxis=axis("") | told | columns | {"side": "top", "tickangle": -40},
            yaxis=axis("") | told | lines | {"autorange": "reversed"},
        )
    )
    return Figure(
        f"importance-{file_name(problem)}",
        "Which hyperparameters matter",
        "Percent of the variance of the validation loss, over the ranges searched, that a hyperparameter explains "
        f"alone (fANOVA's main effects; “{TOGETHER}” is what only several explain; {TREES} trees of depth {DEPTH} on "
        f"{int(rows['trials'].max()):,} explore trials a method at most, diverged ones at the problem's worst loss).",
        figure,
        data=rows.reset_index(drop=True),
    )
