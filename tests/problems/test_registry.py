"""Problems by name and from your own file."""

from __future__ import annotations

from pathlib import Path

import pytest

from relaxbench.errors import UserError
from relaxbench.problems import PROBLEMS, problem

GOOD = """
from __future__ import annotations
import dataclasses
import torch
from relaxbench.problems import SupervisedProblem

@dataclasses.dataclass
class Shape:
    inputs: int = 3
    outputs: int = 2

def data():
    x = torch.rand(20, Shape().inputs)
    return {name: (x, (x[:, 0] > 0.5).long()) for name in ("train", "validation", "test")}

problem = SupervisedProblem("mine", lambda: torch.nn.Linear(Shape().inputs, Shape().outputs), data, batch_size=5)
"""


@pytest.mark.parametrize("name", PROBLEMS)
def test_every_problem_can_be_made_and_knows_its_name(name: str) -> None:
    made = problem(name)
    assert made.name == name and made.title and made.size > 0 and made.budget > 0 and made.most_rounds > 0
    assert problem(name) is not made


def test_an_unknown_problem_is_named_with_the_nearest() -> None:
    with pytest.raises(UserError, match="unknown problem 'digit-mlp': did you mean 'digits-mlp'"):
        problem("digit-mlp")


def test_a_file_with_a_problem_is_used(tmp_path: Path) -> None:
    file = tmp_path / "my problem.py"
    file.write_text(GOOD)
    made = problem(str(file))
    assert made.name == "mine" and made.size == 8 and made.batch_size == 5


def test_two_files_of_one_name_are_two_problems(tmp_path: Path) -> None:
    for folder, size in (("a", 2), ("b", 7)):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "p.py").write_text(GOOD.replace("outputs: int = 2", f"outputs: int = {size}"))
    assert problem(str(tmp_path / "a/p.py")).size == 8
    assert problem(str(tmp_path / "b/p.py")).size == 28


UNFINISHED = """
from relaxbench.problems import Problem
class Mine(Problem):
    name, title, budget, worst, margin = "mine", "mine", 9, 1.0, 0.1
    def layout(self): return []
problem = Mine()
"""


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "does not exist"),
        ("def f(:\n", "fails when run: SyntaxError"),
        ("raise RuntimeError('two\\nlines')", "fails when run: RuntimeError: two$"),
        ("import no_such_module_anywhere", "fails when run: ModuleNotFoundError"),
        ("import sys\nsys.exit('bye')", "fails when run: SystemExit: bye"),
        ("x = 1", "defines no `problem`; expected a relaxbench Problem"),
        ("problem = 'digits'", "defines `problem` as str"),
        ("def problem(): ...", "defines `problem` as function"),
        ("from relaxbench.problems import Problem as problem", "defines `problem` as type"),
        (
            UNFINISHED,
            r"defines a Mine without loss, space, init\(\), sampler\(\), outputs\(\), split\(\): every .*your-loop",
        ),
    ],
)
def test_a_file_without_a_problem_is_refused_in_one_line(tmp_path: Path, text: str | None, message: str) -> None:
    file = tmp_path / "p.py"
    if text is not None:
        file.write_text(text)
    with pytest.raises(UserError, match=message) as error:
        problem(str(file))
    assert str(file) in str(error.value) and "\n" not in str(error.value)


def test_a_folder_that_ends_in_py_is_no_file(tmp_path: Path) -> None:
    (tmp_path / "p.py").mkdir()
    with pytest.raises(UserError, match="is a folder"):
        problem(str(tmp_path / "p.py"))
