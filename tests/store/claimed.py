"""What tests of claims share: results, rows, and workers that are processes of their own."""

from __future__ import annotations

import subprocess
from pathlib import Path

from sqlalchemy import Engine, select

from relaxbench.store.claims import Result
from relaxbench.store.schema import Trial
from tests.processes import Forked


def result(trial: Trial, token: int | None = None, value: float = 0.5, weights: bytes | None = None) -> Result:
    token = trial.token if token is None else token
    return Result(trial.id, token, value, False, {"train_loss": 1.0}, {"gradients": 7}, b"curve", b"right", weights)


def row(database: Engine, trial: int) -> Trial:
    with database.connect() as connection:
        found = connection.execute(select(Trial.__table__).where(Trial.id == trial)).one()
    return Trial(**found._mapping)


def states(database: Engine) -> list[str]:
    with database.connect() as connection:
        return list(connection.scalars(select(Trial.status).order_by(Trial.id)))


WORKER = """
import sys, time
from relaxbench.store.claims import Claims, Result
from relaxbench.store.database import open_database
claims = Claims(open_database(sys.argv[1], create=False), 1)
print("ready", flush=True)
sys.stdin.readline()
while got := claims.take("digits-mlp", sys.argv[2], 2):
    print(*(trial.id for trial in got), flush=True)
    if sys.argv[3] == "hang":
        time.sleep(60)
    claims.finish([Result(t.id, t.token, 0.5, False, {}, {}, b"c") for t in got])
"""


def worker(file: Path, method: str, then: str) -> Forked:
    return Forked(["-c", WORKER, str(file), method, then], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
