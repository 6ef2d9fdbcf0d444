"""Studies of training scripts: whole, interrupted, killed and by two workers, the same bits; verdicts at the end."""

from __future__ import annotations

import io
import math
import os
import random
import subprocess
from multiprocessing.context import ForkServerContext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from relaxbench.analysis.findings import Findings
from relaxbench.analysis.frames import load_study
from relaxbench.loop import current, runs
from relaxbench.loop.job import Job
from relaxbench.loop.runs import Told
from relaxbench.loop.trial import Trial
from relaxbench.optim.rules.sgd import SGD
from relaxbench.problems import problem
from relaxbench.store.schema import Trial as Row
from relaxbench.study.definition.script_problem import LoopProblem
from relaxbench.study.definition.script_tryout import prepare_script
from relaxbench.study.definition.spec import StudySpec
from relaxbench.study.execution.script_trainer import result_of
from relaxbench.training.oracle import Oracle
from relaxbench.training.population import Population
from relaxbench.training.trial import Job as Task
from tests.loop import scripts
from tests.processes import Forked
from tests.study import tiny
from tests.study.results import study_row

SIX = {"looks": [6], "trials": 2}


@pytest.fixture(scope="module")
def script(tmp_path_factory: pytest.TempPathFactory) -> str:
    return scripts.write(tmp_path_factory.mktemp("script"))


@pytest.fixture(scope="module")
def whole(script: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a study of the script, run without an interruption."""
    folder = tmp_path_factory.mktemp("whole")
    tiny.run(folder, scripts.spec(script, **SIX))
    return folder


def test_a_study_of_a_script_ends_with_verdicts(whole: Path, script: str) -> None:
    rows = tiny.rows(whole)
    assert len(rows) == tiny.expected(scripts.spec(script, **SIX)) and {row.status for row in rows} == {"done"}
    frames = load_study(tiny.opened(whole))
    findings = Findings.of(frames)
    (other,) = [result for result in findings.results if result.method == "other"]
    assert other.against("baseline").verdict in ("better", "worse", "equivalent", "undecided")
    manifest = study_row(whole).manifest
    assert manifest["engines"]["descent"]["path"] == "script"
    assert "What it bills" in manifest["problems"]["descent"]["caution"]
    assert all(
        cost["seconds_per_gradient"] > 0 for m in manifest["methods"].values() for cost in m["calibration"].values()
    )


def test_the_numbers_of_a_trial_are_those_of_the_script(whole: Path) -> None:
    """Recomputed here, from the params and the seed of each row."""
    tested = 0
    for row in tiny.rows(whole):
        random.seed(row.seed % 2**32)
        x = random.gauss(0, 1) + 3
        for _ in range(40):
            x -= row.params["lr"] * (x + random.gauss(0, 0.1))
        if row.params["lr"] > 0.6:
            assert row.diverged and row.value == row.measures["validation_metric"] == 100.0
            continue
        assert not row.diverged and row.ledger["gradients"] == 40
        assert row.value == row.measures["validation_loss"] == row.measures["validation_metric"] == x * x + 0.01
        assert ("test_metric" in row.measures) == (row.phase in ("confirm", "recommend"))
        if "test_metric" in row.measures:
            assert row.measures["test_metric"] == x * x + 0.02
            tested += 1
    assert tested > 10
    assert any(row.diverged for row in tiny.rows(whole))


def test_an_interrupted_study_has_the_same_bits(whole: Path, script: str, tmp_path: Path) -> None:
    sessions = 1
    while tiny.run(tmp_path, scripts.spec(script, **SIX), tiny.After(25)).stopped:
        sessions += 1
    assert 2 <= sessions <= 20
    assert tiny.results(tmp_path) == tiny.results(whole)
    assert not list((tmp_path / "checkpoints").glob("*.pt"))


class ForkedHost(Forked):
    """A host of scripts that has imported PyTorch when it begins."""

    def __init__(self, arguments: list[str], *, env: dict[str, str], **_: object) -> None:
        pipe = subprocess.PIPE
        with open(os.devnull, "wb") as nowhere:
            super().__init__(arguments[1:], env=env, stdin=pipe, stdout=pipe, stderr=nowhere)
        assert isinstance(self.stdin, io.TextIOWrapper) and isinstance(self.stdout, io.TextIOWrapper)
        self.stdin, self.stdout = self.stdin.detach(), self.stdout.detach()  # bytes, as the hosts speak


@pytest.fixture
def forked_hosts(monkeypatch: pytest.MonkeyPatch) -> list[ForkedHost]:
    """The hosts after the first one, which tries the script out and imports what it imports, as a person's does."""
    begun: list[Any] = []

    def start(arguments: list[str], **options: Any) -> Any:
        begun.append((ForkedHost if begun else subprocess.Popen)(arguments, **options))
        return begun[-1]

    monkeypatch.setattr(runs, "subprocess", SimpleNamespace(**vars(subprocess) | {"Popen": start}))
    return begun


def test_a_script_with_the_documented_checkpoint_is_studied(tmp_path: Path, forked_hosts: list[ForkedHost]) -> None:
    summary = tiny.run(tmp_path, scripts.spec(scripts.write(tmp_path, scripts.that_saves())), retries=0)
    assert summary.missing == 0 and {row.status for row in tiny.rows(tmp_path)} == {"done"}
    assert not list((tmp_path / "checkpoints").glob("*.pt"))
    assert [type(host) for host in forked_hosts] == [subprocess.Popen, ForkedHost, ForkedHost]


def test_two_workers_after_one_that_was_killed_give_the_same_bits(
    whole: Path, script: str, tmp_path: Path, processes: ForkServerContext
) -> None:
    study = scripts.spec(script, **SIX)
    killed, *workers = [
        processes.Process(target=tiny.victim, args=(str(tmp_path), study, when, 12))
        for when in ("round", "never", "never")
    ]
    killed.start()
    killed.join(60)
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert [killed.exitcode, *(worker.exitcode for worker in workers)] == [-9, 0, 0]
    assert tiny.results(tmp_path) == tiny.results(whole)
    assert len({row.worker for row in tiny.rows(tmp_path)}) >= 2


def test_a_pruner_stops_trials_where_the_script_asks_and_bills_what_they_took(tmp_path: Path) -> None:
    ask = "        if trial.should_prune():\n            break\n"
    text = scripts.QUADRATIC.replace("training=abs(x))\n", f"training=abs(x))\n{ask}")
    search = {"pruner": "median", "generation": 2, "spot_checks": 0.5}
    method = {"one": {"space": {"lr": [1e-3, 0.5]}}, "other": {"fixed": {"lr": 0.5}, "search": {"pruner": "none"}}}
    study = scripts.spec(scripts.write(tmp_path, text), trials=4, exploit=0, recommend=0, search=search, method=method)
    folders = [tmp_path / "whole", tmp_path / "parts"]
    for folder in folders:
        folder.mkdir()
    tiny.run(folders[0], study)
    while tiny.run(folders[1], study, tiny.After(12)).stopped:
        pass
    assert tiny.results(folders[0]) == tiny.results(folders[1])
    rows = tiny.rows(folders[0])
    pruned = [row for row in rows if row.status == "pruned"]
    assert pruned and {row.method for row in pruned} == {"one"}
    for row in rows:
        assert row.ledger["gradients"] in ((10, 20, 30) if row.status == "pruned" else (40,))
        random.seed(row.seed % 2**32)  # a pruned trial is the beginning of a whole one
        x = random.gauss(0, 1) + 3
        for _ in range(int(row.ledger["gradients"])):
            x -= row.params["lr"] * (x + random.gauss(0, 0.1))
        assert row.value == x * x + 0.01
    for block in range(2):
        spent = [r.ledger["gradients"] for r in rows if (r.method, r.phase, r.block) == ("one", "explore", block)]
        assert 120 < sum(spent) <= 160
    checks = [row for row in rows if row.phase == "spot-check"]
    assert {row.parent for row in checks} <= {row.id for row in pruned} and all(r.status == "done" for r in checks)
    assert {row.parent for row in rows if row.phase == "confirm"}.isdisjoint(row.id for row in pruned)


def test_a_trial_that_fails_is_said_and_given_up_and_the_others_go_on(tmp_path: Path) -> None:
    text = scripts.QUADRATIC.replace(
        "x = random", "assert trial.purpose == 'try-out' or trial.params['lr'] == 0.5\nx = random"
    )
    lines: list[str] = []
    summary = tiny.run(tmp_path, scripts.spec(scripts.write(tmp_path, text)), retries=1, announce=lines.append)
    failed = [line for line in lines if " failed: " in line]
    assert len(failed) == 1 and "of one failed: AssertionError (line 6 of descent.py)" in failed[0]
    by_method: dict[str, set[str]] = {}
    for row in tiny.rows(tmp_path):
        by_method.setdefault(row.method, set()).add(row.status)
    assert by_method["other"] == {"done"} and "failed" in by_method["one"] and "done" not in by_method["one"]
    assert summary.failed and summary.code == 3


def test_an_iteration_of_several_gradients_fits_into_a_try_out(tmp_path: Path) -> None:
    text = scripts.QUADRATIC.replace("trial.left:", "trial.left >= 2:").replace("gradients=1", "gradients=2")
    (task,) = prepare_script(scripts.spec(scripts.write(tmp_path, text)))
    assert isinstance(task, LoopProblem) and set(task.measured) == {"one", "other"}


def test_bills_beyond_the_budget_are_said(tmp_path: Path) -> None:
    text = scripts.QUADRATIC.replace("gradients=1", "gradients=30")
    lines: list[str] = []
    tiny.run(tmp_path, scripts.spec(scripts.write(tmp_path, text)), announce=lines.append)
    assert sum("billed 60 gradients, more than the budget of 40" in line for line in lines) == 2  # once per method
    warnings = Findings.of(load_study(tiny.opened(tmp_path))).cautions
    assert sum("its runs billed 150 % of their budget" in line for line in warnings) == 2


def test_an_edited_script_is_refused(tmp_path: Path) -> None:
    from relaxbench.errors import UserError

    study = scripts.spec(scripts.write(tmp_path, "import helper\n" + scripts.QUADRATIC))
    (tmp_path / "helper.py").write_text("ONE = 1\n")
    tiny.run(tmp_path, study, tiny.After(3))
    (tmp_path / "helper.py").write_text("ONE = 2\n")
    with pytest.raises(UserError, match=r"`descent\.py`: the text of helper\.py \(compared as a whole\) \w+, was \w+"):
        tiny.run(tmp_path, study)


SGD_ON_RUGGED = """
import torch
import relaxbench
from relaxbench.problems import problem

trial, own = relaxbench.trial(), problem("rugged-1d")
x = own.init(trial.seed).requires_grad_()
optimizer = torch.optim.SGD([x], lr=trial.params["lr"], momentum=trial.params["momentum"], nesterov=True)


def loss_of(x):
    return (x**2 / 40 + 1 - torch.cos(2 * x)).sum()


while trial.left:
    optimizer.zero_grad()
    loss = loss_of(x)
    loss.backward()
    optimizer.step()
    trial.bill()
    if trial.due():
        trial.report(validation=loss_of(x.detach()), training=loss.detach())
trial.test(lambda: loss_of(x.detach()))
"""


def test_sgd_as_a_script_is_the_built_in_sgd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    params: dict[str, Any] = {"lr": 0.01, "momentum": 0.8, "weight_decay": 0.0, "schedule": "constant"}
    own, outcomes = problem("rugged-1d"), list[Any]()
    jobs = [Task(1, 5, params, test=True)]
    Population(Oracle(own, "direct"), SGD(), 60).run(lambda free: [jobs.pop()] if jobs else [], outcomes.extend, 1)
    told = Told()
    monkeypatch.setattr(current, "_given", Trial(Job("sgd", params, 5, 60, "confirm", reports=4), told.take))
    exec(compile(SGD_ON_RUGGED, "script.py", "exec"), {})
    described = LoopProblem(scripts.spec(scripts.write(tmp_path)).script, str(tmp_path / "descent.py"))
    row = Row(id=1, token=1, phase="confirm", params=params, seed=5)
    result = result_of(row, told, described)
    assert math.isfinite(outcomes[0].value)
    assert result.value == pytest.approx(outcomes[0].value, rel=1e-5)
    assert result.measures["test_metric"] == pytest.approx(outcomes[0].measures["test_loss"], rel=1e-5)
    curve = tiny.curve(result.curve)
    assert curve[0].tolist() == [15, 30, 45, 60] and torch.equal(torch.tensor(curve[2]), torch.tensor(curve[3]))


def test_the_distance_to_the_best_is_compared(tmp_path: Path) -> None:
    """An accuracy of 0.8 is an error of 0.2; one that diverged, of 1."""
    table = {"metric": "accuracy", "direction": "maximize", "best": 1.0, "worst": 0.0, "unit": "%", "scale": 100}
    study: StudySpec = scripts.spec(scripts.write(tmp_path), script=table)
    own = LoopProblem(study.script, str(tmp_path / "descent.py"))
    assert own.metric == "accuracy below 100 %" and own.worst_metric == own.worst == 1.0
    row = Row(id=1, token=1, phase="confirm", params={}, seed=5)
    told = Told([{"gradients": 40, "validation": 0.8, "training": math.nan}], test=0.7, tested=True, billed=40)
    result = result_of(row, told, own)
    assert result.value == pytest.approx(0.2) and result.measures["test_metric"] == pytest.approx(0.3)
    told.diverged = True
    lost = result_of(row, told, own)
    assert lost.value == lost.measures["test_metric"] == 1.0 and lost.diverged


def test_the_test_data_are_read_in_no_trial_of_a_search(tmp_path: Path) -> None:
    allowed = "if trial.purpose in ('try-out', 'confirm', 'recommend') else 1 / 0"
    text = scripts.QUADRATIC.replace("x * x + 0.02", f"x * x + 0.02 {allowed}")
    lines: list[str] = []
    summary = tiny.run(tmp_path, scripts.spec(scripts.write(tmp_path, text)), retries=0, announce=lines.append)
    assert summary.missing == 0 and not any("failed" in line for line in lines)
