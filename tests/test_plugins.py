"""Rules and problems of other packages: those of the documentation, installed for real, and broken ones."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import EntryPoint, EntryPoints, entry_points
from pathlib import Path

import pytest

from relaxbench import plugins
from relaxbench.cli.main import main
from relaxbench.errors import UserError
from relaxbench.optim import drop_in
from relaxbench.optim.registry import RULES, loadable_rules, rule_class, rule_names
from relaxbench.optim.rule import Rule
from relaxbench.problems import PROBLEMS, problem, problem_names
from relaxbench.study.definition.ablation import parts_of
from relaxbench.study.definition.validation import check_on
from tests import processes
from tests.study import tiny

ROOT = Path(__file__).parents[1]


def blocks(page: str) -> dict[str, str]:
    """The Python blocks of a page that begin with the name of a file."""
    text = (ROOT / "docs" / page).read_text()
    found = re.findall(r"```python\n# (\S+)\n(.*?)```", text, re.DOTALL)
    assert found
    return dict(found)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as pip installs it: the packages of both pages of the documentation, and their entry points."""
    folder = tmp_path_factory.mktemp("site")
    points = []
    for page in ("add-an-optimizer.md", "add-a-problem.md"):
        for name, text in blocks(page).items():
            file = folder / name
            file.parent.mkdir(exist_ok=True)
            file.write_text(text)
        points += re.findall(
            r"```toml\n\[project\.entry-points\.\"(\S+)\"\]\n(.*?)```", (ROOT / "docs" / page).read_text(), re.DOTALL
        )
    (folder / "my_package" / "__init__.py").write_text("")
    info = folder / "my_package-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: my-package\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "\n".join(f"[{group}]\n{lines.replace(chr(34), '')}" for group, lines in points)
    )
    return folder


def test_an_edited_file_runs_as_it_is_now(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also within the second and at the same size, where Python takes its stored bytecode for current."""
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    file = tmp_path / "mine.py"
    found = []
    for width in (10, 32):
        file.write_text(f"width = {width}")
        os.utime(file, (1_700_000_000, 1_700_000_000))
        found.append(plugins.run_file(file, "problem", "`problem`").width)
    assert found == [10, 32]
    assert not (tmp_path / "__pycache__").exists()


def run(site: Path, where: Path, *command: str) -> subprocess.CompletedProcess[str]:
    """A command in a process of its own that sees the site."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(site)]), "COLUMNS": "200"}
    return processes.run(["-m", *command], cwd=where, env=environment)


def commands(site: Path, where: Path, *lines: str) -> list[str]:
    """What commands print that must succeed, one after another in a process that sees the site; nothing is measured."""
    code = "import shlex, sys\nfrom relaxbench.cli.main import main\nfrom tests.study import tiny\ntiny.steady()\n"
    code += "for line in sys.argv[1:]:\n    assert main(shlex.split(line)) == 0, line\n    print('\\f')\n"
    (where / "commands.py").write_text(code)
    done = run(site, where, "commands", *lines)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.split("\f\n")[:-1]


STUDY = """
name = "wine"
problems = ["wine"]
methods = ["sgd", "qhm"]
looks = [6]
trials = 1
exploit = 0
recommend = 1
budget = 40
flatness = false
"""


def test_plugins_are_listed_checked_and_studied(site: Path, tmp_path: Path) -> None:
    (tmp_path / "wine.toml").write_text(STUDY)
    lines = ("list", "check qhm wine", "study wine.toml --population 8", "best wine qhm")
    listed, checked, studied, best = commands(site, tmp_path, *lines)
    assert re.search(r"qhm +QHM", listed) and re.search(r"wine +", listed)
    assert "✓ method qhm: 15 of 15" in checked and "✓ problem wine: 11 of 11" in checked
    assert "QHM" in studied and (tmp_path / "reports" / "wine.html").is_file()
    before, after = (
        "import torch\nmodel = torch.nn.Linear(2, 2)",
        "print(type(optimizer).__name__, optimizer.rule.name)",
    )
    (tmp_path / "paste.py").write_text(f"{before}\n{best}\n{after}")
    assert run(site, tmp_path, "paste").stdout.split() == ["QHM", "qhm"]


@pytest.mark.parametrize("file", ["my_package/qhm.py", "wine.py", "valley.py"])
def test_a_file_is_checked_as_it_is(site: Path, file: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Here, in the test's process, where nothing of the site can be imported."""
    assert main(["check", str(site / file)]) == 0
    out = capsys.readouterr().out
    assert "checks passed" in out and "✗" not in out


def test_the_test_files_of_the_documentation_pass_in_pytest(site: Path) -> None:
    done = run(site, site, "pytest", "-q", "-p", "no:cacheprovider", "tests")
    assert done.returncode == 0 and "26 passed" in done.stdout, done.stdout


def test_the_drop_in_of_the_documentation_runs(site: Path, tmp_path: Path) -> None:
    text = (ROOT / "docs" / "add-an-optimizer.md").read_text()
    code = next(each for each in re.findall(r"```python\n(.*?)```", text, re.DOTALL) if "drop_in(" in each)
    (tmp_path / "loop.py").write_text(
        code + "model(torch.ones(1, 4)).sum().backward()\noptimizer.step()\nprint('done')"
    )
    assert run(site, tmp_path, "loop").stdout == "done\n"


Faked = Callable[..., None]


@pytest.fixture
def faked(monkeypatch: pytest.MonkeyPatch) -> Faked:
    """Give entry points of names and values, for rules or for problems."""

    def fake(group: str, **points: str) -> None:
        made = [EntryPoint(name.replace("_", "-"), value, group) for name, value in points.items()]
        monkeypatch.setattr(plugins, "_installed", lambda group, folders: EntryPoints(made).select(group=group))

    return fake


def test_an_unusable_rule_is_reported_in_one_line(faked: Faked, capsys: pytest.CaptureFixture[str]) -> None:
    faked(
        plugins.RULES,
        absent="no_such_module:Rule",
        number="math:pi",
        sgdd="relaxbench.optim.rules.sgd:SGD",
    )  # fmt: skip
    for name, message in (
        ("absent", "cannot be imported from 'no_such_module:Rule': ModuleNotFoundError"),
        ("number", "expected a subclass of relaxbench's Rule"),
        ("sgdd", "calls itself 'sgd'"),
    ):
        with pytest.raises(UserError, match=re.escape(message)):
            rule_class(name)
        assert main(["check", name]) == 2
        assert message in capsys.readouterr().err
    assert main(["list"]) == 0  # the rest is still listed
    out = capsys.readouterr().out
    assert out.count("does not work") == 3 and "entropy-sgd" in out
    assert main(["study", "--method", "absent"]) == 2
    assert rule_names()[-3:] == ["absent", "number", "sgdd"]


class Unfinished(Rule):
    """A rule as someone begins it."""

    name = "unfinished"


def test_a_broken_rule_blocks_no_study_without_it(faked: Faked) -> None:
    faked(plugins.RULES, absent="no_such_module:Rule", unfinished=f"{__name__}:Unfinished")
    assert loadable_rules() == list(RULES.values())
    own, study = problem("rugged-1d"), tiny.spec(problems=["rugged-1d"])
    for space in ({}, {"beta1": (0.5, 0.9)}):  # the latter is of a rule that is not in the study
        own.space = space
        check_on(study, [own])
    own.space = {"beta7": (0.5, 0.9)}
    with pytest.raises(UserError, match="unknown hyperparameter in the space of problem 'rugged-1d': 'beta7'"):
        check_on(study, [own])
    with pytest.raises(UserError, match="method 'sgd' has no parts"):
        parts_of("sgd", {})
    with pytest.raises(UserError, match="'unfinished' of another package lacks title, source, space, copies: every"):
        rule_class("unfinished")


def test_an_unusable_problem_is_reported_in_one_line(faked: Faked, capsys: pytest.CaptureFixture[str]) -> None:
    faked(
        plugins.PROBLEMS,
        number="math:factorial",
        empty="builtins:dict",
        leaving="sys:exit",
        other="relaxbench.problems.landscapes.wells:DoubleWell",
    )
    for name, message in (
        ("number", "fails when it is made: TypeError"),
        ("leaving", "fails when it is made: SystemExit"),
        ("empty", "is a dict: expected a relaxbench Problem"),
        ("other", "is a problem named 'double-well'"),
    ):
        with pytest.raises(UserError, match=re.escape(message)):
            problem(name)
    assert problem_names()[-4:] == ["empty", "leaving", "number", "other"]
    assert main(["list"]) == 0  # the rest is still listed
    out = capsys.readouterr().out
    assert out.count("does not work") == 4 and "rosenbrock-mild" in out


def test_what_is_built_in_cannot_be_replaced(faked: Faked) -> None:
    faked(plugins.RULES, sgd="no_such_module:SGD")
    assert rule_class("sgd") is RULES["sgd"] and rule_names() == list(RULES)
    faked(plugins.PROBLEMS, rosenbrock="no_such_module:make")
    assert problem("rosenbrock").name == "rosenbrock" and problem_names() == list(PROBLEMS)


def test_what_is_ignored_is_said_in_a_line(faked: Faked, capsys: pytest.CaptureFixture[str]) -> None:
    line = "of an unnamed package is ignored: a built-in one has this name; rename it there"
    for group, kind, name in ((plugins.RULES, "rule", "sgd"), (plugins.PROBLEMS, "problem", "rosenbrock")):
        faked(group, **{name: "no_such_module:make"})
        for command in (["list"], ["list", "--json"], ["check", name]):
            assert main(command) == 0
            assert f"{kind} {name!r} {line}" in " ".join(capsys.readouterr().out.split())
    faked(plugins.RULES)
    assert main(["list"]) == 0 and "is ignored" not in capsys.readouterr().out


def test_two_packages_with_one_name_are_a_conflict(monkeypatch: pytest.MonkeyPatch) -> None:
    points = [EntryPoint("mine", f"package_{letter}:Rule", plugins.RULES) for letter in "ab"]
    monkeypatch.setattr(plugins, "_installed", lambda group, folders: points)
    monkeypatch.setattr(plugins, "package", lambda point: point.value.split(":")[0])
    with pytest.raises(UserError, match="several packages, package_a and package_b"):
        plugins.load(plugins.RULES, "mine")


def test_what_is_installed_later_is_found_and_nothing_is_read_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []
    monkeypatch.setattr(plugins, "entry_points", lambda group: read.append(group) or entry_points(group=group))  # type: ignore[func-returns-value]
    monkeypatch.syspath_prepend(str(tmp_path))
    assert "later" not in plugins.points_of(plugins.RULES)
    assert "later" not in plugins.points_of(plugins.RULES) and len(read) == 1
    about = tmp_path / "later-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: later\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text("[relaxbench.rules]\nlater = later:Rule\n")
    assert plugins.points_of(plugins.RULES)["later"][0].value == "later:Rule" and len(read) == 2
    shutil.rmtree(about)
    assert "later" not in plugins.points_of(plugins.RULES)


def test_drop_in_returns_the_existing_class(faked: Faked) -> None:
    from relaxbench.optim import EntropySGD

    assert drop_in("entropy-sgd") is EntropySGD and drop_in(EntropySGD.rule_class) is EntropySGD
    with pytest.raises(UserError, match="did you mean 'parle'"):
        drop_in("parl")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "expected names of methods or problems, or --all"),
        (("sgd", "--all"), "--all checks 'sgd' as well"),
        (("folder.py",), "is a folder"),
        (("entropysgd",), "did you mean 'entropy-sgd'"),
        (("absent.py",), "does not exist"),
        (("empty.py",), "neither a rule nor a problem"),
        (("broken.py",), "fails when run: ZeroDivisionError"),
    ],
)
def test_bad_input_is_reported_in_one_line(
    arguments: tuple[str, ...],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty.py").write_text("x = 1\n")
    (tmp_path / "broken.py").write_text("1 / 0\n")
    (tmp_path / "folder.py").mkdir()
    assert main(["check", *arguments]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1


def test_a_failed_check_is_shown_with_its_reason(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], site: Path
) -> None:
    text = (site / "my_package" / "qhm.py").read_text().replace("copies = 3", "copies = 2")
    (tmp_path / "heavy.py").write_text(text)
    assert main(["check", str(tmp_path / "heavy.py")]) == 1
    out = " ".join(capsys.readouterr().out.split())
    assert "✗ method qhm: 14 of 15 checks passed" in out and "are 3 copies of the parameters, 2 are declared" in out


def test_a_check_that_does_not_apply_is_counted_as_skipped(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "rugged-1d"]) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "✓ problem rugged-1d: 10 of 11 checks passed, 1 skipped" in out
    assert "– the loss has its declared derivatives skipped: the loss 'none' declares no derivatives" in out


def test_a_file_imports_the_module_beside_it_and_another_file_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "path", [*sys.path])
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "helper_beside.py").write_text(f"value = {folder!r}")
        (tmp_path / folder / "mine.py").write_text(
            "from helper_beside import value\ndef late():\n    import helper_beside\n    return helper_beside.value"
        )
    for folder in ("one", "two", "one"):
        module = plugins.run_file(tmp_path / folder / "mine.py", "problem", "`problem`")
        assert module.value == module.late() == folder
    monkeypatch.setattr(plugins, "_folders", [])
    sys.modules.pop("helper_beside")
