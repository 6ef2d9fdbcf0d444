"""Synthetic studies with known answers, written through the tables as a study would."""

from __future__ import annotations

import datetime as dt
import itertools
from collections.abc import Mapping
from typing import Any, cast

import numpy as np
from sqlalchemy import Engine, create_engine, insert

from relaxbench.analysis.all_subsets import confirmed_ranks
from relaxbench.analysis.arms import Limits, arm_of, family_of, opponents_of, outcomes
from relaxbench.analysis.equivalence import parse_margin
from relaxbench.analysis.looks import going_on
from relaxbench.store.database import OpenFile
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
    usual: dict[str, Any] = {
        "name": "digits", "description": "Handwritten digits, a small network, every method tuned alike.",
        "problems": ["digits-mlp"], "methods": list(TITLES), "baseline": "sgd", "controls": ["lookahead", "sgd-ema"],
        "seed": 0, "looks": [6, 10], "more_blocks": 0, "trials": 12, "exploit": 16, "recommend": 10,
        "repetitions": 1, "budget": None, "margin": None,
    }  # fmt: skip
    return usual | changes


def manifest(asked: dict[str, Any]) -> dict[str, Any]:
    """The circumstances, as a study would store them."""
    problems = {
        "digits-mlp": {
            "title": "Digits, 64-32-10 MLP", "metric": "test error", "unit": "%", "metric_scale": 100.0,
            "loss": "cross-entropy", "parameters": 2410, "budget": 600, "worst": 10.0, "worst_metric": 1.0,
            "data": "1,797 handwritten digits (scikit-learn), 1,077/360/360", "fingerprint": "sha256:0c1d",
            "margin": 0.5, "censored": False, "test_examples": 360, "base": "digits-mlp", "rung": None,
            "caution": "Digits is a demonstration: 360 test images resolve no less than 0.3 points each.",
        },
        "rosenbrock": {
            "title": "Rosenbrock", "metric": "gradients to tolerance", "unit": "gradients", "metric_scale": 1.0,
            "loss": "none", "parameters": 2, "budget": 2000, "worst": 100.0, "worst_metric": 2000.0, "data": "",
            "fingerprint": "", "margin": 50, "censored": True, "test_examples": None, "caution": "",
            "base": "rosenbrock", "rung": None,
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
        "identity": {"problems": {p: {"text": "# somebody's own code"} for p in asked["problems"]}, "methods": {}},
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
    return create_engine("sqlite://", connect_args={"factory": OpenFile})


def fill(writer: Writer, effects: Mapping[str, float] | None = None, spread: float = 0.8, seed: int = 0) -> Engine:
    """A finished study: each method's test error is 4 % + its effect + noise (points) on a fresh seed.

    After a look only undecided methods and the baseline go on, as in a study.
    """
    asked, rng = writer.asked, np.random.default_rng(seed)
    for problem in asked["problems"]:
        arms = {
            method: _Arm(writer, problem, method, (effects or {}).get(method, 0.0), spread, rng)
            for method in asked["methods"]
        }
        for repetition in range(asked["repetitions"] if arms and asked["looks"] else 0):
            _search(arms, asked, Limits.of(writer.about["problems"][problem]), repetition)
        for arm in arms.values():
            arm.finish()
    return writer.close()


def _search(arms: Mapping[str, _Arm], asked: Mapping[str, Any], limits: Limits, repetition: int) -> None:
    """The blocks of one repetition, look by look."""
    looks, first = asked["looks"], repetition * asked["looks"][-1]
    family, margin = family_of(cast(Any, asked)), parse_margin(arms[next(iter(arms))].about["margin"])
    going, found = set(arms), {method: list[Any]() for method in arms}
    for done, blocks in zip([0, *looks], looks, strict=False):
        for method, arm in arms.items():
            if method in going:
                arm.explore(range(first + done, first + blocks))
                arm.confirm(range(first, first + blocks))
            results = arm.explored, arm.confirmed, range(first, first + blocks), arm.trials, limits
            found[method].append(arm_of(*results) if method in going else None)
        if asked["baseline"] in arms:
            opponents = opponents_of(cast(Any, asked))
            going = going_on(outcomes(found, opponents, family, margin), opponents)


class _Arm:
    """The runs of one method on one problem.

    Attributes:
        explored: place of a random trial → validation loss.
        confirmed: place → test metric on a fresh seed, in display units.
    """

    def __init__(
        self, writer: Writer, problem: str, method: str, effect: float, spread: float, rng: np.random.Generator
    ) -> None:
        self.writer, self.problem, self.method = writer, problem, method
        self.effect, self.spread, self.rng = effect, spread, rng
        self.how, self.about = writer.about["methods"][method], writer.about["problems"][problem]
        self.trials = 0 if self.how.get("arm") == "published" else writer.asked["trials"]
        self.explored: dict[tuple[int, int], float] = {}
        self.confirmed: dict[tuple[int, int], float] = {}
        self.tried: dict[tuple[int, int], tuple[int, float, Any]] = {}

    def explore(self, blocks: range) -> None:
        """Random trials of these blocks."""
        for place in itertools.product(blocks, range(self.trials)):
            self.tried[place] = self.run("explore", *place)
            self.explored[place] = self.tried[place][1]

    def confirm(self, blocks: range) -> None:
        """The best trials of these blocks, or the published settings, on fresh seeds."""
        places = [place for place in self.explored if place[0] in blocks]
        count = confirmed_ranks(len(places), self.trials) if places else 0
        best = sorted(places, key=lambda place: (self.explored[place], place))[:count]
        for place in best if self.trials else [(block, 0) for block in blocks]:
            if place not in self.confirmed:
                parent, _, params = self.tried.get(place, (0, 0.0, None))
                self.run("confirm", *place, parent, params)

    def finish(self) -> None:
        """TPE and the recommended settings."""
        if not self.trials:
            return
        tried = [*self.tried.values()]
        tried += [self.run("exploit", number // 4, number) for number in range(self.writer.asked["exploit"])]
        best, _, params = min(tried, key=lambda each: each[1], default=(0, 0.0, None))
        for number in range(self.writer.asked["recommend"]):
            self.run("recommend", 0, number, best, params)

    def run(
        self, phase: str, block: int, number: int, parent: int = 0, params: dict[str, Any] | None = None
    ) -> tuple[int, float, Any]:
        """One trial: its id, its value and its params."""
        rng, effect, about, scope = self.rng, self.effect, self.about, self.how["scope"]
        params = params or draw(self.how["space"], rng)
        worst, budget = about["worst"], about["budget"]
        diverged = phase == "explore" and params["lr"] > 0.7
        loss = 0.12 + effect / 100 + 0.05 * abs(np.log10(params["lr"]) + 1.2) ** 2 + abs(rng.normal(0, 0.02))
        metric = (4 + effect + rng.normal(0, self.spread)) / about["metric_scale"]
        if about["censored"]:
            metric = min(1500 + 100 * effect + rng.normal(0, 400 * self.spread), budget)
        measures = {"train_loss": loss / 2, "validation_loss": loss, "validation_metric": metric}
        if phase in ("confirm", "recommend"):
            measures |= {"test_loss": loss * 1.05, "test_metric": metric}
        if phase == "confirm":
            self.confirmed[block, number] = metric * about["metric_scale"]
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
        identity = self.writer.trial(
            self.problem, self.method, phase, block, number, value, parent=parent, params=params, measures=measures,
            diverged=diverged, gradients=budget, curve=curve,
        )  # fmt: skip
        return identity, value, params


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
