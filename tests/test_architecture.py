"""The rooms of the program and the arrows between them: an import that runs back up fails here."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "relaxbench"

# What each room may import. A room is a folder, or a module directly under relaxbench; "__init__" is the package's own
# file. A folder within a folder is a room of its own where it is listed here. The order is that of the floors: a room
# imports rooms whose lines come before its own, never later ones.
ALLOWED: dict[str, set[str]] = {
    "version": set(),
    "errors": set(),
    "recording": set(),
    "random": {"recording"},
    "space": set(),
    "plugins": {"errors"},
    "given": {"errors"},
    "util": {"errors"},
    "loop": {"errors", "space"},
    "optim": {"errors", "random", "recording", "plugins", "given", "space", "util"},
    "optim.wrapped": {"optim", "optim.rules", "plugins", "given", "errors", "space"},
    "optim.rules": {"optim", "errors", "random", "recording", "space", "util"},
    "optim.drop_in": {"optim", "optim.rules", "errors", "random", "space", "util"},
    "problems": {"errors", "random", "plugins", "given", "util"},
    "problems.landscapes": {"problems", "errors", "random", "util"},
    "problems.science": {"problems", "errors", "random", "util"},
    "problems.data": {"errors", "random", "util"},
    "store": {"version", "errors", "space", "util"},
    "store.migrations": {"store", "version", "errors", "util"},
    "pages": {"version", "errors", "util"},
    "training": {"optim", "problems", "errors", "random", "recording", "space", "util"},
    "training.flatness": {"training", "optim", "problems", "errors", "random", "util"},
    "analysis": {"store", "version", "errors", "space", "util"},
    "trackers": {"analysis", "store", "errors", "util"},
    "report.figures": {"analysis", "pages", "errors", "space", "util"},
    "report": {"report.figures", "analysis", "pages", "store", "version", "errors", "util"},
    "atlas": {"analysis", "pages", "store", "version", "errors", "util"},
    "study.coordination": {"analysis", "store", "version", "errors", "space", "util"},
    "study.definition": {
        "loop",
        "training.flatness",
        "study.coordination",
        "trackers",
        "analysis",
        "training",
        "optim",
        "optim.wrapped",
        "problems",
        "store",
        "version",
        "errors",
        "space",
        "util",
    },
    "study.execution": {
        "loop",
        "study.definition",
        "study.coordination",
        "training",
        "training.flatness",
        "optim",
        "problems",
        "store",
        "version",
        "errors",
        "util",
    },
    "theory": {
        "training",
        "analysis",
        "pages",
        "optim",
        "problems",
        "problems.landscapes",
        "version",
        "errors",
        "random",
        "space",
        "util",
    },
    "testing": {
        "training",
        "optim",
        "optim.drop_in",
        "optim.wrapped",
        "problems",
        "plugins",
        "errors",
        "random",
        "space",
        "util",
    },
    "stress": {"study.coordination", "analysis", "store", "version", "errors", "space", "util"},
    "reproduce": {
        "analysis",
        "training",
        "optim",
        "optim.rules",
        "problems",
        "problems.landscapes",
        "problems.science",
        "errors",
        "random",
        "space",
        "util",
    },
    "bench": {
        "training",
        "pages",
        "optim",
        "optim.rules",
        "optim.drop_in",
        "problems",
        "problems.science",
        "version",
        "errors",
        "random",
        "util",
    },
    "server": {"report", "study.coordination", "analysis", "pages", "store", "version", "errors", "util"},
    "cli": {
        "atlas",
        "server",
        "bench",
        "reproduce",
        "stress",
        "testing",
        "theory",
        "study.execution",
        "study.definition",
        "study.coordination",
        "trackers",
        "report",
        "analysis",
        "training",
        "store",
        "store.migrations",
        "problems",
        "problems.data",
        "optim",
        "optim.drop_in",
        "optim.wrapped",
        "plugins",
        "given",
        "version",
        "errors",
        "space",
        "util",
    },
    # The package's own file imports each at its first use.
    "__init__": {"analysis", "cli", "errors", "loop", "optim", "problems", "version"},
    "__main__": {"cli", "errors"},
}

# Folders whose parts import each other as one: `optim` names what its rooms hold, its registry lists the rules, and the
# database opens by way of its migrations. No other pair of rooms may import each other.
ONE_HOUSEHOLD = [
    {"optim", "optim.rules", "optim.drop_in", "optim.wrapped"},
    {"problems", "problems.landscapes", "problems.science", "problems.data"},
    {"store", "store.migrations"},
]

TORCH = {"torch", "torchvision"}
DRAWING = {"plotly", "jinja2", "markupsafe"}

# Libraries a room never imports, not even inside a function.
FORBIDDEN_LIBRARIES: dict[str, set[str]] = {
    "version": TORCH | DRAWING,
    "errors": TORCH | DRAWING,
    "space": TORCH | DRAWING | {"optuna"},
    "plugins": TORCH | DRAWING,
    "given": TORCH | DRAWING,
    "util": TORCH | DRAWING,
    "loop": TORCH | DRAWING,
    "store": TORCH | DRAWING,
    "store.migrations": TORCH | DRAWING,
    "analysis": TORCH | DRAWING,
    "trackers": TORCH | DRAWING,
    "pages": TORCH,
    "report": TORCH,
    "report.figures": TORCH,
    "atlas": TORCH,
    "study.coordination": TORCH | DRAWING,
    "server": TORCH,
    "__init__": TORCH | DRAWING,
}

MAX_LINES = 400


def imports(file: Path, package: Path) -> Iterator[tuple[int, str]]:
    """Every module that a file imports, absolute, wherever the import stands: top, function, type checking."""
    dotted = [package.name, *file.relative_to(package).with_suffix("").parts]
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"), filename=str(file))):
        match node:
            case ast.Import(names=names):
                for alias in names:
                    yield node.lineno, alias.name
            case ast.ImportFrom(module=module, names=names, level=level):
                base = [*(dotted[:-level] if level else []), *(module.split(".") if module else [])]
                for alias in names:  # `from relaxbench import optim` means relaxbench.optim
                    yield node.lineno, ".".join([*base, alias.name])
            case ast.Call(
                func=ast.Name(id="import_module" | "__import__") | ast.Attribute(attr="import_module"),
                args=[ast.Constant(value=str(name)), *_],
            ):
                relative = len(name) - len(name.lstrip("."))
                yield node.lineno, ".".join([*(dotted[:-relative] if relative else []), name.lstrip(".")])


def room_of(module: str, package: Path) -> str | None:
    """The room of a module of the package; None for a library."""
    first, *rest = module.split(".")
    if first != package.name:
        return None
    where, folders = package, []
    for part in rest:
        if not (where / part).is_dir():
            break
        where /= part
        folders.append(part)
    if not folders:
        return rest[0] if rest and (package / f"{rest[0]}.py").is_file() else "__init__"
    while len(folders) > 1 and ".".join(folders) not in ALLOWED:
        folders.pop()
    return ".".join(folders)


def may_import(room: str) -> set[str]:
    """The rooms that a room may import: those of its line, and those of its household."""
    return ALLOWED[room].union(*(household for household in ONE_HOUSEHOLD if room in household))


def violations(package: Path) -> list[str]:
    """One line for every import against the table, every library in the wrong room and every room that has no line."""
    found = []
    for file in sorted(package.rglob("*.py")):
        inside = file.relative_to(package.parent).with_suffix("")
        room = room_of(".".join(inside.parts), package)
        if room not in ALLOWED:
            if inside.parts[1:] != (room, "__init__"):  # a folder of rooms needs no line
                found.append(f"{inside}: the room {room!r} has no line in ALLOWED")
            continue
        for line, module in imports(file, package):
            place = f"{file.relative_to(package.parent)}:{line}"
            target = room_of(module, package)
            if target is None:
                library = module.split(".")[0]
                if library in FORBIDDEN_LIBRARIES.get(room, ()):
                    found.append(f"{place}: {room} never imports {library}")
            elif target != room and target not in may_import(room):
                found.append(f"{place}: {room} may not import {target} ({module})")
    return found


def test_no_room_imports_what_its_line_does_not_allow() -> None:
    assert violations(PACKAGE) == []


def test_no_arrow_runs_upward_and_none_in_a_circle() -> None:
    floors: list[str] = []
    for room, targets in ALLOWED.items():
        household = set().union(*(each for each in ONE_HOUSEHOLD if room in each))
        later = sorted(targets - set(floors) - household)
        assert later == [], f"{room} imports rooms whose lines come after its own: {later}"
        floors.append(room)


def test_every_folder_of_the_package_has_a_room() -> None:
    folders = {file.parent.relative_to(PACKAGE).parts for file in PACKAGE.rglob("*.py")} - {()}
    named = {tuple(room.split(".")) for room in ALLOWED}
    homeless = {folder for folder in folders if not any(folder[: len(room)] == room for room in named)}
    assert homeless <= {("study",)}, "study is a folder of rooms, with nothing of its own"


@pytest.mark.parametrize(
    ("file", "line"),
    [
        ("optim/rule.py", "from relaxbench.training.trainer import Trainer"),
        ("optim/rules/sgd.py", "from relaxbench import store"),
        ("optim/rules/sgd.py", "from ...problems import data"),
        ("optim/rules/sgd.py", "import relaxbench.cli as commands"),
        ("problems/data/cache.py", "from relaxbench.optim import rule"),
        ("problems/problem.py", "def load():\n    from relaxbench.store import schema"),
        ("problems/problem.py", "import importlib\nimportlib.import_module('relaxbench.study.execution.run')"),
        ("store/schema.py", "if TYPE_CHECKING:\n    from relaxbench.optim.rule import GradientRule"),
        ("store/schema.py", "import torch.nn"),
        ("training/trainer.py", "from relaxbench.store.schema import Trial"),
        ("analysis/verdicts.py", "import plotly.graph_objects as go"),
        ("analysis/verdicts.py", "from jinja2 import Environment"),
        ("analysis/verdicts.py", "def f():\n    import torch"),
        ("analysis/verdicts.py", "from relaxbench.pages.theme import Look"),
        ("pages/theme.py", "from relaxbench.report.study_page import write_report"),
        ("trackers/mlflow.py", "import torch.utils.tensorboard"),
        ("trackers/runs.py", "from relaxbench.study.coordination import plan"),
        ("report/study_page.py", "from relaxbench.study.execution import run"),
        ("report/study_page.py", "def f():\n    from torch import Tensor"),
        ("report/figures/cost.py", "import torch"),
        ("report/figures/cost.py", "from relaxbench.store.schema import Trial"),
        ("study/coordination/plan.py", "import torch"),
        ("study/coordination/plan.py", "from relaxbench.training import engine"),
        ("study/coordination/plan.py", "from relaxbench.study.definition.spec import StudySpec"),
        ("study/definition/spec.py", "from relaxbench.study.execution import run"),
        ("study/execution/run.py", "from relaxbench.report.study_page import write_report"),
        ("theory/pde.py", "from relaxbench.study.execution import run"),
        ("server/live.py", "from relaxbench.cli.main import app"),
        ("errors.py", "import relaxbench.optim"),
        ("space.py", "import torch"),
        ("space.py", "from relaxbench.optim.hyper import defaults"),
        ("space.py", "from optuna.distributions import BaseDistribution"),
        ("random.py", "from .optim import rule"),
        ("atlas/page.py", "from relaxbench.report.study_page import write_report"),
        ("bench/run.py", "from relaxbench.report import study_page"),
        ("__init__.py", "from .server import live"),
        ("attic/box.py", ""),
        ("study/attic/box.py", ""),
    ],
)
def test_a_violation_is_seen(tmp_path: Path, file: str, line: str) -> None:
    package = tmp_path / "relaxbench"
    for room in ALLOWED:
        path = package.joinpath(*room.split("."))
        target = path / "__init__.py" if PACKAGE.joinpath(*room.split(".")).is_dir() else path.with_suffix(".py")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text("import os\n")
    assert violations(package) == []
    (package / file).parent.mkdir(parents=True, exist_ok=True)
    (package / file).write_text(line)
    assert len(violations(package)) == 1


def imported(statement: str) -> set[str]:
    """The top-level modules in a fresh interpreter after a statement."""
    code = f"import sys\n{statement}\nprint(*sorted({{name.split('.')[0] for name in sys.modules}}))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


@pytest.mark.parametrize(
    ("statement", "libraries"),
    [
        ("import relaxbench.report.study_page, relaxbench.server.live, relaxbench.atlas.page", TORCH),
        (
            "import relaxbench.analysis.verdicts, relaxbench.analysis.compare",
            TORCH | DRAWING,
        ),
        ("import relaxbench.study.coordination.session, relaxbench.study.coordination.plan", TORCH | DRAWING),
        ("import relaxbench.study.coordination.optuna_mirror, relaxbench.study.coordination.supervisor", TORCH),
    ],
)
def test_a_wall_holds_for_what_is_behind_imports_too(statement: str, libraries: set[str]) -> None:
    assert not imported(statement) & libraries


def test_help_answers_at_once() -> None:
    heavy = {"torch", "torchvision", "optuna", "pandas", "plotly", "scipy", "sklearn", "ray"}
    assert not imported("import relaxbench.cli.main") & heavy


def test_files_stay_short() -> None:
    files = [path for path in PACKAGE.rglob("*") if path.is_file() and path.suffix != ".pyc"]
    lines = {str(path.relative_to(ROOT)): len(path.read_text(encoding="utf-8").splitlines()) for path in files}
    assert {file: count for file, count in lines.items() if count >= MAX_LINES} == {}
    assert "relaxbench/optim/rule.py" in lines
