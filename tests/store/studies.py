"""Studies with everything in them, and all that a database says of one but for its ids."""

from __future__ import annotations

import datetime as dt
import random
from typing import Any

from sqlalchemy import Engine, insert, select

from relaxbench.store.schema import Curve, Study, Trial, Weights, Worker

KEYS = ("problem", "method", "phase", "block", "number")
NUMBERS = (0.1, -0.0, 5e-324, 1.7976931348623157e308, 1 / 3, None)


def add(engine: Engine, name: str, trials: int = 12, seed: int = 0, blob: int = 40) -> int:
    """A study of which some is done, some runs, some waits and some has failed; gives its id."""
    draw = random.Random(seed)
    manifest = {"key": f"key of {name}", "device": "cpu", "turns": {"mirror": {"worker": "h:1:2", "until": 9.0}}}
    about = {
        "spec": {"name": name, "seed": 7, "γ": [1e-4, None]},
        "source": f"name = '{name}'\n# ü",
        "manifest": manifest,
    }
    with engine.begin() as connection:
        at = dt.datetime(2026, 1, 2, 3, 4, 5, 678901)
        study: int = connection.execute(
            insert(Study).values(name=name, created_at=at, **about).returning(Study.id)
        ).scalar_one()
        done: list[int] = []
        for number in range(trials):
            status = ("done", "running", "waiting", "failed")[number % 4]
            values: dict[str, Any] = {
                "study_id": study,
                "problem": "p·1",
                "method": draw.choice(["sgd", "heat"]),
                "phase": "confirm" if done and number % 3 == 0 else "explore",
                "block": number // 5,
                "number": number,
                "parent": draw.choice(done) if done and number % 3 == 0 else 0,
                "seed": 2**63 - 1 - number,
                "params": {"lr": draw.random(), "schedule": "cosine", "nesterov": draw.random() < 0.5},
                "status": status,
                "worker": None if status == "waiting" else f"host:{number}:1",
                "token": draw.randrange(9),
                "lease_until": 1e9 + draw.random() if status == "running" else None,
                "failures": number % 2,
                "error": "RuntimeError: “no”\nsecond line" if status == "failed" else None,
                "value": draw.choice(NUMBERS) if status == "done" else None,
                "diverged": number % 5 == 0,
                "measures": {"test_loss": draw.random(), "hessian_top": [1e300, -1.5], "none": None},
                "ledger": {"gradients": 1234567, "jvps": 2.73},
                "correct": draw.randbytes(blob) if status == "done" else None,
                "finished_at": 1.7e9 + draw.random() if status == "done" else None,
                "mirrored": status == "done",
            }
            trial = connection.execute(insert(Trial).values(**values).returning(Trial.id)).scalar_one()
            if status == "done":
                done.append(trial)
                connection.execute(insert(Curve).values(trial_id=trial, data=draw.randbytes(blob)))
                if number % 8 == 0:
                    connection.execute(insert(Weights).values(trial_id=trial, data=draw.randbytes(blob)))
        worker = {"study_id": study, "device": "cuda:0", "about": {"torch": "2.9"}, "doing": "sgd", "started_at": 1.5}
        connection.execute(insert(Worker).values(**worker, name="h:1:2", finished=3, seen_at=2.5, ended_at=None))
        connection.execute(insert(Worker).values(**worker, name="h:3:4", finished=0, seen_at=3.5, ended_at=4.5))
    return study


def told(engine: Engine, name: str) -> dict[str, Any]:
    """All rows of a study: a trial's parent, curve and weights stand beside it, and no id is told."""
    with engine.connect() as connection:
        study = connection.execute(select(Study.__table__).where(Study.name == name)).one()
        trials = connection.execute(select(Trial.__table__).where(Trial.study_id == study.id).order_by(Trial.id)).all()
        workers = connection.execute(select(Worker.__table__).where(Worker.study_id == study.id)).all()
        arrays = [dict(map(tuple, connection.execute(select(t.trial_id, t.data)).all())) for t in (Curve, Weights)]
    names = {trial.id: tuple(getattr(trial, key) for key in KEYS) for trial in trials}
    rows = []
    for trial in trials:
        row = {**trial._asdict(), "parent": names[trial.parent] if trial.parent else None}
        rows.append({**row, "curve": arrays[0].get(trial.id), "weights": arrays[1].get(trial.id)})
    plain = ("id", "study_id")
    return {
        "study": _without(study._asdict(), *plain),
        "trials": [_without(row, *plain) for row in rows],
        "workers": [_without(worker._asdict(), *plain) for worker in sorted(workers, key=lambda w: w.name)],
    }


def _without(values: dict[str, Any], *keys: str) -> dict[str, Any]:
    return {key: value for key, value in values.items() if key not in keys}
