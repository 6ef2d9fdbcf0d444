"""Tidy frames from the rows of a study: units, confirm runs and their ranks, winners of blocks, curves, flatness."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from relaxbench.store.allowance import affordable
from relaxbench.store.schema import CURVE_COLUMNS, FINISHED, SEARCHED
from relaxbench.store.winners import best_rows_so_far

MEASURES = ("train_loss", "validation_loss", "validation_metric", "test_loss", "test_metric")
LEDGER = ("gradients", "examples", "jvps", "measurement")
FLATNESS = (*(f"hessian_top_{rank}" for rank in range(1, 6)), "hessian_trace", "hessian_trace_error")

ARM = ["problem", "method"]
BLOCK = [*ARM, "block"]


def trials_of(
    raw: pd.DataFrame, scales: Mapping[str, float], costs: Mapping[tuple[str, str], float], blocks: int
) -> pd.DataFrame:
    """Return the trials with measures and ledgers as columns, metrics in display units, seconds and repetition.

    Args:
        raw: the rows as stored.
        scales: problem → factor from the stored metric to the display unit; 1 where it is missing.
        costs: problem and method → seconds per gradient; NaN where it was not measured.
        blocks: of one repetition.
    """
    # A measure that is null (a diverged run) and a measure that does not exist (yet) are both NaN.
    numbers = {
        key: np.array([(row or {}).get(key) for row in stored], dtype=float)
        for keys, stored in ((MEASURES, raw["measures"]), (LEDGER, raw["ledger"]))
        for key in keys
    }
    numbers["gradients"] += np.nan_to_num(numbers["jvps"])  # everything that the budget pays for
    trials = pd.concat([raw.drop(columns=["measures", "ledger"]), pd.DataFrame(numbers, index=raw.index)], axis=1)
    scale = trials["problem"].map(scales).astype(float).fillna(1.0)
    for key in ("validation_metric", "test_metric"):
        trials[key] *= scale
    trials["value"] = trials["value"].astype(float)
    trials["diverged"] = trials["diverged"].astype(bool)
    per_gradient = [costs[pair] for pair in zip(trials["problem"], trials["method"], strict=True)]
    trials["seconds"] = trials["gradients"] * np.array(per_gradient, dtype=float)
    trials["repetition"] = trials["block"].astype(int) // max(blocks, 1)
    return trials


def with_hyperparameters(runs: pd.DataFrame) -> pd.DataFrame:
    """Add a column per hyperparameter, such as ``params_lr``, missing where a method has or searches no such one."""
    settings = [params if isinstance(params, dict) else {} for params in runs["params"]]
    names = dict.fromkeys(name for params in settings for name in params)
    columns = {f"params_{name}": [params.get(name) for params in settings] for name in names}
    return pd.concat([runs, pd.DataFrame(columns, index=runs.index)], axis=1)


def confirmations_of(trials: pd.DataFrame) -> pd.DataFrame:
    """Return one row per finished confirm run, best first by the validation loss of its trial.

    Block and number are the place of the random trial whose settings are run again; ``parent`` is its id,
    ``parent_value`` its validation loss and ``rank`` its rank by it among all finished random trials of the method in
    this repetition, from 1. Of a method that is run as published they are missing.
    """
    explored, confirmed = (_done(trials, phase) for phase in ("explore", "confirm"))
    explore = trials[[*ARM, "repetition", "block", "number", "id", "value"]][explored]  # copying all columns takes long
    loss = explore["value"].where(np.isfinite(explore["value"]))
    ordered = explore.assign(loss=loss).sort_values(["loss", "block", "number"], kind="stable", na_position="last")
    rank = ordered.groupby([*ARM, "repetition"]).cumcount().add(1)
    place = explore.assign(rank=rank)[["id", "number", "value", "rank"]]
    place.columns = pd.Index(["parent", "parent_number", "parent_value", "rank"])
    runs = trials.drop(columns=["phase", "status"])[confirmed].merge(place, on="parent", how="left")
    runs["number"] = runs.pop("parent_number").fillna(runs["number"]).astype(int)  # protocol 1 numbers them all 0
    runs["rank"] = runs["rank"].astype("Int64")
    runs["parent"] = runs["parent"].astype("Int64").where(runs["parent"] != 0)
    first = [*ARM, "repetition", "block", "number", "parent", "parent_value", "rank"]
    runs = runs[["id", *first, *(column for column in runs if column not in (*first, "id"))]]
    return runs.sort_values([*ARM, "repetition", "rank", "block", "id"], ignore_index=True)


def blocks_of(
    trials: pd.DataFrame, planned: int, budget: Callable[[str, str], int | None] = lambda method, problem: None
) -> pd.DataFrame:
    """Return the winner of every complete block with its confirm run, whose columns are missing where there is none.

    A run of a method as published is a block of its own, without a winner.

    Args:
        trials: of `trials_of`.
        planned: T, random trials per block.
        budget: from method and problem to the gradients of a trial, if a pruner stops trials: then a block is complete
            when it has no such gradients left.
    """
    explore = trials[[*BLOCK, "id", "phase", "number", "value", "params", "repetition"]][_done(trials, "explore")]
    is_searched = (trials["phase"] == "explore") & trials["status"].isin(FINISHED)
    searched = trials[[*BLOCK, "gradients"]][is_searched]
    size = searched.groupby(BLOCK)["gradients"].agg(explored="size", spent="sum").reset_index()
    complete = [_is_complete(row, planned, budget(row.method, row.problem)) for row in size.itertuples()]
    size = size.loc[np.array(complete, dtype=bool), [*BLOCK, "explored"]]
    winners = best_rows_so_far(explore, BLOCK).merge(size, on=BLOCK)
    winners = winners[[*BLOCK, "explored", "id", "value", "params", "repetition"]]
    winners = winners.rename(columns={"id": "winner", "value": "winner_value"})
    runs = trials.drop(columns=["status", "phase", "number"])[_done(trials, "confirm")].rename(
        columns={"id": "confirm"}
    )
    tuned = runs[runs["parent"] != 0].drop(columns=["params", "repetition"])
    blocks = winners.merge(tuned, left_on=[*BLOCK, "winner"], right_on=[*BLOCK, "parent"], how="left")
    published = runs[runs["parent"] == 0].assign(explored=0)
    parts = [part for part in (blocks, published) if len(part)]
    blocks = (pd.concat(parts, ignore_index=True) if parts else blocks).drop(columns="parent")
    if "winner" not in blocks:
        blocks = blocks.assign(winner=pd.NA, winner_value=np.nan)
    for column in ("winner", "confirm"):
        blocks[column] = blocks[column].astype("Int64")
    first = [*BLOCK, "explored", "winner", "winner_value", "params", "confirm"]
    blocks = blocks[[*first, *(column for column in blocks if column not in first)]]
    return blocks.sort_values(BLOCK, ignore_index=True)


def _is_complete(block: Any, planned: int, budget: int | None) -> bool:
    if budget is None:
        return bool(block.explored >= planned)
    return affordable(planned, budget, block.spent) == 0


def recommended_of(trials: pd.DataFrame) -> pd.DataFrame:
    """Return the finished runs of each method's best params so far, on fresh seeds."""
    searched = trials[[*ARM, "block", "number", "id", "phase", "value"]][_done(trials, *SEARCHED)]
    best = best_rows_so_far(searched, ARM)[[*ARM, "id", "phase", "value"]].rename(
        columns={"id": "source", "phase": "source_phase", "value": "source_value"}
    )
    runs = trials.drop(columns=["phase", "status", "block", "repetition"])[_done(trials, "recommend")]
    runs = best.merge(runs, left_on=[*ARM, "source"], right_on=[*ARM, "parent"]).drop(columns="parent")
    return runs.sort_values([*ARM, "number"], ignore_index=True)


def _done(trials: pd.DataFrame, *phases: str) -> pd.Series:
    """Which trials of these phases are done."""
    return (trials["status"] == "done") & trials["phase"].isin(phases)


def curves_of(packed: Sequence[tuple[int, bytes]], trials: pd.DataFrame, scales: Mapping[str, float]) -> pd.DataFrame:
    """Unpack curves into a long frame: one row per trial and measured point."""
    rows = len(CURVE_COLUMNS)
    arrays = [np.frombuffer(data, dtype="<f4").reshape(rows, -1) for _, data in packed]
    points = np.array([array.shape[1] for array in arrays], dtype=np.int64)
    values = np.concatenate(arrays, axis=1) if arrays else np.empty((rows, 0), dtype=np.float32)
    ids = np.array([trial for trial, _ in packed], dtype=np.int64)
    owner = trials.set_index("id")[["problem", "method", "phase", "block"]].loc[ids]
    columns: dict[str, Any] = {"trial_id": np.repeat(ids, points)}
    for key in ("problem", "method", "phase"):  # categories, because one name per point would dwarf the numbers
        columns[key] = pd.Categorical(owner[key]).repeat(points)
    columns["block"] = np.repeat(owner["block"].to_numpy(dtype=np.int64), points)
    columns["point"] = np.arange(len(columns["trial_id"])) - np.repeat(np.cumsum(points) - points, points)
    columns |= dict(zip(CURVE_COLUMNS, values, strict=True))
    scale = np.repeat(owner["problem"].map(scales).astype(float).fillna(1.0).to_numpy(dtype=np.float32), points)
    columns["validation_metric"] = columns["validation_metric"] * scale
    return pd.DataFrame(columns)


def flatness_of(runs: pd.DataFrame, stored: pd.Series) -> pd.DataFrame:
    """Flatness of the runs for which it was measured; `stored` holds the measures of all trials by the same index."""
    rows = {index: row for index, row in stored.loc[runs.index].items() if row and "hessian_top" in row}
    gammas = sorted({gamma for row in rows.values() for gamma in row["local_entropy"]}, key=float)
    known = ["problem", "method", "phase", "block", "number", "train_loss", "test_loss", "test_metric"]
    table = runs.loc[list(rows), ["id", *known]].rename(columns={"id": "trial_id"})
    numbers = [
        [
            *(row["hessian_top"] + [None] * 5)[:5],
            *(row[key] for key in FLATNESS[5:]),
            *(row["local_entropy"].get(gamma) for gamma in gammas),
        ]
        for row in rows.values()
    ]
    names = [*FLATNESS, *(f"local_entropy_{gamma}" for gamma in gammas)]
    measured = pd.DataFrame(numbers, columns=names, index=table.index, dtype=float)
    return pd.concat([table, measured], axis=1).reset_index(drop=True)


def unmeasured_of(runs: pd.DataFrame, stored: pd.Series) -> dict[str, str]:
    """Problem → why the flatness of a run could not be measured, for problems of which some runs say so."""
    rows = zip(runs["problem"], stored.loc[runs.index], strict=True)
    return {problem: str(row["flatness_error"])[:250] for problem, row in rows if row and "flatness_error" in row}


def answers_of(packed: bytes, examples: int | None) -> NDArray[np.bool_]:
    """Unpack whether a run classified each test example correctly, ``[examples]``."""
    return np.unpackbits(np.frombuffer(packed, dtype=np.uint8), count=examples).astype(bool)
