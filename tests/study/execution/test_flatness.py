"""Flatness in a study: of winners and recommended runs, the same whatever runs beside them, never in a study's way."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sqlalchemy import select

from relaxbench.problems import problem
from relaxbench.store.schema import Weights
from relaxbench.study.execution import flatness as meter
from relaxbench.training.flatness.measure import Flatness, FlatnessError, flatness
from relaxbench.training.ledger import FORWARD
from tests.study import tiny

KEYS = {"hessian_top", "hessian_trace", "hessian_trace_error", "local_entropy"}


def small(**changes: Any) -> Any:
    """A study that measures in full, whatever that costs; its shares are tested next to `flatness_share`."""
    usual = {"problems": ["digits-mlp"], "methods": ["sgd"], "looks": [3], "exploit": 0, "budget": 30}
    usual["flatness"] = "full"
    return tiny.spec(**{**usual, **changes})


def kept_weights(folder: Path) -> dict[int, torch.Tensor]:
    database = tiny.opened(folder)
    with database.connect() as connection:
        found = connection.execute(select(Weights.trial_id, Weights.data)).all()
    database.dispose()
    return {trial: torch.from_numpy(np.frombuffer(data, dtype=np.float32).copy()) for trial, data in found}


def measured(rows: list[Any], first_look: int) -> set[int]:
    """The ids of the runs that have their flatness: of the winners of the first look's blocks, and the recommended."""
    winners = {}
    for row in rows:
        if row.phase == "explore" and row.block < first_look:
            best = winners.setdefault((row.method, row.block), row)
            if (row.value, row.number) < (best.value, best.number):
                winners[row.method, row.block] = row
    parents = {row.id for row in winners.values()}
    return {row.id for row in rows if row.phase == "recommend" or (row.phase == "confirm" and row.parent in parents)}


@pytest.mark.usefixtures("steady")
def test_flatness_is_stored_with_winners_and_is_that_of_their_weights(tmp_path: Path) -> None:
    s = small(trials=4)
    tiny.run(tmp_path, s)
    rows = {row.id: row for row in tiny.rows(tmp_path)}
    winners = measured(list(rows.values()), 3)
    for row in rows.values():
        assert row.measures.keys() & KEYS == (KEYS if row.id in winners else set())
        assert row.phase not in ("confirm", "recommend") or "test_loss" in row.measures
    confirmed = [row for row in rows.values() if row.phase == "confirm"]
    assert 0 < len([row for row in confirmed if row.id in winners]) <= 3 < len(confirmed)
    weights = kept_weights(tmp_path)
    assert weights
    for trial, x in weights.items():
        row = rows[trial]
        found = flatness(problem("digits-mlp"), x, row.seed)
        assert {name: row.measures[name] for name in KEYS} == found.measures()
        assert len(found.top) == 5 and found.top == sorted(found.top, reverse=True) and found.trace > 0


@pytest.mark.usefixtures("steady")
def test_flatness_does_not_depend_on_the_population_or_an_interruption(tmp_path: Path) -> None:
    s, found = small(looks=[2], recommend=1), []
    for name, size, questions in (("one", 1, 10**9), ("many", 8, 10**9), ("stopped", 3, 14)):
        folder = tmp_path / name
        folder.mkdir()
        tiny.run(folder, s, tiny.After(questions), population=size)
        tiny.run(folder, s, population=size)
        found.append(tiny.results(folder))
    assert found[0] == found[1] == found[2]


@pytest.mark.usefixtures("steady")
def test_without_flatness_all_other_results_are_the_same(tmp_path: Path) -> None:
    tables = []
    for flat in ("full", False):
        folder = tmp_path / str(flat)
        folder.mkdir()
        tiny.run(folder, small(flatness=flat, looks=[2], recommend=1))
        tables.append({tuple(getattr(row, key) for key in tiny.KEYS): row for row in tiny.rows(folder)})
    for key, with_it in tables[0].items():
        without = tables[1][key]
        assert with_it.value == without.value and with_it.correct == without.correct
        assert without.measures == {n: v for n, v in with_it.measures.items() if n not in KEYS}
        assert with_it.ledger["gradients"] == without.ledger["gradients"]
        billed = with_it.ledger["measurement"] - without.ledger["measurement"]
        cost = 1024 * (3 + 6 * 58) * FORWARD / 64 if "hessian_top" in with_it.measures else 0.0
        assert billed == pytest.approx(cost)


@pytest.mark.usefixtures("steady")
def test_flatness_can_be_switched_on_later_for_further_runs(tmp_path: Path) -> None:
    tiny.run(tmp_path, small(flatness=False, looks=[1], recommend=0))
    tiny.run(tmp_path, small(looks=[1], recommend=2))
    tested = [row for row in tiny.rows(tmp_path) if row.phase in ("confirm", "recommend")]
    assert {("hessian_top" in row.measures, row.phase) for row in tested} == {(False, "confirm"), (True, "recommend")}


@pytest.mark.usefixtures("steady")
def test_blocks_of_later_looks_and_methods_as_published_are_measured_as_stated(tmp_path: Path) -> None:
    as_published = {"heat-published": {"rule": "heat", "arm": "published"}}
    s = small(methods=["sgd", "heat-published"], looks=[2, 3], trials=1, recommend=0, method=as_published)
    tiny.run(tmp_path, s)
    confirmed = [row for row in tiny.rows(tmp_path) if row.phase == "confirm"]
    assert {row.block for row in confirmed if row.method == "sgd"} == {0, 1, 2}
    have = {(row.method, row.block) for row in confirmed if row.measures.keys() >= KEYS}
    assert have == {(method, block) for method in ("sgd", "heat-published") for block in (0, 1)}


@pytest.mark.usefixtures("steady")
def test_diverged_runs_have_no_flatness(tmp_path: Path) -> None:
    s = small(looks=[1], trials=1, recommend=1, space={"lr": [1e29, 1e30]})
    tiny.run(tmp_path, s)
    tested = [row for row in tiny.rows(tmp_path) if row.phase in ("confirm", "recommend")]
    assert len(tested) == 2
    assert all(row.status == "done" and row.diverged and not KEYS & row.measures.keys() for row in tested)


def refusing(*arguments: Any) -> Flatness:
    raise FlatnessError("RuntimeError: no second derivative")


def wrong(*arguments: Any) -> Flatness:
    raise KeyboardInterrupt


@pytest.mark.usefixtures("steady")
def test_a_failure_is_told_once_a_problem_and_the_study_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(meter, "flatness", refusing)
    said: list[str] = []
    summary = tiny.run(tmp_path, tiny.spec(problems=["rosenbrock", "rugged-1d"], exploit=0), announce=said.append)
    assert summary.missing == 0
    told = [line for line in said if "flatness" in line]
    assert [line.split(":")[0] for line in told] == ["rosenbrock", "rugged-1d"]
    assert all("no second derivative" in line and "\n" not in line for line in told)
    rows = tiny.rows(tmp_path)
    assert not any(KEYS & row.measures.keys() for row in rows) and {row.status for row in rows} == {"done"}
    reasons = [row.measures["flatness_error"] for row in rows if "flatness_error" in row.measures]
    assert reasons and set(reasons) == {"RuntimeError: no second derivative"}


@pytest.mark.usefixtures("steady")
def test_a_study_that_is_stopped_while_it_measures_goes_on(
    tmp_path: Path, whole: dict[Any, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C within the measurement: what it was measured for is run again."""
    with monkeypatch.context() as patch:
        patch.setattr(meter, "flatness", wrong)
        with pytest.raises(KeyboardInterrupt):
            tiny.run(tmp_path, tiny.spec())
    assert {row.status for row in tiny.rows(tmp_path)} == {"done", "waiting"}
    tiny.run(tmp_path, tiny.spec())
    assert tiny.results(tmp_path) == whole


@pytest.mark.usefixtures("steady")
def test_leases_are_renewed_during_slow_measurements(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from relaxbench.store.claims import Claims
    from relaxbench.study.coordination import session

    events: list[str] = []
    measure: Callable[..., Any] = meter.FlatnessMeter.measure
    renew: Callable[..., Any] = Claims.renew

    def slowly(*arguments: Any) -> Any:
        begun, end = len(events), time.monotonic() + 5
        events.append("measure")
        while "renew" not in events[begun:] and time.monotonic() < end:
            time.sleep(0.01)
        events.append("measured")
        return measure(*arguments)

    monkeypatch.setattr(session, "RENEW_SECONDS", 0.05)
    monkeypatch.setattr(meter.FlatnessMeter, "measure", slowly)
    monkeypatch.setattr(Claims, "renew", lambda self: events.append("renew") or renew(self))
    tiny.run(tmp_path, small(looks=[4], recommend=0), population=4)
    begun = [i for i, event in enumerate(events) if event == "measure"]
    assert len(begun) >= 4 and all("renew" in events[i : events.index("measured", i)] for i in begun)


def test_a_landscape_s_flatness_is_stored_too(whole: dict[Any, Any]) -> None:
    confirmed = [dict(row[5]) for key, row in whole.items() if key[2] == "confirm"]
    flat = [measures for measures in confirmed if "hessian_top" in measures]
    # Of four trials in two blocks the best three are confirmed: the winners of both blocks are among them.
    assert len(confirmed) == 6 and len(flat) == 4
    for measures in flat:
        low, high = measures["hessian_top"][1], measures["hessian_top"][0]
        assert measures["hessian_trace"] == pytest.approx(low + high) and measures["hessian_trace_error"] == 0
        assert all(value is None or math.isfinite(value) for value in measures["local_entropy"].values())


@pytest.mark.usefixtures("steady")
def test_a_network_s_flatness_has_the_same_bits_after_interruptions(tmp_path: Path) -> None:
    """Other sizes of the population, other claims: the runs and what is measured of them are the same."""
    s = small(looks=[1], trials=1, recommend=1, budget=40)
    for folder, stops in ((tmp_path / "calm", ()), (tmp_path / "stopped", ((3, 1), (5, 2)))):
        folder.mkdir()
        for questions, size in stops:
            assert tiny.run(folder, s, tiny.After(questions), population=size).missing > 0
        tiny.run(folder, s, population=4)
    calm = tiny.results(tmp_path / "calm")
    assert sum("hessian_top" in dict(row[5]) for row in calm.values()) == 2
    assert tiny.results(tmp_path / "stopped") == calm
    assert max(row.token for row in tiny.rows(tmp_path / "stopped")) > 1
