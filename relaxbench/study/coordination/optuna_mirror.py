"""Mirror finished trials into Optuna studies in the same database, for optuna-dashboard and Optuna's own tools."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from weakref import WeakSet

import optuna
from optuna.exceptions import StorageInternalError
from optuna.storages import BaseStorage, RDBStorage
from optuna.trial import TrialState, create_trial
from sqlalchemy import Engine as Database
from sqlalchemy import event, func, select, update
from sqlalchemy.exc import DBAPIError

from relaxbench.store.database import BUSY_SECONDS
from relaxbench.store.facts import RANDOM
from relaxbench.store.schema import FINISHED, SEARCHED, Curve, Trial
from relaxbench.store.transactions import patiently, read, write
from relaxbench.study.coordination import optuna_proxy
from relaxbench.study.coordination.distributions import distributions
from relaxbench.study.coordination.optuna_rows import add_trials, last_values
from relaxbench.study.coordination.plan import Plan
from relaxbench.study.coordination.pruned_search import PrunedSearch, losses_of

ID = "relaxbench_trial"
CHUNK = 50
"""Trials that are added to Optuna before they are marked as mirrored."""


_fitting: WeakSet[Database] = WeakSet()
"""Databases whose tables fit the installed Optuna. To find out, Optuna runs all its migration scripts' modules."""


def optuna_storage(database: Database) -> RDBStorage:
    """Optuna's storage in the same database."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    url = database.url.render_as_string(hide_password=False)
    known = database in _fitting
    lasting = {"connect_args": {"timeout": BUSY_SECONDS}} if database.dialect.name == "sqlite" else None
    storage = RDBStorage(url, lasting, skip_compatibility_check=known, skip_table_creation=known)
    _fitting.add(database)
    if database.dialect.name != "sqlite":
        return storage
    # Optuna commits trial by trial. With write-ahead logging a commit need not wait for the disk, as on our own
    # connections. A power cut may lose the last commits, in the order of the log: a trial and its later mark together.
    event.listen(storage.engine, "connect", lambda connection, _: connection.execute("PRAGMA synchronous=NORMAL"))
    storage.engine.dispose()  # the connection that made the tables
    return storage


@contextmanager
def open_optuna(database: Database) -> Iterator[RDBStorage]:
    """Optuna's storage, closed afterwards so that no connection stays open."""
    storage = optuna_storage(database)
    try:
        yield storage
    finally:
        storage.engine.dispose()


def behind(plans: Sequence[Plan]) -> int:
    """Count the finished trials of these plans that Optuna does not have yet."""
    waiting = (Trial.status.in_(FINISHED), Trial.mirrored.is_(False), Trial.phase.in_(SEARCHED))
    mine = (Trial.problem.in_({p.problem for p in plans}), Trial.method.in_({p.method for p in plans}))
    query = select(func.count()).select_from(Trial).where(Trial.study_id == plans[0].study, *waiting, *mine)
    return read(plans[0].database, lambda connection: connection.scalar(query)) or 0


def mirror(plans: Sequence[Plan], address: str | None = None, until: float = math.inf) -> None:
    """Add to Optuna the finished trials of these plans that it does not have; wait for the end of an outage.

    Args:
        plans: of one study.
        address: of Optuna's gRPC storage proxy; None to use its tables directly.
        until: when to stop, by the monotonic clock; the remaining trials are added later.
    """
    database = plans[0].database

    def attempt() -> None:
        try:
            with optuna_proxy.open_proxy(address) if address else open_optuna(database) as storage:
                for plan in plans:
                    for phase in SEARCHED:
                        add(plan, storage, phase, until)
        except StorageInternalError as error:
            if (cause := _of_database(error)) is not None:
                raise cause from None
            raise

    patiently(database, attempt)


def _of_database(error: BaseException) -> DBAPIError | None:
    """The database's own error behind one of Optuna's, if there is one: SQLAlchemy's may stand between them."""
    cause = error.__cause__ or error.__context__
    return cause if cause is None or isinstance(cause, DBAPIError) else _of_database(cause)


def add(plan: Plan, storage: BaseStorage, phase: str, until: float = math.inf) -> None:
    """Add the finished trials of a phase that the Optuna study ``study/problem/method/phase`` does not have yet.

    Trials beside a pruner have their intermediate values, by the number of the round.
    """
    columns = (Trial.id, Trial.value, Trial.params, Trial.diverged, Trial.block, Trial.status)
    where = (*plan.here, Trial.phase == phase, Trial.status.in_(FINISHED), Trial.mirrored.is_(False))
    query = select(*columns).where(*where).order_by(Trial.id).limit(CHUNK)
    curve = isinstance(plan.learned, PrunedSearch) and phase == "explore"
    if curve:
        query = query.add_columns(Curve.data.label("curve")).outerjoin(Curve, Curve.trial_id == Trial.id)
    study: optuna.Study | None = None
    known: set[int] = set()
    while time.monotonic() < until:
        rows = read(plan.database, lambda connection: connection.execute(query).all())
        if not rows:
            return
        if study is None:
            name = f"{plan.name}/{plan.problem}/{plan.method}/{phase}"
            study = optuna.create_study(storage=storage, study_name=name, direction="minimize", load_if_exists=True)
            # After a kill between Optuna's transaction and ours, a chunk may be in Optuna without being marked.
            known = last_values(storage, study._study_id, ID, CHUNK)
            _describe(study, plan, phase)
        trials = [
            create_trial(
                state=TrialState.PRUNED if row.status == "pruned" else TrialState.COMPLETE,
                value=row.value,
                params={name: row.params[name] for name in plan.space},
                distributions=distributions(plan.space),
                user_attrs={ID: row.id, "block": row.block, "diverged": row.diverged},
                intermediate_values=dict(enumerate(losses_of(row.curve), start=1)) if curve else {},
            )
            for row in rows
            if row.id not in known
        ]
        add_trials(storage, study, trials)
        marks = update(Trial).where(Trial.id.in_([row.id for row in rows])).values(mirrored=True)
        write(plan.database, lambda connection, marks=marks: connection.execute(marks))  # type: ignore[misc]


def _describe(study: optuna.Study, plan: Plan, phase: str) -> None:
    """Say in the study's attributes what chose and stopped its trials, so that Optuna's dashboard shows it."""
    facts = plan.learned.facts if plan.learned is not None else None
    about: dict[str, object] = {"sampler": "tpe" if phase == "exploit" else facts["sampler"] if facts else RANDOM}
    if facts is not None and phase == "explore":
        about |= {"sampler options": facts["options"], "generation": facts["generation"]}
        if pruner := facts.get("pruner"):
            about |= {"pruner": pruner["name"], "pruner options": pruner["options"]}
    known = study.user_attrs
    for key, value in about.items():
        if key not in known:
            study.set_user_attr(key, value)
