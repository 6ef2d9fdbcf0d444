"""The scripts in examples/ run, are short, and say what their table promises."""

from __future__ import annotations

import importlib.util
import os
import re
import runpy
from pathlib import Path

import pytest

from tests import processes
from tests.study import tiny

EXAMPLES = Path(__file__).parents[1] / "examples"
SCRIPTS = sorted(path.name for path in EXAMPLES.glob("*.py"))


def run(script: str, folder: Path) -> str:
    """The output of an example that is run in a folder."""
    path = os.pathsep.join([str(EXAMPLES.parent), *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = {**os.environ, "PYTHONPATH": path, "HF_HUB_OFFLINE": "1", "COLUMNS": "200", "NO_COLOR": "1"}
    done = processes.run([str(EXAMPLES / script)], cwd=folder, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_table_names_every_script() -> None:
    text = (EXAMPLES / "README.md").read_text(encoding="utf-8")
    assert sorted(re.findall(r"^\| \[(\S+)\]\(\S+\)", text, re.MULTILINE)) == SCRIPTS and len(SCRIPTS) == 8


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_script_is_short_and_says_how_it_is_run(script: str) -> None:
    text = (EXAMPLES / script).read_text(encoding="utf-8")
    assert len(text.splitlines()) < 60 and f"\npython {script}" in text


def test_a_drop_in_optimizer_takes_as_many_gradients_as_sgd(tmp_path: Path) -> None:
    out = run("drop_in_optimizer.py", tmp_path)
    results = re.findall(r"^(SGD|Entropy-SGD) +(\d+) gradients, test error ([\d.]+) %$", out, re.MULTILINE)
    assert [name for name, _, _ in results] == ["SGD", "Entropy-SGD"]
    assert results[0][1] == results[1][1]
    assert all(float(error) < 20 for _, _, error in results)  # guessing is wrong in 90 %


def test_in_lightning_the_checkpoint_is_what_was_validated_and_tested(tmp_path: Path) -> None:
    out = run("lightning_module.py", tmp_path)
    results = re.findall(r"^(\w+): (\d+) steps, ([\d.]+) ([\d.]+) ([\d.]+) ([\d.]+)$", out, re.MULTILINE)
    assert [(name, steps) for name, steps, *_ in results] == [("EntropySGD", "64"), ("SAM", "64"), ("CurveBall", "64")]
    for name, _, validated, tested, monitored, again in results:
        assert validated == tested and monitored == again and float(monitored) <= float(validated) < 0.65, name


@pytest.mark.parametrize(
    ("package", "script", "steps", "methods"),
    [
        ("accelerate", "accelerate_loop.py", 64, ["EntropySGD", "SAM", "CurveBall"]),
        ("transformers", "transformers_trainer.py", 32, ["EntropySGD"]),
    ],
)
def test_with_hugging_face_what_is_saved_is_what_was_validated(
    package: str, script: str, steps: int, methods: list[str], tmp_path: Path
) -> None:
    if importlib.util.find_spec(package) is None:
        pytest.skip(f"{package} is not installed: pip install 'relaxbench[examples]'")
    found = re.findall(r"^(\w+): (\d+) steps,((?: [\d.]+)+)$", run(script, tmp_path), re.MULTILINE)
    assert [(name, int(counted)) for name, counted, _ in found] == [(method, steps) for method in methods]
    for name, _, losses in found:
        values = [float(value) for value in losses.split()]
        assert len(values) > 1 and values == pytest.approx([values[0]] * len(values), abs=2e-6), name
        assert 0.0 < values[0] < 0.69, name  # that of a coin


def test_a_study_of_your_own_problem_ends_with_a_verdict_and_is_read_again(tmp_path: Path) -> None:
    out = run("study_your_problem.py", tmp_path)
    assert "80 trials in" in out and "SGD is the baseline on moons. Test error" in out
    assert re.search(r"Entropy-SGD against SGD on moons: (undecided|better|worse|equivalent)", out)
    assert re.search(r"^ *moons entropy-sgd +\w+ +[\d.]+ +[\d.]+ +[\d.]+$", out, re.MULTILINE)
    assert (tmp_path / "reports" / "moons.html").is_file()
    table = run("read_a_study.py", tmp_path)
    for method in ("sgd", "entropy-sgd"):
        assert re.search(rf"^(moons)? *{method} +[\d.]+ +[\d.]+ +6$", table, re.MULTILINE)
        assert f"moons, best of {method}: {{'" in table
    assert "curves.html: 32 runs" in table and (tmp_path / "curves.html").stat().st_size > 1_000_000


def test_an_optimizer_of_ones_own_gets_a_verdict(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Here, without the measurements of engine and costs, which take longest."""
    monkeypatch.chdir(tmp_path)
    tiny.set_engine(monkeypatch)
    runpy.run_path(str(EXAMPLES / "your_optimizer.py"), run_name="__main__")
    found = re.findall(
        r"^(\S+) against SGD on digits-mlp: (?:better|worse|equivalent|undecided)", capsys.readouterr().out, re.M
    )
    assert found == ["adam", "normalized"]


def test_a_loop_of_ones_own_runs_alone(tmp_path: Path) -> None:
    out = run("own_loop.py", tmp_path)
    found = re.findall(r"^(\d+) gradients: training [\d.]+, validation ([\d.]+)$", out, re.MULTILINE)
    assert len(found) == 20 and int(found[-1][0]) == 300
    assert float(found[-1][1]) < float(found[0][1])
    assert re.search(r"^test [\d.]+$", out, re.MULTILINE)
