"""Problems and optimizers as objects of a program: their names in a study, in its workers, and elsewhere."""

from __future__ import annotations

import re
import threading
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import TensorDataset

import relaxbench
from relaxbench.cli.objects import Added, Found, named
from relaxbench.optim.rules.sgd import SGD
from relaxbench.problems import SupervisedProblem
from relaxbench.problems.dataset_code import code_of
from relaxbench.study.definition.code_files import rule_file
from tests import processes
from tests.cli.commands import nothing_written, printed, refused
from tests.study import tiny

pytestmark = pytest.mark.usefixtures("folder")

SMALL: dict[str, Any] = {"looks": [6], "trials": 1, "recommend": 1, "budget": 40, "flatness": False, "quiet": True}


@pytest.fixture(autouse=True)
def _engine(monkeypatch: pytest.MonkeyPatch) -> None:
    tiny.set_engine(monkeypatch)


class Slow(SGD):
    """A rule of one's own."""

    name = "slow"
    title = "Slow SGD"


class Halved(torch.optim.SGD):
    """An optimizer of one's own."""


class InNotebook(torch.optim.SGD):
    """One that no other process can import."""


InNotebook.__module__ = "__main__"


def lines(name: str = "lines", slope: float = 1.0, factor: float = 1.0) -> SupervisedProblem:
    """A problem whose model and data are functions within a function, as in a notebook."""

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.Linear(2, 4), nn.Linear(4, 1)

        def forward(self, x: Tensor) -> Tensor:
            return factor * self.second(torch.relu(self.first(x)))  # type: ignore[no-any-return]

    def data() -> dict[str, Any]:
        x = torch.linspace(-1, 1, 240).reshape(120, 2)
        y = slope * x.sum(1, keepdim=True)
        return {"train": (x[:60], y[:60]), "validation": (x[60:90], y[60:90]), "test": (x[90:], y[90:])}

    return SupervisedProblem(name, Net, data, loss="least-squares", batch_size=20)


SCRIPT = """
import sys
import torch
from torch import nn
import relaxbench

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(2, 4), nn.Linear(4, 1)

    def forward(self, x):
        return self.second(torch.relu(self.first(x)))

class Mine(torch.optim.SGD):
    pass

class Slow(relaxbench.optim.SGD.rule_class):
    name, title = "slow", "Slow SGD"

class Rows(torch.utils.data.Dataset):
    def __init__(self, first, last):
        self.x = torch.linspace(-1, 1, 240).reshape(120, 2)[first:last]

    def __len__(self):
        return len(self.x)

    def __getitem__(self, row):
        return self.x[row], self.x[row].sum(0, keepdim=True)

splits = {"train": (0, 60), "validation": (60, 90), "test": (90, 120)}
own = relaxbench.problems.SupervisedProblem(
    "lines", Net, lambda: {name: Rows(*places) for name, places in splits.items()},
    loss="least-squares", batch_size=20,
)
for storage, workers in (("one.db", None), ("two.db", 2), ("two.db", 2)):
    study = relaxbench.run_study(
        problems=[own], methods=["sgd", Slow, Mine], storage=storage, workers=workers, looks=[6], trials=1, recommend=1,
        budget=40, flatness=False, population=4, path="vectorized",
    )
    print(study.name, study.methods)
"""


def test_a_study_of_objects_is_the_same_in_one_process_and_in_workers() -> None:
    Path("script.py").write_text(SCRIPT)
    done = processes.run(["script.py"])
    assert done.stdout.count("lines ['sgd', 'slow', 'mine']") == 3 and "nothing was run" in done.stdout, done.stderr
    columns = ["problem", "method", "phase", "block", "number", "seed", "value"]
    one, two = (relaxbench.load_study(f"{name}.db#lines").trials[columns] for name in ("one", "two"))
    assert len(one) == 3 * (6 + 6 + 1)
    assert one.sort_values(columns).values.tolist() == two.sort_values(columns).values.tolist()


def test_the_commands_read_such_a_study_and_say_what_they_lack(capsys: pytest.CaptureFixture[str]) -> None:
    for storage, own, said in (
        ("rule.db", Slow, "unknown method 'slow'"),
        ("optimizer.db", InNotebook, "optimizer '__main__.InNotebook' was an object of a program, which alone has it"),
    ):
        relaxbench.run_study(problems=["rugged-1d"], methods=["sgd", own], storage=storage, **SMALL)
        assert said in refused(capsys, "worker", "rugged-1d", "--storage", storage)
    relaxbench.run_study(problems=[lines()], methods=["sgd"], **SMALL)
    assert "SGD is the baseline on lines" in printed(capsys, "show", "lines")
    printed(capsys, "report", "lines")
    said = refused(capsys, "worker", "lines")
    assert (
        "problem 'lines' of study 'lines' is unknown here: if it was an object of a program, run that program" in said
    )


def test_the_best_settings_and_weights_of_such_a_study(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    own = lines()
    study = relaxbench.run_study(problems=[own], methods=["sgd", Slow, InNotebook], storage="own.db", **SMALL)
    printed(capsys, "show", "lines", "--storage", "own.db")
    # The weights are those of this study, also where the usual database has one of its name.
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))
    relaxbench.run_study(problems=[lines(slope=2.0)], methods=["sgd", Slow, InNotebook], **SMALL)
    answer = relaxbench.best(study, "sgd", own, weights="best.pt")
    tuned = study.trials[(study.trials["method"] == "sgd") & (study.trials["phase"] == "explore")]
    assert answer["params"] == tuned.loc[tuned["value"].idxmin(), "params"]
    model = own.model  # as it is built
    relaxbench.optim.SGD(model.parameters(), total_steps=40, **answer["options"], **answer["params"])
    state = torch.load("best.pt")
    model.load_state_dict(state)
    test = own.split("test", torch.device("cpu"))
    run = study.recommended[study.recommended["method"] == "sgd"].iloc[0]
    loss = torch.nn.functional.mse_loss(model(test["x"]), test["y"])
    assert loss.item() == pytest.approx(run["test_loss"], rel=1e-5)
    assert "momentum" in relaxbench.best(study, Slow)["params"]
    assert "optimizer = " in relaxbench.best(study, InNotebook, own)["code"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("heat",), "unknown method in study 'lines': 'heat'"),
        ((torch.optim.NAdam,), "unknown method in study 'lines': 'nadam'"),
        (("sgd", "lime"), "unknown problem in study 'lines': 'lime'"),
        (("sgd", lines("other")), "unknown problem in study 'lines': 'other'"),
    ],
)
def test_what_a_study_does_not_have_is_named(arguments: tuple[Any, ...], said: str) -> None:
    study = relaxbench.run_study(problems=[lines()], methods=["sgd"], **SMALL)
    with pytest.raises(relaxbench.UserError) as refusal:
        relaxbench.best(study, *arguments)
    assert said in str(refusal.value)
    with pytest.raises(relaxbench.UserError, match=r"'lines' of study 'lines' is unknown here"):
        relaxbench.best(study, "sgd", weights="best.pt")
    assert not Path("best.pt").exists()


def test_another_model_or_other_data_are_refused() -> None:
    relaxbench.run_study(problems=[lines()], methods=["sgd"], **SMALL)
    for other in (lines(slope=2.0), lines(factor=2.0)):
        with pytest.raises(relaxbench.UserError, match=r"study 'lines' began|changed since the study began"):
            relaxbench.run_study(problems=[other], methods=["sgd"], **SMALL)


def test_a_problem_that_cannot_be_sent_is_for_one_process(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    own: Any = lines()
    own.lock = threading.Lock()
    with nothing_written(), pytest.raises(relaxbench.UserError, match=r"problem 'lines' cannot be sent to worker"):
        relaxbench.run_study(problems=[own], methods=["sgd"], workers=2, **SMALL)
    monkeypatch.setattr("relaxbench.study.execution.processes.cpu_workers", lambda *_: 2)  # as of a long study
    study = relaxbench.run_study(problems=[own], methods=["sgd"], **{**SMALL, "quiet": False})
    assert len(study.trials) == 13
    assert "One process works: problem 'lines' cannot be sent to worker" in " ".join(capsys.readouterr().out.split())


def test_names_stand_in_place_of_objects() -> None:
    found, added = Found(), Added()
    own = lines()
    values = {
        "problems": [own, "digits-mlp"],
        "methods": ["heat", relaxbench.optim.EntropySGD, torch.optim.NAdam, Slow, InNotebook, "mine"],
        "baseline": SGD,
        "controls": [relaxbench.optim.Lookahead],
        "method": {"mine": {"rule": Halved, "title": "Mine"}},
        "trials": 3,
    }
    assert named(values, found, added) == {
        "problems": ["lines", "digits-mlp"],
        "methods": ["heat", "entropy-sgd", "nadam", "slow", "innotebook", "mine"],
        "baseline": "sgd",
        "controls": ["lookahead"],
        "method": {"mine": {"rule": f"torch:{__name__}.Halved", "title": "Mine"}},
        "trials": 3,
    }
    assert added == {"nadam": "torch:torch.optim.NAdam", "innotebook": "torch:__main__.InNotebook"}
    inside = ("optimizer", "__main__.InNotebook")  # no other process can import it
    assert found == {("problem", "lines"): own, ("rule", "slow"): Slow, inside: InNotebook}
    assert values["method"] == {"mine": {"rule": Halved, "title": "Mine"}}  # what was given stays


def test_classes_join_the_methods_that_a_study_has() -> None:
    narrow = {"rule": "heat", "space": {"lr": [0.01, 0.1]}}
    study = {**SMALL, "name": "joined", "problems": ["rugged-1d"], "method": {"narrow": narrow}}
    quiet = {"quiet": study.pop("quiet")}
    joined = relaxbench.run_study(study, methods=["sgd", "narrow", torch.optim.NAdam], **quiet)
    assert joined.methods == ["sgd", "narrow", "nadam"]
    own = {"nadam": {"rule": torch.optim.NAdam, "title": "Mine"}}
    titled = relaxbench.run_study({**study, "name": "titled"}, methods=["sgd", torch.optim.NAdam], method=own, **quiet)
    assert titled.method("nadam")["title"] == "Mine"


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"problems": [lines("digits-mlp")]}, "an object is called 'digits-mlp', which is built in"),
        ({"problems": [lines(), lines()]}, "two objects are called 'lines': rename one of them"),
        ({"problems": [nn.Linear(1, 1)]}, "problems: an object of class Linear is no problem: give a name, the path"),
        ({"problems": lines()}, "problems = an object of class SupervisedProblem: expected a list"),
        ({"methods": [torch.optim.AdamW]}, "AdamW would be called 'adamw', which is built in: give it a label"),
        ({"methods": [nn.Linear(1, 1)]}, "methods: an object of class Linear: expected a name, or the class of an"),
        ({"method": {"x": {"rule": 3}}}, "method.x.rule = 3: expected a name, or the class of an optimizer"),
        ({"method": {"x": {"nesterov": True}}}, "unknown key in run_study, table [method.x]: 'nesterov'"),
        ({"methods": [nn.Linear]}, "method Linear is a class, but neither an optimizer of PyTorch nor a Rule"),
        ({"methods": [type("Other", (SGD,), {})]}, "method Other is called 'sgd': give the class a name"),
        (
            {"methods": [Halved], "method": {"halved": {"rule": "heat"}}},
            "'halved' stands for torch:tests.cli.test_objects.Halved and for another",
        ),
        (
            {"problems": [lines()], "engine": "ray", "workers": 1},
            "its workers do not see 'lines', an object of this program",
        ),
    ],
)
def test_mistakes_are_one_line(values: dict[str, Any], said: str) -> None:
    with nothing_written(), pytest.raises(relaxbench.UserError) as refusal:
        relaxbench.run_study(**{"methods": ["sgd"], "problems": ["rugged-1d"], **values, **SMALL})
    assert said in str(refusal.value) and "\n" not in str(refusal.value)


def test_what_a_program_defines_has_no_text_that_workers_would_lack(monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker has copies of the classes, but neither the file nor the cell where they were written."""

    class Rows(TensorDataset):
        pass

    rows = Rows(torch.zeros(3))
    assert re.fullmatch(r"Rows:[0-9a-f]{8}", code_of(rows)) and rule_file(Slow) == Path(__file__)
    monkeypatch.setattr(Rows, "__module__", "__main__")
    monkeypatch.setattr(Slow, "__module__", "__main__")
    assert code_of(rows) == "Rows" and rule_file(Slow) is None


def test_a_subclass_that_lacks_something_is_named() -> None:
    class Half(relaxbench.problems.Problem):
        name = "half"

    with nothing_written(), pytest.raises(relaxbench.UserError, match=r"problem 'half' defines a Half without title"):
        relaxbench.run_study(problems=[Half()], methods=["sgd"], **SMALL)
