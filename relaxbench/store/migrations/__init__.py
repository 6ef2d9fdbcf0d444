"""The versions of our tables: one step per file in ``versions/``, taken by alembic in a transaction of the caller.

The version lies in a table of our own, because Optuna's tables are in the same database and use alembic's table.
"""

VERSION_TABLE = "relaxbench_version"
REVISIONS = ("0001", "0002")
"""All steps, oldest first. They are repeated here so that reading a study does not load alembic."""
HEAD = REVISIONS[-1]
