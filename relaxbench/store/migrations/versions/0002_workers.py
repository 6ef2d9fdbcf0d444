"""Add a table of workers, count the failures of trials, and index free trials for claims."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

INDEX = "relaxbench_trials_by_status"


def upgrade() -> None:
    """Add the columns and the table; old trials have no failures."""
    with op.batch_alter_table("relaxbench_trials") as trials:
        trials.add_column(sa.Column("failures", sa.Integer, nullable=False, server_default="0"))
        trials.add_column(sa.Column("error", sa.String))
    with op.batch_alter_table("relaxbench_trials") as trials:  # the default was for existing rows
        trials.alter_column("failures", server_default=None)
    op.drop_index(INDEX, "relaxbench_trials")
    op.create_index(INDEX, "relaxbench_trials", ["study_id", "status", "problem", "method", "phase", "id"])
    op.create_table(
        "relaxbench_workers",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("study_id", sa.Integer, sa.ForeignKey("relaxbench_studies.id"), nullable=False),
        sa.Column("name", sa.String, nullable=False),
        sa.Column("device", sa.String, nullable=False),
        sa.Column("about", sa.JSON, nullable=False),
        sa.Column("doing", sa.String, nullable=False),
        sa.Column("finished", sa.Integer, nullable=False),
        sa.Column("started_at", sa.Double, nullable=False),
        sa.Column("seen_at", sa.Double, nullable=False),
        sa.Column("ended_at", sa.Double),
        sa.Index("ix_relaxbench_workers_study_id", "study_id"),
    )
    op.drop_table("relaxbench_schema")
