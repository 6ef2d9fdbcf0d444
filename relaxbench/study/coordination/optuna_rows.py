"""Add many finished trials to an Optuna study at once.

Optuna's `Study.add_trials` opens a transaction per trial, and asks for every parameter whether its distribution fits
those of earlier trials. Here all trials have one space, so their rows are written together, as Optuna writes them,
through Optuna's own tables. With a version of these tables that is not known here, `Study.add_trials` does it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import optuna
from optuna.distributions import distribution_to_json
from optuna.storages import BaseStorage, RDBStorage
from optuna.storages._rdb import models
from optuna.trial import FrozenTrial
from sqlalchemy import func, insert, select, update

KNOWN = 12
"""Version of Optuna's tables for which the rows below are those that Optuna writes."""


def add_trials(storage: BaseStorage, study: optuna.Study, trials: Sequence[FrozenTrial]) -> None:
    """Add finished trials of one space and one objective to a study, numbered after those that it has.

    Args:
        storage: of the study.
        study: in which no trial runs.
        trials: from `optuna.trial.create_trial`.
    """
    if not trials:
        return
    if not isinstance(storage, RDBStorage) or models.SCHEMA_VERSION != KNOWN:
        study.add_trials(trials)
        return
    here = models.StudyModel.study_id == study._study_id
    with storage.engine.begin() as connection:
        # A change that changes nothing locks the study until the end, on every database: nobody else numbers trials.
        connection.execute(update(models.StudyModel).where(here).values(study_name=models.StudyModel.study_name))
        count = select(func.count()).select_from(models.TrialModel).where(models.TrialModel.study_id == study._study_id)
        first = connection.scalar(count) or 0
        rows = [
            {
                "study_id": study._study_id,
                "number": first + place,
                "state": trial.state,
                "datetime_start": _utc(trial.datetime_start),
                "datetime_complete": _utc(trial.datetime_complete),
            }
            for place, trial in enumerate(trials)
        ]
        table = models.TrialModel.__table__
        added = insert(table).returning(table.c.trial_id, sort_by_parameter_order=True)
        ids = connection.execute(added, rows).scalars().all()
        placed = list(zip(ids, trials, strict=True))
        connection.execute(insert(models.TrialValueModel), [_value(id_, trial) for id_, trial in placed])
        params = [row for id_, trial in placed for row in _params(id_, trial)]
        if params:  # a method may search nothing
            connection.execute(insert(models.TrialParamModel), params)
        steps = [row for id_, trial in placed for row in _steps(id_, trial)]
        if steps:  # only beside a pruner
            connection.execute(insert(models.TrialIntermediateValueModel), steps)
        attributes = [row for id_, trial in placed for row in _attributes(id_, trial)]
        connection.execute(insert(models.TrialUserAttributeModel), attributes)


def last_values(storage: BaseStorage, study: int, key: str, count: int) -> set[Any]:
    """The values of an attribute among the last trials of a study, at most `count`; Optuna reads each trial whole."""
    if not isinstance(storage, RDBStorage) or models.SCHEMA_VERSION != KNOWN:
        total = storage.get_n_trials(study)
        numbers = range(max(0, total - count), total)
        trials = [storage.get_trial(storage.get_trial_id_from_study_id_trial_number(study, n)) for n in numbers]
        return {trial.user_attrs[key] for trial in trials if key in trial.user_attrs}
    trial, attribute = models.TrialModel, models.TrialUserAttributeModel
    last = select(trial.trial_id).where(trial.study_id == study).order_by(trial.number.desc()).limit(count).subquery()
    values = select(attribute.value_json).join(last, last.c.trial_id == attribute.trial_id).where(attribute.key == key)
    with storage.engine.connect() as connection:
        return {json.loads(value) for value in connection.scalars(values)}


def _utc(time: datetime | None) -> datetime | None:
    """Convert local time to the naive UTC of Optuna's tables."""
    return None if time is None else time.astimezone(UTC).replace(tzinfo=None)


def _value(id_: int, trial: FrozenTrial) -> dict[str, object]:
    assert trial.value is not None, "a finished trial has a value"
    value, kind = models.TrialValueModel.value_to_stored_repr(trial.value)
    return {"trial_id": id_, "objective": 0, "value": value, "value_type": kind}


def _params(id_: int, trial: FrozenTrial) -> list[dict[str, object]]:
    return [
        {
            "trial_id": id_,
            "param_name": name,
            "param_value": trial.distributions[name].to_internal_repr(value),
            "distribution_json": distribution_to_json(trial.distributions[name]),
        }
        for name, value in trial.params.items()
    ]


def _steps(id_: int, trial: FrozenTrial) -> list[dict[str, object]]:
    stored = models.TrialIntermediateValueModel.intermediate_value_to_stored_repr
    values = {step: stored(value) for step, value in trial.intermediate_values.items()}
    return [
        {"trial_id": id_, "step": step, "intermediate_value": value, "intermediate_value_type": kind}
        for step, (value, kind) in values.items()
    ]


def _attributes(id_: int, trial: FrozenTrial) -> list[dict[str, object]]:
    return [{"trial_id": id_, "key": key, "value_json": json.dumps(value)} for key, value in trial.user_attrs.items()]
