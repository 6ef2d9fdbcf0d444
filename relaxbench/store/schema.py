"""The tables of a relaxbench database, next to Optuna's own in the same file or server.

A learning curve is one row per trial: its points are packed as float32, because one row per point would make a study of
a few thousand trials slow to read (docs/architecture.md gives the figures).
"""

from __future__ import annotations

import datetime as dt
from typing import Any

from sqlalchemy import JSON, BigInteger, ForeignKey, Index, LargeBinary, UniqueConstraint
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from relaxbench.store.facts import MachineFacts, Manifest, SpecFacts

CURVE_COLUMNS = ("gradients", "train_loss", "validation_loss", "validation_metric", "gamma")
"""The rows of a packed curve, in order. ``gamma`` is σ² for `heat`, and NaN for methods without a scope."""


SPOT_CHECK = "spot-check"
"""The phase of pruned trials that are run to the end all the same, to see what pruning has thrown away."""
PHASES = ("explore", "confirm", "exploit", "recommend", SPOT_CHECK)
"""What a trial is for, in the order of the plan: random search, its winners on fresh seeds, TPE, the best settings on
fresh seeds, and an audit of pruning."""
SEARCHED = ("explore", "exploit")
"""The phases that search; the others repeat settings that were found."""
TESTED = ("confirm", "recommend")
"""The phases whose runs are measured on the test split."""
FINISHED = ("done", "pruned")
"""The statuses of trials with a result. A pruned one was stopped before its end: it is billed, and cannot win."""


class Base(DeclarativeBase):
    """All tables of relaxbench; the prefix of their names avoids collisions with Optuna's."""

    type_annotation_map = {dict[str, Any]: JSON, SpecFacts: JSON, Manifest: JSON, MachineFacts: JSON}


class Study(Base):
    """A study: its specification, and the circumstances under which it ran (manifest); see `facts`."""

    __tablename__ = "relaxbench_studies"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)
    spec: Mapped[SpecFacts]
    source: Mapped[str]  # the study file, as read
    manifest: Mapped[Manifest]
    created_at: Mapped[dt.datetime]


class Trial(Base):
    """One training run, claimed by a worker, then done or pruned (or failed, for a reason other than its mathematics).

    `failures` counts the claims that ended with an error or with the death of a worker; `error` is the last message.
    """

    __tablename__ = "relaxbench_trials"
    id: Mapped[int] = mapped_column(primary_key=True)
    study_id: Mapped[int] = mapped_column(ForeignKey("relaxbench_studies.id"))
    problem: Mapped[str]
    method: Mapped[str]
    phase: Mapped[str]  # one of PHASES
    block: Mapped[int]  # explore, confirm, spot-check: the block; exploit: the generation; recommend: 0
    number: Mapped[int]  # within (problem, method, phase, block), from 0
    parent: Mapped[int]  # confirm, recommend, spot-check: id of the trial whose settings are repeated; else 0
    seed: Mapped[int] = mapped_column(BigInteger)  # 63 bits
    params: Mapped[dict[str, Any]]

    status: Mapped[str] = mapped_column(default="waiting")  # waiting, running, done, pruned, failed
    worker: Mapped[str | None]
    token: Mapped[int] = mapped_column(default=0)  # grows with every claim; a result with an older token is refused
    lease_until: Mapped[float | None]  # seconds since the epoch, by the database's clock
    failures: Mapped[int] = mapped_column(default=0)
    error: Mapped[str | None]

    value: Mapped[float | None]  # validation loss at its end, at most the problem's worst value
    diverged: Mapped[bool] = mapped_column(default=False)
    measures: Mapped[dict[str, Any]] = mapped_column(default=dict)  # see docs/architecture.md
    ledger: Mapped[dict[str, Any]] = mapped_column(default=dict)
    correct: Mapped[bytes | None] = mapped_column(LargeBinary)  # numpy.packbits of correctness per test example
    finished_at: Mapped[float | None]
    mirrored: Mapped[bool] = mapped_column(default=False)  # already in the Optuna study

    __table_args__ = (
        UniqueConstraint("study_id", "problem", "method", "phase", "block", "number", "parent"),
        # Claims look for the first free trial of a method, phase by phase.
        Index("relaxbench_trials_by_status", "study_id", "status", "problem", "method", "phase", "id"),
    )


class Worker(Base):
    """One session of a worker process on a study. Times are seconds since the epoch, by the database's clock."""

    __tablename__ = "relaxbench_workers"
    id: Mapped[int] = mapped_column(primary_key=True)
    study_id: Mapped[int] = mapped_column(ForeignKey("relaxbench_studies.id"), index=True)
    name: Mapped[str]  # host, process number and start time, see `claims.worker_name`
    device: Mapped[str]
    about: Mapped[MachineFacts]
    doing: Mapped[str] = mapped_column(default="")
    finished: Mapped[int] = mapped_column(default=0)  # number of trials
    started_at: Mapped[float]
    seen_at: Mapped[float]
    ended_at: Mapped[float | None]


class Curve(Base):
    """The learning curve of a trial: float32 ``[len(CURVE_COLUMNS), points]``, C order."""

    __tablename__ = "relaxbench_curves"
    trial_id: Mapped[int] = mapped_column(ForeignKey("relaxbench_trials.id"), primary_key=True)
    data: Mapped[bytes] = mapped_column(LargeBinary)


class Weights(Base):
    """The deployed weights of a recommended run, ``[P]``: float32, or float64 where the engine's dtype says so."""

    __tablename__ = "relaxbench_weights"
    trial_id: Mapped[int] = mapped_column(ForeignKey("relaxbench_trials.id"), primary_key=True)
    data: Mapped[bytes] = mapped_column(LargeBinary)
