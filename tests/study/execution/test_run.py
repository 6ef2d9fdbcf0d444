"""Studies from beginning to end: exact counts, rows that follow from the definition, and what is reported."""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
import torch
from sqlalchemy import select

from relaxbench.optim.registry import RULES
from relaxbench.problems import problem
from relaxbench.store.schema import Weights
from relaxbench.study.coordination.optuna_mirror import optuna_storage
from relaxbench.study.execution import calibration
from relaxbench.training import costs
from relaxbench.training import engine as engines
from relaxbench.training.oracle import Oracle
from relaxbench.training.population import Population
from relaxbench.training.trial import Job
from relaxbench.util.seeds import derive
from tests.study import tiny
from tests.study.results import Results, assert_mirrored, sessions, study_row


def test_a_study_has_exactly_the_trials_that_were_asked_for_and_running_it_again_runs_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the engine as it is: measured, chosen and (briefly) calibrated on this machine."""
    monkeypatch.setattr(costs, "MOST", 2)
    s = tiny.spec()
    first = tiny.run(tmp_path, s, population=None)
    assert first.new and first.ran == first.total == tiny.expected(s) == 30 and first.missing == 0
    found = tiny.rows(tmp_path)
    assert len(found) == 30 and {row.status for row in found} == {"done"}
    for method in s.methods:
        for phase, count in {"explore": 4, "confirm": 3, "exploit": 6, "recommend": 2}.items():
            assert sum((row.method, row.phase) == (method, phase) for row in found) == count
    assert_mirrored(tmp_path, s)
    assert not list((tmp_path / "checkpoints").glob("*"))

    before = tiny.results(tmp_path)
    again = tiny.run(tmp_path, s, population=None)
    assert not again.new and again.ran == 0 and again.missing == 0 and again.total == 30
    assert tiny.results(tmp_path) == before
    manifest = study_row(tmp_path).manifest
    assert manifest["device"] == "cpu"
    assert manifest["engines"]["rosenbrock"]["population"] >= 1
    assert manifest["engines"]["rosenbrock"]["path"] in ("vectorized", "direct")
    assert manifest["torch"] == torch.__version__ and manifest["optuna"] == optuna.__version__
    (worker,) = sessions(tmp_path)
    assert (worker.finished, worker.running, worker.doing) == (30, 0, "") and worker.ended_at >= worker.started_at
    for method in s.methods:
        cost = manifest["methods"][method]["calibration"]["rosenbrock"]
        assert cost["seconds_per_gradient"] > 0 and cost["seconds_spread"] >= 0


def test_rows_follow_from_the_definition(whole: Results) -> None:
    """The best by validation loss, seeds of their confirmations, settings of children, gradients within the budget."""
    s, task = tiny.spec(), problem("rosenbrock")
    values = {key[:5]: row[3] for key, row in whole.items()}
    for (name, method, phase, block, number, parent), row in whole.items():
        seed, params, _, value, diverged, measures, ledger, _, data, _ = row
        period = {"sgd": 1, "heat": dict(params).get("inner_steps")}[method]
        if diverged:
            assert dict(ledger)["gradients"] < 40 and value == task.worst
        else:
            assert dict(ledger)["gradients"] == 40 // period * period
        points = tiny.curve(data)
        assert points[0, -1] == dict(ledger)["gradients"]
        if not diverged:
            assert value == min(dict(measures)["validation_loss"], task.worst) == min(points[2, -1], task.worst)
        if phase == "confirm":
            assert seed == derive(s.seed, "confirm", name, method, block, number)
            assert parent == (name, method, "explore", block, number)
            rivals = sorted((v, *k[3:5]) for k, v in values.items() if k[:3] == (name, method, "explore"))
            assert (values[parent], block, number) in rivals[: tiny.best(2, s.trials)]
        if phase == "recommend":
            assert seed == derive(s.seed, "recommend", name, number)
            found = [v for k, v in values.items() if k[1] == method and k[2] in ("explore", "exploit")]
            assert values[parent] == min(found)
        if parent is not None:
            assert params == next(r[1] for k, r in whole.items() if k[:5] == parent)
            assert "test_loss" in dict(measures)
        else:
            assert "test_loss" not in dict(measures)  # the test split is read by winners alone
    seeds = [row[0] for key, row in whole.items() if key[2] in ("explore", "exploit")]
    assert len(set(seeds)) == len(seeds)
    for method in s.methods:
        kept = [key for key, row in whole.items() if row[9] is not None and key[1] == method]
        runs = {key: row[3] for key, row in whole.items() if key[1:3] == (method, "recommend")}
        assert len(kept) == 1 and runs[kept[0]] == min(runs.values())


@pytest.mark.usefixtures("steady")
def test_a_trial_of_the_study_can_be_run_again_by_hand(whole: Results) -> None:
    """Seed and settings of a row are all that a trial depends on."""
    for key, row in list(whole.items())[:: len(whole) // 5]:
        got: list[Any] = []
        queue = [Job(0, row[0], dict(row[1]))]
        one = Population(Oracle(problem("rosenbrock")), RULES[key[1]](), 40)
        one.run(lambda free, queue=queue: [queue.pop() for _ in queue[:free]], got.extend, 1)
        assert got[0].value == row[3]
        assert tiny.bits(got[0].curve.tobytes()) == row[8]


@pytest.mark.parametrize("population", [1, 64])
@pytest.mark.usefixtures("steady")
def test_the_population_changes_no_result_and_is_stored(population: int, tmp_path: Path, whole: Results) -> None:
    tiny.run(tmp_path, tiny.spec(), population=population)
    assert tiny.results(tmp_path) == whole
    manifest = study_row(tmp_path).manifest
    assert manifest["engines"]["rosenbrock"]["population"] == population
    assert manifest["engines"]["rosenbrock"]["device"] == manifest["device"] == "cpu"


@pytest.mark.usefixtures("steady")
def test_another_seed_is_another_study(tmp_path: Path, whole: Results) -> None:
    tiny.run(tmp_path, tiny.spec(seed=1, exploit=0, recommend=0))
    other = tiny.results(tmp_path)
    assert not {row[0] for row in other.values()} & {row[0] for row in whole.values()}
    values = [{row[3] for row in table.values() if not row[4]} for table in (other, whole)]
    assert all(values) and not values[0] & values[1]


@pytest.mark.usefixtures("steady")
def test_diverged_trials_are_complete_with_the_worst_value_and_marked(tmp_path: Path) -> None:
    wild = {"rule": "sgd", "space": {"lr": [1e6, 1e7]}}
    s = tiny.spec(methods=["sgd", "wild"], method={"wild": wild}, exploit=4, recommend=1)
    assert tiny.run(tmp_path, s).missing == 0
    worst = problem("rosenbrock").worst
    for row in tiny.rows(tmp_path):
        assert row.status == "done" and math.isfinite(row.value) and row.value <= worst
        if row.method == "wild":
            assert row.diverged and row.value == worst
            assert row.measures["validation_metric"] == problem("rosenbrock").worst_metric
            json.dumps(row.measures, allow_nan=False)
    assert any(not row.diverged for row in tiny.rows(tmp_path) if row.method == "sgd")
    assert_mirrored(tmp_path, s)


@pytest.mark.usefixtures("steady")
def test_digits_keeps_what_the_report_needs(tmp_path: Path) -> None:
    s = tiny.spec(problems=["digits-mlp"], methods=["sgd"], exploit=0, recommend=1)
    assert tiny.run(tmp_path, s).missing == 0
    task = problem("digits-mlp")
    for row in tiny.rows(tmp_path):
        if row.phase in ("confirm", "recommend"):
            right = np.unpackbits(np.frombuffer(row.correct, dtype=np.uint8))[: task.test_examples]
            assert row.measures["test_metric"] == pytest.approx(1 - right.mean(), abs=1e-6)
        else:
            assert row.correct is None
    (run,) = [row for row in tiny.rows(tmp_path) if row.phase == "recommend"]
    database = tiny.opened(tmp_path)
    with database.connect() as connection:
        data = connection.scalars(select(Weights.data).where(Weights.trial_id == run.id)).one()
    flat = torch.from_numpy(np.frombuffer(data, dtype=np.float32).copy())
    batch = task.split("test", torch.device("cpu"))
    logits = torch.func.functional_call(task.model.train(False), task.unflatten(flat), (batch["x"],))
    assert (logits.argmax(1) != batch["y"]).float().mean().item() == pytest.approx(
        run.measures["test_metric"], abs=1e-6
    )
    assert torch.nn.functional.cross_entropy(logits, batch["y"]).item() == pytest.approx(
        run.measures["test_loss"], rel=1e-4
    )


@pytest.mark.usefixtures("steady")
def test_progress_adds_up(tmp_path: Path) -> None:
    seen: list[tuple[int, float]] = []

    def observe(progress: Sequence[Any]) -> None:
        seen.append((sum(p.done for p in progress), min(p.best for p in progress)))

    s = tiny.spec(exploit=4)
    tiny.run(tmp_path, s, observe=observe)
    done, best = zip(*seen, strict=True)
    assert list(done) == sorted(done) and done[-1] == tiny.expected(s)
    found = tiny.rows(tmp_path)
    assert best[-1] == min(row.value for row in found)
    assert list(best) == sorted(best, reverse=True)


@pytest.mark.usefixtures("steady")
def test_the_mirror_is_open_to_optuna_and_its_own_storage(tmp_path: Path) -> None:
    s = tiny.spec(methods=["sgd"], recommend=0)
    tiny.run(tmp_path, s)
    database = tiny.opened(tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        storage = optuna_storage(database)
    names = {study.study_name for study in optuna.get_all_study_summaries(storage)}
    storage.engine.dispose()
    assert names == {"tiny/rosenbrock/sgd/explore", "tiny/rosenbrock/sgd/exploit"}
    database.dispose()


def test_the_engine_is_chosen_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int | None] = []

    def choose(task: Any, place: torch.device, population: int | None, *others: Any) -> Any:
        calls.append(population)
        return tiny.engine(population or 8)

    monkeypatch.setattr(engines, "choose_engine", choose)
    monkeypatch.setattr(costs, "calibrate", lambda problem, rules, *a: [dict(tiny.COST) for _ in rules])
    s = tiny.spec(methods=["sgd"], exploit=0, recommend=0)
    tiny.run(tmp_path, s, tiny.After(6), population=None)
    tiny.run(tmp_path, s, tiny.After(6), population=None)
    tiny.run(tmp_path, s, population=4)
    assert calls == [None]
    assert study_row(tmp_path).manifest["engines"]["rosenbrock"]["population"] == 4
    assert len(sessions(tmp_path)) == 3


@pytest.mark.parametrize(("here", "threads", "before"), [(1, 2, {"sgd"}), (2, 2, set()), (2, 1, {"sgd"})])
def test_costs_are_measured_when_a_method_has_run_its_trials_unless_others_would_disturb_that(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, here: int, threads: int, before: set[str]
) -> None:
    done: list[set[str]] = []

    def calibrate(problem: Any, rules: list[Any], *_: object) -> list[dict[str, float]]:
        done.append({row.method for row in tiny.rows(tmp_path) if row.status == "done"})
        return [dict(tiny.COST) for _ in rules]

    tiny.set_engine(monkeypatch)
    monkeypatch.setattr(costs, "calibrate", calibrate)
    monkeypatch.setattr(calibration, "workers", lambda *_: [None] * here)
    monkeypatch.setattr(calibration, "at_work", lambda row: True)
    tiny.run(tmp_path, tiny.spec(exploit=0, recommend=0), threads=threads)
    assert done == [before]


@pytest.mark.parametrize("rate", [100.0, 0.0])
def test_costs_are_measured_for_a_part_of_the_time_of_the_trials(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rate: float
) -> None:
    allowed: list[float] = []

    def calibrate(problem: Any, rules: list[Any], *others: Any) -> list[dict[str, float]]:
        allowed.append(others[-2])
        return [dict(tiny.COST) for _ in rules]

    tiny.set_engine(monkeypatch)
    monkeypatch.setattr(engines, "choose_engine", lambda *_: replace(tiny.engine(8), rate=rate))
    monkeypatch.setattr(costs, "calibrate", calibrate)
    s = tiny.spec(exploit=0, recommend=0)
    tiny.run(tmp_path, s)
    seconds = len(tiny.rows(tmp_path)) * 40 / rate if rate else math.inf
    assert allowed == [pytest.approx(costs.SHARE * seconds)]


def test_methods_that_are_one_rule_with_the_same_options_are_timed_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    timed: list[list[str]] = []

    def calibrate(problem: Any, rules: list[Any], *_: object) -> list[dict[str, float]]:
        timed.append([rule.name for rule in rules])
        return [{**tiny.COST, "seconds_per_gradient": 1.0 + place} for place in range(len(rules))]

    tiny.set_engine(monkeypatch)
    monkeypatch.setattr(costs, "calibrate", calibrate)
    variants = {
        "heat-again": {"rule": "heat"},
        "sgd-plain": {"rule": "sgd", "options": {"nesterov": False}},
        "heat-fixed": {"rule": "heat", "fixed": {"inner_steps": 2}},
    }
    s = tiny.spec(methods=["sgd", "heat", *variants], method=variants, looks=[1], trials=1, exploit=0, recommend=0)
    tiny.run(tmp_path, s)
    assert timed == [["sgd", "heat", "sgd"]]
    stored = study_row(tmp_path).manifest["methods"]
    seconds = {name: stored[name]["calibration"]["rosenbrock"]["seconds_per_gradient"] for name in s.methods}
    assert seconds == {"sgd": 1.0, "heat": 2.0, "heat-again": 2.0, "sgd-plain": 3.0, "heat-fixed": 2.0}


def test_a_method_that_is_added_later_is_timed_in_turn_with_one_that_has_a_cost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a machine that has become three times as slow, its ratio to the first method is still right."""
    true = {"sgd": 1.0, "heat": 1.1}
    timed: list[list[str]] = []

    def calibrate(problem: Any, rules: list[Any], *_: object) -> list[dict[str, float]]:
        timed.append([rule.name for rule in rules])
        slow = 3.0 if len(timed) > 1 else 1.0
        return [{**tiny.COST, "seconds_per_gradient": slow * true[rule.name]} for rule in rules]

    tiny.set_engine(monkeypatch)
    monkeypatch.setattr(costs, "calibrate", calibrate)
    tiny.run(tmp_path, tiny.spec(methods=["sgd"], exploit=0, recommend=0))
    tiny.run(tmp_path, tiny.spec(methods=["sgd", "heat"], exploit=0, recommend=0))
    assert timed == [["sgd"], ["sgd", "heat"]]
    stored = study_row(tmp_path).manifest["methods"]
    found = {name: stored[name]["calibration"]["rosenbrock"]["seconds_per_gradient"] for name in true}
    assert found == pytest.approx(true)
