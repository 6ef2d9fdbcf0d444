"""A training script where the study expects a problem, and its methods where it expects rules: descriptions alone."""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from relaxbench.errors import UserError
from relaxbench.loop.job import SEEDS, Job
from relaxbench.optim.hyper import Hyper
from relaxbench.optim.rule import Rule
from relaxbench.problems import Problem, problem
from relaxbench.problems.losses import loss
from relaxbench.problems.measurements import Measurements
from relaxbench.problems.registry import PROBLEMS
from relaxbench.space import Value
from relaxbench.store.identity_facts import MethodIdentity, ProblemIdentity
from relaxbench.study.definition.script_table import Script

if TYPE_CHECKING:
    from relaxbench.study.definition.spec import StudySpec

CAVEAT = (
    "Trained by a script of its own. What it bills, what it draws beside the seed that it is given, and on which data "
    "it selects are its own statements: relaxbench counts what is billed, and reads the test split only through "
    "trial.test(), but cannot see more."
)
"""What every report says of a script."""
LIMIT = 2
"""Budgets that a run may spend before it is ended."""


@dataclass(frozen=True)
class Measured:
    """What a run of a method of a script costs, as measured."""

    seconds_per_gradient: float
    start_seconds: float  # of a run, beside its gradients
    peak_bytes: float


class LoopProblem(Problem):
    """A training script. It has no parameters, batches or splits that relaxbench knows.

    Args:
        script: the table of the study file.
        path: of the script.

    Attributes:
        script: the table.
        path: of the script.
        measured: what runs cost, by method, as far as they have been tried.
    """

    space: dict[str, tuple[float, float]] = {}
    data = "read by the script"

    def __init__(self, script: Script, path: str) -> None:
        self.script, self.path = script, path
        self.name = script.name or Path(path).stem
        self.title = script.title or self.name
        self.metric, self.unit, self.metric_scale = script.compared, script.unit, script.scale
        self.loss = loss("none")
        self.worst_metric = script.distance(script.worst)
        self.worst = self.worst_metric if script.worst_loss is None else script.worst_loss
        self.test_examples = script.test_examples
        self.budget = 1  # the study's own replaces it
        self.rounds = script.reports
        self.margin = None  # type: ignore[assignment]  # unless the study states one
        self.caution = CAVEAT
        self.measured: dict[str, Measured] = {}
        self.files = self.digests()

    @property
    def measurements(self) -> Measurements:
        return Measurements(self.script.reports, 0, 0.0)

    def layout(self) -> list[tuple[str, torch.Size]]:
        return []

    def examples(self, split: str) -> int:
        return 0

    def digests(self) -> dict[str, str]:
        """Return a digest of the script and of every module beside it that it imports, by name.

        Raises:
            UserError: if the script cannot be read.
        """
        folder, found = Path(self.path).parent, {}
        for file in _with_helpers(Path(self.path)):
            found[str(file.relative_to(folder))] = hashlib.sha256(file.read_bytes()).hexdigest()[:12]
        return found

    def refuse_edits(self) -> None:
        """Check that the script is as it was when this process read it.

        Raises:
            UserError: if it was edited since.
        """
        if (now := self.digests()) != self.files:
            names = ", ".join(f"`{name}`" for name in self.files if now.get(name) != self.files[name])
            raise UserError(
                f"{names or 'the script'} was edited while the study ran: change it back, or use another study name"
            )

    def job(self, method: str, params: dict[str, Value], seed: int, purpose: str, budget: float | None = None) -> Job:
        """Return a run of the script, tested, of which the study knows this."""
        asked = self.budget if budget is None else budget
        limit = LIMIT * self.budget
        return Job(method, params, seed % SEEDS, asked, purpose, reports=self.script.reports, limit=limit)


class LoopRule(Rule):
    """A method of a script; what it does is the script's affair."""

    name, title, source = "script", "script", "a training script"
    copies = 0

    def period(self, hyper: Hyper) -> torch.Tensor:
        return torch.ones(1, 1, dtype=torch.int64)


def rule_of_script(label: str, path: str) -> type[LoopRule]:
    """Return the rule of a method of a script."""
    names = {"name": label, "title": label, "source": f"the script {Path(path).name}"}
    return type("LoopRule", (LoopRule,), {**names, "wide": {}, "space": {}})


def problem_of(spec: StudySpec, source: str) -> Problem:
    """Return the problem of a name or file of a study: its script, where it has one.

    Raises:
        UserError: if it does not exist.
    """
    if spec.script is None:
        return problem(source)
    path = Path(source)
    if not path.is_file():
        what = "is a folder" if path.is_dir() else "does not exist"
        raise UserError(f"script file {source!r} {what}: give the path of a training script")
    if spec.script.name in PROBLEMS:
        raise UserError(f"script.name = {spec.script.name!r} is a problem that is built in: choose another name")
    return LoopProblem(spec.script, source)


def identify_script(own: LoopProblem, spec: StudySpec) -> ProblemIdentity:
    """Describe a script: the text of its files, because a loop cannot be probed at a point."""
    try:
        text = Path(own.path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        text = ""
    return {
        "tensors": [],
        "settings": {
            "loss": own.loss.name,
            "metric": own.metric,
            "unit": own.unit,
            "factor of the metric": own.metric_scale,
            "batch size": own.batch_size,
            "rounds": own.rounds,
            "budget": spec.budget_of(own),
            "worst": own.worst,
            "worst metric": own.worst_metric,
            "examples for batch normalization": own.statistics_examples,
            "files": ", ".join(sorted(own.files)),
            **{f"the text of {name} (compared as a whole)": digest for name, digest in sorted(own.files.items())},
        },
        "probe": {},
        "precision": "float32",
        "failure": "a training script cannot be probed",
        "splits": {},
        "file": Path(own.path).name,
        "text": text,
    }


def identify_script_method() -> MethodIdentity:
    """Describe a method of a script: its ranges are stored elsewhere, its code is the script's."""
    return {"options": {}, "params": {}, "probe": {}, "failure": "it is made by the script", "file": "", "text": ""}


def _with_helpers(script: Path) -> Iterator[Path]:
    """Yield a script and the modules of its folder that it imports, and that these import."""
    waiting, seen = [script], set()
    while waiting:
        file = waiting.pop()
        if file in seen:
            continue
        seen.add(file)
        yield file
        for name in _imported(file):
            base = script.parent.joinpath(*name.split("."))
            parents = [script.parent.joinpath(*name.split(".")[: count + 1]) for count in range(name.count("."))]
            for place in (base, *parents):
                waiting += [path for path in (place.with_suffix(".py"), place / "__init__.py") if path.is_file()]


def _imported(file: Path) -> Iterator[str]:
    """Yield the modules that a file imports, wherever the import stands; relative ones count from its folder."""
    try:
        tree = ast.parse(file.read_bytes())
    except (OSError, SyntaxError, ValueError):  # to run it will say so
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if base:
                yield base
            yield from (f"{base}.{alias.name}".lstrip(".") for alias in node.names)
