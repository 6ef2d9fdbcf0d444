"""The types of the JSON that a study's row holds: its specification and its manifest.

The writers (study.definition, study.execution) and the readers (study.coordination, analysis, report, server, cli)
share these types, so that a misspelled key is a type error. A study that an older version began may lack keys:
`problem_facts` and `method_facts` return complete facts, with neutral values for what is unknown.
"""

from __future__ import annotations

from typing import Any, Literal, TypedDict

from relaxbench.space import Space, StoredSpace, Value, from_stored


class ProblemFacts(TypedDict):
    """What the report needs of a problem without importing it. None: unknown, or not applicable."""

    title: str
    metric: str
    unit: str
    metric_scale: float  # from the stored metric to the display unit
    loss: str
    parameters: int | None
    data: str
    fingerprint: str
    budget: int | None  # gradient equivalents per trial
    worst: float | None  # value of a diverged trial
    worst_metric: float | None  # as stored, not in the display unit
    margin: float | None  # of equivalence, in the display unit
    censored: bool  # the metric counts gradients to a tolerance
    train_examples: int | None
    test_examples: int | None
    caution: str


class CostFacts(TypedDict):
    """The cost of a method on a problem, measured on the direct path at K = 1."""

    seconds_per_gradient: float
    peak_bytes: float


class MethodFacts(TypedDict):
    """What the report and the plan need of a method without importing its rule.

    `space` and `fixed` are those of the study's first problem; `spaces` and `fixes` have those of every problem.
    """

    rule: str
    title: str
    source: str
    role: str  # baseline, control, candidate
    dimensions: int | None  # of the first problem's space
    space: StoredSpace
    spaces: dict[str, StoredSpace]
    fixed: dict[str, Value]
    fixes: dict[str, dict[str, Value]]
    options: dict[str, bool | int]
    copies: float | None  # of the parameters, held by the rule
    scope: str | None  # gamma, sigma
    calibration: dict[str, CostFacts]  # by problem


class EngineFacts(TypedDict):
    """How a problem's trials are run; see `training.engine.Engine`."""

    path: Literal["vectorized", "direct"]
    population: int
    device: str
    dtype: str
    precision: Literal["float32", "tf32", "bf16"]
    threads: int
    invariance: str
    note: str


class TurnFacts(TypedDict):
    """The worker that alone does a task now, and until when (seconds since the epoch)."""

    worker: str
    until: float


class OriginFacts(TypedDict):
    """The study that a copy was made from."""

    name: str
    key: str | None
    at: str


class MachineFacts(TypedDict, total=False):
    """The machine and the programs of a study or a worker."""

    python: str
    torch: str
    platform: str
    cpu: str
    threads: int
    gpu: str | None


class Circumstances(MachineFacts, total=False):
    """`MachineFacts` of the worker that measured a study, and what else is stored once."""

    optuna: str
    git_commit: str | None
    dtype: str


class Manifest(Circumstances, total=False):
    """The circumstances of a study: what was decided once, and whose turn it is."""

    key: str  # keeps the study's files apart from those of others
    version: str
    device: str  # cpu, cuda
    problems: dict[str, ProblemFacts]
    origins: dict[str, str]  # by problem: the path of its file, or its name
    methods: dict[str, MethodFacts]
    engines: dict[str, EngineFacts]  # by problem
    turns: dict[str, TurnFacts]  # by task
    copied_from: OriginFacts
    load: dict[str, Any]  # of a simulated study, see `stress.simulated.Load`


class SpecFacts(TypedDict, total=False):
    """A specification as stored; see `study.definition.spec.StudySpec`."""

    name: str
    description: str
    problems: list[str]
    methods: list[str]
    baseline: str
    controls: list[str]
    seed: int
    blocks: int
    trials: int
    exploit: int
    recommend: int
    repetitions: int
    budget: int | None
    margin: float | None
    precision: str
    flatness: bool
    space: dict[str, object]  # ranges as in the study file
    method: dict[str, dict[str, object]]  # variants as in the study file


def problem_facts(manifest: Manifest, problem: str) -> ProblemFacts:
    """All facts of a problem; neutral values where the manifest has none."""
    neutral: ProblemFacts = {
        "title": problem,
        "metric": "test metric",
        "unit": "",
        "metric_scale": 1.0,
        "loss": "",
        "parameters": None,
        "data": "",
        "fingerprint": "",
        "budget": None,
        "worst": None,
        "worst_metric": None,
        "margin": None,
        "censored": False,
        "train_examples": None,
        "test_examples": None,
        "caution": "",
    }
    known = manifest.get("problems", {}).get(problem)
    return {**neutral, **known} if known else neutral


def method_facts(manifest: Manifest, method: str, role: str = "candidate") -> MethodFacts:
    """All facts of a method; neutral values, and this role, where the manifest has none."""
    neutral: MethodFacts = {
        "rule": method,
        "title": method,
        "source": "",
        "role": role,
        "dimensions": None,
        "space": {},
        "spaces": {},
        "fixed": {},
        "fixes": {},
        "options": {},
        "copies": None,
        "scope": None,
        "calibration": {},
    }
    known = manifest.get("methods", {}).get(method)
    return {**neutral, **known} if known else neutral


def space_on(method: MethodFacts, problem: str) -> Space:
    """Return the space of a method on a problem."""
    return from_stored(method["spaces"].get(problem, method["space"]))


def fixed_on(method: MethodFacts, problem: str) -> dict[str, Value]:
    """Return the hyperparameters of a method on a problem that are not searched, with their values."""
    return method["fixes"].get(problem, method["fixed"])
