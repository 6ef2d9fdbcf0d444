"""Synthetic studies with known answers, written through the tables as a study would."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from typing import Any

import numpy as np
from sqlalchemy import Engine, create_engine, insert

from relaxbench.store.schema import Base, Curve, Study, Trial

SPACE = {
    "lr": {"kind": "float", "low": 1e-3, "high": 1.0, "log": True},
    "momentum": {"kind": "float", "low": 0.0, "high": 0.99, "log": False},
    "schedule": {"kind": "categorical", "choices": ["constant", "cosine"]},
}
RELAXED = SPACE | {
    "inner_steps": {"kind": "int", "low": 5, "high": 20, "log": False, "step": 1},
    "gamma_start": {"kind": "float", "low": 1e-2, "high": 10.0, "log": True},
    "gamma_end": {"kind": "float", "low": 1e-2, "high": 100.0, "log": True},
}
TITLES = {
    "sgd": "SGD", "lookahead": "Lookahead", "sgd-ema": "SGD-EMA",
    "entropy-sgd": "Entropy-SGD", "hj": "Hamilton–Jacobi", "heat": "HEAT",
}  # fmt: skip
SCOPES = {"entropy-sgd": "gamma", "hj": "gamma", "heat": "sigma"}


def spec(**changes: Any) -> dict[str, Any]:
    """A study file's contents."""
    usual = {
        "name": "digits", "description": "Handwritten digits, a small network, every method tuned alike.",
        "problems": ["digits-mlp"], "methods": list(TITLES), "baseline": "sgd", "controls": ["lookahead", "sgd-ema"],
        "seed": 0, "blocks": 10, "trials": 12, "exploit": 16, "recommend": 10, "repetitions": 1, "budget": None,
        "margin": None,
    }  # fmt: skip
    return usual | changes


def manifest(asked: dict[str, Any]) -> dict[str, Any]:
    """The circumstances, as a study would store them."""
    problems = {
        "digits-mlp": {
            "title": "Digits, 64-32-10 MLP", "metric": "test error", "unit": "%", "metric_scale": 100.0,
            "loss": "cross-entropy", "parameters": 2410, "budget": 600, "worst": 10.0, "worst_metric": 1.0,
            "data": "1,797 handwritten digits (scikit-learn), 1,077/360/360", "fingerprint": "sha256:0c1d",
            "margin": 0.5, "censored": False, "test_examples": 360,
            "caution": "Digits is a demonstration: 360 test images resolve no less than 0.3 points each.",
        },
        "rosenbrock": {
            "title": "Rosenbrock", "metric": "gradients to tolerance", "unit": "gradients", "metric_scale": 1.0,
            "loss": "none", "parameters": 2, "budget": 2000, "worst": 100.0, "worst_metric": 2000.0, "data": "",
            "fingerprint": "", "margin": 50, "censored": True, "test_examples": None, "caution": "",
        },
    }  # fmt: skip

    def method(label: str) -> dict[str, Any]:
        role = "baseline" if label == asked["baseline"] else "control" if label in asked["controls"] else "candidate"
        scope = SCOPES.get(label)
        space = RELAXED if scope else SPACE
        calibration = {
            problem: {"seconds_per_gradient": 2e-4 * (1.5 if scope else 1), "peak_bytes": 4_000_000}
            for problem in asked["problems"]
        }
        return {
            "rule": label, "title": TITLES.get(label, label), "role": role, "dimensions": len(space), "space": space,
            "fixed": {"batch": 64}, "copies": 5.0 if scope else 2.0, "scope": scope, "calibration": calibration,
        }  # fmt: skip

    return {
        "version": "0.1.0", "python": "3.11.2", "torch": "2.15.0", "optuna": "5.0.0", "platform": "Linux",
        "cpu": "2 cores", "gpu": None, "git_commit": "ebe3048", "device": "cpu", "dtype": "float32",
        "engines": {p: {"path": "vectorized", "population": 32, "threads": 2, "precision": "float32", "device": "cpu",
                        "invariance": "bit for bit"} for p in asked["problems"]},
        "problems": {p: problems[p] for p in asked["problems"] if p in problems},
        "methods": {label: method(label) for label in asked["methods"]},
        "key": "0123456789ab", "origins": {p: f"/home/somebody/{p}.py" for p in asked["problems"]},
        "turns": {"mirror": {"worker": "somewhere:1:2", "until": 3.0}},
    }  # fmt: skip


class Writer:
    """Adds trials and curves of one study."""

    def __init__(self, engine: Engine, asked: dict[str, Any], about: dict[str, Any] | None = None) -> None:
        Base.metadata.create_all(engine)
        self.engine, self.asked = engine, asked
        self.about = manifest(asked) if about is None else about
        self.trials: list[dict[str, Any]] = []
        self.curves: list[dict[str, Any]] = []
        with engine.begin() as connection:
            known = connection.execute(insert(Study).returning(Study.id), [{
                "name": asked["name"], "spec": asked, "source": f'name = "{asked["name"]}"', "manifest": self.about,
                "created_at": dt.datetime(2026, 11, 20),
            }])  # fmt: skip
            self.study = int(known.scalar_one())

    def trial(
        self, problem: str, method: str, phase: str, block: int, number: int, value: float | None, *, parent: int = 0,
        params: Mapping[str, Any] | None = None, measures: Mapping[str, Any] | None = None, diverged: bool = False,
        status: str = "done", gradients: int = 600, curve: np.ndarray | None = None,
    ) -> int:  # fmt: skip
        """Add a trial; returns its id."""
        identity = 1000 * self.study * 1000 + len(self.trials) + 1
        self.trials.append({
            "id": identity, "study_id": self.study, "problem": problem, "method": method, "phase": phase,
            "block": block, "number": number, "parent": parent, "seed": identity, "params": dict(params or {}),
            "status": status, "value": value, "diverged": diverged, "measures": dict(measures or {}),
            "ledger": {"gradients": gradients, "examples": 64 * gradients, "jvps": 0, "measurement": 90}
            if status == "done" else {},
        })  # fmt: skip
        if curve is not None:
            self.curves.append({"trial_id": identity, "data": np.ascontiguousarray(curve, dtype="<f4").tobytes()})
        return identity

    def close(self) -> Engine:
        """Write it all."""
        with self.engine.begin() as connection:
            if self.trials:
                connection.execute(insert(Trial), self.trials)
            if self.curves:
                connection.execute(insert(Curve), self.curves)
        return self.engine


def memory() -> Engine:
    """An empty database."""
    return create_engine("sqlite://")


def fill(writer: Writer, effects: Mapping[str, float] | None = None, spread: float = 0.8, seed: int = 0) -> Engine:
    """A finished study: each method's test error is 4 % + its effect + noise (points) in every block."""
    asked, rng = writer.asked, np.random.default_rng(seed)
    for problem in asked["problems"]:
        for method in asked["methods"]:
            _method(writer, problem, method, (effects or {}).get(method, 0.0), spread, rng)
    return writer.close()


def _method(writer: Writer, problem: str, method: str, effect: float, spread: float, rng: np.random.Generator) -> None:
    asked, about = writer.asked, writer.about
    space = about["methods"][method]["space"]
    scope = about["methods"][method]["scope"]
    scale = about["problems"][problem]["metric_scale"]
    worst = about["problems"][problem]["worst"]
    budget = about["problems"][problem]["budget"]
    censored = about["problems"][problem]["censored"]
    best, best_params, best_value = 0, {}, np.inf

    def run(phase: str, block: int, number: int, parent: int = 0, params: Any = None) -> tuple[int, float, Any]:
        params = params or draw(space, rng)
        diverged = phase == "explore" and params["lr"] > 0.7
        loss = 0.12 + effect / 100 + 0.05 * abs(np.log10(params["lr"]) + 1.2) ** 2 + abs(rng.normal(0, 0.02))
        metric = (4 + effect + rng.normal(0, spread)) / scale
        if censored:
            metric = min(1500 + 100 * effect + rng.normal(0, 400 * spread), budget)
        measures = {"train_loss": loss / 2, "validation_loss": loss, "validation_metric": metric}
        if phase in ("confirm", "recommend"):
            measures |= {"test_loss": loss * 1.05, "test_metric": metric}
        if diverged:
            measures = dict.fromkeys(measures)
        value = worst if diverged else min(loss, worst)
        points = 25
        gradients = np.linspace(budget / points, budget, points)
        decay = np.exp(-gradients / budget * 5 * rng.uniform(0.7, 1.3))
        gamma = np.full(points, np.nan)
        if scope:
            gamma = params["gamma_start"] * (params["gamma_end"] / params["gamma_start"]) ** (gradients / budget)
        curve = np.stack([loss / 2 + 2.2 * decay, loss + 2.2 * decay, metric + 0.8 * decay, gamma])
        if diverged:
            curve[:3, points // 3 :] = np.nan
        curve = np.concatenate([gradients[None], curve])
        identity = writer.trial(
            problem, method, phase, block, number, value, parent=parent, params=params, measures=measures,
            diverged=diverged, gradients=budget, curve=curve,
        )  # fmt: skip
        return identity, value, params

    for block in range(asked["blocks"] * asked["repetitions"]):
        tried = [run("explore", block, number) for number in range(asked["trials"])]
        winner = min(tried, key=lambda each: each[1])
        if winner[1] < best_value:
            best, best_value, best_params = winner
        run("confirm", block, 0, winner[0], winner[2])
    for number in range(asked["exploit"]):
        identity, value, params = run("exploit", number // 4, number)
        if value < best_value:
            best, best_value, best_params = identity, value, params
    for number in range(asked["recommend"]):
        run("recommend", 0, number, best, best_params)


def draw(space: Mapping[str, Any], rng: np.random.Generator) -> dict[str, Any]:
    """Random settings from a space."""
    params: dict[str, Any] = {}
    for name, range_ in space.items():
        if range_["kind"] == "categorical":
            params[name] = str(rng.choice(range_["choices"]))
        elif range_["kind"] == "int":
            params[name] = int(rng.integers(range_["low"], range_["high"] + 1))
        elif range_["log"]:
            params[name] = float(np.exp(rng.uniform(np.log(range_["low"]), np.log(range_["high"]))))
        else:
            params[name] = float(rng.uniform(range_["low"], range_["high"]))
    return params
