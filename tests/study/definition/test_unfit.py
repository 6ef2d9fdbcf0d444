"""A method that cannot train a problem is refused before a database exists, or left out; the others go on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from relaxbench.errors import UserError
from relaxbench.optim.registry import RULES
from relaxbench.problems import SupervisedProblem
from relaxbench.store.database import open_database
from relaxbench.study.definition import prepare as module
from relaxbench.study.definition.opening import open_study
from relaxbench.study.definition.prepare import prepare, prepare_fit
from relaxbench.study.execution.join import Part, join
from relaxbench.training.compatibility import try_out
from relaxbench.training.method_fit import why_unfit
from tests.cli.commands import refused
from tests.study import tiny

FILE = """
import torch
from torch import nn
from relaxbench.problems import SupervisedProblem
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.words, self.lstm, self.head = nn.Embedding(5, 4), nn.LSTM(4, 4, batch_first=True), nn.Linear(4, 3)
    def forward(self, x):
        return self.head(self.lstm(self.words(x))[0][:, -1])
def data():
    x = torch.randint(0, 5, (30, 4), generator=torch.Generator().manual_seed(0))
    return dict.fromkeys(("train", "validation", "test"), (x, x[:, 0] % 3))
problem = SupervisedProblem("own", Net, data, batch_size=10, rounds=2)
"""


@pytest.fixture
def file(tmp_path: Path) -> str:
    path = tmp_path / "own.py"
    path.write_text(FILE)
    return str(path)


def test_a_study_refuses_a_method_that_cannot_train_its_problem(file: str) -> None:
    with pytest.raises(UserError, match=r"'curveball' cannot train problem 'own': layer 'lstm' \(LSTM\)") as caught:
        prepare(tiny.spec(problems=[file], methods=["sgd", "curveball"]))
    assert "--skip-unfit" in str(caught.value) and "\n" not in str(caught.value)


def test_no_database_is_created_for_it(
    file: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    refused(capsys, "study", "--problem", file, "--method", "sgd", "--method", "curveball", "--storage", "s.db")
    assert not Path("s.db").exists()


def test_skip_unfit_tries_every_method_once_and_leaves_that_one_out_with_a_line(
    file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[str] = []
    try_it = why_unfit
    monkeypatch.setattr(module, "why_unfit", lambda task, rule: tried.append(rule.name) or try_it(task, rule))
    spec, problems, unfit = prepare_fit(tiny.spec(problems=[file], methods=["sgd", "curveball", "heat"]))
    assert tried == ["sgd", "curveball", "heat"] and [task.name for task in problems] == ["own"]
    assert spec.methods == ["sgd", "heat"] and [*unfit] == ["curveball"]
    assert unfit["curveball"].startswith("curveball is left out, because it cannot train own: layer 'lstm'")
    _, _, unfit = prepare_fit(tiny.spec(problems=["rosenbrock", file], methods=["sgd", "curveball"]))
    assert unfit["curveball"].startswith("curveball is left out of all problems, because it cannot train own: ")
    with pytest.raises(UserError, match="the baseline cannot be left out"):
        prepare_fit(tiny.spec(problems=[file], methods=["curveball", "sgd"], baseline="curveball"))


def test_a_loss_without_curvature_counts_as_unfit() -> None:
    spec, _, unfit = prepare_fit(tiny.spec(problems=["rugged-1d"], methods=["sgd", "curveball"]))
    assert spec.methods == ["sgd"] and "no curvature" in unfit["curveball"]


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attention, self.head = nn.MultiheadAttention(4, 2, batch_first=True), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return torch.as_tensor(self.head(self.attention(x, x, x, need_weights=False)[0].mean(1)))


class Derivative(nn.Module):
    """A network whose derivative in its input is the output."""

    def __init__(self, functional: bool) -> None:
        super().__init__()
        self.u, self.functional = nn.Sequential(nn.Linear(1, 3), nn.Tanh(), nn.Linear(3, 1)), functional

    def forward(self, x: Tensor) -> Tensor:
        if self.functional:
            return torch.as_tensor(torch.func.grad(lambda at: self.u(at).sum())(x))
        x = x.detach().requires_grad_()
        return torch.autograd.grad(self.u(x).sum(), x, create_graph=True)[0]


def of(model: Callable[[], nn.Module], x: Tensor, y: Tensor, loss: str) -> SupervisedProblem:
    data = dict.fromkeys(("train", "validation", "test"), (x, y))
    return SupervisedProblem("own", model, lambda: data, batch_size=5, budget=20, loss=loss)


def test_curveball_trains_attention() -> None:
    x = torch.randn(20, 3, 4, generator=torch.Generator().manual_seed(0))
    assert why_unfit(of(Attention, x, torch.arange(20) % 3, "cross-entropy"), RULES["curveball"]()) is None


def test_derivatives_within_a_model_work_with_torch_func_which_the_message_names() -> None:
    x = torch.linspace(0, 1, 20)[:, None]
    task = of(lambda: Derivative(True), x, torch.zeros(20, 1), "least-squares")
    try_out(task)
    assert why_unfit(task, RULES["curveball"]()) is None
    with pytest.raises(UserError, match=r"use torch\.func\.grad or torch\.func\.vjp"):
        try_out(of(lambda: Derivative(False), x, torch.zeros(20, 1), "least-squares"))


ABSENT = """
from relaxbench.problems import SupervisedProblem
import torch
from torch import nn
class Absent(SupervisedProblem):
    here = False
    def missing(self):
        return [] if self.here else ["absent"]
    def download(self):
        self.here = True
    def fingerprint(self):
        assert self.here, "read before it was downloaded"
        return super().fingerprint()
x = torch.arange(40.0).view(20, 2).sin()
def data():
    return dict.fromkeys(("train", "validation", "test"), (x, (x[:, 0] > 0).long()))
problem = Absent("mine", lambda: nn.Linear(2, 2), data, batch_size=5)
"""


def test_missing_data_are_downloaded_before_a_method_is_tried(tmp_path: Path) -> None:
    file = tmp_path / "absent.py"
    file.write_text(ABSENT)
    spec, _, unfit = prepare_fit(tiny.spec(problems=[str(file)], methods=["sgd", "curveball"]), download=True)
    assert (spec.methods, unfit) == (["sgd", "curveball"], {})


def test_a_worker_leaves_such_a_method_to_others_with_a_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    database = open_database(str(tmp_path / "s.db"))
    begun = tiny.spec(methods=["sgd", "heat"])
    open_study(database, begun, "", prepare(begun))
    monkeypatch.setattr(module, "why_unfit", lambda task, rule: "no memory" if rule.name == "heat" else None)
    with pytest.raises(UserError, match="'heat' cannot train problem 'rosenbrock': no memory"):
        join(database, "tiny")
    opened = join(database, "tiny", part=Part(skip_unfit=True))
    database.dispose()
    assert opened.spec.methods == ["sgd"] and {plan.method for plan in opened.plans} == {"sgd"}
    assert opened.notes == ("heat is left out, because it cannot train rosenbrock: no memory",)
