"""Edits of a rule in a file of one's own: refused with the line that changed, wherever in its space they act."""

from __future__ import annotations

import itertools
import os
from pathlib import Path
from typing import Any

import pytest

from relaxbench.errors import UserError
from relaxbench.optim.registry import RULES
from relaxbench.plugins import run_file
from relaxbench.problems import problem
from relaxbench.store.identity_facts import IdentityFacts
from relaxbench.study.definition.identity import edited_notes, identify, refuse_edits
from tests.study import tiny

RULE = """
import torch
from relaxbench.optim.rule import Query, Rule, counters, standard_normal
from relaxbench.space import Choice, Float
class Own(Rule):
    name, title, source, copies = "own", "Own", "nobody", 3
    space = {
        "lr": Float(1e-3, 1.0, 0.1, log=True), "decay": Float(0.0, 0.1, 0.0), "noise": Float(0.0, 0.1, 0.0),
        "kind": Choice(("plain", "signed"), "plain"),
    }
    def init(self, x, seed):
        return {"x": x.clone(), "v": torch.zeros_like(x), **counters(x, seed)}
    def query(self, state, hyper):
        return Query(state["x"], state["t"])
    def update(self, state, grad, loss, hyper):
        grad = grad.clamp(-50.0, 50.0)
        d = grad + hyper["decay"] * state["x"]
        d = d + hyper["noise"] * standard_normal(state, d.shape[1], d.dtype)
        d = torch.where(hyper["kind"] == 1, d.sign(), d)
        state["v"].mul_(0.9).add_(torch.where(state["t"] > 8, 0.5, 1.0).to(d.dtype) * d)
        state["v"].mul_(torch.where(state["t"] > 90, 0.9, 1.0).to(d.dtype))
        state["x"].sub_(hyper["lr"] * state["v"] / (state["v"].abs().sqrt() + 1e-8))
        state["t"] += 1
        return state
"""
CLASS = """
import torch
from torch.optim import Optimizer
class Mine(Optimizer):
    def __init__(self, params, lr=0.1, decay=0.0):
        super().__init__(params, {"lr": lr, "decay": decay})
    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            for p in group["params"]:
                p.sub_(p.grad.clamp(-50, 50) + group["decay"] * p, alpha=group["lr"])
"""
AGES = itertools.count()
STEPS = "its rule takes other steps with the same hyperparameters (the code of the rule changed); `own.py`, line "


def identity(folder: Path, rule: str, known: IdentityFacts | None = None) -> Any:
    """The identity of a study of a rule, and of a wrapped optimizer, whose files have these texts."""
    (folder / "own.py").write_text(rule if "class Own" in rule else RULE)
    (folder / "mine.py").write_text(rule if "class Mine" in rule else CLASS)
    age = 1e9 + next(AGES)  # the path and the age of a file tell it from others in this process
    os.utime(folder / "mine.py", (age, age))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        own = run_file(folder / "own.py", "rule", "a rule").Own
        patch.setattr("relaxbench.optim.registry.plugins.points_of", lambda group: {"own": []})
        patch.setattr("relaxbench.optim.registry.plugins.load", lambda group, name: own)
        assert "own" not in RULES
        methods = {"mine": {"rule": "torch:mine.py:Mine"}}
        spec = tiny.spec(problems=["linear-net"], methods=["sgd", "own", "mine"], method=methods)
        tasks, manifest = [problem("linear-net")], {"identity": known} if known else {}
        now = identify(spec, tasks, {"linear-net": "linear-net"}, manifest)  # type: ignore[arg-type]
        if known:
            refuse_edits(manifest, "tiny", now, spec, tasks)  # type: ignore[arg-type]
        return now


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory) -> IdentityFacts:
    facts: IdentityFacts = identity(tmp_path_factory.mktemp("begun"), RULE)
    return facts


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ('grad + hyper["decay"]', 'grad + 2 * hyper["decay"]', f'{STEPS}17: `d = grad + 2 * hyper["decay"]'),
        ('d + hyper["noise"]', 'd - hyper["noise"]', STEPS),
        ("d.sign()", "d.sign() * 0.9", STEPS),
        ("-50.0, 50.0", "-1e6, 1e6", STEPS),
        ("1e-8", "1e-7", STEPS),
        ('state["t"] > 8', 'state["t"] > 9', STEPS),
        ('state["t"] > 90', 'state["t"] > 91', STEPS),
        ("grad = grad.clamp", "grad = (1 if len(grad[0]) == 20 else 1.1) * grad.clamp", STEPS),
        (', "nobody", 3', ', "nobody", 4', "copies of the parameters 4 on linear-net, were 3"),
        ('"nobody", 3', '"nobody", 3\n    price = 2.0', "gradients per query 2.0 on linear-net, were 1.0"),
    ],
    ids=lambda value: str(value)[:24],
)
def test_an_edited_rule_is_refused_with_its_line(
    begun: IdentityFacts, tmp_path: Path, old: str, new: str, told: str
) -> None:
    assert old in RULE
    with pytest.raises(UserError) as refused:
        identity(tmp_path, RULE.replace(old, new), begun)
    assert f"method 'own': {told}" in str(refused.value) and "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("old", "new"),
    [('group["decay"] * p', '2 * group["decay"] * p'), ("-50, 50", "-40, 40"), ('group["lr"])', 'group["lr"] + 0.01)')],
)
def test_an_edited_optimizer_of_a_file_is_refused_with_its_line(
    begun: IdentityFacts, tmp_path: Path, old: str, new: str
) -> None:
    with pytest.raises(UserError, match=r"method 'mine': its rule takes other steps .*; `mine.py`, line 11: `"):
        identity(tmp_path, CLASS.replace(old, new), begun)


def test_code_of_a_rule_with_the_same_steps_is_noted_and_a_comment_is_not(begun: IdentityFacts, tmp_path: Path) -> None:
    assert edited_notes({"identity": begun}, identity(tmp_path, f"# a comment{RULE}", begun)) == []
    other = RULE.replace("d = grad + ", "d = 1 * grad + ")
    (note,) = edited_notes({"identity": begun}, identity(tmp_path, other, begun))
    assert note.startswith("`own.py` is not as it was when the study began, line 17: `d = 1 * grad + ")
