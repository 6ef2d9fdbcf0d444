"""What a training script sees of its trial."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import relaxbench
from relaxbench.errors import UserError
from relaxbench.loop.job import Job
from relaxbench.loop.trial import Trial, TrialOver
from relaxbench.problems import problem
from tests import processes
from tests.loop import scripts


def make(budget: float = 10, **about: Any) -> tuple[Trial, list[dict[str, Any]]]:
    told: list[dict[str, Any]] = []
    return Trial(
        Job("sgd", {"lr": 0.1}, budget=budget, **{"reports": 4, "limit": 2 * budget, **about}), told.append
    ), told


def test_a_budget_is_spent_by_bills_and_says_when_to_report() -> None:
    trial, told = make(budget=10)
    asked = []
    while trial.left:
        more = trial.bill(gradients=1)
        assert more == (trial.left > 0)
        if trial.due():
            asked.append(trial.billed)
            trial.report(validation=trial.billed)
    assert asked == [3, 5, 8, 10]  # after a quarter, a half, three quarters (2.5, 5, 7.5), and at the end
    assert [message["gradients"] for message in told if message["kind"] == "report"] == asked


def test_steps_that_do_not_fit_the_budget_end_with_a_report_too() -> None:
    trial, _ = make(budget=10)
    while trial.left:
        trial.bill(gradients=4)
        if trial.due():
            trial.report(validation=1.0)
    assert trial.billed == 12 and not trial.due()


def test_fractions_of_gradients_add_up() -> None:
    trial, _ = make(budget=2)
    assert [trial.bill(gradients=0.5) for _ in range(4)] == [True, True, True, False]


def test_a_pruned_trial_neither_bills_nor_reports_nor_tests() -> None:
    answers = iter([False, False, True])
    told: list[dict[str, Any]] = []
    trial = Trial(Job("sgd", budget=10, reports=5, judged=True), told.append, lambda: next(answers))
    stops = []
    for _ in range(3):
        trial.bill()
        stops.append(trial.should_prune())  # nothing is asked before there is a report
        trial.report(validation=1.0)
        if trial.should_prune():
            break
    assert stops == [False, False] and trial.billed == 2 and trial.should_prune()
    assert [message["waits"] for message in told if message["kind"] == "ask"] == [False, True, True, True]
    for refused in (trial.bill, lambda: trial.report(validation=1.0)):
        with pytest.raises(RuntimeError, match=r"comes after trial.should_prune\(\) was true: end the script there"):
            refused()
    assert trial.test(lambda: pytest.fail("measured")) is None


def test_nothing_is_pruned_without_a_pruner_or_at_the_end() -> None:
    def fail() -> bool:
        pytest.fail("asked")

    for budget, judged in ((1, True), (10, False)):
        told: list[dict[str, Any]] = []
        trial = Trial(Job("sgd", budget=budget, judged=judged), told.append, fail)
        trial.bill()
        trial.report(validation=1.0)
        assert not trial.should_prune() and told[-1] == {"kind": "ask", "waits": False}


@pytest.mark.parametrize("gradients", [0, -1, math.nan, math.inf])
def test_a_bill_is_a_positive_number(gradients: float) -> None:
    with pytest.raises(ValueError, match=r"trial\.bill\(gradients=\S+\): expected a positive number"):
        make()[0].bill(gradients=gradients)


@pytest.mark.parametrize(
    ("value", "shown"), [([1.0], "list"), ("0.1", "str"), (True, "bool"), (torch.zeros(2), r"Tensor of shape \(2,\)")]
)
def test_a_report_is_a_number(value: Any, shown: str) -> None:
    with pytest.raises(TypeError, match=rf"trial\.report\(validation=…\): expected a number, got {shown}"):
        make()[0].report(validation=value)


@pytest.mark.parametrize("value", [torch.tensor(0.5), np.float32(0.5), np.array(0.5), 0.5])
def test_numbers_of_all_frameworks_are_taken(value: Any) -> None:
    trial, told = make()
    trial.report(validation=value)
    assert told[0]["validation"] == 0.5


@pytest.mark.parametrize(
    "report", [{"validation": math.nan}, {"validation": math.inf}, {"validation": 1, "loss": math.nan}]
)
def test_a_report_that_is_not_finite_ends_the_script(report: dict[str, float]) -> None:
    trial, told = make()
    trial.bill()
    with pytest.raises(TrialOver):
        trial.report(**report)
    assert not issubclass(TrialOver, Exception)  # a careful script does not catch it
    assert told[-1] == {"kind": "diverged", "gradients": 1.0}


def test_the_test_split_is_read_only_where_the_study_does_and_ends_the_run() -> None:
    trial, told = make(tested=False)
    assert trial.test(lambda: pytest.fail("not to be read")) is None
    assert told == [{"kind": "test"}]
    for late in (trial.bill, lambda: trial.report(validation=1.0), lambda: trial.test(lambda: 1.0)):
        with pytest.raises(RuntimeError, match=r"after trial\.test"):
            late()
    trial, told = make(tested=True)
    assert trial.test(lambda: torch.tensor(0.25)) == 0.25 == told[0]["value"]


def test_a_loop_without_an_end_is_ended_after_two_budgets() -> None:
    trial, _ = make(budget=10)
    for _ in range(21):
        trial.bill()
    with pytest.raises(RuntimeError, match="budget of 10 gradients was spent long ago"):
        trial.bill()


def test_a_trial_goes_on_from_its_own_state() -> None:
    trial, _ = make(budget=8)
    for _ in range(5):
        trial.bill()
        if trial.due():
            trial.report(validation=trial.billed)
    again, told = make(budget=8)
    again.load_state_dict(trial.state_dict())
    assert again.billed == 5 and [p["gradients"] for p in told[0]["curve"]] == [2, 4]
    again.bill()
    assert again.due()


def test_alone_a_script_prints_what_it_reports(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    exec(compile(scripts.QUADRATIC, "descent.py", "exec"), {})
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 22 and lines[-1] == "done"
    assert lines[0].startswith("2 gradients: training ") and lines[-2].startswith("test 0.0")


def test_alone_the_documented_checkpoint_is_a_file_that_ends_with_the_script(tmp_path: Path) -> None:
    path = scripts.write(tmp_path, scripts.that_saves() + "print(trial.checkpoint_path)\n")
    done = processes.run([path], cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    file = Path(done.stdout.splitlines()[-1])
    assert file.is_absolute() and not file.parent.exists()
    assert sorted(tmp_path.iterdir()) == [Path(path)]  # nothing where the script ran


def test_alone_every_trial_has_a_checkpoint_of_its_own() -> None:
    one, other = relaxbench.trial(), relaxbench.trial()
    assert one.checkpoint_path == one.checkpoint_path != other.checkpoint_path
    assert one.checkpoint_path.parent.is_dir() and not one.checkpoint_path.exists()


def test_alone_a_script_takes_the_middle_of_a_study_files_ranges(tmp_path: Path) -> None:
    file = tmp_path / "loop.toml"
    file.write_text(scripts.TOML)
    trial = relaxbench.trial(study=file)
    assert (trial.method, trial.budget) == ("one", 40)
    assert trial.params == {"lr": pytest.approx(math.sqrt(1e-3 * 2.0))}
    assert relaxbench.trial(method="other", study=file).params == {"lr": 0.5}
    with pytest.raises(UserError, match=r"unknown method in .*did you mean 'other'"):
        relaxbench.trial(method="othr", study=file)


@pytest.mark.parametrize(
    ("arguments", "kind", "words"),
    [
        ({"budget": -1}, ValueError, "budget=…): expected a positive number of gradients, such as 300, got -1"),
        ({"budget": math.inf}, ValueError, "budget=…): expected a positive number of gradients, such as 300, got inf"),
        ({"budget": "x"}, TypeError, "budget=…): expected a positive number of gradients, such as 300, got 'x'"),
        ({"method": 3}, TypeError, 'method=…): expected the label of a method, such as "adam", got 3'),
        ({"seed": 1.5}, TypeError, "seed=…): expected a whole number from 0 to 2³² − 1, got 1.5"),
        ({"seed": "x"}, TypeError, "seed=…): expected a whole number from 0 to 2³² − 1, got 'x'"),
        ({"seed": True}, TypeError, "seed=…): expected a whole number from 0 to 2³² − 1, got True"),
        ({"seed": -1}, ValueError, "seed=…): expected a whole number from 0 to 2³² − 1, got -1"),
        ({"seed": 2**40}, ValueError, "seed=…): expected a whole number from 0 to 2³² − 1, got 1099511627776"),
        ({"params": [1]}, TypeError, 'params=…): expected values by name, such as {"lr": 0.1}, got a list of 1'),
        ({"study": 3}, TypeError, 'study=…): expected the path of a study file, such as "study.toml", got 3'),
    ],
)
def test_a_wrong_argument_is_named_in_a_line(arguments: dict[str, Any], kind: type[Exception], words: str) -> None:
    with pytest.raises(kind) as refused:
        relaxbench.trial(**arguments)
    assert str(refused.value) == f"relaxbench.trial({words}"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('name = "small"\nproblems = ["digits-mlp"]\n', "has no table [script], so it is of no script"),
        (scripts.TOML.replace("budget = 40", "budget = -4"), ": budget: expected a positive number of gradients"),
    ],
)
def test_a_study_file_of_something_else_is_refused(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "small.toml").write_text(text)
    with pytest.raises(UserError) as refused:
        relaxbench.trial(study=tmp_path / "small.toml")
    assert words in str(refused.value) and "small.toml" in str(refused.value) and "\n" not in str(refused.value)


def test_numbers_of_numpy_are_arguments_and_a_trial_is_shown_in_a_line() -> None:
    trial = relaxbench.trial("adam", budget=np.float32(30), seed=np.int64(3))
    trial.bill()
    assert (trial.seed, repr(trial)) == (3, "<trial of 'adam' (plain): 1 of 30 gradients>")
    assert repr(problem("rugged-1d")) == "<problem 'rugged-1d'>"


def test_the_global_generators_are_seeded() -> None:
    def draws(seed: int) -> tuple[float, ...]:
        import random

        relaxbench.trial(seed=seed)
        return random.random(), float(np.random.rand()), float(torch.rand(()))

    assert draws(3) == draws(3) != draws(4)
