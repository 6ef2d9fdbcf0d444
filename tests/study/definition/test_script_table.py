"""Mistakes in the table [script], and in scripts: one line each, before anything is written."""

from __future__ import annotations

import math
import re
from pathlib import Path

import pytest

from relaxbench.cli.main import main
from relaxbench.errors import UserError
from relaxbench.loop.spaces import range_of
from relaxbench.space import Choice, Float, Int
from relaxbench.study.definition.files import load
from relaxbench.study.definition.prepare import prepare
from relaxbench.study.definition.script_problem import LoopProblem
from tests.loop import scripts

TEXT = scripts.TOML


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a study file and its script."""
    monkeypatch.chdir(tmp_path)
    scripts.write(tmp_path)
    (tmp_path / "loop.toml").write_text(TEXT)
    return tmp_path


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (("reports", "report"), "unknown key in loop.toml, table [script]: 'report': did you mean 'reports'?"),
        (("worst = 100.0", ""), "the key 'script.worst' is missing"),
        (('file = "descent.py"', ""), "the key 'script.file' is missing, such as file = \"train.py\""),
        (('file = "descent.py"', 'file = "."'), "script.file = '.': is a folder, and a script is expected, such as"),
        (('file = "descent.py"', 'file = "descent"'), "script.file = 'descent': expected the path of a script, such"),
        (("reports = 4", "silence = 0"), "script.silence = 0: expected a number above 0"),
        (
            ("fixed = { lr = 0.5 }", "space = { lr = 0.1 }"),
            "method.other.space.lr = 0.1: expected [low, high], or a list of choices; a fixed value belongs in `fixed`",
        ),
        (
            ("lr = [1e-3, 2.0]", "lr = [1e-3, 2.0], c = [true, false]"),
            "method.one.space.c = [True, False]: expected [low, high], or a list of choices, all of them texts",
        ),
        (
            ("lr = [1e-3, 2.0]", 'lr = [1e-3, 2.0], c = [1, "a"]'),
            "method.one.space.c = [1, 'a']: expected [low, high], or a list of choices, all of them texts",
        ),
        (("worst = 100.0", "worst = 0.0"), "script.worst = 0: expected a number above the best one, 0"),
        (("worst = 100.0", 'worst = "bad"'), "script.worst = 'bad': expected a number"),
        (("reports = 4", 'unit = "a\\nb"'), "script.unit = 'a\\nb': expected a text of printable characters"),
        (("reports = 4", 'name = "a@b"'), "script.name = 'a@b': expected a name without @"),
        (("reports = 4", 'name = ""'), "script.name = '': expected a name without @"),
        (("reports = 4", "reports = 0"), "script.reports = 0: expected at least 1"),
        (("reports = 4", 'direction = "maximize"'), "state it, such as best = 1.0 for an accuracy"),
        (("reports = 4", 'direction = "up"'), "script.direction = 'up': expected 'minimize' or 'maximize'"),
        (("reports = 4", "scale = 0.0"), "script.scale = 0: expected a positive factor"),
        (("reports = 4", "worst_loss = inf"), "script.worst_loss = inf: expected a finite number"),
        (("reports = 4", 'integer = ["l"]'), "unknown hyperparameter in script.integer: 'l'"),
        (("reports = 4", 'integer = ["lr"]'), "`integer` names it, so expected whole numbers"),
        (("budget = 40", ""), "the key 'budget' is missing"),
        (
            ("budget = 40", 'budget = 40\nproblems = ["digits-mlp"]'),
            "a study with a table [script] has that script alone",
        ),
        (("budget = 40", "budget = 40\nflatness = true"), "flatness = True: it cannot be measured in a script"),
        (("budget = 40", 'budget = 40\nprecision = "bf16"'), "a script chooses its own precision"),
        (('"other"]', '"othr"]'), "unknown method of the script 'othr': did you mean 'other'?"),
        (
            ("fixed = { lr = 0.5 }", 'rule = "sgd"'),
            "method.other.rule = 'sgd': a method of a script is what the script",
        ),
        (("fixed = { lr = 0.5 }", 'arm = "published"'), "a script has no published settings"),
        (("fixed = { lr = 0.5 }", 'space = "wide"'), "method.other.space = 'wide': expected a table of ranges"),
        (("fixed = { lr = 0.5 }", "fixed = { lr = inf }"), "method.other.fixed.lr = inf: expected a finite number"),
        (("[1e-3, 2.0]", "[2.0, 1e-3]"), "method.one.space: range lr = [2, 0.001] is turned around"),
        (("[1e-3, 2.0]", "[2.0]"), "method.one.space: range lr = [2]: expected [low, high]"),
        (("[1e-3, 2.0]", '["a", "a"]'), "method.one.space: range lr = ['a', 'a']: an option stands there twice"),
        (("[method.one]", "[space]\nlr = [0.1, 1.0]\n[method.one]"), "state them in [method.NAME], as `space`"),
    ],
)
def test_a_mistake_in_the_file_is_one_line(folder: Path, change: tuple[str, str], words: str) -> None:
    assert change[0] in TEXT
    (folder / "loop.toml").write_text(TEXT.replace(*change))
    with pytest.raises(UserError) as error:
        load(Path("loop.toml"))
    assert words in str(error.value) and "\n" not in str(error.value) and "loop.toml" in str(error.value)


@pytest.mark.parametrize(
    ("search", "reports", "words"),
    [
        ({"pruner": "median"}, 4, "never asked for one: a generation of 4 is a whole block of 2 trials"),
        ({"pruner": "median", "generation": 1}, 1, "a trial has no round but its last, so there is nothing to ask"),
        (
            {"pruner": "median", "generation": 1},
            4,
            "method 'one': pruner 'median' is to stop its trials, but it never asks trial.should_prune(): ask after",
        ),
    ],
)
def test_a_pruner_that_could_stop_nothing_is_refused(
    tmp_path: Path, search: dict[str, object], reports: int, words: str
) -> None:
    with pytest.raises(UserError) as error:
        prepare(scripts.spec(scripts.write(tmp_path), search=search, script={"reports": reports}))
    assert words in str(error.value) and "\n" not in str(error.value)


BILL, REPORT = "    trial.bill(gradients=1)\n", "        trial.report(validation=x * x + 0.01, training=abs(x))\n"


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        (BILL, "    break\n", "it bills no gradient: call trial.bill(gradients=1) after every backward pass"),
        (scripts.QUADRATIC, "", "it never calls relaxbench.trial(), which gives it its params, seed and budget"),
        (
            "while trial.left:",
            "raise SystemExit\nwhile trial.left:",
            "it ends by sys.exit() before it bills a gradient",
        ),
        ("while trial.left:", "trial.diverged()\nwhile trial.left:", "it ends by trial.diverged(), or a report that"),
        (
            "lambda: x * x + 0.02",
            "x",
            "TypeError: trial.test(…): expected a function, got float: call trial.test(lambda",
        ),
        (BILL, "    trial.bill(gradients=0)\n", "ValueError: trial.bill(gradients=0): expected a positive number"),
        (REPORT, "        pass\n", "it reports nothing: call trial.report(validation=…) when trial.due()"),
        ("trial.test(lambda: x * x + 0.02)\n", "\n", "it never calls trial.test(…), so nothing could be confirmed"),
        ("x * x + 0.02", "-1.0", "trial.test(…) gives -1, better than the best possible square, 0"),
        ("x * x + 0.02", "float('nan')", "trial.test(…) gives nan"),
        ("x * x + 0.01", "-1", "trial.report(validation=-1) gives -1, better than the best possible square, 0"),
        ("abs(x))", "abs(x), loss=x)", "state that of a diverged run, worst_loss, in [script]"),
        ("while trial.left:", "while True:", "RuntimeError: the budget of 10 gradients was spent long ago"),
        ('["lr"]', '["rate"]', "KeyError: 'rate' (line 8 of descent.py)"),
        ("import random\n", "import random,\n", "script 'descent.py' cannot be run: SyntaxError"),
        ("import random\n", "import nothing_here\n", "ModuleNotFoundError: No module named 'nothing_here'"),
    ],
)
def test_a_script_that_cannot_serve_is_refused_before_a_database_exists(
    folder: Path, capsys: pytest.CaptureFixture[str], old: str, new: str, words: str
) -> None:
    assert old in scripts.QUADRATIC
    scripts.write(folder, scripts.QUADRATIC.replace(old, new, 1))
    assert main(["study", "loop.toml"]) == 2
    said = capsys.readouterr()
    message = " ".join(said.err.split())
    assert words in message and message.count("relaxbench:") == 1 and "Traceback" not in message
    assert not said.out.strip() and not list(folder.glob("*.db")) and not (folder / "checkpoints").exists()


@pytest.mark.parametrize(("path", "words"), [("none.py", "does not exist"), ("folder.py", "is a folder")])
def test_a_file_that_is_none_is_refused(folder: Path, path: str, words: str) -> None:
    (folder / "folder.py").mkdir()
    with pytest.raises(UserError, match=re.escape(f"script file '{path}' {words}")):
        prepare(scripts.spec(path))


def test_a_script_that_ignores_its_seed_is_told(folder: Path) -> None:
    text = scripts.QUADRATIC.replace("x = random", "random.seed()\nx = random", 1)
    ((own,), (other,)) = (
        prepare(scripts.spec(scripts.write(folder, code, name)))
        for code, name in ((text, "unsteady.py"), (scripts.QUADRATIC, "descent.py"))
    )
    assert isinstance(own, LoopProblem) and "depend on more than the seed" in own.caution
    assert "depend on more than the seed" not in other.caution


def test_a_range_says_its_scale() -> None:
    assert range_of("lr", [1e-4, 1.0]) == Float(1e-4, 1.0, pytest.approx(1e-2), log=True)
    assert range_of("lr", [1e-4, 1.0], linear=True) == Float(1e-4, 1.0, 0.50005)
    assert range_of("beta", [0.5, 0.9]) == Float(0.5, 0.9, pytest.approx(0.7))
    assert range_of("shift", [-1.0, 10.0]) == Float(-1.0, 10.0, 4.5)
    assert range_of("layers", [1, 5], whole=True) == Int(1, 5, 3)
    assert range_of("act", ["relu", "tanh"]) == Choice(("relu", "tanh"), "relu")
    assert math.isclose(range_of("lr", [1.0, 10.0]).default, math.sqrt(10))
