"""The files of the repository are small; hooks, workflow and forms can be read, and name only what exists."""

from __future__ import annotations

import importlib.util
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parent.parent
FORMS = sorted((ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml"))
CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
MAX_BYTES = 5_000_000
REGISTRY = re.compile(
    r"pypi\.org|pythonhosted\.org|download\.pytorch\.org|anaconda\.(?:org|com)|npmjs\.(?:org|com)"
    r"|--(?:extra-)?index[-]url|--find[-]links|(?:index[-]url|find[-]links)\s*=",
    re.IGNORECASE,
)


def parsed(path: Path) -> Any:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def hooks() -> list[dict[str, Any]]:
    return [hook for repo in parsed(ROOT / ".pre-commit-config.yaml")["repos"] for hook in repo["hooks"]]


def targets() -> set[str]:
    return set(re.findall(r"^([\w-]+):(?!=)", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))


def test_hooks_cover_lint_types_and_files() -> None:
    names = {hook["id"] for hook in hooks()}
    assert names >= {"ruff-check", "ruff-format", "mypy", "end-of-file-fixer", "check-added-large-files"}


def test_hooks_run_tools_of_the_environment() -> None:
    entries = [hook["entry"].split() for hook in hooks() if "entry" in hook]
    assert entries
    for python, option, tool, *_ in entries:
        assert (python, option) == ("python", "-m")
        assert importlib.util.find_spec(tool), f"{tool} is not installed"


def test_hooks_come_from_here_or_from_github() -> None:
    repos = [repo["repo"] for repo in parsed(ROOT / ".pre-commit-config.yaml")["repos"]]
    assert all(repo == "local" or repo.startswith("https://github.com/") for repo in repos)


def test_the_workflow_runs_the_checks_and_the_lowest_versions() -> None:
    workflow = parsed(ROOT / ".github" / "workflows" / "ci.yml")
    commands = [step["run"] for job in workflow["jobs"].values() for step in job["steps"] if "run" in step]
    assert ".ci/run" in commands and "make test-min" in commands
    assert {command.split()[1] for command in commands if command.startswith("make ")} <= targets()


@pytest.mark.parametrize("form", FORMS, ids=lambda path: path.stem)
def test_an_issue_form_is_complete(form: Path) -> None:
    fields = parsed(form)
    assert {"name", "description", "body"} <= set(fields)
    ids = [field["id"] for field in fields["body"]]
    assert len(ids) == len(set(ids))
    for field in fields["body"]:
        assert field["type"] in {"textarea", "input", "dropdown", "checkboxes"}
        assert field["attributes"]["label"]


def test_there_are_forms_for_bugs_and_features() -> None:
    assert {form.stem for form in FORMS} == {"bug", "feature"}


def test_contributing_names_files_that_exist() -> None:
    """Paths with a capital NAME stand for files that a contributor writes: their folders exist."""
    named = re.findall(r"`((?:relaxbench|tests|docs|optim|report)/[\w/.-]+)`", CONTRIBUTING)
    assert len(named) > 20
    for name in named:
        path = ROOT / name if (ROOT / name.split("/")[0]).is_dir() else ROOT / "relaxbench" / name
        assert (path.parent if "NAME" in name else path).exists(), name


def test_contributing_names_targets_and_links_that_exist() -> None:
    assert set(re.findall(r"`make ([\w-]+)`", CONTRIBUTING)) <= targets()
    links = re.findall(r"\]\(([^)#:]+)\)", CONTRIBUTING)
    assert links and all((ROOT / link).exists() for link in links)


def test_contributing_names_what_the_files_define() -> None:
    """Tables and functions that a step tells to change stand in a file that the same step names."""
    for step in re.findall(r"^\d\. (.+(?:\n   .+)*)", CONTRIBUTING, re.MULTILINE):
        files = [
            ROOT / name for name in re.findall(r"`((?:relaxbench|tests)/[\w/.-]+\.py)`", step) if "NAME" not in name
        ]
        text = "\n".join(file.read_text(encoding="utf-8") for file in files)
        tables = re.findall(r"`([A-Z_]{4,})`", step)
        assert not files or all(re.search(rf"^{table}\b", text, re.MULTILINE) for table in tables), step


def test_every_promise_names_a_test_that_is_there() -> None:
    named = re.findall(r"`(tests/[\w/]+\.py)`", (ROOT / "docs" / "integrity.md").read_text(encoding="utf-8"))
    assert len(named) > 30
    assert [name for name in named if not (ROOT / name).is_file()] == []


def test_every_decision_has_three_parts_and_is_in_the_index_and_in_the_navigation() -> None:
    folder = ROOT / "docs" / "decisions"
    index = re.findall(r"\]\((.+?\.md)\)", (folder / "README.md").read_text(encoding="utf-8"))
    pages = sorted(path for path in folder.glob("*.md") if path.name != "README.md")
    assert sorted(index) == [page.name for page in pages]
    navigation = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    for page in pages:
        text = page.read_text(encoding="utf-8")
        assert re.findall(r"^\*\*(\w+)\.\*\*", text, re.MULTILINE) == ["Context", "Decision", "Consequences"], page
        assert f"decisions/{page.name}" in navigation


def committed() -> list[Path]:
    """The files in git's index; without git, those of the folders that make up the repository."""
    try:
        listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True).stdout
        files = [ROOT / name for name in listed.decode().split("\0") if name]
    except (OSError, subprocess.CalledProcessError):
        folders = [ROOT / name for name in (".ci", "docs", "relaxbench", "studies", "tests")]
        files = [path for folder in folders for path in folder.rglob("*") if "__pycache__" not in path.parts]
        files += ROOT.glob("*")
    return [path for path in files if path.is_file()]


def test_committed_files_are_small_and_name_no_registry() -> None:
    large = [str(path) for path in committed() if path.stat().st_size > MAX_BYTES]
    assert large == []
    named = [
        f"{path.relative_to(ROOT)}: {found.group()}"
        for path in committed()
        if (found := REGISTRY.search(path.read_text(encoding="utf-8", errors="ignore")))
    ]
    assert named == []


@pytest.mark.parametrize(
    "text",
    [
        "https://pypi" + ".org/x",
        "pip --index" + "-url x",
        "index" + "-url = x",
        "https://download.pytorch" + ".org/whl",
    ],
)
def test_a_registry_is_seen(text: str) -> None:
    assert REGISTRY.search(text)
