"""The README's code runs as printed."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from relaxbench.cli.main import app, main
from relaxbench.optim.registry import RULES
from relaxbench.problems import problem
from relaxbench.study.definition.files import load
from tests.study import tiny

TEXT = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", TEXT, flags=re.DOTALL)


def test_the_problem_file_makes_a_study(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    tiny.set_engine(monkeypatch)
    Path("my_problem.py").write_text(blocks("python")[0])
    small = ["--looks", "6", "--trials", "1", "--budget", "40", "--method", "sgd", "--no-report", "-q"]
    assert main(["study", "--problem", "my_problem.py", *small]) == 0
    assert "SGD is the baseline on my-problem" in capsys.readouterr().out


def test_the_study_file_is_valid(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("my_problem.py").write_text(blocks("python")[0])
    Path("mine.toml").write_text(blocks("toml")[2])
    spec, _ = load(Path("mine.toml"))
    assert spec.rule_of("hot").name == "entropy-sgd"


def test_a_baseline_with_settings_of_ones_own_is_not_searched(tmp_path: Path) -> None:
    (tmp_path / "own.toml").write_text(blocks("toml")[1])
    spec, _ = load(tmp_path / "own.toml")
    digits = problem("digits-mlp")
    assert spec.baseline == "my-sgd" and not spec.space_of("my-sgd", digits) and spec.space_of("sgd", digits)


def test_the_study_file_of_optimizers_is_valid(tmp_path: Path) -> None:
    pytest.importorskip("schedulefree", reason="needs pip install 'relaxbench[optimizers]'")
    (tmp_path / "optimizers.toml").write_text(blocks("toml")[0])
    spec, _ = load(tmp_path / "optimizers.toml")
    assert [spec.rule_of(label).title for label in spec.methods] == [
        "SGD",
        "Adam",
        "AdamWScheduleFree",
        "Muon",
        "Entropy-SGD",
    ]
    source = spec.rule_of("torch-muon").source
    assert source.startswith("torch.optim.Muon, wrapped; it takes matrices, torch.optim.AdamW the")


def test_the_training_loop_runs() -> None:
    names: dict[str, object] = {}
    exec(blocks("python")[1], names)
    assert names["optimizer"]


def test_every_command_and_method_that_it_names_exists() -> None:
    commands = {command.name for command in app.registered_commands}
    named = set(re.findall(r"python -m relaxbench (\w+)", TEXT))
    assert named and named <= commands
    assert set(re.findall(r"^\| `([\w-]+)` \|", TEXT, flags=re.MULTILINE)) == set(RULES)


def test_every_file_that_it_links_to_exists() -> None:
    root = Path(__file__).parents[1]
    links = re.findall(r"\]\(([^)#:]+)\)", TEXT)
    assert links and all((root / link).exists() for link in links)
