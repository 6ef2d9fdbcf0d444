"""Read a study from the database into tidy pandas frames, with a few bulk queries.

Units: losses are as trained; every ``*_metric`` is in the problem's display unit (``manifest["problems"][p]["unit"]``,
so 3.1 and not 0.031 where the unit is %); gradients are gradient equivalents; ``seconds`` is a run's ledger times the
method's cost per gradient, calibrated alone at K = 1.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sqlalchemy import Engine, select

from relaxbench.space import Space, Value
from relaxbench.store.facts import (
    Manifest,
    MethodFacts,
    SpecFacts,
    fixed_on,
    method_facts,
    problem_facts,
    space_on,
)
from relaxbench.store.facts import (
    ProblemFacts as ProblemFacts,
)
from relaxbench.store.schema import CURVE_COLUMNS, PHASES, SEARCHED, Curve, Study, Trial
from relaxbench.store.studies import choose_study
from relaxbench.store.winners import best_rows_so_far
from relaxbench.util import files

MEASURES = ("train_loss", "validation_loss", "validation_metric", "test_loss", "test_metric")
LEDGER = ("gradients", "examples", "jvps", "measurement")
FLATNESS = (*(f"hessian_top_{rank}" for rank in range(1, 6)), "hessian_trace", "hessian_trace_error")


@dataclass(frozen=True)
class StudyFrames:
    """A study as read from the database.

    Attributes:
        name: the study's name.
        spec: the specification, as stored.
        manifest: the circumstances under which it ran, as stored.
        source: the study file, as read.
        trials: one row per trial of any phase and status: id, problem, method, phase, block, number, parent, seed,
            status, error, value, diverged, params (a dict), the measures, the ledger, seconds, repetition.
        curves: one row per measured point: trial_id, problem, method, phase, block, point and `CURVE_COLUMNS`.
        blocks: one row per problem, method and complete block: the winner and its confirm run on a fresh seed.
        recommended: one row per run of a method's best params so far on a fresh seed, with those params.
        flatness: one row per run of `blocks` and `recommended` whose flatness was measured: trial_id, problem, method,
            phase, block, number, train_loss, test_loss, test_metric, `FLATNESS` (``hessian_top_1`` is the largest
            eigenvalue), and ``local_entropy_γ`` for every γ of the study, ascending; NaN where it does not exist.
        correct: id of a confirm run → whether it classified each test example correctly, bool ``[test_examples]``;
            empty for problems without classes.
    """

    name: str
    spec: SpecFacts
    manifest: Manifest
    source: str
    trials: pd.DataFrame
    curves: pd.DataFrame
    blocks: pd.DataFrame
    recommended: pd.DataFrame
    flatness: pd.DataFrame
    correct: Mapping[int, NDArray[np.bool_]] = field(default_factory=dict)

    @property
    def problems(self) -> list[str]:
        """The problems, in the order of the study file."""
        return list(self.spec.get("problems") or self.manifest.get("problems") or [])

    @property
    def methods(self) -> list[str]:
        """The methods' labels, in the order of the study file."""
        return list(self.spec.get("methods") or self.manifest.get("methods") or [])

    @property
    def repetitions(self) -> int:
        """The number of repetitions of the whole study (1, except for A/A studies)."""
        return int(self.spec.get("repetitions") or 1)

    @property
    def baseline(self) -> str | None:
        """The label of the baseline, or None where the study has none among its methods."""
        label = self.spec.get("baseline")
        return label if label in self.methods else None

    def problem(self, name: str) -> ProblemFacts:
        """Return all facts of a problem, with neutral values for what is unknown."""
        return problem_facts(self.manifest, name)

    def method(self, label: str) -> MethodFacts:
        """Return all facts of a method, with neutral values for unknown ones; the study file gives an unknown role."""
        role = "baseline" if label == self.spec.get("baseline") else "candidate"
        if label in (self.spec.get("controls") or []):
            role = "control"
        return method_facts(self.manifest, label, role)

    def space(self, label: str, problem: str) -> Space:
        """Return the space of a method on a problem; ranges may differ between problems."""
        return space_on(self.method(label), problem)

    def fixed(self, label: str, problem: str) -> dict[str, Value]:
        """Return the fixed hyperparameters of a method on a problem."""
        return fixed_on(self.method(label), problem)

    def margin(self, problem: str) -> float | None:
        """Return the largest difference that counts as equivalent, in display units; None if not stated."""
        margin = self.spec.get("margin")
        if margin is None:
            margin = self.problem(problem)["margin"]
        return float(margin) if margin else None

    def cost(self, label: str, problem: str, key: Literal["seconds_per_gradient", "peak_bytes"]) -> float:
        """Return a calibrated cost, in seconds or bytes; NaN where it was not measured."""
        measured = self.method(label)["calibration"].get(problem)
        return float("nan") if measured is None or measured.get(key) is None else float(measured[key])

    def tables(self) -> dict[str, pd.DataFrame]:
        """Return all frames by name, for export."""
        return {
            "trials": self.trials,
            "blocks": self.blocks,
            "recommended": self.recommended,
            "flatness": self.flatness,
            "curves": self.curves,
        }

    def save(self, folder: Path | str, format: str = "parquet") -> list[Path]:
        """Write every frame into a folder: ``trials.parquet`` and so on. Params (dicts) become JSON.

        Args:
            folder: where the files go; created if it is missing.
            format: ``"parquet"`` or ``"csv"``.

        Raises:
            UserError: for another format, or if the folder cannot be written.
        """
        return files.save(self.tables(), Path(folder), format)


def load_study(storage: Engine | Path | str = "sqlite:///relaxbench.db", name: str | None = None) -> StudyFrames:
    """Read a study.

    Args:
        storage: an open database, or its address (``"relaxbench.db"``, ``"postgresql+psycopg://user@host/name"``),
            which is opened for reading only.
        name: the study's name; None means the only study.

    Raises:
        UserError: if the study does not exist, or no name is given and the database does not have exactly one study.
    """
    if not isinstance(storage, Engine):
        from relaxbench.store.database import open_database

        engine = open_database(str(storage), read_only=True, create=False)
        try:
            return load_study(engine, name)
        finally:
            engine.dispose()
    columns = [
        *(Trial.id, Trial.problem, Trial.method, Trial.phase, Trial.block, Trial.number, Trial.parent, Trial.seed),
        *(Trial.status, Trial.error, Trial.value, Trial.diverged, Trial.params, Trial.measures, Trial.ledger),
    ]
    with storage.connect() as connection:
        names = [row.name for row in connection.execute(select(Study.name).order_by(Study.id))]
        name = choose_study(names, name)
        study = connection.execute(
            select(Study.id, Study.spec, Study.manifest, Study.source).where(Study.name == name)
        ).one()
        own = Trial.study_id == study.id
        rows = connection.execute(select(*columns).where(own).order_by(Trial.id)).all()
        packed = connection.execute(
            select(Curve.trial_id, Curve.data)
            .join(Trial, Trial.id == Curve.trial_id)
            .where(own)
            .order_by(Curve.trial_id)
        ).all()
        bits = connection.execute(
            select(Trial.id, Trial.problem, Trial.correct).where(
                own, Trial.phase == "confirm", Trial.status == "done", Trial.correct.is_not(None)
            )
        ).all()

    raw = pd.DataFrame.from_records(list(map(tuple, rows)), columns=[column.key for column in columns])
    empty = pd.DataFrame()
    stored = (study.spec or SpecFacts(), study.manifest or Manifest(), study.source or "")
    frames = StudyFrames(name, *stored, empty, empty, empty, empty, empty)
    trials = _tidy(raw, frames)
    blocks, recommended = _blocks(trials, int(frames.spec.get("trials") or 1)), _recommended(trials)
    fresh = trials[trials["id"].isin([*blocks["confirm"], *recommended["id"]])]
    return replace(
        frames,
        trials=trials,
        curves=_unpack([(row.trial_id, row.data) for row in packed], trials, _scales(frames)),
        blocks=blocks,
        recommended=recommended,
        flatness=_flatness(fresh, raw["measures"]),
        correct={row.id: _bits(row.correct, frames.problem(row.problem)["test_examples"]) for row in bits},
    )


def progress(frames: StudyFrames) -> pd.DataFrame:
    """Count the ``done`` and ``planned`` trials: one row per problem, method and phase."""
    spec = frames.spec
    blocks = int(spec.get("blocks") or 0) * frames.repetitions
    planned = {
        "explore": blocks * int(spec.get("trials") or 0),
        "confirm": blocks,
        "exploit": int(spec.get("exploit") or 0),
        "recommend": int(spec.get("recommend") or 0),
    }
    searched = frames.trials[(frames.trials["status"] == "done") & frames.trials["phase"].isin(SEARCHED)]
    done = searched.groupby(["problem", "method", "phase"]).size().to_dict()
    # Of the other phases, only runs of the current winners count; superseded runs would hide a gap.
    done |= {(*key, "confirm"): n for key, n in frames.blocks.groupby(["problem", "method"]).size().items()}
    done |= {(*key, "recommend"): n for key, n in frames.recommended.groupby(["problem", "method"]).size().items()}
    rows = [
        (problem, method, phase, min(int(done.get((problem, method, phase), 0)), planned[phase]), planned[phase])
        for problem in frames.problems
        for method in frames.methods
        for phase in PHASES
        if planned[phase]
    ]
    return pd.DataFrame(rows, columns=["problem", "method", "phase", "done", "planned"])


def _bits(packed: bytes, examples: int | None) -> NDArray[np.bool_]:
    return np.unpackbits(np.frombuffer(packed, dtype=np.uint8), count=examples).astype(bool)


def _scales(frames: StudyFrames) -> dict[str, float]:
    names = set(frames.problems) | set(frames.manifest.get("problems", {}))
    return {name: float(frames.problem(name)["metric_scale"] or 1.0) for name in names}


def _tidy(raw: pd.DataFrame, frames: StudyFrames) -> pd.DataFrame:
    """Add measures and ledgers as columns, metrics in display units, the calibrated seconds and the repetition."""
    trials = raw.drop(columns=["measures", "ledger"])
    for keys, stored in ((MEASURES, raw["measures"]), (LEDGER, raw["ledger"])):
        for key in keys:
            # A measure that is null (a diverged run) and a measure that does not exist (yet) are both NaN.
            trials[key] = np.array([(row or {}).get(key) for row in stored], dtype=float)
    trials["gradients"] += trials["jvps"].fillna(0.0)  # everything that the budget pays for
    scale = trials["problem"].map(_scales(frames)).astype(float).fillna(1.0)
    for key in ("validation_metric", "test_metric"):
        trials[key] *= scale
    trials["value"] = trials["value"].astype(float)
    trials["diverged"] = trials["diverged"].astype(bool)
    cost = {
        (problem, method): frames.cost(method, problem, "seconds_per_gradient")
        for problem, method in trials[["problem", "method"]].drop_duplicates().itertuples(index=False)
    }
    costs = [cost[pair] for pair in zip(trials["problem"], trials["method"], strict=True)]
    trials["seconds"] = trials["gradients"] * np.array(costs, dtype=float)
    trials["repetition"] = trials["block"].astype(int) // max(int(frames.spec.get("blocks") or 1), 1)
    return trials


def _unpack(packed: list[tuple[int, bytes]], trials: pd.DataFrame, scales: dict[str, float]) -> pd.DataFrame:
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


def _blocks(trials: pd.DataFrame, planned: int) -> pd.DataFrame:
    """Complete blocks: all planned explore trials are done, and the current winner has been confirmed."""
    key = ["problem", "method", "block"]
    done = trials[trials["status"] == "done"]
    explore = done[done["phase"] == "explore"]
    size = explore.groupby(key).size().rename("explored")
    winners = best_rows_so_far(explore, key).merge(size[size >= planned].reset_index(), on=key)
    winners = winners[[*key, "explored", "id", "value", "params"]]
    winners = winners.rename(columns={"id": "winner", "value": "winner_value"})
    confirm = done[done["phase"] == "confirm"].drop(columns=["params", "status", "phase", "number"])
    blocks = winners.merge(confirm, left_on=[*key, "winner"], right_on=[*key, "parent"]).drop(columns="parent")
    return blocks.rename(columns={"id": "confirm"}).sort_values(key, ignore_index=True)


def _recommended(trials: pd.DataFrame) -> pd.DataFrame:
    """Finished runs of each method's best params so far, on fresh seeds."""
    key = ["problem", "method"]
    done = trials[trials["status"] == "done"]
    best = best_rows_so_far(done[done["phase"].isin(SEARCHED)], key)
    best = best[[*key, "id", "phase", "value"]].rename(
        columns={"id": "source", "phase": "source_phase", "value": "source_value"}
    )
    runs = done[done["phase"] == "recommend"].drop(columns=["phase", "status", "block", "repetition"])
    runs = best.merge(runs, left_on=[*key, "source"], right_on=[*key, "parent"]).drop(columns="parent")
    return runs.sort_values([*key, "number"], ignore_index=True)


def _flatness(runs: pd.DataFrame, stored: pd.Series) -> pd.DataFrame:
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
