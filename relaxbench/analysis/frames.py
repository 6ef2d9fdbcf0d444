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
from sqlalchemy import URL, Engine, select

from relaxbench.analysis.equivalence import Margin, parse_margin
from relaxbench.analysis.tidy import (
    answers_of,
    blocks_of,
    confirmations_of,
    curves_of,
    flatness_of,
    recommended_of,
    trials_of,
    unmeasured_of,
    with_hyperparameters,
)
from relaxbench.errors import UserError
from relaxbench.space import Space, Value
from relaxbench.store.facts import (
    RANDOM,
    KnownFacts,
    Manifest,
    MethodFacts,
    PrunerFacts,
    SpecFacts,
    fixed_on,
    is_random,
    method_facts,
    opponent_of,
    planned_looks,
    problem_facts,
    space_on,
)
from relaxbench.store.facts import (
    ProblemFacts as ProblemFacts,
)
from relaxbench.store.schema import FINISHED, Curve, Study, Trial
from relaxbench.store.solutions import StoredSolution as StoredSolution
from relaxbench.store.solutions import unpack_solution
from relaxbench.store.soundness import check_answers, check_curve, check_facts, check_trials, sound
from relaxbench.store.studies import choose_study
from relaxbench.store.urls import lasting_url, split_study
from relaxbench.util import files
from relaxbench.util.text import counted


@dataclass(frozen=True, repr=False, eq=False)  # tables have no truth value: two readings are two objects
class StudyFrames:
    """A study as read from the database.

    Attributes:
        name: the study's name.
        spec: the specification, as stored.
        manifest: the circumstances under which it ran, as stored.
        source: the study file, as read.
        trials: one row per trial of any phase and status: id, problem, method, phase, block, number, parent, seed,
            status, error, value, diverged, params (a dict), the measures, the ledger, seconds, repetition, and a column
            per hyperparameter as in Optuna's frames, ``params_lr``: so have all tables with params.
        curves: one row per measured point: trial_id, problem, method, phase, block, point and `CURVE_COLUMNS`.
        confirmations: one row per finished confirm run: the place (block, number), id, validation loss and present
            rank of the random trial whose settings it runs again on a fresh seed, and its results.
        blocks: one row per problem, method and complete block: the winner and, where it was one of the best trials, its
            confirm run. Curves and settings are shown of these; verdicts rest on `confirmations`.
        recommended: one row per run of a method's best params so far on a fresh seed, with those params.
        flatness: one row per run of `confirmations` and `recommended` whose flatness was measured: trial_id, problem,
            method, phase, block, number, train_loss, test_loss, test_metric, `tidy.FLATNESS` (``hessian_top_1`` is the
            largest eigenvalue), and ``local_entropy_γ`` for every γ of the study, ascending; NaN where there is none.
        correct: id of a confirm run → whether it classified each test example correctly, bool ``[test_examples]``;
            empty for problems without classes.
        solutions: id of a recommended run → its solution on a grid, with the exact one; for problems that have one.
        unmeasured: problem → why the flatness of a run could not be measured; empty where it could.
        storage: the database from which it was read; None for one in memory.
    """

    name: str
    spec: SpecFacts
    manifest: Manifest
    source: str
    trials: pd.DataFrame
    curves: pd.DataFrame
    confirmations: pd.DataFrame
    blocks: pd.DataFrame
    recommended: pd.DataFrame
    flatness: pd.DataFrame
    correct: Mapping[int, NDArray[np.bool_]] = field(default_factory=dict)
    unmeasured: Mapping[str, str] = field(default_factory=dict)
    solutions: Mapping[int, StoredSolution] = field(default_factory=dict)
    storage: URL | None = None

    def __repr__(self) -> str:
        """Return its size in one line: the tables would fill screens."""
        done = int(self.trials["status"].isin(FINISHED).sum())
        parts = (counted(len(self.problems), "problem"), counted(len(self.methods), "method"))
        return f"<study {self.name!r}: {', '.join(parts)}, {done:,} of {counted(len(self.trials), 'trial')} done>"

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

    @property
    def opponents(self) -> dict[str, str]:
        """The method that each one is compared with; empty without a baseline, which itself is not among them."""
        if self.baseline is None:
            return {}
        pairs = {label: opponent_of(self.spec, label) or "" for label in self.methods if label != self.baseline}
        return {label: opponent if opponent in self.methods else self.baseline for label, opponent in pairs.items()}

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

    def margin(self, problem: str) -> Margin | None:
        """Return the largest difference that counts as equivalent; None if it is not stated, or is none."""
        stated = self.spec.get("margin")
        try:
            return parse_margin(self.problem(problem)["margin"] if stated is None else stated)
        except ValueError:  # of an older study: no claim of equivalence is made
            return None

    @property
    def looks(self) -> tuple[int, ...]:
        """Numbers of blocks at which the study is looked at: the declared ones, and those of `more_blocks`."""
        return planned_looks(self.spec, self.manifest)

    def tuning(self, label: str) -> int:
        """Return T, the trials per block of a method; 0 for one that is run as published."""
        return 0 if self.method(label)["arm"] == "published" else int(self.spec.get("trials") or 1)

    def is_random(self, label: str) -> bool:
        """Return whether a method's trials are independent random ones; of others a block is used whole."""
        return is_random(self.method(label))

    @property
    def learned(self) -> dict[str, str]:
        """The methods that are tuned by another sampler than random search, with its name."""
        samplers = {label: self.method(label)["search"]["sampler"] for label in self.methods}
        return {label: sampler for label, sampler in samplers.items() if sampler != RANDOM}

    @property
    def pruned(self) -> dict[str, PrunerFacts]:
        """The methods whose trials a pruner stops, with it."""
        return {label: pruner for label in self.methods if (pruner := self.method(label)["search"].get("pruner"))}

    def pruned_budget(self, label: str, problem: str) -> int | None:
        """Return the gradients of a whole trial of a method with a pruner: T times as many pay for a block.

        None for a method whose blocks have T trials.
        """
        return self.problem(problem)["budget"] if label in self.pruned and self.tuning(label) else None

    @property
    def known(self) -> dict[str, list[KnownFacts]]:
        """The methods every block of which begins with known settings, with these."""
        return {label: known for label in self.methods if (known := self.method(label)["known"])}

    def cost(
        self, label: str, problem: str, key: Literal["seconds_per_gradient", "seconds_spread", "peak_bytes"]
    ) -> float:
        """Return a calibrated cost, in seconds (or its relative spread) or bytes; NaN where it was not measured."""
        measured = self.method(label)["calibration"].get(problem)
        return float("nan") if measured is None or measured.get(key) is None else float(measured[key])

    def tables(self) -> dict[str, pd.DataFrame]:
        """Return all frames by name, for export."""
        return {
            "trials": self.trials,
            "confirmations": self.confirmations,
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
            which is opened for reading only. ``"relaxbench.db#digits"`` names the study as well.
        name: the study's name; None means the only study.

    Raises:
        UserError: if the study does not exist, no name is given and the database does not have exactly one study, or
            two different names are given.
    """
    if not isinstance(storage, Engine):
        from relaxbench.store.database import open_database

        place, own = split_study(str(storage))
        if own is not None and name not in (None, own):
            raise UserError(f"storage {str(storage)!r} names the study {own!r}, and name is {name!r}: leave one out")
        engine, name = open_database(place, read_only=True, create=False), name or own
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
    with sound(name), storage.connect() as connection:
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

        check_facts(study.spec, study.manifest)
        check_trials(rows)
        for row in packed:
            check_curve(row.trial_id, row.data)
        raw = pd.DataFrame.from_records(list(map(tuple, rows)), columns=[column.key for column in columns])
        empty = pd.DataFrame()
        frames = StudyFrames(name, study.spec, study.manifest, study.source or "", *[empty] * 6)
        frames = replace(frames, storage=lasting_url(storage))
        correct = {row.id: _answers(row, frames.problem(row.problem)["test_examples"]) for row in bits}
        return _filled(frames, raw, [(row.trial_id, row.data) for row in packed], correct)


def _answers(row: Any, examples: int | None) -> NDArray[np.bool_]:
    check_answers(row.id, row.correct, examples)
    return answers_of(row.correct, examples)


def _filled(
    frames: StudyFrames, raw: pd.DataFrame, packed: list[tuple[int, bytes]], correct: Mapping[int, NDArray[np.bool_]]
) -> StudyFrames:
    """A study with its tables, from the rows of its trials and curves as stored."""
    scales = _scales(frames)
    trials = trials_of(raw, scales, _costs(frames, raw), frames.looks[-1] if frames.looks else 1)
    confirmations, recommended = confirmations_of(trials), recommended_of(trials)
    fresh = trials[trials["id"].isin([*confirmations["id"], *recommended["id"]])]
    return replace(
        frames,
        trials=with_hyperparameters(trials),
        curves=curves_of(packed, trials, scales),
        confirmations=with_hyperparameters(confirmations),
        blocks=with_hyperparameters(blocks_of(trials, int(frames.spec.get("trials") or 1), frames.pruned_budget)),
        recommended=with_hyperparameters(recommended),
        flatness=flatness_of(fresh, raw["measures"]),
        correct=correct,
        unmeasured=unmeasured_of(fresh, raw["measures"]),
        solutions=_solutions(raw, set(recommended["id"])),
    )


def _solutions(raw: pd.DataFrame, ids: set[int]) -> dict[int, StoredSolution]:
    """The solutions of these runs by their id."""
    rows = zip(raw["id"], raw["measures"], strict=True)
    stored = {int(number): measures.get("solution") for number, measures in rows if number in ids}
    return {number: unpack_solution(value) for number, value in stored.items() if value is not None}


def _scales(frames: StudyFrames) -> dict[str, float]:
    names = set(frames.problems) | set(frames.manifest.get("problems", {}))
    return {name: float(frames.problem(name)["metric_scale"] or 1.0) for name in names}


def _costs(frames: StudyFrames, raw: pd.DataFrame) -> dict[tuple[str, str], float]:
    pairs = raw[["problem", "method"]].drop_duplicates().itertuples(index=False)
    return {(problem, method): frames.cost(method, problem, "seconds_per_gradient") for problem, method in pairs}
