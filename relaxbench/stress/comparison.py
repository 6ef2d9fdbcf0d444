"""Compare a study that was disturbed with one that was not."""

from __future__ import annotations

from collections import Counter
from typing import TypeAlias

import pandas as pd
import psutil
from sqlalchemy import Engine as Database
from sqlalchemy import select

from relaxbench.analysis.frames import load_study
from relaxbench.analysis.verdict_table import verdict_table
from relaxbench.analysis.verdicts import verdicts
from relaxbench.store.schema import SEARCHED, Curve, Trial
from relaxbench.store.transactions import read
from relaxbench.stress.disturbed_study import DisturbedStudy
from relaxbench.study.coordination.optuna_mirror import open_optuna

Place: TypeAlias = tuple[str, str, int, int]
"""Method, phase, block and number of a trial."""
Trials = dict[tuple[str, str, int, int, Place | None], tuple[str, ...]]
"""The place of a trial and of its parent → its results as text."""
Expected = tuple[Trials, pd.DataFrame]
"""Results and verdict table of an undisturbed study."""


def outcome_of(study: DisturbedStudy) -> Expected:
    """The results and the verdict table of a study."""
    return results(study.database, study.study), verdict_table(verdicts(load_study(study.storage, study.name)))


def differences(study: DisturbedStudy, expected: Expected) -> list[str]:
    """List the differences from an undisturbed study, one line each."""
    lines: list[str] = []
    trials, table = outcome_of(study)
    if trials.keys() != expected[0].keys():
        lines.append(f"{len(trials)} trials, expected {len(expected[0])}")
    unlike = sum(trials.get(key) != value for key, value in expected[0].items())
    if unlike:
        lines.append(f"{unlike} trials have other results")
    if not table.equals(expected[1]):
        lines.append("the verdict table differs")
    if study.running():
        lines.append("trials are still running")
    states = _optuna_states(study.database)
    searched = sum(key[1] in SEARCHED for key in expected[0])
    if states != {"COMPLETE": searched}:
        lines.append(f"Optuna has {dict(states)}, expected {searched} complete trials")
    alive = [place for place in study.places if place.process is not None and psutil.pid_exists(place.process.pid)]
    if alive:
        lines.append(f"{len(alive)} workers are still there")
    return lines


def results(database: Database, study: int) -> Trials:
    """All results of the trials, by their places: never by id or time."""
    columns = (Trial.id, Trial.method, Trial.phase, Trial.block, Trial.number, Trial.parent)
    values = (Trial.seed, Trial.params, Trial.status, Trial.value, Trial.measures, Trial.ledger, Curve.data)
    query = select(*columns, *values).outerjoin(Curve, Curve.trial_id == Trial.id).where(Trial.study_id == study)
    rows = read(database, lambda connection: connection.execute(query).all())
    place: dict[int, Place] = {row.id: (row.method, row.phase, row.block, row.number) for row in rows}
    return {(*place[row.id], place.get(row.parent)): tuple(map(str, row[len(columns) :])) for row in rows}


def _optuna_states(database: Database) -> Counter[str]:
    """Count Optuna's trials by state."""
    with open_optuna(database) as storage:
        studies = [storage.get_all_trials(study._study_id, deepcopy=False) for study in storage.get_all_studies()]
        return Counter(trial.state.name for trials in studies for trial in trials)
