"""Plans with a pruner: a block spends at most T trials' gradients, and its rows are the same whoever asks."""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats
from sqlalchemy import Engine, insert, select, update

from relaxbench.analysis.frames import load_study
from relaxbench.analysis.progress import progress
from relaxbench.analysis.pruning import prunings
from relaxbench.analysis.study_arms import StudyArms
from relaxbench.report.figures.incumbents import incumbents
from relaxbench.space import Float
from relaxbench.store.database import open_database
from relaxbench.store.schema import CURVE_COLUMNS, Curve, Study, Trial
from relaxbench.study.coordination.plan import Plan, plans
from relaxbench.study.coordination.progress import tally
from relaxbench.study.coordination.random_search import sample
from tests.study.coordination.test_plan import make, rows, waiting

BUDGET, ROUNDS, T, GENERATION = 100, 10, 5, 2
STEP = BUDGET // ROUNDS


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Engine]:
    engine = open_database(str(tmp_path / "study.db"))
    yield engine
    engine.dispose()


def begin(database: Engine, sampler: str = "random", looks: tuple[int, ...] = (6,), pruner: str = "median") -> None:
    """A study of two methods, of which one has a pruner."""
    options = {"n_warmup_steps": 1} if pruner == "median" else {}
    facts = {"name": pruner, "options": options, "spot_checks": 0.5}
    search = {"sampler": sampler, "options": {}, "generation": GENERATION, "pruner": facts}
    begin_with(database, {"sgd": {}, "a": {"search": search}}, looks)


def begin_with(database: Engine, methods: dict[str, dict[str, Any]], looks: tuple[int, ...]) -> None:
    """A study of methods with these facts, on a problem with rounds."""
    make(database, methods, list(looks))
    with database.begin() as connection:
        spec, manifest = connection.execute(select(Study.spec, Study.manifest)).one()
        about = {**manifest["problems"]["p"], "budget": BUDGET, "rounds": ROUNDS}
        values = {"spec": {**spec, "trials": T}, "manifest": {**manifest, "problems": {"p": about}}}
        connection.execute(update(Study).values(**values))


def losses(trial: Any) -> list[float]:
    """The learning curve of a trial: better settings fall lower; some noise."""
    noise = np.random.default_rng(trial.seed).normal(0, 0.02, ROUNDS)
    return [float(np.float32(value)) for value in 1 / (1 + np.arange(ROUNDS)) + trial.params["x"] + noise]


def finish(database: Engine, planned: dict[str, Plan], ids: list[int]) -> None:
    """Run trials, round by round, beside their judges."""
    with database.connect() as connection:
        trials = [Trial(**row._mapping) for row in connection.execute(select(Trial.__table__).where(Trial.id.in_(ids)))]
    judges = {trial.id: planned[trial.method].judge(trial) for trial in trials}  # all before anything is stored
    results, curves = [], []
    for trial in trials:
        curve, judge, ended = losses(trial), judges[trial.id], ROUNDS
        if judge is not None:
            ended = next((n for n in range(1, ROUNDS) if judge(curve[:n])), ROUNDS)
        points = np.zeros((len(CURVE_COLUMNS), ended), dtype="<f4")
        points[CURVE_COLUMNS.index("validation_loss")] = curve[:ended]
        done = {
            "status": "done" if ended == ROUNDS else "pruned",
            "value": curve[ended - 1],
            "measures": {"test_metric": 1 + curve[ended - 1]},
            "ledger": {"gradients": ended * STEP, "jvps": 0.0},
        }
        results.append(update(Trial).where(Trial.id == trial.id).values(**done))
        curves.append({"trial_id": trial.id, "data": points.tobytes()})
    with database.begin() as connection:
        for result in results:
            connection.execute(result)
        for values in curves:
            connection.execute(insert(Curve).values(**values))


def run(database: Engine) -> list[Plan]:
    """Run everything that becomes possible, generation by generation."""
    planned = plans(database, 1)
    for plan in planned:
        plan.begin()
    while ids := waiting(database):
        finish(database, {plan.method: plan for plan in planned}, ids)
        for plan in planned:
            plan.unlock()
    return planned


def spent(database: Engine) -> Counter[int]:
    bill = Counter[int]()
    for row in rows(database):
        if (row.method, row.phase) == ("a", "explore"):
            bill[row.block] += row.ledger["gradients"]
    return bill


@pytest.mark.parametrize("pruner", ["median", "hyperband", "successive-halving", "wilcoxon"])
def test_a_block_spends_no_more_than_its_trials_would_and_less_than_one_whole_trial_is_left(
    pruner: str, database: Engine
) -> None:
    begin(database, pruner=pruner)
    planned = run(database)
    mine = [row for row in rows(database) if row.method == "a"]
    explored = [row for row in mine if row.phase == "explore"]
    assert all(T * BUDGET - BUDGET < spent(database)[block] <= T * BUDGET for block in range(6))
    pruned = [row for row in explored if row.status == "pruned"]
    assert pruned and len(explored) >= 6 * T
    # A winner has run to its end, and is the best that has.
    winners = {
        r.block: min((e for e in explored if (e.block, e.status) == (r.block, "done")), key=lambda e: e.value)
        for r in explored
    }
    assert {row.block: row.parent for row in mine if row.phase == "confirm"} == {b: w.id for b, w in winners.items()}
    assert {row.status for row in mine} == {"done", "pruned"} and all(row.number >= GENERATION for row in pruned)
    # The random settings are those of a study without a pruner.
    assert all(row.params["x"] == sample({"x": Float(0.0, 1.0, 0.5)}, row.seed)["x"] for row in explored)
    (_, told) = tally(planned)
    counts = progress(load_study(database, "s")).query("method == 'a'").set_index("phase")
    assert told.done == told.total == counts["done"].sum() == counts["planned"].sum() == len(mine)


def test_spot_checks_repeat_a_share_of_the_pruned_trials_and_change_nothing_else(database: Engine) -> None:
    begin(database)
    run(database)
    mine = {row.id: row for row in rows(database) if row.method == "a"}
    checks = [row for row in mine.values() if row.phase == "spot-check"]
    pruned = [row for row in mine.values() if row.status == "pruned"]
    assert 0 < len(checks) < len(pruned)
    for row in checks:
        trial = mine[row.parent]
        assert trial.status == "pruned" and row.status == "done" and row.ledger["gradients"] == BUDGET
        assert (row.block, row.number, row.seed, row.params) == (trial.block, trial.number, trial.seed, trial.params)
    assert {row.parent for row in mine.values() if row.phase in ("confirm", "recommend")}.isdisjoint(
        row.id for row in [*checks, *pruned]
    )


@pytest.mark.parametrize("sampler", ["random", "tpe"])
def test_the_rows_do_not_depend_on_who_finishes_what_and_who_asks(sampler: str, database: Engine) -> None:
    begin(database, sampler, looks=(6, 7), pruner="hyperband")
    run(database)
    key = ("method", "phase", "block", "number", "seed", "value", "status")
    whole = sorted((*(getattr(r, name) for name in key), r.params["x"]) for r in rows(database))
    assert any(row[6] == "pruned" for row in whole)
    begin(database, sampler, looks=(6, 7), pruner="hyperband")
    with database.begin() as connection:
        connection.execute(Curve.__table__.delete())
    draw = random.Random(0)
    workers = [plans(database, 1) for _ in range(2)]
    while True:
        asked = [*workers, plans(database, 1)]  # one that has just arrived
        ids = waiting(database)
        finish(
            database,
            {plan.method: plan for plan in draw.choice(asked)},
            draw.sample(ids, min(len(ids), draw.choice([1, 10]))),
        )
        each = [plan for planned in asked for plan in planned]
        new = sum(plan.unlock() for plan in draw.sample(each, draw.choice([1, 3])))
        if not new and not waiting(database) and not sum(plan.unlock() for plan in each):
            break
    again = sorted((*(getattr(r, name) for name in key), r.params["x"]) for r in rows(database))
    assert again == whole


def test_the_verdict_rests_on_one_run_of_every_blocks_winner(database: Engine) -> None:
    begin(database)
    planned = run(database)
    confirmed = [row for row in rows(database) if (row.method, row.phase) == ("a", "confirm")]
    logs = np.log([row.measures["test_metric"] for row in confirmed])
    assert planned[1].monitor is not None
    of_plan = planned[1].monitor.arms(0)["a"][0]
    frames = load_study(database, "s")
    of_report = StudyArms(frames).arms("p", "a")[0]
    for arm in (of_plan, of_report):
        assert arm is not None and (arm.blocks, arm.runs) == (6, 6)
        assert float(arm.estimate) == pytest.approx(logs.mean())
        assert float(arm.variance) == pytest.approx(logs.var(ddof=1) / 6)
    blocks = frames.blocks[frames.blocks["method"] == "a"]
    assert list(blocks["confirm"]) == [row.id for row in sorted(confirmed, key=lambda row: row.block)]


def test_curvature_is_billed_and_rounding_loses_no_trial(database: Engine) -> None:
    """Bills of 0.1 + 0.2 kinds add up to a whole trial less a last digit."""
    from relaxbench.store.allowance import affordable

    assert affordable(12, 600, sum([599.9999999999999] * 3)) == 9
    assert affordable(12, 600, sum([600.0000000000001] * 11)) == 1
    assert [affordable(3, 100, cost) for cost in (0, 1, 100, 200.5, 300, 301)] == [3, 2, 2, 0, 0, 0]


def test_what_pruning_saved_and_lost_is_what_a_plain_count_says(database: Engine) -> None:
    begin(database, pruner="hyperband")
    run(database)
    mine = [row for row in rows(database) if row.method == "a"]
    explored = [row for row in mine if row.phase == "explore"]
    pruned = [row for row in explored if row.status == "pruned"]
    checks = [row for row in mine if row.phase == "spot-check"]
    best = {row.block: min(e.value for e in explored if (e.block, e.status) == (row.block, "done")) for row in explored}
    lost = [row for row in checks if row.value < best[row.block]]
    (found,) = prunings(load_study(database, "s"))
    assert (found.method, found.pruner, found.blocks) == ("a", "hyperband", 6)
    assert (found.trials, found.pruned, found.checks) == (len(explored), len(pruned), len(checks))
    assert found.saved == sum(BUDGET - row.ledger["gradients"] for row in pruned) > 0
    assert found.unspent == sum(T * BUDGET - cost for cost in spent(database).values())
    assert found.audit == BUDGET * len(checks) > 0
    checked, unlucky = {row.block for row in checks}, {row.block for row in lost}
    assert (found.lost, found.checked, found.kept) == (len(lost), len(checked), len(checked - unlucky))
    assert found.bound == pytest.approx(stats.beta.ppf(0.95, len(lost) + 1, len(checks) - len(lost)))
    assert f"kept the winner in {found.kept} of {len(checked)} block" in found.sentence

    # The course of the tuning: after each whole trial's gradients, the best that they have paid for.
    rows_ = incumbents(load_study(database, "s"), "p").query("method == 'a' and phase == 'explore'")
    for count, middle in zip(rows_["trials"], rows_["median"], strict=True):
        paid = []
        for block in range(6):
            bill, so_far = 0.0, math.inf
            for row in sorted((e for e in explored if e.block == block), key=lambda e: e.number):
                bill += row.ledger["gradients"]
                if bill <= count * BUDGET and row.status == "done":
                    so_far = min(so_far, row.value)
            paid.append(so_far)
        assert middle == pytest.approx(np.median(paid))
    assert list(rows_["pruned"])[-1] == len(pruned)


def test_a_trial_that_another_worker_finishes_meanwhile_is_no_reason_to_recommend_without_it(
    database: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The best trial of all ends between the two questions: are all gradients spent, and which trial is the best?"""
    begin(database)
    run(database)
    (plan,) = (each for each in plans(database, 1) if each.method == "a")
    best = plan.winner_of_complete_search()
    assert best is not None
    with database.begin() as connection:
        connection.execute(update(Trial).where(Trial.id == best.id).values(status="running"))
    late, asked = plans(database, 1), Plan.finished

    def meanwhile(self: Plan, phase: str, blocks: range | None = None) -> list[Any]:
        found = asked(self, phase, blocks)
        with database.begin() as connection:
            connection.execute(update(Trial).where(Trial.id == best.id).values(status="done"))
        return found

    monkeypatch.setattr(Plan, "finished", meanwhile)
    (plan,) = (each for each in late if each.method == "a")
    winner = plan.winner_of_complete_search()
    assert winner is None or winner.id == best.id
