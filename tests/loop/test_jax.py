"""The loop in JAX of docs/your-loop.md runs as it stands there, and its study file fits it."""

from __future__ import annotations

import re
from importlib.util import find_spec
from pathlib import Path

import pytest

from relaxbench.study.definition.files import load
from tests import processes

PAGE = (Path(__file__).parents[2] / "docs" / "your-loop.md").read_text(encoding="utf-8")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name, text in re.findall(r"```\w+\n# (in[_-]jax\.\w+)\n(.*?)```", PAGE, re.DOTALL):
        (tmp_path / name).write_text(text, encoding="utf-8")
    assert {path.name for path in tmp_path.iterdir()} == {"in_jax.py", "in-jax.toml"}
    return tmp_path


def test_the_study_file_names_the_script(folder: Path) -> None:
    spec, _ = load(folder / "in-jax.toml")
    assert spec.script is not None and spec.script.file.endswith("in_jax.py")
    assert spec.methods == ["momentum", "adam"] and spec.baseline == "momentum"


@pytest.mark.skipif(find_spec("jax") is None, reason="needs pip install jax")
def test_the_script_learns(folder: Path) -> None:
    done = processes.run([str(folder / "in_jax.py")], cwd=folder)
    assert done.returncode == 0, done.stderr
    errors = [float(error) for error in re.findall(r"validation ([\d.]+)$", done.stdout, re.MULTILINE)]
    assert len(errors) == 20 and errors[-1] < 0.12 < errors[0]
    tested = re.search(r"^test ([\d.]+)$", done.stdout, re.MULTILINE)
    assert tested and float(tested[1]) < 0.12
