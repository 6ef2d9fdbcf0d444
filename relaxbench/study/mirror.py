"""Finished trials as Optuna studies in the same database, for optuna-dashboard and Optuna's own tools."""

from __future__ import annotations

import optuna
from optuna.storages import RDBStorage
from optuna.trial import TrialState, create_trial
from sqlalchemy import Engine as Database
from sqlalchemy import bindparam, select, update

from relaxbench.store.database import BUSY_SECONDS
from relaxbench.store.schema import Trial
from relaxbench.study.suggest import distributions
from relaxbench.study.trials import Plan

ID = "relaxbench_trial"
MIRRORED = ("explore", "exploit")
"""Phases whose trials Optuna gets: those that search."""


def optuna_storage(database: Database) -> RDBStorage:
    """Optuna's storage in the same database."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    arguments = {"timeout": BUSY_SECONDS} if database.dialect.name == "sqlite" else {}
    url = database.url.render_as_string(hide_password=False)
    return RDBStorage(url, engine_kwargs={"connect_args": arguments})


def mirror(plan: Plan, storage: RDBStorage, phase: str) -> int:
    """Add the finished trials of a phase that the Optuna study ``study/problem/method/phase`` does not have yet."""
    columns = (Trial.id, Trial.value, Trial.params, Trial.diverged, Trial.block)
    where = (*plan.here(), Trial.phase == phase, Trial.status == "done", Trial.mirrored.is_(False))
    with plan.database.connect() as connection:
        rows = connection.execute(select(*columns).where(*where).order_by(Trial.id)).all()
    if not rows:
        return 0
    name = f"{plan.spec.name}/{plan.problem.name}/{plan.method}/{phase}"
    study = optuna.create_study(storage=storage, study_name=name, direction="minimize", load_if_exists=True)
    # After a kill between Optuna's transaction and ours, a trial may be there without its mark.
    there = {trial.user_attrs.get(ID) for trial in study.get_trials(deepcopy=False)}
    space = distributions(plan.spec.space_of(plan.method, plan.problem))
    trials = [
        create_trial(
            state=TrialState.COMPLETE,
            value=row.value,
            params={name: row.params[name] for name in space},
            distributions=space,
            user_attrs={ID: row.id, "block": row.block, "diverged": row.diverged},
        )
        for row in rows
        if row.id not in there
    ]
    study.add_trials(trials)
    with plan.database.begin() as connection:
        marks = update(Trial).where(Trial.id == bindparam("row")).values(mirrored=True)
        connection.execute(marks, [{"row": row.id} for row in rows])
    return len(rows)
