"""`best`: its code runs, its settings are those of the best trial, its weights repeat the result."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

from relaxbench.analysis.frames import StudyFrames, load_study
from relaxbench.cli import best
from relaxbench.cli.main import main
from relaxbench.errors import UserError
from relaxbench.optim.drop_in.classes import DROP_INS
from relaxbench.optim.registry import RULES
from relaxbench.problems.digits import digits_mlp, mlp
from relaxbench.problems.registry import from_file
from relaxbench.store.database import open_database
from tests.cli.commands import printed, refused, rows
from tests.loop import scripts
from tests.study import tiny
from tests.synthetic import Writer, manifest, spec

pytestmark = pytest.mark.usefixtures("folder")


@pytest.mark.parametrize("method", [name for name, rule in RULES.items() if not rule.compares_losses])
def test_best_prints_code_that_runs(
    method: str, capsys: pytest.CaptureFixture[str], storage: str, tmp_path: Path
) -> None:
    """Pasted into a training loop: it takes a step on a real model; the weights load into it and repeat the result."""
    out = printed(capsys, "best", "small", method, "--storage", storage, "--weights", "best.pt")
    torch.manual_seed(0)
    model = mlp()
    names: dict[str, Any] = {"model": model}
    exec(out, names)
    optimizer, start = names["optimizer"], [p.detach().clone() for p in model.parameters()]
    batch = digits_mlp().split("train", torch.device("cpu"))

    def backward() -> float:
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(model(batch["x"][:64]), batch["y"][:64])
        torch.autograd.backward(loss)
        return loss.item()

    for _ in range(optimizer.total_steps):
        if RULES[method].curvature:
            optimizer.step(
                lambda: model(batch["x"][:64]), lambda out: torch.nn.functional.cross_entropy(out, batch["y"][:64])
            )
        elif optimizer.closures:
            optimizer.step(backward)
        else:
            backward()
            optimizer.step()
    optimizer.eval()
    assert any(not torch.equal(a, b) for a, b in zip(start, model.parameters(), strict=True))
    model.load_state_dict(torch.load("best.pt", weights_only=True))
    found = [r for r in rows(storage.removeprefix("sqlite:///")) if (r.method, r.phase) == (method, "recommend")]
    held_out = digits_mlp().split("validation", torch.device("cpu"))
    loss = torch.nn.functional.cross_entropy(model(held_out["x"]), held_out["y"]).item()
    assert loss == pytest.approx(min(r.value for r in found), rel=1e-4)


def test_best_of_a_method_that_compares_losses_are_its_params(capsys: pytest.CaptureFixture[str]) -> None:
    size = {"looks": [1], "trials": 1, "exploit": 0, "recommend": 0, "budget": 20, "flatness": False}
    tiny.run(Path(), tiny.spec(problems=["rosenbrock"], methods=["sgd", "adam-lbfgs"], **size), population=2)
    out = printed(capsys, "best", "tiny", "adam-lbfgs", "--storage", "study.db")
    names: dict[str, Any] = {}
    exec(out, names)
    assert "torch.optim.LBFGS" in out and {"adam_lr", "switch", "newton_lr"} <= set(names["params"])


CLOSER = scripts.QUADRATIC.replace("validation=x * x + 0.01", "validation=1 / (1 + x * x)").replace(
    "lambda: x * x + 0.02", "lambda: 1 / (1.1 + x * x)"
)
"""A script whose metric is 1 at best."""


@pytest.mark.parametrize("loss", [False, True])
def test_best_of_a_script_says_what_was_measured_in_its_unit(loss: bool, capsys: pytest.CaptureFixture[str]) -> None:
    table: dict[str, Any] = {"metric": "accuracy", "direction": "maximize", "best": 1.0, "worst": 0.0}
    table |= {"unit": "%", "scale": 100.0}
    text = CLOSER.replace("training=abs(x)", "loss=x * x, training=abs(x)") if loss else CLOSER
    study = scripts.spec(scripts.write(Path(), text), script=table | ({"worst_loss": 100.0} if loss else {}))
    tiny.run(Path(), study)
    best = min(row.value for row in rows("study.db") if row.method == "one" and row.phase in ("explore", "exploit"))
    out = printed(capsys, "best", "loop", "one", "--storage", "study.db")
    first, second, last = out.splitlines()
    found = f"validation loss {best:.4g}" if loss else f"accuracy below 100 %: {100 * best:.4g} % on validation data"
    assert first.startswith(f"# one on descent: {found} when it was found (trial ")
    assert re.fullmatch(r"# on 2 fresh seeds: accuracy below 100 %: [\d.]+ ± [\d.]+ %", second)
    assert last.startswith('params = {"lr": 0.')
    assert "keeps no weights" in refused(capsys, "best", "loop", "one", "--storage", "study.db", "--weights", "w.pt")


def test_a_small_metric_is_not_shown_as_zero() -> None:
    about: Any = {"metric": "mse", "unit": "", "censored": False, "worst_metric": 1.0}
    shown = best._level(pd.Series([2.9e-7, 3.1e-7]), about)
    assert shown == "3.00·10⁻⁷ ± 1.41·10⁻⁸"
    assert best._level(pd.Series([0.0042, 0.0044]), about) == "0.00430 ± 0.00014"
    assert best._level(pd.Series([2.1, 2.3]), {**about, "unit": "%"}) == "2.20 ± 0.14 %"
    assert best._level(pd.Series([0.0, 0.0]), about) == "0.00 ± 0.00"


def test_best_of_a_method_as_published_is_what_was_published(capsys: pytest.CaptureFixture[str]) -> None:
    table = {"heat-published": {"rule": "heat", "arm": "published"}}
    s = tiny.spec(methods=["sgd", "heat-published"], method=table, exploit=0, recommend=0, flatness=False)
    tiny.run(Path(), s, population=8)
    out = printed(capsys, "best", "tiny", "heat-published", "--storage", "study.db")
    (params,) = {tuple(row.params.items()) for row in rows("study.db") if row.method == "heat-published"}
    assert "as published, not tuned" in out and "# on 2 fresh seeds: " in out and f"{DROP_INS['heat'].__name__}(" in out
    assert f"inner_steps={dict(params)['inner_steps']!r}," in out
    line = refused(capsys, "best", "tiny", "heat-published", "--storage", "study.db", "--weights", "w.pt")
    assert "keeps no weights of 'heat-published'" in line


def test_best_names_the_settings_of_the_best_trial(capsys: pytest.CaptureFixture[str], storage: str) -> None:
    out = printed(capsys, "best", "small", "heat", "--storage", storage)
    found = [
        r for r in rows(storage.removeprefix("sqlite:///")) if r.method == "heat" and r.phase in ("explore", "exploit")
    ]
    winner = min(found, key=lambda r: (r.value, r.id))
    given: dict[str, Any] = {}
    for name, value in re.findall(r"^    (\w+)=([^,]+),", out, re.MULTILINE):
        given[name] = eval(value)
    assert given.pop("total_steps") == 75
    assert given == {
        name: pytest.approx(value, rel=1e-5) if isinstance(value, float) else value
        for name, value in winner.params.items()
    }


def test_best_and_the_page_agree_amid_ties_and_diverged_trials(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """An extended study: an equal trial of the plan's first block came later than the one that was recommended."""
    storage = str(tmp_path / "study.db")
    asked = spec(methods=["sgd"], controls=[], looks=[2], trials=2, exploit=4, recommend=1)
    about = manifest(asked)
    about["methods"]["sgd"]["options"] = {}
    writer = Writer(open_database(storage), asked, about)
    place = ("digits-mlp", "sgd")
    writer.trial(*place, "explore", 0, 0, 10.0, params={"lr": 0.9}, diverged=True)
    early = writer.trial(*place, "exploit", 0, 0, 0.2, params={"lr": 0.5})
    writer.trial(*place, "exploit", 0, 1, None, status="running")
    second = writer.trial(*place, "explore", 1, 1, 0.2, params={"lr": 0.4})
    first = writer.trial(*place, "explore", 0, 1, 0.2, params={"lr": 0.3})
    for parent, metric in ((early, 0.05), (second, 0.04), (first, 0.02)):
        measures = {"test_loss": 0.3, "test_metric": metric, "validation_loss": 0.3}
        writer.trial(*place, "recommend", 0, 0, 0.3, parent=parent, params={"lr": 0.3}, measures=measures)
    writer.close().dispose()
    assert main(["best", "digits", "sgd", "--storage", storage]) == 0
    shown = capsys.readouterr().out
    frames = load_study(storage)
    assert frames.recommended["source"].tolist() == [first]
    assert f"(trial {first})" in shown and "lr=0.3," in shown
    assert f"{frames.recommended['test_metric'].iloc[0]:.2f}" in shown


FILE = """
import torch
from torch import nn
from relaxbench.problems import SupervisedProblem
def model():
    net = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Linear(6, HEAD))
    net[0].requires_grad_(False)
    return net
def data():
    x = torch.randn(60, 4, generator=torch.Generator().manual_seed(0))
    return dict.fromkeys(("train", "validation", "test"), (x, x[:, :3].argmax(1)))
problem = SupervisedProblem("own", model, data, batch_size=20, rounds=2)
"""


def test_the_weights_of_a_problem_file_are_its_model_s_own_state_dict(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny.set_engine(monkeypatch)
    file = Path("own.py")
    file.write_text(FILE.replace("HEAD", "3"))
    s = tiny.spec(problems=[str(file)], methods=["sgd", "lookahead"], budget=60, exploit=0, recommend=2, flatness=False)
    tiny.run(Path(), s)
    printed(capsys, "best", "tiny", "sgd", "--storage", "study.db", "--weights", "w.pt")
    own = from_file(file)
    model = own._build()  # type: ignore[attr-defined]
    model.load_state_dict(torch.load("w.pt", weights_only=True))
    x, y = own.tensors["validation"]  # type: ignore[attr-defined]
    loss = torch.nn.functional.cross_entropy(model.eval()(x), y).item()
    found = [r.value for r in rows("study.db") if (r.method, r.phase) == ("sgd", "recommend")]
    assert loss == pytest.approx(min(found), rel=1e-4)
    file.write_text(FILE.replace("HEAD", "4"))
    line = refused(capsys, "best", "tiny", "sgd", "--storage", "study.db", "--weights", "other.pt")
    assert "study 'tiny' trained another model: `own.py`: layer 2.weight is 4 × 6, was 3 × 6" in line
    file.write_text(FILE.replace("HEAD", "3").replace("BatchNorm1d(6)", "BatchNorm1d(6, eps=0.1)"))  # of the same size
    line = refused(capsys, "best", "tiny", "sgd", "--storage", "study.db", "--weights", "other.pt")
    assert "the same parameters give another loss" in line and not Path("other.pt").exists()
    file.unlink()
    assert "is not here" in refused(capsys, "best", "tiny", "sgd", "--storage", "study.db", "--weights", "other.pt")


@pytest.mark.parametrize(
    ("problem", "metrics", "told"),
    [
        (
            "rosenbrock",
            (2000.0, 40.0),
            "gradients to tolerance 1,020 ± 1,386 (1 of 2 runs missed the tolerance and count as 2,000)",
        ),
        ("rosenbrock", (40.0,), "# on 1 fresh seed: gradients to tolerance 40\n"),
        ("digits-mlp", (0.02, 0.04), "# on 2 fresh seeds: test error 3.00 ± 1.41 %\n"),
        ("digits-mlp", (None,), "# on 1 fresh seed: test error not known\n"),
    ],
)
def test_best_says_which_fresh_runs_missed_the_tolerance(
    problem: str, metrics: tuple[float | None, ...], told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    storage = str(tmp_path / "study.db")
    asked = spec(problems=[problem], methods=["sgd"], controls=[], looks=[6], trials=1, recommend=2)
    about = manifest(asked)
    about["methods"]["sgd"]["options"] = {}
    writer = Writer(open_database(storage), asked, about)
    best = writer.trial(problem, "sgd", "explore", 0, 0, 0.2, params={"lr": 0.5})
    for number, metric in enumerate(metrics):
        measures = {"test_metric": metric}
        writer.trial(problem, "sgd", "recommend", 0, number, 0.2, parent=best, params={"lr": 0.5}, measures=measures)
    writer.close().dispose()
    assert main(["best", "digits", "sgd", "--storage", storage]) == 0
    assert told in capsys.readouterr().out


def test_a_method_without_a_finished_trial_names_where_to_go_on(capsys: pytest.CaptureFixture[str]) -> None:
    writer = Writer(open_database("empty.db"), spec(methods=["sgd"], controls=[], looks=[6]))
    writer.close().dispose()
    line = refused(capsys, "best", "digits", "sgd", "--storage", "empty.db")
    assert "has no finished trial of 'sgd' on digits-mlp yet: go on with python -m relaxbench study FILE" in line


def test_the_weights_of_a_study_in_memory_are_gone(digits: StudyFrames) -> None:
    assert best.best_answer(digits, "sgd", None, None)["runs"] > 0
    with pytest.raises(UserError, match="was read from a database in memory: leave --weights out"):
        best.best_answer(digits, "sgd", None, Path("w.pt"))
    assert not Path("w.pt").exists()
