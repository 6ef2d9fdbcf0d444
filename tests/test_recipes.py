"""The problems of the documentation: each passes what `study` asks of it, and is learned."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
import torch

from relaxbench.optim.hyper import defaults
from relaxbench.optim.registry import RULES
from relaxbench.problems import Problem, problem
from relaxbench.problems.registry import ATTRIBUTES, METHODS
from relaxbench.study.definition.files import load
from relaxbench.training.compatibility import try_out
from relaxbench.training.oracle import Oracle
from relaxbench.training.population import Population
from relaxbench.training.trial import Job, Outcome

DOCS = Path(__file__).parent.parent / "docs"
RECIPES = {
    name: code
    for page in ("recipes.md", "add-a-problem.md")
    for name, code in re.findall(r"```python\n# (\w+\.py)\n(.*?)```", (DOCS / page).read_text(), re.DOTALL)
    if "SupervisedProblem(" in code
}
BUDGET = 60


def test_the_pages_have_recipes() -> None:
    kinds = {
        "diabetes",
        "tokens",
        "segments",
        "flips",
        "large",
        "poisson",
        "bandit",
        "wine",
        "fine_tune",
        "imbalanced",
        "autoencoder",
    }
    assert {f"{kind}.py" for kind in kinds} == {*RECIPES}


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_is_accepted_and_learned(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(RECIPES[name])
    task = problem(str(tmp_path / name))
    try_out(task)
    oracle, got = Oracle(task, "direct"), list[Outcome]()
    jobs = [Job(0, 5, {**defaults(RULES["sgd"].wide), "lr": 0.03}, test=True)]
    Population(oracle, RULES["sgd"](), BUDGET).run(lambda free: [jobs.pop()] if jobs else [], got.extend, 1)
    before = oracle.measure(task.init(5)[None], "validation")
    assert not got[0].diverged and got[0].value < 0.9 * before.loss.item()
    assert torch.isfinite(torch.tensor(got[0].measures["test_metric"]))


def test_a_hand_tuned_method_can_be_the_baseline(tmp_path: Path) -> None:
    (text,) = re.findall(r"```toml\n(.*?)```", (DOCS / "recipes.md").read_text(), re.DOTALL)
    (tmp_path / "mine.toml").write_text(text.replace("my_problem.py", "digits-mlp"))
    spec, _ = load(tmp_path / "mine.toml")
    rule = spec.make_rule("mine", problem("digits-mlp"))
    assert spec.baseline == "mine" and rule.name == "sgd"
    assert tomllib.loads(text)["method"]["mine"]["fixed"].keys() <= RULES["sgd"].wide.keys()


def test_the_page_names_what_a_problem_overrides() -> None:
    part = (DOCS / "add-a-problem.md").read_text().split("## A function instead of data")[1]
    needed, others = (
        {name for cell in re.findall(r"^\| (`.+?) \|", table, re.MULTILINE) for name in re.findall(r"`(\w+)", cell)}
        for table in re.findall(r"\|---\|---\|\n((?:\|.*\n)+)", part)
    )
    assert needed == {*ATTRIBUTES, *METHODS}
    assert others and all(hasattr(Problem, name) for name in others) and not others & needed
