"""Training scripts for tests, in plain Python: they start at once."""

from __future__ import annotations

import re
import textwrap
from pathlib import Path
from typing import Any

from relaxbench.study.definition.spec import StudySpec
from relaxbench.study.definition.validation import restore

QUADRATIC = """
import random
import relaxbench

trial = relaxbench.trial(params={"lr": 0.1}, budget=40)
x = random.gauss(0, 1) + 3
while trial.left:
    x -= trial.params["lr"] * (x + random.gauss(0, 0.1))
    if trial.params["lr"] > 0.6:
        x = float("nan")
    trial.bill(gradients=1)
    if trial.due():
        trial.report(validation=x * x + 0.01, training=abs(x))
trial.test(lambda: x * x + 0.02)
print("done")
"""
"""Noisy descent on x²; large steps diverge."""

TOML = """
name = "loop"
methods = ["one", "other"]
baseline = "one"
budget = 40
looks = [6]
trials = 2
exploit = 4
recommend = 2

[script]
file = "descent.py"
metric = "square"
worst = 100.0
reports = 4

[method.one]
space = { lr = [1e-3, 2.0] }

[method.other]
fixed = { lr = 0.5 }
"""


def that_saves() -> str:
    """A script with the lines of the documentation that save its state and go on from it, in the middle of its run."""
    page = (Path(__file__).parents[2] / "docs" / "your-loop.md").read_text(encoding="utf-8")
    (lines,) = re.findall(r"```python\n(if trial\.checkpoint_path.*?)```", page, re.DOTALL)
    load, save = lines.split("...\n")
    return f"""
import torch
import relaxbench

trial = relaxbench.trial(params={{"lr": 0.1}}, budget=40)
model = torch.nn.Linear(1, 1)
{load}
while trial.left:
    with torch.no_grad():
        model.weight -= trial.params["lr"] * model.weight
    trial.bill()
    if trial.due():
        trial.report(validation=model.weight.item() ** 2 + 0.01)
{textwrap.indent(save.strip(), 8 * " ")}
assert trial.checkpoint_path.is_file()
trial.test(lambda: model.weight.item() ** 2 + 0.02)
"""


def write(folder: Path, text: str = QUADRATIC, name: str = "descent.py") -> str:
    """Write a script; return its path."""
    (folder / name).write_text(text)
    return str(folder / name)


def spec(path: str, **changes: Any) -> StudySpec:
    """A study of a script: a method that is searched, one that is fixed."""
    table = {"file": path, "metric": "square", "worst": 100.0, "reports": 4, **changes.pop("script", {})}
    values: dict[str, Any] = {
        "name": "loop",
        "methods": ["one", "other"],
        "baseline": "one",
        "budget": 40,
        "looks": [2],
        "trials": 2,
        "exploit": 4,
        "recommend": 2,
        "script": table,
        "method": {"one": {"space": {"lr": [1e-3, 2.0]}}, "other": {"fixed": {"lr": 0.5}}},
    }
    return restore({**values, **changes}, "loop.toml")
