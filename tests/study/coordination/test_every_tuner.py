"""Every sampler beside every pruner: rows, ledgers and what is stated agree, and a block never takes more than its own.

All are methods of one study, whose curves are simulated, see `test_pruned_plan`.
"""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest

from relaxbench.analysis.frames import load_study
from relaxbench.analysis.pruning import Pruning, prunings
from relaxbench.space import Float, to_stored
from relaxbench.store.allowance import bills
from relaxbench.store.database import open_database
from relaxbench.study.coordination.plan import plans
from tests.study.coordination.test_plan import rows, waiting
from tests.study.coordination.test_pruned_plan import BUDGET, GENERATION, T, begin_with, finish, run

BLOCKS = 2
SAMPLERS = ("random", "tpe", "gp", "cmaes", "qmc", "optuna.samplers:RandomSampler")
PRUNERS = ("none", "hyperband", "successive-halving", "median", "wilcoxon", "optuna.pruners:PercentilePruner")
Study = tuple[list[Any], dict[tuple[str, int], float], dict[str, Pruning]]
OPTIONS = {"optuna.pruners:PercentilePruner": {"percentile": 25.0, "n_startup_trials": 1}}


def facts(sampler: str, pruner: str) -> dict[str, Any]:
    """A method with two dimensions, of which CMA-ES needs more than one."""
    search: dict[str, Any] = {"sampler": sampler, "options": {}, "generation": GENERATION}
    if pruner != "none":
        search["pruner"] = {"name": pruner, "options": OPTIONS.get(pruner, {}), "spot_checks": 0.2}
    return {"search": search, "space": to_stored({name: Float(0.0, 1.0, 0.5) for name in "xy"})}


@pytest.fixture(scope="module")
def study(
    tmp_path_factory: pytest.TempPathFactory,
) -> Study:
    """The trials of all searches; the gradients of every block as the plan knows them; what is stated of pruners."""
    pytest.importorskip("cmaes", reason="CMA-ES needs the package cmaes (relaxbench[samplers])")
    database = open_database(str(tmp_path_factory.mktemp("tuners") / "study.db"))
    tuners = {f"{sampler}+{pruner}": facts(sampler, pruner) for sampler in SAMPLERS for pruner in PRUNERS}
    begin_with(database, {"sgd": {}, **tuners}, (BLOCKS,))
    run(database)
    with database.connect() as connection:
        known = {(row.method, row.block): row[-1] for row in connection.execute(bills())}
    explored = [row for row in rows(database) if row.phase == "explore"]
    stated = {entry.method: entry for entry in prunings(load_study(database, "s"))}
    database.dispose()
    return explored, known, stated


@pytest.mark.parametrize("pruner", PRUNERS)
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_what_is_billed_and_what_is_left_are_all_gradients(sampler: str, pruner: str, study: Study) -> None:
    explored, known, stated = study
    method = f"{sampler}+{pruner}"
    mine = [row for row in explored if row.method == method]
    billed = [sum(row.ledger["gradients"] for row in mine if row.block == block) for block in range(BLOCKS)]
    assert [known[method, block] for block in range(BLOCKS)] == billed
    if pruner == "none":
        assert len(mine) == BLOCKS * T and set(billed) == {T * BUDGET} and method not in stated
        return
    entry = stated[method]
    assert sum(billed) + entry.unspent == BLOCKS * T * BUDGET and entry.blocks == BLOCKS
    assert all(0 <= T * BUDGET - cost < BUDGET for cost in billed)
    assert entry.pruned == sum(row.status == "pruned" for row in mine)
    assert entry.trials == len(mine) >= BLOCKS * T
    assert not entry.unspent or f"{entry.unspent:,.0f} gradients stay unspent" in entry.sentence


@pytest.mark.parametrize("pruner", PRUNERS[1:])
def test_every_pruner_stops_trials_of_most_samplers(pruner: str, study: Study) -> None:
    _, _, stated = study
    assert sum(stated[f"{sampler}+{pruner}"].pruned > 0 for sampler in SAMPLERS) > len(SAMPLERS) / 2


def test_every_tuner_goes_on_after_an_interruption_as_if_there_had_been_none(study: Study, tmp_path: Path) -> None:
    """A session ends after every few trials, and the next one knows nothing but the rows."""
    pairs = list(zip(SAMPLERS, (*PRUNERS[1:], "none"), strict=True))
    methods = {f"{sampler}+{pruner}": facts(sampler, pruner) for sampler, pruner in pairs}
    database, draw = open_database(str(tmp_path / "study.db")), random.Random(0)
    begin_with(database, {"sgd": {}, **methods}, (BLOCKS,))
    while True:
        planned = plans(database, 1)
        for plan in planned:
            plan.begin()
            plan.unlock()
        ids = waiting(database)
        if not ids:
            break
        finish(database, {plan.method: plan for plan in planned}, draw.sample(ids, min(len(ids), 12)))
    explored, _, _ = study
    again = [row for row in rows(database) if row.phase == "explore" and row.method in methods]
    database.dispose()

    def told(found: list[Any]) -> list[Any]:
        keys = ("method", "block", "number", "seed", "params", "value", "status", "ledger")
        return sorted(tuple(str(getattr(row, key)) for key in keys) for row in found)

    assert {row.status for row in again} == {"done", "pruned"}
    assert told(again) == told([row for row in explored if row.method in methods])
