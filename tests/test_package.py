"""The package as a user gets it: built, installed somewhere else, and run outside the checkout."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
import zipfile
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import relaxbench

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]

IN_TURN = """
import runpy
import sys

for line in sys.argv[1:]:
    sys.argv = ["relaxbench", *line.split()]
    try:
        runpy.run_module("relaxbench", run_name="__main__", alter_sys=True)
    except SystemExit as end:
        assert not end.code, line
"""
"""Commands of relaxbench, one after another, as `python -m relaxbench` runs each."""


def run(*command: str | Path, cwd: Path, site: Path | None = None) -> str:
    """Runs a command that must succeed, with `site` before everything else that Python can import."""
    env = {key: value for key, value in os.environ.items() if key not in {"PYTHONPATH", "PYTHONHOME", "PYTHONSAFEPATH"}}
    env |= {"NO_COLOR": "1", "TERM": "dumb", "COLUMNS": "120"} | ({"PYTHONPATH": str(site)} if site else {})
    done = subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, f"{' '.join(map(str, command))}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel made from the source distribution, so that both are known to be whole."""
    out = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", out, ROOT, cwd=out)
    (built,) = out.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def site(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that holds relaxbench alone, installed from the wheel; its dependencies are this environment's."""
    target = tmp_path_factory.mktemp("site")
    options = ["--disable-pip-version-check", "-q", "--no-deps", "--no-index", "--target"]
    run(sys.executable, "-m", "pip", "install", *options, target, wheel, cwd=target)
    return target


def test_wheel_holds_what_it_needs_and_nothing_else(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    info = f"relaxbench-{relaxbench.__version__}.dist-info"
    source = {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "relaxbench").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    files = (path.relative_to(ROOT).as_posix() for path in (ROOT / "studies").rglob("*.toml"))
    studies = {f"relaxbench/{name}" for name in files}
    assert "relaxbench/py.typed" in names
    assert "relaxbench/studies/digits.toml" in names
    assert any(re.fullmatch(r"relaxbench/report/templates/.+\.html", name) for name in names)
    assert f"{info}/licenses/LICENSE" in names
    assert {name for name in names if not name.startswith(info)} == source | studies


def test_wheel_describes_the_project(wheel: Path) -> None:
    info = f"relaxbench-{relaxbench.__version__}.dist-info"
    archive = zipfile.ZipFile(wheel)
    about = archive.read(f"{info}/METADATA").decode()
    assert "License-Expression: MIT" in about
    assert "Requires-Python: >=3.11" in about
    assert {"postgres", "dashboard", "ray", "test"} <= set(re.findall(r"^Provides-Extra: (.+)$", about, re.MULTILINE))
    assert "relaxbench = relaxbench.__main__:main" in archive.read(f"{info}/entry_points.txt").decode()
    assert not (ROOT / "README.md").exists() or "Description-Content-Type: text/markdown" in about


def test_installed_package_runs_outside_the_checkout(site: Path, tmp_path: Path) -> None:
    where = run(sys.executable, "-c", "import relaxbench; print(relaxbench.__file__)", cwd=tmp_path, site=site)
    assert Path(where.strip()) == site / "relaxbench" / "__init__.py"
    by_module = run(sys.executable, "-m", "relaxbench", "--help", cwd=tmp_path, site=site)
    by_script = run(site / "bin" / "relaxbench", "--help", cwd=tmp_path, site=site)
    for answer in (by_module, by_script):
        assert "study" in answer
        assert "report" in answer


def test_installed_package_finds_its_study_files_and_runs_a_study(site: Path, tmp_path: Path) -> None:
    """In one process, which imports everything once."""
    problem = 'name = "s"\nproblems = ["rosenbrock"]\nmethods = ["sgd"]\nflatness = false\n'
    size = "looks = [6]\ntrials = 1\nexploit = 0\nrecommend = 0\nbudget = 40\n"
    (tmp_path / "s.toml").write_text(problem + size)
    plan = "plan --problem rosenbrock --method sgd --storage sqlite:///plan.db --population 8"
    study = "study s.toml --storage sqlite:///x.db --population 8 --no-report --quiet"
    default = run(sys.executable, "-c", IN_TURN, plan, study, cwd=tmp_path, site=site)
    assert re.search(r"^rosenbrock +\n  sgd +\d", default, re.MULTILINE)
    assert (tmp_path / "x.db").stat().st_size > 0


def test_versions_agree() -> None:
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert re.findall(r"^version: (.+)$", citation, re.MULTILINE) == [relaxbench.__version__]


def constraints() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pinned = {}
    for line in lines:
        if line and not line.startswith("#"):
            name, version = line.split("==")
            assert name not in pinned, f"{name} is pinned twice"
            assert re.fullmatch(r"[a-z0-9-]+", name), line
            assert re.fullmatch(r"[0-9][0-9a-z.]*", version), line  # exact, and of no local build
            pinned[name] = version
    return pinned


def test_every_requirement_is_pinned() -> None:
    """Whatever the base and the extras pull in, as far as it is installed here, stands in constraints.txt."""
    pinned = constraints()
    extras = PROJECT["optional-dependencies"]
    named = [Requirement(text) for text in [*PROJECT["dependencies"], *(text for e in extras.values() for text in e)]]
    todo = [requirement for requirement in named if requirement.name != "relaxbench"]  # an extra may contain another
    for requirement in todo:
        version = pinned.get(canonicalize_name(requirement.name), "")
        assert version, f"{requirement} is not in constraints.txt"
        assert requirement.specifier.contains(version), f"{requirement}, but constraints.txt has {version}"
    seen: set[tuple[str, str]] = set()
    while todo:
        requirement = todo.pop()
        name = canonicalize_name(requirement.name)
        for extra in {"", *requirement.extras} - {e for n, e in seen if n == name}:
            seen.add((name, extra))
            try:
                needed = [Requirement(text) for text in metadata.requires(name) or []]
            except metadata.PackageNotFoundError:
                continue
            todo += [need for need in needed if need.marker is None or need.marker.evaluate({"extra": extra})]
    assert {name for name, _ in seen} <= pinned.keys()
