"""What is installed: the optimizers need torch alone, and everything else says in one line what it needs."""

from __future__ import annotations

import contextlib
import re
import subprocess
import sys
import tomllib
import warnings
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

from relaxbench.__main__ import silence_torch
from relaxbench.errors import LIBRARIES, missing_library

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]

BLOCK = """
import sys

blocked = sys.argv.pop(1).split(",")
sys.modules |= dict.fromkeys(blocked)  # Python finds none of them
"""

LOOP = """
import torch
from relaxbench.optim import *
from relaxbench import optim

torch.manual_seed(0)
model, x, y = torch.nn.Linear(4, 2), torch.randn(8, 4), torch.randint(0, 2, (8,))
for name in ("SGD", "EntropySGD", "HeatSGD", "Muon", "ScheduleFreeSGD"):
    optimizer = getattr(optim, name)(model.parameters(), total_steps=40)
    for _ in range(40):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(model(x), y).backward()
        optimizer.step()
print(len(optim.__all__), [name for name in blocked if sys.modules[name]])
"""


def python(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, "-W", "ignore", "-c", BLOCK + code, ",".join(LIBRARIES), *arguments]
    return subprocess.run(line, cwd=ROOT, capture_output=True, text=True, check=False)


def test_the_optimizers_need_torch_alone() -> None:
    from relaxbench import optim

    assert [Requirement(text).name for text in PROJECT["dependencies"]] == ["torch"]
    done = python(LOOP)
    assert (done.stdout, done.stderr) == (f"{len(optim.__all__)} []\n", "")


def test_the_constraints_are_versions_for_every_python_that_the_project_supports() -> None:
    """Debian 12, for one, brings 3.11.2: what needs 3.11.5 could not be installed there."""
    lowest, needs = PROJECT["requires-python"].removeprefix(">=") + ".0", {}
    for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines():
        if re.match(r"[\w.-]+==", line):
            with contextlib.suppress(metadata.PackageNotFoundError):  # of another platform or extra
                name = Requirement(line).name
                needs[name] = metadata.metadata(name).get("Requires-Python") or ""
    assert len(needs) > 100
    assert {name: need for name, need in needs.items() if lowest not in SpecifierSet(need)} == {}


def test_the_libraries_are_those_of_the_extra() -> None:
    wanted = {Requirement(text).name for text in PROJECT["optional-dependencies"]["study"]}
    provided = {m: set(map(canonicalize_name, names)) for m, names in metadata.packages_distributions().items()}
    assert {package for module in LIBRARIES for package in provided[module]} & wanted == wanted
    assert all(provided[module] & wanted for module in LIBRARIES)


@pytest.mark.parametrize("command", ["study", "--help"])
def test_a_command_without_them_is_one_line(command: str) -> None:
    done = python("from relaxbench.__main__ import main; sys.exit(main())", command)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert done.stderr.startswith(
        "relaxbench: this needs 'typer', which is not installed: pip install 'relaxbench[study]'"
    )


@pytest.mark.parametrize("name", ["load_study", "problems"])
def test_so_is_the_rest_of_the_library(name: str) -> None:
    done = python(f"import relaxbench; relaxbench.{name}")
    assert "which is not installed: pip install 'relaxbench[study]'" in done.stderr.splitlines()[-1]


def test_warnings_of_torch_itself_are_kept_out_of_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    def seen() -> list[str]:
        with warnings.catch_warnings(record=True) as caught:
            warnings.resetwarnings()
            silence_torch()
            warnings.warn_explicit("of torch", UserWarning, "functional.py", 1, "torch.nn.functional")
            warnings.warn_explicit("x\ny (Triggered internally at /a.cpp:1.)", UserWarning, "mine.py", 1, "mine")
            warnings.warn_explicit("of a problem", UserWarning, "mine.py", 2, "torchlike")
        return [str(each.message) for each in caught]

    monkeypatch.setattr(sys, "warnoptions", [])
    assert seen() == ["of a problem"]
    monkeypatch.setattr(sys, "warnoptions", ["default"])
    assert len(seen()) == 3


def test_a_module_of_somebody_else_is_their_own() -> None:
    assert missing_library(ModuleNotFoundError("No module named 'mine'", name="mine")) is None
    assert missing_library(ModuleNotFoundError("nothing")) is None
