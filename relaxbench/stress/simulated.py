"""Simulate a study whose trials only sleep. Its rows, claims, generations and results are like any other study's."""

from __future__ import annotations

import datetime as dt
import json
import math
import os
import time
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from sqlalchemy import Engine as Database
from sqlalchemy import insert, update

from relaxbench.space import Float, to_stored
from relaxbench.store.claims import Result
from relaxbench.store.facts import RANDOM, Manifest, MethodFacts, ProblemFacts, SpecFacts
from relaxbench.store.schema import Study, Trial
from relaxbench.store.transactions import write
from relaxbench.study.coordination.checkpoints import Checkpoints
from relaxbench.study.coordination.plan import plans
from relaxbench.study.coordination.session import Shift
from relaxbench.util.pause import sleep
from relaxbench.util.seeds import derive
from relaxbench.version import __version__

METHODS = ("sgd", "relaxed")
PROBLEM = "simulated"
WORST = 10.0


@dataclass(frozen=True)
class Load:
    """The load of a simulated study on the database.

    Attributes:
        seconds: duration of a trial.
        hyperparameters: of every method.
        rounds: per trial: points of its curve, and checkpoints if it writes any.
        looks, trials, exploit, recommend: as in a study file.
        checkpoints: whether a checkpoint is written after every round.
        mirrored: whether Optuna gets the trials.
    """

    seconds: float = 0.01
    hyperparameters: int = 8
    rounds: int = 10
    looks: tuple[int, ...] = (6, 8)
    trials: int = 8
    exploit: int = 8
    recommend: int = 4
    checkpoints: bool = False
    mirrored: bool = True


def make(database: Database, name: str, load: Load) -> int:
    """Make a simulated study and plan its trials; returns its id."""
    space = to_stored({f"x{i}": Float(0.01, 1.0, 0.01, log=i % 2 == 0) for i in range(load.hyperparameters)})
    methods: dict[str, MethodFacts] = {
        method: {
            "rule": method,
            "title": method,
            "source": "",
            "role": "baseline" if method == "sgd" else "candidate",
            "without": "",
            "instead": "",
            "arm": "tuned",
            "space_name": "default",
            "dimensions": len(space),
            "space": space,
            "spaces": {PROBLEM: space},
            "fixed": {},
            "fixes": {PROBLEM: {}},
            "options": {},
            "search": {"sampler": RANDOM, "options": {}, "generation": 1},
            "known": [],
            "publications": {},
            "copies": 1,
            "outer_step": [1.0, 0.0],
            "scope": None,
            "calibration": {PROBLEM: {"seconds_per_gradient": 1e-3, "seconds_spread": 0.0, "peak_bytes": 1000}},
        }
        for method in METHODS
    }
    problem: ProblemFacts = {
        "title": "Simulated trials",
        "metric": "test error",
        "unit": "%",
        "metric_scale": 100.0,
        "loss": "none",
        "parameters": 1,
        "data": "none",
        "fingerprint": "0",
        "budget": 100,
        "worst": WORST,
        "worst_metric": 1.0,
        "margin": 0.5,
        "censored": False,
        "train_examples": None,
        "test_examples": 1000,
        "caution": "",
        "base": PROBLEM,
        "rung": None,
        "rounds": None,
        "decades": False,
    }
    manifest: Manifest = {
        "key": uuid.uuid4().hex[:12],
        "version": __version__,
        "device": "cpu",
        "engines": {},
        "problems": {PROBLEM: problem},
        "methods": methods,
        "load": load.__dict__,
    }
    spec: SpecFacts = {
        "name": name,
        "problems": [PROBLEM],
        "methods": list(METHODS),
        "baseline": "sgd",
        "controls": [],
        "seed": 0,
        "looks": list(load.looks),
        "more_blocks": 0,
        "budgets": [],
        "trials": load.trials,
        "exploit": load.exploit,
        "recommend": load.recommend,
        "repetitions": 1,
        "margin": None,
    }
    created = dt.datetime.now(dt.UTC).replace(tzinfo=None)
    values = {"name": name, "spec": spec, "source": "", "manifest": manifest, "created_at": created}
    adding = insert(Study).values(**values).returning(Study.id)
    study = write(database, lambda connection: connection.execute(adding).scalar_one())
    for plan in plans(database, study):
        plan.begin()
    if not load.mirrored:
        done = update(Trial).where(Trial.study_id == study).values(mirrored=True)
        write(database, lambda connection: connection.execute(done))
    return study


@dataclass
class Simulation:
    """A trainer with one slot, whose trials only sleep.

    Attributes:
        load: see `Load`.
        checkpoints: of unfinished trials.
        memory_fault: a file; while it does not exist, the next trial creates it and runs out of memory.
    """

    load: Load
    checkpoints: Checkpoints
    memory_fault: Path | None = None

    def train(self, shift: Shift) -> None:
        """Run one trial after another."""
        rounds = self.load.rounds
        while trials := shift.feed(1):
            (trial,) = trials
            done, due = self._resume(trial), time.monotonic()
            while done < rounds:
                due += self.load.seconds / rounds
                sleep(max(0.0, due - time.monotonic()))
                self._run_out_of_memory()
                done += 1
                if self.load.checkpoints:
                    self.checkpoints.save(trial.id, json.dumps({"trial": trial.id, "done": done}).encode())
                if trial.id in shift.lost():
                    break
                if not shift.go_on():
                    return
            else:
                shift.report([outcome(trial, rounds)])
                if self.load.checkpoints:
                    self.checkpoints.remove(trial.id)

    def _resume(self, trial: Trial) -> int:
        data = self.checkpoints.load(trial.id) if self.load.checkpoints else None
        try:
            return int(json.loads(data)["done"]) if data else 0
        except ValueError:  # cut off: start the trial again
            self.checkpoints.remove(trial.id)
            return 0

    def _run_out_of_memory(self) -> None:
        if self.memory_fault is not None and not self.memory_fault.exists():
            self.memory_fault.write_text(str(os.getpid()))
            raise MemoryError("simulated")


def outcome(trial: Trial, rounds: int) -> Result:
    """The result of a trial, a function of its seed and settings alone, as in any study."""
    values = [float(value) for _, value in sorted(trial.params.items())]
    noise = derive(trial.seed, "noise") / 2**63 - 0.5
    loss = 0.2 + sum((math.log(value) + 1) ** 2 for value in values) / 10 + 0.05 * noise
    error = loss / 10 + 0.01 * (derive(trial.seed, "test") / 2**63)
    tested = {"test_loss": loss, "test_metric": error} if trial.phase in ("confirm", "recommend") else {}
    measures: dict[str, Any] = {"train_loss": loss, "validation_loss": loss, "validation_metric": error, **tested}
    steps = np.arange(1, rounds + 1, dtype=np.float32)
    curve = np.stack([steps * 10, loss + 1 / steps, loss + 1 / steps, error + 0 * steps, np.nan * steps])
    ledger = {"gradients": 100, "jvps": 0.0, "examples": 100, "measured": 10}
    return Result(
        trial=trial.id,
        token=trial.token,
        value=min(loss, WORST),
        diverged=False,
        measures=measures,
        ledger=ledger,
        curve=curve.astype(np.float32).tobytes(),
        weights=None,
    )
