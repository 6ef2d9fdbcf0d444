"""All measurements of a study cost at most a quarter of its training: counted in ledgers, and by hand."""

from __future__ import annotations

import itertools
import math
from pathlib import Path
from typing import Any

import pytest

from relaxbench.errors import UserError
from relaxbench.problems import problem
from relaxbench.store.facts import Manifest
from relaxbench.study.coordination.manifest import edit_manifest, read_manifest
from relaxbench.study.coordination.size import Size
from relaxbench.study.definition.flatness_share import affordable_flatness
from tests.study import tiny


def small(**changes: Any) -> Any:
    usual = {"problems": ["digits-mlp"], "methods": ["sgd"], "looks": [1], "trials": 1, "exploit": 0, "recommend": 1}
    return tiny.spec(**{**usual, "budget": 40, **changes})


def share(sizes: list[tuple[int, int, int, int]], budget: int, rounds: int, examples: int, runs: int) -> float:
    """The share on digits, written out: 360 validation and 359 test examples, 64 per gradient, 351 passes per example.

    Sizes are blocks, trials per block, those of TPE, and recommended runs. All trials of blocks count, and as many
    recommended runs are measured as winners of blocks, whether they pay for themselves or not.
    """
    training = measurement = 0.0
    for blocks, trials, *_ in sizes:
        confirmed = tiny.best(blocks, trials) if trials else blocks
        count = blocks * trials + confirmed
        training += count * budget
        passes = count * rounds * 360 + confirmed * 359
        passes += runs * (2 if trials else 1) * examples * (3 + 58 * 6)
        measurement += passes / 3 / 64
    return measurement / training


def test_as_many_examples_as_a_quarter_pays_for_then_fewer_runs_then_none() -> None:
    """Against the share written out, for studies from rich to poor, with and without methods as published."""
    seen = set()
    for budget, blocks, trials, published in itertools.product((20, 200, 600, 5000), (2, 10), (1, 4, 12), (0, 2)):
        task = problem("digits-mlp")
        task.budget = budget
        sizes = [(blocks, trials, 4, 5)] * 2 + [(blocks, 0, 0, 0)] * published
        found = affordable_flatness(task, budget, [Size(0, (b, 40), t, e, r) for b, t, e, r in sizes])
        examples, runs = found["examples"], found["runs"]
        cost = lambda n, r: share(sizes, budget, task.rounds, n, r)  # noqa: B023, E731
        wanted = blocks
        if not runs:
            assert examples == 0 and cost(256, min(3, blocks)) > 0.25
            seen.add("none")
            continue
        assert 256 <= examples <= 1024 and min(3, wanted) <= runs <= wanted and cost(examples, runs) <= 0.25
        assert examples == 1024 or cost(examples + 1, runs) > 0.25
        assert runs == wanted or cost(256, runs + 1) > 0.25
        seen.add("all" if (examples, runs) == (1024, wanted) else "fewer examples" if runs == wanted else "fewer runs")
    assert seen == {"all", "fewer examples", "fewer runs", "none"}


FEW = """
import torch
from relaxbench.problems import SupervisedProblem
x = torch.randn(700, 2, generator=torch.Generator().manual_seed(0))
parts = {"train": slice(0, 600), "validation": slice(600, 650), "test": slice(650, 700)}
data = {name: (x[rows], (x[rows, 0] > 0).long() + (x[rows, 1] > 0).long()) for name, rows in parts.items()}
problem = SupervisedProblem("few", lambda: torch.nn.Linear(2, 3), lambda: data, batch_size=64)
"""
"""A model of 9 parameters, whose Hessian is computed in full."""


@pytest.mark.usefixtures("steady")
def test_the_ledgers_of_a_study_add_up_to_a_quarter_and_no_more(tmp_path: Path) -> None:
    (tmp_path / "few.py").write_text(FEW)
    s = small(problems=[str(tmp_path / "few.py")], looks=[3], trials=2, recommend=3, budget=250)
    tiny.run(tmp_path, s, population=8)
    rows = tiny.rows(tmp_path)
    bills = [sum(row.ledger[key] for row in rows) for key in ("gradients", "measurement")]
    assert 0.19 < bills[1] / bills[0] <= 0.25  # the recommended runs train too
    assert sum("hessian_top" in row.measures for row in rows) == 6
    database = tiny.opened(tmp_path)
    stored = read_manifest(database, 1)["flatness"]["few"]
    database.dispose()
    assert stored["runs"] == 3 and 256 <= stored["examples"] < 600
    tested = [row.ledger["measurement"] for row in rows if row.phase == "confirm"]
    assert max(tested) - min(tested) == pytest.approx(stored["examples"] * (3 + 9 * 6) / 3 / 64)


@pytest.mark.usefixtures("steady")
def test_the_first_runs_are_measured_and_the_numbers_stay_when_a_study_grows(tmp_path: Path) -> None:
    s = small(looks=[2], recommend=2, flatness=False)
    study = tiny.run(tmp_path, small(looks=[2], recommend=0, flatness=False)).study
    database = tiny.open_database(str(tmp_path / "study.db"))
    edit_manifest(database, study, lambda manifest: manifest["flatness"].update({"digits-mlp": NUMBERS}))
    tiny.run(tmp_path, s.model_copy(update={"flatness": True}))
    assert read_manifest(database, study)["flatness"]["digits-mlp"] == NUMBERS
    database.dispose()
    flat = [(row.phase, row.number) for row in tiny.rows(tmp_path) if "hessian_top" in row.measures]
    assert flat == [("recommend", 0)]
    with pytest.raises(UserError, match=r'flatness = "full": study .tiny. has measured flatness on 7 examples'):
        tiny.run(tmp_path, s.model_copy(update={"flatness": "full"}))


NUMBERS: Any = {"examples": 7, "runs": 1}


@pytest.mark.usefixtures("steady")
def test_what_a_study_cannot_pay_for_is_left_out_with_a_line_unless_it_is_asked_for(tmp_path: Path) -> None:
    for flatness, measured in ((True, 0), ("full", 2)):
        said: list[str] = []
        folder = tmp_path / str(flatness)
        folder.mkdir()
        tiny.run(folder, small(flatness=flatness), announce=said.append)
        rows = tiny.rows(folder)
        assert sum("hessian_top" in row.measures for row in rows) == measured
        lines = [line for line in said if line.startswith("digits-mlp: flatness is left out")]
        assert len(lines) == (not measured) and all('flatness = "full"' in line for line in lines)


@pytest.mark.usefixtures("steady")
def test_a_study_that_began_before_numbers_were_stored_goes_on_in_full(tmp_path: Path) -> None:
    tiny.run(tmp_path, small(recommend=0, flatness=False))
    database = tiny.open_database(str(tmp_path / "study.db"))

    def forget(manifest: Manifest) -> None:
        del manifest["flatness"]  # as of a study that began when nothing was stored

    edit_manifest(database, 1, forget)
    tiny.run(tmp_path, small())
    (row,) = [row for row in tiny.rows(tmp_path) if row.phase == "recommend"]
    assert "flatness" not in read_manifest(database, 1)
    database.dispose()
    plain = math.ceil(40 / 5) * 360 + 359
    assert row.ledger["measurement"] * 3 * 64 == pytest.approx(1024 * 351 + plain, rel=0.02)
