"""Edits of a model file, as people make them: refused in words, or accepted where they change nothing."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from relaxbench.errors import UserError
from relaxbench.problems import SupervisedProblem, problem
from relaxbench.store.identity_facts import IdentityFacts
from relaxbench.study.definition.identity import edited_notes, identify, refuse_edits
from relaxbench.study.definition.probes import differs, probe_problem
from relaxbench.study.definition.splits import describe_splits, split_differences
from tests.study import tiny

FILE = """
import json
from pathlib import Path
import torch
from torch import nn
import helper_of_mine
HERE = Path(__file__).parent
SCALE = json.loads((HERE / "constants.json").read_text())
def width(n=6): return n
class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second, self.last = nn.Linear(4, 6), nn.Linear(6, width()), nn.Linear(width(), 3)
        self.norm, self.dropout = nn.LayerNorm(6), nn.Dropout(0.1)
    def forward(self, x):
        h = torch.relu(self.norm(self.first(SCALE * x)))
        h = h + helper_of_mine.block(self.second(h))
        h = torch.clamp(h, max=9.0)
        return self.last(self.dropout(h))
def wrong(outputs, y):
    return (outputs.argmax(-1) != y).float().mean()
x = torch.arange(360.0).view(90, 4).mul(1.3).sin()
y = x[:, :3].argmax(1)
y[::7] = 2
def data():
    return {"train": (x[:40], y[:40]), "validation": (x[40:60], y[40:60]), "test": (x[60:], y[60:])}
def pretrained():
    return torch.load(HERE / "weights.pt")
from relaxbench.problems import SupervisedProblem
problem = SupervisedProblem(
    "mine", Model, data, loss=nn.CrossEntropyLoss(torch.tensor([1.0, 2.0, 1.0]), label_smoothing=0.05),
    metric=("wrong", wrong), batch_size=8, budget=40, pretrained=pretrained,
)
"""
HELPER = "import torch\ndef block(h):\n    return torch.tanh(h)\n"
NORM = "torch.relu(self.norm(self.first(SCALE * x)))"
BLOCK = "h + helper_of_mine.block(self.second(h))"
FORWARD = "the same parameters give another loss (activation, loss or forward pass changed)"
TRAINING = "the same parameters give another loss in training (dropout or noise changed)"
METRIC = "the same outputs give another metric (the function of the metric changed)"
LABELS = METRIC.replace("the same outputs", "other labels")
FAR = "large parameters give another loss (a limit or threshold in the forward pass changed)"
ELSEWHERE = "; `mine.py` itself has the same code: look at the modules and files that it reads"
TRAINED = "whole mini-batches give other outputs in the precision of training"
BEYOND = "outputs that are far off give another loss or metric (a limit of it changed)"
UNDEFINED = "parameters that are not numbers give another loss, so that diverged trials would count otherwise"
FAILS = "the model no longer works in float64, as it did when the study began (TypeError: no), line 19: `if x.dtype"
RAISE = "if x.dtype == torch.float64: raise TypeError('no')\n        return self.last("


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.dont_write_bytecode", True)
    write()
    yield tmp_path
    sys.modules.pop("helper_of_mine", None)


def write(old: str = "", new: str = "", helper: str = HELPER, scale: str = "1.5", seed: int = 0) -> None:
    assert old in FILE
    Path("mine.py").write_text(FILE.replace(old, new) if old else FILE)
    Path("helper_of_mine.py").write_text(helper)
    Path("constants.json").write_text(scale)
    weights = torch.randn(6, 6, generator=torch.Generator().manual_seed(seed))
    torch.save({"second.weight": weights}, "weights.pt")


def identity(known: IdentityFacts | None = None) -> Any:
    sys.modules.pop("helper_of_mine", None)
    spec = tiny.spec(problems=["mine.py"], methods=["sgd"], budget=None)
    manifest: Any = {"identity": known} if known else {}
    tasks = [problem("mine.py")]
    now = identify(spec, tasks, {"mine": "mine.py"}, manifest)
    if known:
        refuse_edits(manifest, "tiny", now, spec, tasks)
    return now


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory) -> IdentityFacts:
    home = Path.cwd()
    os.chdir(tmp_path_factory.mktemp("begun"))
    try:
        write()
        facts: IdentityFacts = identity()
        return facts
    finally:
        os.chdir(home)


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        (NORM, "nn.functional.leaky_relu(self.norm(self.first(SCALE * x)), 1e-3)", FORWARD),
        (NORM, "self.norm(torch.relu(self.first(SCALE * x)))", FORWARD),
        ("SCALE * x", "(SCALE * x).to(torch.bfloat16).to(x.dtype)", FORWARD),
        ("LayerNorm(6)", "LayerNorm(6, eps=1e-4)", FORWARD),
        ("[1.0, 2.0, 1.0]", "[1.0, 2.001, 1.0]", FORWARD),
        ("smoothing=0.05", "smoothing=0.0501", f"{FORWARD}, line 31: `…"),
        ("Dropout(0.1)", "Dropout(0.1001)", TRAINING),
        ("self.dropout(h))", "h)", TRAINING),
        ("max=9.0", "max=4.0", FAR),
        ("SCALE * x", "SCALE * x * (1.1 if x.dtype == torch.float32 else 1.0)", TRAINED),
        ("SCALE * x", "(SCALE * x if x.dtype == torch.float64 else (SCALE * x).bfloat16().float())", TRAINED),
        ("(outputs.argmax", "(outputs.clamp(-40, 40).argmax", BEYOND),
        ("self.dropout(h))", "self.dropout(h)).nan_to_num()", UNDEFINED),
        ("self.dropout(h))", "self.dropout(h)) * (1.0 if len(x) < 16 else 0.9)", "loss on larger pieces of data"),
        (".float().mean()", ".float().mean() * (1 if y.sum() % 7 else 2)", LABELS),
        (".float().mean()", ".float().mean().sqrt()", METRIC),
        ("(outputs.argmax", "(outputs[:, :2].argmax", METRIC),
        ("block(self.second(h))", "block(self.second(h).detach())", "the same parameters give another gradient"),
        (", pretrained=pretrained", "", "the initial weights of the same seed are others"),
        ("return self.last(", RAISE, FAILS),
    ],
    ids=lambda value: str(value)[:24],
)
def test_an_edit_is_refused_in_words(begun: IdentityFacts, old: str, new: str, told: str) -> None:
    write(old, new)
    with pytest.raises(UserError) as refused:
        identity(begun)
    assert told in str(refused.value) and "\n" not in str(refused.value)


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(
    ("files", "told"),
    [
        (
            {"helper": HELPER.replace("tanh", "sin")},
            f"{FORWARD}; `helper_of_mine.py`, line 3: `return torch.sin(h)`, was `return torch.tanh(h)`",
        ),
        ({"scale": "1.9"}, FORWARD + ELSEWHERE),
        ({"seed": 1}, "the initial weights of the same seed are others" + ELSEWHERE),
    ],
)
def test_a_file_that_the_model_reads_is_refused_and_meant(begun: IdentityFacts, files: Any, told: str) -> None:
    write(**files)
    with pytest.raises(UserError) as refused:
        identity(begun)
    assert told in str(refused.value)


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(
    ("old", "new", "line"),
    [
        ("def data():", 'def data():  # the data\n    """Data."""\n    # more', ""),
        (BLOCK, f"(\n            {BLOCK}\n        )", ""),
        ("Model", "Net", "line 10: `class Net(nn.Module):`, was `class Model(nn.Module):`"),
        (BLOCK, "helper_of_mine.block(self.second(h)).add(h)", "line 17: "),
        ("HERE = ", "torch.manual_seed(3)\nHERE = ", "line 7: `torch.manual_seed(3)`"),
    ],
    ids=lambda value: str(value)[:24],
)
def test_what_changes_no_number_is_accepted_and_code_is_noted(
    begun: IdentityFacts, old: str, new: str, line: str
) -> None:
    write(old, new)
    notes = edited_notes({"identity": begun}, identity(begun))
    assert [line in note for note in notes] == ([True] if line else [])


def test_a_loss_that_changes_where_it_is_small_is_another_one() -> None:
    """At the start it is the same: the mean of logarithms of three classes is above the threshold."""

    def smooth(outputs: Any, y: Any) -> Any:
        return torch.nn.functional.cross_entropy(outputs, y, label_smoothing=0.1)

    def edited(outputs: Any, y: Any) -> Any:
        value = smooth(outputs, y)
        return torch.where(value < 0.7, 0.9 * value, value)

    x = torch.arange(120.0).view(40, 3).sin()
    data = dict.fromkeys(("train", "validation", "test"), (x, x.argmax(1)))
    was, now = (
        probe_problem(SupervisedProblem("own", lambda: torch.nn.Linear(3, 3), lambda: data, loss=loss, batch_size=8))
        for loss in (smooth, edited)
    )
    changed = [name for name in was.numbers if differs(was.numbers[name], now.numbers[name], "float64")]
    assert changed == ["right"] and min(value or 0.0 for value in was.numbers["right"][::2]) < 0.6


def test_a_changed_split_is_named() -> None:
    x, y = torch.arange(40.0).view(20, 2), torch.arange(20) % 2

    def described(cut: int, factor: float = 1.0) -> Any:
        data = {"train": (x, y), "validation": (factor * x[:cut], y[:cut]), "test": (x, y)}
        return describe_splits(SupervisedProblem("own", lambda: torch.nn.Linear(2, 2), lambda: data, batch_size=4))

    assert split_differences(described(10), described(10)) == []
    assert described(10)["validation"]["examples that are also in train"] == 10
    assert "examples that are also in train" not in described(10, 2.5)["validation"]
    same = {name: facts.get("same examples as") for name, facts in described(10).items()}
    assert same == {"train": None, "validation": None, "test": "train"}
    assert split_differences(described(10), described(10, 2.5)) == ["validation has mean of inputs 23.75, was 9.5"]
    assert split_differences(described(10), described(12))[0].startswith("validation has examples 12, was 10")


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.int64, torch.uint8, torch.bool])
def test_examples_of_several_splits_are_counted_as_a_loop_over_them_does(dtype: torch.dtype) -> None:
    draw = torch.Generator().manual_seed(0)
    splits = {
        name: (
            torch.randint(0, 2, (count, 3, 2), generator=draw).to(dtype),
            torch.randint(0, 2, (count,), generator=draw),
        )
        for name, count in (("train", 70), ("validation", 30), ("test", 40))
    }
    described = describe_splits(SupervisedProblem("own", lambda: torch.nn.Flatten(), lambda: splits, batch_size=4))
    for name, others in (("validation", ["train"]), ("test", ["train", "validation"])):
        for other in others:
            known = {(str(x.tolist()), int(y)) for x, y in zip(*splits[other], strict=True)}
            shared = sum((str(x.tolist()), int(y)) in known for x, y in zip(*splits[name], strict=True))
            assert 0 < shared < len(splits[name][0])
            assert described[name][f"examples that are also in {other}"] == shared
