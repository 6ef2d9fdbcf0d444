"""A study is of one thing: an edited problem or rule is refused in words, and nothing else is."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from sqlalchemy import Engine, select, update
from torch import Tensor

from relaxbench.errors import UserError
from relaxbench.optim.registry import RULES
from relaxbench.optim.rule import Hyper, Query, Rule, State, counters
from relaxbench.problems import problem
from relaxbench.space import Float
from relaxbench.store.database import open_database
from relaxbench.store.schema import Study
from relaxbench.study.coordination.manifest import edit_manifest, read_manifest
from relaxbench.study.definition.opening import NO_IDENTITY, OpenStudy, open_study
from relaxbench.study.definition.prepare import prepare
from relaxbench.study.definition.probes import differs, probe_problem
from relaxbench.study.execution.join import join
from tests.study import tiny

FILE = """
import torch
from torch import nn
from relaxbench.problems import SupervisedProblem

class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Linear(3, {hidden}), nn.Linear({hidden}, 2)
        self.dropout = nn.Dropout({dropout})
        {more}
    def forward(self, x):
        return self.last(self.dropout({activation}(self.first(x))))

x = torch.arange(120.0).view(40, 3).sin()
y = {labels}
problem = SupervisedProblem(
    "mine", Model, lambda: {{s: (x, y) for s in ("train", "validation", "test")}}, loss="{loss}", batch_size={batch},
    budget={budget}, rounds={rounds}, worst={worst}, space={space}, title="{title}",
)
"""
VALUES = {
    "hidden": 5,
    "dropout": 0.1,
    "more": "pass",
    "activation": "torch.relu",
    "labels": "(x.sum(1) > 0).long()",
    "loss": "cross-entropy",
    "batch": 8,
    "budget": 40,
    "rounds": 4,
    "worst": 10.0,
    "space": None,
    "title": "mine",
}


def text(**changes: Any) -> str:
    return FILE.format(**{**VALUES, **changes})


@pytest.fixture
def database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Engine]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.dont_write_bytecode", True)
    engine = open_database("study.db")
    yield engine
    engine.dispose()


def begin(database: Engine, content: str = "", **changes: Any) -> OpenStudy:
    """Open a study of a file with this text; no trial is run."""
    if content:
        Path("mine.py").write_text(content)
    values = {"problems": ["mine.py"], "methods": ["sgd"], "budget": None, **changes}
    spec = tiny.spec(**values)
    return open_study(database, spec, "source", prepare(spec), torch.device("cpu"))


def stored(database: Engine) -> Any:
    with database.connect() as connection:
        return connection.execute(select(Study.__table__)).all()


def refusal(database: Engine, content: str = "", **changes: Any) -> str:
    """What is said of a study that goes on, and of a worker that joins: the same, and nothing is written."""
    before = stored(database)
    with pytest.raises(UserError) as said:
        begin(database, content, **changes)
    with pytest.raises(UserError) as told:
        join(database, "tiny")
    assert str(told.value) == str(said.value) and "\n" not in str(said.value)
    assert stored(database) == before
    return str(said.value)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"hidden": 6}, "`mine.py`: layer first.weight is 6 × 3, was 5 × 3; `mine.py`: layer first.bias is 6, was 5"),
        ({"more": "self.extra = nn.Parameter(torch.zeros(4))"}, "layer extra is new (4)"),
        ({"more": "self.register_buffer('extra', torch.zeros(4))"}, "layer extra is new (4)"),
        ({"more": "self.first.bias.requires_grad_(False)"}, "first.bias"),
        ({"activation": "torch.tanh"}, "the same parameters give another loss (activation, loss or forward pass"),
        ({"dropout": 0.12}, "the same parameters give another loss in training (dropout or noise changed)"),
        ({"more": "nn.init.zeros_(self.last.bias)"}, "the initial weights of the same seed are others"),
        ({"batch": 10}, "`mine.py`: batch size 10, was 8"),
        ({"budget": 60}, "`mine.py`: budget 60, was 40"),
        ({"rounds": 5}, "`mine.py`: rounds 5, was 4"),
        ({"worst": 11.0}, "`mine.py`: worst 11.0, was 10.0"),
        ({"space": {"lr": (0.01, 0.1)}}, "method 'sgd': lr is searched in [0.01, 0.1], logarithmically on mine, was "),
    ],
    ids=lambda value: str(value)[:30],
)
def test_an_edited_problem_is_refused_in_words(change: dict[str, Any], told: str, database: Engine) -> None:
    begin(database, text())
    assert told in refusal(database, text(**change))
    assert not begin(database, text()).new  # changed back, it goes on


def test_a_study_from_before_rounds_adapted_to_the_budget_goes_on_with_its_own(database: Engine) -> None:
    """40 gradients of 8 examples, and splits of 40: five rounds and a test are a quarter of it."""
    adaptive = text(rounds=None)
    study = begin(database, adaptive)
    assert study.problems[0].rounds == 5
    for rounds in (20, 7):

        def edit(manifest: Any, rounds: int = rounds) -> None:
            manifest["identity"]["problems"]["mine"]["settings"]["rounds"] = rounds

        edit_manifest(database, study.id, edit)
        if rounds == 20:
            assert begin(database).problems[0].rounds == join(database, "tiny").problems[0].rounds == 20
        else:
            assert "`mine.py`: rounds 5, was 7" in refusal(database, adaptive)


def test_rounds_adapt_to_the_budget_of_the_study(database: Engine) -> None:
    begin(database, text(rounds=None), budget=120)
    assert join(database, "tiny").problems[0].rounds == 17  # (120 × 8 × 3 / 4 - 40) / 40


def test_another_loss_is_refused(database: Engine) -> None:
    labels = "torch.stack([x.sum(1), x[:, 0]], dim=1)"
    begin(database, text(labels=labels, loss="least-squares").replace("self.last(", "2 * self.last("))
    assert "loss" in refusal(database, text(labels=labels, loss="least-squares"))


def test_the_first_line_that_changed_is_quoted(database: Engine) -> None:
    begin(database, text())
    line = text().splitlines().index("        return self.last(self.dropout(torch.relu(self.first(x))))") + 1
    assert (
        f"changed), line {line}: `return self.last(self.dropout(torch.tanh(self.first(x))))`, was "
        "`return self.last(self.dropout(torch.relu(self.first(x))))`"
    ) in refusal(database, text(activation="torch.tanh"))


def test_what_changes_no_number_may_be_edited(database: Engine) -> None:
    begin(database, text())
    assert not begin(database, "# a comment\n" + text(title="another")).new
    assert not begin(database, text(more="self.unused = 3")).new
    join(database, "tiny")


def test_another_number_of_threads_is_no_other_problem(database: Engine) -> None:
    begin(database, text(hidden=400))
    threads = torch.get_num_threads()
    torch.set_num_threads(threads + 2)
    try:
        assert not begin(database).new
    finally:
        torch.set_num_threads(threads)


def test_rounding_is_no_difference_and_a_thousandth_is() -> None:
    for precision, rounding in (("float64", 1e-9), ("float32", 1e-5)):
        assert not differs([1.0, -2e5, 1e-17], [1.0 + rounding, -2e5 * (1 - rounding), -1e-17], precision)
        assert differs([1.0, 2.0], [1.0, 2.01], precision)
    assert not differs([None], [None], "float64")
    assert differs([None], [1.0], "float64") and differs([1.0], [1.0, 1.0], "float64")


@pytest.mark.usefixtures("steady")
def test_a_finished_study_is_refused_as_well(database: Engine, tmp_path: Path) -> None:
    """Its verdict is not that of the file that is here now."""
    Path("mine.py").write_text(text())
    s = tiny.spec(problems=["mine.py"], methods=["sgd"], looks=[1], trials=1, exploit=0, recommend=0, budget=None)
    assert tiny.run(tmp_path, s).missing == 0
    before = stored(database)
    Path("mine.py").write_text(text(activation="torch.tanh"))
    with pytest.raises(UserError, match="the same parameters give another loss"):
        tiny.run(tmp_path, s)
    assert stored(database) == before


def test_a_problem_that_is_added_is_identified_and_the_first_one_stays(database: Engine) -> None:
    begin(database, text())
    begin(database, problems=["mine.py", "rosenbrock"], methods=["sgd", "heat"])
    identity = read_manifest(database, 1)["identity"]
    assert set(identity["problems"]) == {"mine", "rosenbrock"} and set(identity["methods"]) == {"sgd", "heat"}
    assert "hidden" not in identity["problems"]["mine"]["text"] and identity["problems"]["rosenbrock"]["text"] == ""
    Path("mine.py").write_text(text(batch=10))
    with pytest.raises(UserError, match="batch size 10, was 8"):
        begin(database, problems=["rosenbrock", "mine.py"])


def test_a_study_that_began_without_identity_opens_says_so_and_has_one_then(database: Engine) -> None:
    begin(database, text())
    edit_manifest(database, 1, lambda manifest: manifest.pop("identity"))  # type: ignore[misc]
    assert join(database, "tiny").notes == (NO_IDENTITY,)
    edit_manifest(database, 1, lambda manifest: manifest.pop("identity"))  # type: ignore[misc]
    assert begin(database).notes == (NO_IDENTITY,)
    assert begin(database).notes == () and join(database, "tiny").notes == ()
    assert "batch size 10, was 8" in refusal(database, text(batch=10))


@pytest.mark.usefixtures("database")
def test_a_model_whose_numbers_cannot_be_repeated_has_no_probe() -> None:
    """It would be refused each time otherwise, by a worker that knows it; a study refuses it before it begins."""
    Path("mine.py").write_text(text(activation="(lambda z: z * __import__('random').random())"))
    assert probe_problem(problem("mine.py")).numbers == {}
    Path("mine.py").write_text(text())
    assert probe_problem(problem("mine.py")).numbers


def rule(factor: float = 1.0, high: float = 1.0, default: float = 0.1, kept: float = 0.5) -> type[Rule]:
    """A rule of another package."""

    class Own(Rule):
        name, title, source = "own", "Own", "nowhere"
        wide = {"lr": Float(1e-3, high, default, log=True), "pull": Float(0.0, 1.0, 0.5)}
        space = {"lr": Float(1e-3, high, default, log=True)}
        default_fixed = {"pull": kept}
        meanings = {"pull": "how strongly"}
        copies = 2

        def init(self, x: Tensor, seed: Tensor) -> State:
            return {"x": x.clone(), **counters(x, seed)}

        def query(self, state: State, hyper: Hyper) -> Query:
            return Query(state["x"], state["t"])

        def update(self, state: State, grad: Tensor, loss: Tensor, hyper: Hyper) -> State:
            state["x"] -= hyper["lr"] * factor * grad
            state["t"] += 1
            return state

    return Own


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"factor": 0.9}, "method 'own': its rule takes other steps with the same hyperparameters"),
        ({"high": 0.5}, "method 'own': lr is searched in [0.001, 0.5], logarithmically on mine, was searched in "),
        ({"kept": 0.4}, "method 'own': pull is fixed at 0.4 on mine, was fixed at 0.5"),
    ],
)
def test_an_edited_rule_is_refused_in_words(
    change: dict[str, float], told: str, database: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(RULES, "own", rule())
    begin(database, text(), methods=["sgd", "own"])
    monkeypatch.setitem(RULES, "own", rule(default=0.2))  # every trial states its values: a default is not used
    assert not begin(database, methods=["sgd", "own"]).new
    monkeypatch.setitem(RULES, "own", rule(**change))
    assert told in refusal(database, methods=["sgd", "own"])


def test_a_study_whose_space_was_edited_in_the_database_is_refused(database: Engine) -> None:
    """The stored space is what its trials were drawn from."""
    begin(database, text())

    def edit(manifest: Any) -> None:
        manifest["methods"]["sgd"]["spaces"]["mine"]["lr"]["high"] = 7.0

    edit_manifest(database, 1, edit)
    assert "was searched in [" in refusal(database)
    with database.begin() as connection:
        connection.execute(update(Study).values(name="other"))
    assert begin(database).new
