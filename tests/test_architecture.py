"""The rooms of the program and the arrows between them: an import that runs back up fails here."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "relaxbench"

BASEMENT = {"__init__", "errors", "memory", "random", "plugins", "seeds", "words"}
GROUND = {"optim", "problems", "store"}
MIDDLE = {"training", "report", "study", "theory"}

# A room is a package or a module directly under relaxbench; "__init__" is relaxbench/__init__.py itself.
ALLOWED: dict[str, set[str]] = {
    "__init__": {"report"},  # the front door: `relaxbench.load_study`, imported when it is asked for
    "errors": {"random"},
    "random": {"errors"},
    "seeds": set(),
    "words": set(),
    "memory": set(),
    "plugins": {"errors"},
    "optim": BASEMENT,
    "problems": BASEMENT,
    "store": BASEMENT,
    "training": BASEMENT | {"optim", "problems"},
    "report": BASEMENT | {"store"},
    "study": BASEMENT | GROUND | {"training"},
    "theory": BASEMENT | GROUND | {"training", "report"},
    "testing": BASEMENT | GROUND | MIDDLE,
    "bench": BASEMENT | GROUND | MIDDLE | {"testing"},
    "display": BASEMENT | GROUND | MIDDLE,
    "doctor": BASEMENT | GROUND | MIDDLE,
    "overview": BASEMENT | GROUND | MIDDLE,
    "reproduce": BASEMENT | GROUND | {"training"},
    "reproduce_table": BASEMENT | {"reproduce"},
    "cli_options": BASEMENT,
    "serve": BASEMENT,
    "dashboard": BASEMENT | {"store"},
    "live": BASEMENT | GROUND | MIDDLE | {"serve", "status"},
    "cli_report": BASEMENT
    | GROUND
    | MIDDLE
    | {"cli_options", "cli_workers", "dashboard", "display", "live", "overview", "serve"},
    "cli_storage": BASEMENT | {"store", "cli_options"},
    "cli_tools": BASEMENT
    | GROUND
    | MIDDLE
    | {"cli_options", "testing", "bench", "doctor", "reproduce", "reproduce_table"},
    "status": BASEMENT | GROUND | MIDDLE | {"display"},
    "watch": BASEMENT | GROUND | MIDDLE | {"display"},
    "cli_ray": BASEMENT | GROUND | MIDDLE | {"cli_options", "display", "watch"},
    "cli_workers": BASEMENT | GROUND | MIDDLE | {"cli_options", "display", "status", "stress", "watch"},
    "stress": BASEMENT | {"store", "study", "report"},
    "cli": BASEMENT
    | GROUND
    | MIDDLE
    | {"cli_options", "cli_ray", "cli_report", "cli_storage", "cli_tools", "cli_workers", "display", "overview"},
    "__main__": {"__init__", "errors", "cli"},
}

# Libraries a room never imports, not even inside a function.
FORBIDDEN_LIBRARIES: dict[str, set[str]] = {
    "report": {"torch", "torchvision"},
    "store": {"torch", "torchvision"},
    "errors": {"torch", "torchvision"},
    "__init__": {"torch", "torchvision"},
}

MAX_LINES = 400
MAX_BYTES = 5_000_000
REGISTRY = re.compile(
    r"pypi\.org|pythonhosted\.org|download\.pytorch\.org|anaconda\.(?:org|com)|npmjs\.(?:org|com)"
    r"|--(?:extra-)?index[-]url|--find[-]links|(?:index[-]url|find[-]links)\s*=",
    re.IGNORECASE,
)


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
    if rest and ((package / rest[0]).is_dir() or (package / f"{rest[0]}.py").is_file()):
        return rest[0]
    return "__init__"


def violations(package: Path) -> list[str]:
    """One line for every arrow that runs back up, every library in the wrong room and every room without a place."""
    found = []
    for file in sorted(package.rglob("*.py")):
        room = file.relative_to(package).parts[0].removesuffix(".py")
        if room not in ALLOWED:
            found.append(f"{file.name}: the room {room!r} has no place in ALLOWED")
            continue
        for line, module in imports(file, package):
            place = f"{file.relative_to(package.parent)}:{line}"
            target = room_of(module, package)
            if target is None:
                library = module.split(".")[0]
                if library in FORBIDDEN_LIBRARIES.get(room, ()):
                    found.append(f"{place}: {room} never imports {library}")
            elif target != room and target not in ALLOWED[room]:
                found.append(f"{place}: {room} may not import {target} ({module})")
    return found


def test_no_arrow_runs_back_up() -> None:
    assert violations(PACKAGE) == []


def test_allowed_arrows_have_no_cycle_above_the_basement() -> None:
    above = {room: targets - BASEMENT for room, targets in ALLOWED.items() if room not in BASEMENT}
    while above:
        floor = {room for room, targets in above.items() if not targets & above.keys()}
        assert floor, f"these rooms allow each other: {sorted(above)}"
        above = {room: targets for room, targets in above.items() if room not in floor}


@pytest.mark.parametrize(
    ("file", "line"),
    [
        ("optim/sgd.py", "from relaxbench.training.trainer import Trainer"),
        ("optim/sgd.py", "from relaxbench import store"),
        ("optim/sgd.py", "from ..problems import data"),
        ("optim/deep/rule.py", "from ...study.run import run"),
        ("optim/sgd.py", "import relaxbench.cli as commands"),
        ("problems/data.py", "def load():\n    from relaxbench.store import schema"),
        ("problems/data.py", "import importlib\nimportlib.import_module('relaxbench.study.run')"),
        ("store/schema.py", "if TYPE_CHECKING:\n    from relaxbench.optim.rule import GradientRule"),
        ("store/schema.py", "import torch.nn"),
        ("training/trainer.py", "from relaxbench.store.schema import Trial"),
        ("report/page.py", "from relaxbench.study import run"),
        ("report/page.py", "def f():\n    from torch import Tensor"),
        ("study/run.py", "from relaxbench.report.page import write"),
        ("theory/pde.py", "from relaxbench.study import run"),
        ("errors.py", "import relaxbench.optim"),
        ("random.py", "from .optim import sgd"),
        ("bench.py", "from relaxbench.cli import main"),
        ("__init__.py", "from .cli import main"),
        ("attic/box.py", ""),
    ],
)
def test_a_violation_is_seen(tmp_path: Path, file: str, line: str) -> None:
    package = tmp_path / "relaxbench"
    for room in ALLOWED:
        target = package / f"{room}.py" if room in {*BASEMENT, "testing", "bench", "cli", "__main__"} else None
        target = target or package / room / "__init__.py"
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text("import os\nfrom relaxbench import __version__\n" if room not in BASEMENT else "")
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


def test_report_does_not_load_torch() -> None:
    assert not imported("import relaxbench.report.page") & {"torch", "torchvision"}


def test_help_answers_at_once() -> None:
    heavy = {"torch", "torchvision", "optuna", "pandas", "plotly", "scipy", "sklearn", "ray"}
    assert not imported("import relaxbench.cli") & heavy


@pytest.mark.parametrize("file", sorted(p for p in PACKAGE.rglob("*") if p.is_file() and p.suffix != ".pyc"), ids=str)
def test_files_stay_short(file: Path) -> None:
    assert len(file.read_text(encoding="utf-8").splitlines()) < MAX_LINES


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
