"""Importance of hyperparameters: their shares of the variance of the validation loss, by fANOVA."""

from __future__ import annotations

import numpy as np
import pandas as pd

from relaxbench.analysis.frames import StudyFrames
from relaxbench.pages.figure import Drawing, Figure
from relaxbench.pages.theme import INK, PALETTE, PAPER, Look, axis, file_name, layout, plain
from relaxbench.report.figures.search_space import Exploration, explore_trials, order
from relaxbench.util.seeds import derive

MAX_TRIALS = 5_000
"""Most explore trials that all forests of a report are fitted to, shared among its problems and methods."""

FEWEST = 30
"""Fewest trials for which importances are shown."""

TREES, DEPTH = 16, 6
"""Size of each forest. Optuna's default of 64 deep trees takes ten times as long; shares differ by less than 0.01."""

TOGETHER = "together"
"""The row for the share that no hyperparameter explains alone."""


def importances(frames: StudyFrames) -> pd.DataFrame:
    """Return the main effects of every method's hyperparameters: problem, method, hyperparameter, share, trials.

    A share is the part of a random forest's variance over the searched ranges that one hyperparameter explains alone
    (fANOVA: Hutter, Hoos and Leyton-Brown, ICML 2014). The row `TOGETHER` holds the rest, the interactions. Only
    explore trials are used: they are independent and uniform over the ranges. Diverged trials have the problem's worst
    value, as in the tuning. Fixed seeds make a study's importances reproducible.
    """
    methods = [method for method in frames.methods if frames.is_random(method)]
    pairs = [(problem, method) for problem in frames.problems for method in methods]
    rows = []
    for problem, method in pairs:
        exploration = explore_trials(frames, problem, method)
        seed = derive("importance", problem, method) % 2**32
        count = min(len(exploration.trials), MAX_TRIALS // len(pairs))
        shares = effects(exploration, count, seed)
        rows += [(problem, method, name, share, count) for name, share in shares.items()]
    return pd.DataFrame(rows, columns=["problem", "method", "hyperparameter", "share", "trials"])


def effects(exploration: Exploration, count: int, seed: int) -> dict[str, float]:
    """Return the share of each hyperparameter and of `TOGETHER`.

    Empty for too few finished trials, and where all results are the same.

    Args:
        exploration: the trials of a method.
        count: number of trials that are drawn from them, without replacement.
        seed: of the draw and of the forest.
    """
    sample = np.random.default_rng(seed).choice(len(exploration.trials), count, replace=False)
    values = exploration.values[sample]
    numbers = exploration.numbers
    scales = [scale for scale in exploration.scales if scale.high > scale.low and numbers[scale.name].notna().all()]
    if count < FEWEST or not scales or np.ptp(values) == 0:
        return {}
    import optuna
    from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution

    # Optuna integrates over a logarithmic range as if it were linear, so it gets places on the range's scale instead.
    spaces: dict[str, BaseDistribution] = {
        scale.name: CategoricalDistribution(range(len(scale.choices))) if scale.choices else FloatDistribution(0, 1)
        for scale in scales
    }
    params = {}
    for scale in scales:
        own = numbers[scale.name].to_numpy()[sample]
        params[scale.name] = own.astype(int) if scale.choices else np.clip(scale.places(own), 0, 1)
    trials = [
        optuna.trial.create_trial(
            params={name: column[row].item() for name, column in params.items()}, distributions=spaces, value=value
        )
        for row, value in enumerate(values.tolist())
    ]
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study()
    study.add_trials(trials)
    evaluator = optuna.importance.FanovaImportanceEvaluator(n_trees=TREES, max_depth=DEPTH, seed=seed)
    shares = evaluator.evaluate(study)
    ordered = {scale.name: shares[scale.name] for scale in scales}
    return ordered | {TOGETHER: max(1 - sum(ordered.values()), 0.0)}


def importance(frame: pd.DataFrame, look: Look, problem: str) -> Figure | None:
    """Draw a table of methods and hyperparameters with the share in each cell (a frame of `importances`)."""
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
        hovertemplate="%{text} %<extra></extra>",
        hoverongaps=False,
    )
    columns = {"tickvals": list(range(len(methods))), "ticktext": [look.title(method) for method in methods]}
    lines = {"tickvals": list(range(len(names))), "ticktext": [plain(name, 20) for name in names]}
    ticks = {"nticks": None, "showgrid": False, "tickfont": {"color": INK, "size": 12}}
    figure.update_layout(
        layout(
            height=130 + 28 * len(names),
            margin={"l": 8, "r": 8, "t": 8, "b": 8},
            xaxis=axis("") | ticks | columns | {"side": "top", "tickangle": -40},
            yaxis=axis("") | ticks | lines | {"autorange": "reversed"},
        )
    )
    return Figure(
        f"importance-{file_name(problem)}",
        "Importance of hyperparameters",
        "Percentage of the variance of the validation loss over the searched ranges that a hyperparameter explains "
        f"alone (fANOVA's main effects; “{TOGETHER}”: only several together; {TREES} trees of depth {DEPTH} on at most "
        f"{int(rows['trials'].max()):,} explore trials per method; diverged trials have the problem's worst loss).",
        figure,
        data=rows.reset_index(drop=True),
    )
