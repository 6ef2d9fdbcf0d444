"""The example of docs/science.md is the problem that it says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

from relaxbench.problems import problem
from relaxbench.problems.registry import from_file
from relaxbench.problems.science.catalogue import SCIENCE
from relaxbench.problems.science.pinn import SolutionProblem
from relaxbench.training.compatibility import try_out
from tests.problems.science.test_solutions import solved

PAGE = (Path(__file__).parents[3] / "docs" / "science.md").read_text()
CPU = torch.device("cpu")


def test_the_example_has_no_residual_at_its_solution(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    (tmp_path / "heat.py").write_text(code)
    task = from_file(tmp_path / "heat.py")
    try_out(task)
    assert isinstance(task, SolutionProblem)
    batch = task.split("validation", CPU)
    assert batch["edge"].shape == (1, 256, 2) and float(batch["edge"][..., 1].max()) < 1  # the end is free
    monkeypatch.setattr(task, "field", solved(task.exact))
    assert task.outputs(task.unflatten(task.init(0)), batch, True).norm() < 1e-12


def test_the_page_names_every_problem_and_repeats_its_figures() -> None:
    families = {name.removesuffix("-small").removesuffix("-tanh").removesuffix("-sin") for name in SCIENCE}
    assert all(f"`{name}`" in PAGE for name in families)
    for name, numbers in (
        ("pinn-poisson2d", ("3.6e-5", "9.4e-5", "1.8e-4", "3.2e-7", "3.4e-7", "6.2e-8")),
        ("pinn-wave", ("5.52e-2", "1.27e-2")),
        ("pde-id-hjb", ("2.9e-2",)),
    ):
        assert all(number in problem(name).published and number in PAGE for number in numbers)
