"""Create the first tables."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Create them."""
    op.create_table("relaxbench_schema", sa.Column("version", sa.Integer, primary_key=True))
    op.create_table(
        "relaxbench_studies",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("name", sa.String, nullable=False),
        sa.Column("spec", sa.JSON, nullable=False),
        sa.Column("source", sa.String, nullable=False),
        sa.Column("manifest", sa.JSON, nullable=False),
        sa.Column("created_at", sa.DateTime, nullable=False),
        sa.UniqueConstraint("name"),
    )
    op.create_table(
        "relaxbench_trials",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("study_id", sa.Integer, sa.ForeignKey("relaxbench_studies.id"), nullable=False),
        sa.Column("problem", sa.String, nullable=False),
        sa.Column("method", sa.String, nullable=False),
        sa.Column("phase", sa.String, nullable=False),
        sa.Column("block", sa.Integer, nullable=False),
        sa.Column("number", sa.Integer, nullable=False),
        sa.Column("parent", sa.Integer, nullable=False),
        sa.Column("seed", sa.BigInteger, nullable=False),
        sa.Column("params", sa.JSON, nullable=False),
        sa.Column("status", sa.String, nullable=False),
        sa.Column("worker", sa.String),
        sa.Column("token", sa.Integer, nullable=False),
        sa.Column("lease_until", sa.Double),
        sa.Column("value", sa.Double),
        sa.Column("diverged", sa.Boolean, nullable=False),
        sa.Column("measures", sa.JSON, nullable=False),
        sa.Column("ledger", sa.JSON, nullable=False),
        sa.Column("correct", sa.LargeBinary),
        sa.Column("finished_at", sa.Double),
        sa.Column("mirrored", sa.Boolean, nullable=False),
        sa.UniqueConstraint("study_id", "problem", "method", "phase", "block", "number", "parent"),
        sa.Index("relaxbench_trials_by_status", "study_id", "status"),
    )
    for table in ("relaxbench_curves", "relaxbench_weights"):
        op.create_table(
            table,
            sa.Column("trial_id", sa.Integer, sa.ForeignKey("relaxbench_trials.id"), primary_key=True),
            sa.Column("data", sa.LargeBinary, nullable=False),
        )
