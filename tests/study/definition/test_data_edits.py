"""Edits that the first examples of a problem do not show: rare labels and inputs, bytes, splits, mini-batches."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from relaxbench.errors import UserError
from relaxbench.problems import problem
from relaxbench.study.definition.identity import identify, refuse_edits
from tests.study import tiny

TOKENS = """
import torch
from torch import nn
from relaxbench.problems import SupervisedProblem
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed, self.head = nn.Embedding(40, 4), nn.Linear(4, 40)
    def forward(self, tokens):
        return self.head(self.embed(tokens) + torch.where((tokens == 39)[..., None], 0.5, 0.0))
x = torch.arange(540).view(90, 6) * 7 % 38
x[3, 2], weights = 39, torch.ones(40)
y = x.roll(-1, 1)
y[3, 4] = 38
weights[38] = 3.0
cuts = {"train": slice(0, 40), "validation": slice(40, 60), "test": slice(60, 90)}
problem = SupervisedProblem("own", Net, lambda: {s: (x[c], y[c]) for s, c in cuts.items()},
    loss=nn.CrossEntropyLoss(weights), batch_size=4, budget=40)
"""
IMAGES = """
import torch
from torch import nn
from relaxbench.problems import SupervisedProblem
class Net(nn.Sequential):
    def forward(self, x):
        return super().forward(x.float() / 255)
def model():
    return Net(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4, eps=1e-5), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3))
x = (torch.arange(3240) * 37 % 251).view(90, 1, 6, 6).to(torch.uint8)
y = torch.arange(90) % 3
problem = SupervisedProblem("own", model, lambda: {s: (x, y) for s in ("train", "validation", "test")}, batch_size=8)
"""
LINE = """
import torch
from relaxbench.problems import Problem, losses
class Line(Problem):
    name, title, metric, unit, metric_scale = "own", "A line", "loss", "", 1.0
    loss, budget, worst, worst_metric, margin, space = losses.loss("none"), 40, 1e3, 1e3, 0.1, {}
    rounds, batch_size, noise, points = 3, 4, 0.1, torch.linspace(-1, 1, 24)
    held, last = torch.linspace(-0.9, 0.9, 15), torch.linspace(-0.95, 0.85, 15)
    def layout(self): return [("a", torch.Size([2]))]
    def init(self, seed): return torch.full((2,), 0.1 + seed % 7)
    def sampler(self, seeds, first, steps, device):
        def batch(number):
            rows = (5 * number + torch.arange(4) + torch.tensor(list(seeds))[:, None] % 7) % 24
            return {"x": self.points[rows] + self.noise * torch.sin(1.0 * number)}
        return type("Sampler", (), {"batch": staticmethod(batch)})()
    def outputs(self, params, batch, training):
        return (params["a"][..., 0:1] * batch["x"] + params["a"][..., 1:2] - 0.5).square()
    def split(self, name, device):
        return {"x": {"validation": self.held, "test": self.last, "train": self.points}[name]}
problem = Line()
"""
RARE = "the same parameters give another loss on examples with rare inputs or labels"


def identity(folder: Path, text: str, known: Any = None) -> Any:
    (folder / "own.py").write_text(text)
    source = str(folder / "own.py")
    spec = tiny.spec(problems=[source], methods=["sgd"], budget=None)
    manifest, tasks = {"identity": known} if known else {}, [problem(source)]
    now = identify(spec, tasks, {"own": source}, manifest)  # type: ignore[arg-type]
    if known:
        refuse_edits(manifest, "tiny", now, spec, tasks)  # type: ignore[arg-type]
    return now


@pytest.mark.parametrize(
    ("text", "old", "new", "told"),
    [
        (TOKENS, "weights[38] = 3.0", "weights[38] = 4.0", RARE),
        (TOKENS, "0.5, 0.0", "0.7, 0.0", RARE),
        (IMAGES, "eps=1e-5", "eps=1.1e-5", "the same parameters give another"),
        (IMAGES, "4, eps=1e-5)", "4).eval()", "examples for batch normalization 0, was 90"),
        (LINE, "linspace(-0.9, 0.9", "linspace(-0.9, 0.91", "the data of a split are others"),
        (LINE, "0.85, 15", "0.85, 16", "the data of a split are others"),
        (LINE, "5 * number", "7 * number", "the mini-batches of the same seed are others"),
        (LINE, "3, 4, 0.1", "3, 4, 0.2", "the mini-batches of the same seed are others"),
        (
            LINE,
            "    def split",
            "    def correct(self, o, b): return o < 0.1\n    def split",
            "other answers count as right",
        ),
    ],
    ids=lambda value: str(value).strip()[:20],
)
def test_an_edit_that_the_first_examples_do_not_show_is_refused(
    tmp_path: Path, text: str, old: str, new: str, told: str
) -> None:
    assert old in text
    begun = identity(tmp_path, text)
    identity(tmp_path, f"# a comment\n{text}", begun)
    with pytest.raises(UserError) as refused:
        identity(tmp_path, text.replace(old, new), begun)
    assert told in str(refused.value) and "`own.py`" in str(refused.value)
