"""A database of the first version, written out: its tables as that program made them, and a study in them."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, Engine, bindparam, inspect, text

TYPES = {
    "sqlite": {"id": "INTEGER", "double": "DOUBLE", "blob": "BLOB", "time": "DATETIME"},
    "postgresql": {"id": "SERIAL", "double": "DOUBLE PRECISION", "blob": "BYTEA", "time": "TIMESTAMP"},
}
TABLES = (
    "CREATE TABLE relaxbench_schema (version {id} NOT NULL, PRIMARY KEY (version))",
    """CREATE TABLE relaxbench_studies (
        id {id} NOT NULL, name VARCHAR NOT NULL, spec JSON NOT NULL, source VARCHAR NOT NULL, manifest JSON NOT NULL,
        created_at {time} NOT NULL, PRIMARY KEY (id), UNIQUE (name))""",
    """CREATE TABLE relaxbench_trials (
        id {id} NOT NULL, study_id INTEGER NOT NULL, problem VARCHAR NOT NULL, method VARCHAR NOT NULL,
        phase VARCHAR NOT NULL, block INTEGER NOT NULL, number INTEGER NOT NULL, parent INTEGER NOT NULL,
        seed BIGINT NOT NULL, params JSON NOT NULL, status VARCHAR NOT NULL, worker VARCHAR, token INTEGER NOT NULL,
        lease_until {double}, value {double}, diverged BOOLEAN NOT NULL, measures JSON NOT NULL, ledger JSON NOT NULL,
        correct {blob}, finished_at {double}, mirrored BOOLEAN NOT NULL, PRIMARY KEY (id),
        UNIQUE (study_id, problem, method, phase, block, number, parent),
        FOREIGN KEY(study_id) REFERENCES relaxbench_studies (id))""",
    "CREATE INDEX relaxbench_trials_by_status ON relaxbench_trials (study_id, status)",
    """CREATE TABLE relaxbench_curves (
        trial_id INTEGER NOT NULL, data {blob} NOT NULL, PRIMARY KEY (trial_id),
        FOREIGN KEY(trial_id) REFERENCES relaxbench_trials (id))""",
    """CREATE TABLE relaxbench_weights (
        trial_id INTEGER NOT NULL, data {blob} NOT NULL, PRIMARY KEY (trial_id),
        FOREIGN KEY(trial_id) REFERENCES relaxbench_trials (id))""",
)
# Optuna's, as they lie in the same database.
NEIGHBOURS = (
    "CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL PRIMARY KEY)",
    "INSERT INTO alembic_version VALUES ('v3.2.0.a')",
    "CREATE TABLE trials (trial_id INTEGER PRIMARY KEY, number INTEGER)",
    "INSERT INTO trials VALUES (1, 0)",
)
BLOB = bytes(range(256))
TRIALS = [(1, "done", 0.5, BLOB), (2, "running", None, None), (3, "waiting", None, None)]


def make(connection: Connection) -> None:
    """The old tables with a study of three trials, beside Optuna's."""
    for statement in TABLES:
        connection.exec_driver_sql(statement.format(**TYPES[connection.dialect.name]))
    connection.execute(text("INSERT INTO relaxbench_schema VALUES (1)"))
    connection.execute(
        text("INSERT INTO relaxbench_studies (name, spec, source, manifest, created_at) VALUES ('s', :j, '', :j, :at)"),
        {"j": '{"seed": 1}', "at": "2026-01-01 00:00:00"},
    )
    rows = text(
        "INSERT INTO relaxbench_trials (study_id, problem, method, phase, block, number, parent, seed, params, "
        "status, token, value, diverged, measures, ledger, correct, mirrored) VALUES "
        "(1, 'p', 'm', 'explore', 0, :number, 0, :seed, '{}', :status, 2, :value, :no, '{}', '{}', :correct, :no)"
    ).bindparams(bindparam("no", value=False))
    for number, status, value, correct in TRIALS:
        row = {"number": number, "seed": 2**62 + number, "status": status, "value": value, "correct": correct}
        connection.execute(rows, row)
    for table in ("curves", "weights"):
        connection.execute(text(f"INSERT INTO relaxbench_{table} VALUES (1, :data)"), {"data": BLOB})
    for statement in NEIGHBOURS:
        connection.exec_driver_sql(statement)


def contents(engine: Engine) -> dict[str, list[Any]]:
    """Every row of every table."""
    with engine.connect() as connection:
        names = inspect(connection).get_table_names()
        return {
            name: sorted((dict(row._mapping) for row in connection.execute(text(f"SELECT * FROM {name}"))), key=repr)
            for name in names
        }
