"""The types of the JSON that a study's row holds: its specification and its manifest.

The writers (study.definition, study.execution) and the readers (study.coordination, analysis, report, server, cli)
share these types, so that a misspelled key is a type error. A study that an older version began may lack keys:
`problem_facts` and `method_facts` return complete facts, with neutral values for what is unknown.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, NotRequired, TypedDict, cast

from relaxbench.space import Space, StoredSpace, Value, from_stored
from relaxbench.store.identity_facts import IdentityFacts

Option = bool | int | float | str
"""The value of an option of a method."""


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
    margin: float | str | None  # of equivalence: in the display unit, or a ratio such as "10 %"
    censored: bool  # the metric counts gradients to a tolerance
    train_examples: int | None
    test_examples: int | None
    caution: str
    base: str  # the problem's own name; on a ladder of budgets this one is called base@rung
    rung: int | None  # its budget on a ladder; None without a ladder
    rounds: int | None  # measurements on validation data per trial
    decades: bool  # losses of runs span decades: their logarithms are averaged


class CostFacts(TypedDict):
    """The cost of a method on a problem, measured on the direct path at K = 1."""

    seconds_per_gradient: float
    seconds_spread: float  # relative half-width of its 95 % interval, as a ratio to other methods' times
    peak_bytes: float


class PublicationFacts(TypedDict):
    """The publication that a method's settings on a problem come from, where it is run as published."""

    kind: str  # of the authors' problem, in words
    source: str
    wanted: str  # the kind of this problem, in words; empty if it states none
    fits: bool  # both kinds are the same


RANDOM = "random"
"""The sampler of independent random trials, the only one with an estimate over all subsets of trials."""


class PrunerFacts(TypedDict):
    """What stops the trials of a block early; see `study.definition.search`."""

    name: str  # a name of `study.coordination.pruners`, or the path of a class
    options: dict[str, Any]
    spot_checks: float  # share of the pruned trials that are run to the end all the same


class SearchFacts(TypedDict):
    """How the trials of a block are chosen; see `study.definition.search`."""

    sampler: str  # random, a name of `study.coordination.samplers`, or the path of a class
    options: dict[str, Any]  # of the sampler
    generation: int  # trials of a block that are chosen together
    pruner: NotRequired[PrunerFacts]  # missing where all trials run to their end


class LenderFacts(TypedDict):
    """A study that known settings come from."""

    shared: list[str]  # the problems of the borrowing study whose data it had too
    search: list[int]  # the blocks of its last look, and their trials


class KnownFacts(TypedDict):
    """Settings that every block of a method tries first; see `study.definition.known`."""

    params: dict[str, Value]
    origin: str  # a study of the same database, free text, or empty


class MethodFacts(TypedDict):
    """What the report and the plan need of a method without importing its rule.

    `space` and `fixed` are those of the study's first problem; `spaces` and `fixes` have those of every problem.
    """

    rule: str
    title: str
    source: str
    role: str  # baseline, control, candidate
    without: str  # the part that this method leaves out of the one that it is compared with; "" for none
    instead: str  # what stands in its place
    arm: Literal["tuned", "published"]  # published: no tuning, `fixed` holds the authors' settings
    space_name: Literal["default", "wide", "custom"]
    dimensions: int | None  # of the first problem's space
    space: StoredSpace
    spaces: dict[str, StoredSpace]
    fixed: dict[str, Value]
    fixes: dict[str, dict[str, Value]]
    options: dict[str, Option]
    search: SearchFacts
    known: list[KnownFacts]
    publications: dict[str, PublicationFacts]  # by problem; empty for a method that is tuned
    copies: float | None  # of the parameters, held by the rule
    outer_step: list[float]  # its gradients: of each inner step (all replicas' together), and beside them
    scope: str | None  # gamma, sigma
    calibration: dict[str, CostFacts]  # by problem


class CompiledFacts(TypedDict):
    """The compiled step of a method; see `training.compiled.CompiledStep`."""

    reason: str  # why there is none, so that its trials are run by plain operations; "" if there is
    seconds: float  # that recording, compiling and checking took
    digest: str  # of the numbers that its check has computed: another machine must compute the same


class RepaymentFacts(TypedDict):
    """Whether compiling the steps of a problem repays; see `training.engine.Repayment`."""

    reason: str  # "" where the training is too short to ask
    training: float  # seconds of a worker on the vectorized path, of the trials that were certain
    gain: float | None  # gradients per second of the compiled path, relative to the vectorized one
    compilation: float | None  # seconds of all steps, in a worker that makes them and one that loads them


class EngineFacts(TypedDict):
    """How a problem's trials are run; see `training.engine.Engine`."""

    path: Literal["vectorized", "direct", "compiled", "script"]
    population: int
    device: str
    dtype: str
    precision: Literal["float32", "float64", "tf32", "bf16"]
    threads: int
    invariance: str
    note: str
    rate: NotRequired[float]  # gradients per second of SGD, where paths were compared by it; else 0
    repayment: NotRequired[RepaymentFacts | None]  # where the path was chosen by measuring
    compiled: NotRequired[dict[str, CompiledFacts]]  # by method, on the compiled path
    measured: NotRequired[str]  # the day, if paths and sizes were compared for an earlier study; else ""


class FlatnessFacts(TypedDict):
    """The measurements of flatness on a problem; see `study.definition.flatness_share`."""

    examples: int  # in the loss
    runs: int  # of each method that are measured: so many winners of the first blocks, and recommended runs


class TurnFacts(TypedDict):
    """The worker that alone does a task now, and until when (seconds since the epoch)."""

    worker: str
    until: float


class RestatedFacts(TypedDict):
    """A statement on which verdicts rest, changed after test data had been read."""

    what: str  # margin of a problem, baseline, controls
    was: str
    now: str
    at: str


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
    dtype: str  # of parameters: all types of its problems


class Manifest(Circumstances, total=False):
    """The circumstances of a study: what was decided once, and whose turn it is."""

    key: str  # keeps the study's files apart from those of others
    version: str
    device: str  # cpu, cuda
    problems: dict[str, ProblemFacts]
    identity: IdentityFacts
    origins: dict[str, str]  # by problem: the path of its file, or its name
    methods: dict[str, MethodFacts]
    path: Literal["vectorized", "direct", "compiled"]  # asked for, of problems that have no engine yet
    engines: dict[str, EngineFacts]  # by problem
    flatness: dict[str, FlatnessFacts]  # by problem; one that is not in it is measured in full
    turns: dict[str, TurnFacts]  # by task
    extra_looks: list[int]  # blocks of the looks beyond the declared ones that a later extension has followed
    copied_from: OriginFacts
    known_from: dict[str, list[str]]  # by study that known settings come from: the problems here that it had too
    known_search: dict[str, list[int]]  # by the same: the blocks of its last look, and their trials
    restated: list[RestatedFacts]  # in the order of time; the first one of a statement has its first value
    load: dict[str, Any]  # of a simulated study, see `stress.simulated.Load`


class SpecFacts(TypedDict, total=False):
    """A specification as stored; see `study.definition.spec.StudySpec`."""

    name: str
    description: str
    problems: list[str]  # names in the database: on a ladder of budgets every rung is one
    methods: list[str]
    baseline: str
    controls: list[str]
    seed: int
    looks: list[int]  # blocks at which the study is looked at; protocol 1 has `blocks` instead, see `protocol`
    more_blocks: int  # beyond the last look
    trials: int
    exploit: int
    recommend: int
    repetitions: int
    budget: int | None
    budgets: list[int]  # a ladder; empty without one
    margin: float | str | None
    precision: str
    flatness: bool | Literal["full"]
    space: dict[str, object]  # ranges as in the study file
    search: dict[str, object] | None  # of all methods, as in the study file; None for random trials
    known: list[dict[str, object]] | None  # tables as in the study file; None without any
    method: dict[str, dict[str, object]]  # variants as in the study file
    script: dict[str, object] | None  # the table of a training script, without its path
    track: dict[str, object] | None  # the table of an experiment tracker; None for none


INTERNAL = ("origins", "turns", "identity")
"""Keys of the manifest that only workers need: paths on a machine, whose turn it is, a person's files."""


def public(manifest: Manifest) -> dict[str, object]:
    """The manifest without what only workers need, as pages and files show it."""
    return {key: value for key, value in manifest.items() if key not in INTERNAL}


def protocol(spec: SpecFacts) -> Literal[1, 2]:
    """The protocol by which a study was planned.

    1: a fixed number of blocks, whose winners are confirmed. 2: declared looks, at which the best third is confirmed.
    """
    return 2 if "looks" in spec else 1


def looks_of(spec: SpecFacts) -> tuple[int, ...]:
    """The declared looks: rising numbers of blocks. A study of protocol 1 has one, at all its blocks."""
    if protocol(spec) == 1:
        blocks = cast(Mapping[str, int], spec).get("blocks")
        return (int(blocks),) if blocks else ()
    return tuple(spec["looks"])


def search_of(spec: SpecFacts) -> list[int]:
    """The size of a study's search: the blocks of its last look, and their trials."""
    return [max(looks_of(spec), default=0), int(spec.get("trials", 0))]


def planned_looks(spec: SpecFacts, manifest: Manifest) -> tuple[int, ...]:
    """`looks_of`, and the looks beyond the last declared one: one for every time that more blocks were requested."""
    looks, more = looks_of(spec), spec.get("more_blocks", 0)
    if not looks or not more:
        return looks
    return (*looks, *manifest.get("extra_looks", []), looks[-1] + more)


def opponent_of(spec: SpecFacts, method: str) -> str | None:
    """The method that one is compared with: its own ``against``, or the baseline; None for the baseline itself."""
    baseline = spec.get("baseline")
    own = spec.get("method", {}).get(method, {}).get("against")
    return None if method == baseline else str(own) if own else baseline


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
        "base": problem,
        "rung": None,
        "rounds": None,
        "decades": False,
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
        "without": "",
        "instead": "",
        "arm": "tuned",
        "space_name": "default",
        "dimensions": None,
        "space": {},
        "spaces": {},
        "fixed": {},
        "fixes": {},
        "options": {},
        "search": {"sampler": RANDOM, "options": {}, "generation": 1},
        "known": [],
        "publications": {},
        "copies": None,
        "outer_step": [1.0, 0.0],
        "scope": None,
        "calibration": {},
    }
    known = manifest.get("methods", {}).get(method)
    return {**neutral, **known} if known else neutral


def is_random(method: MethodFacts) -> bool:
    """Whether a method's trials are independent random ones: then all subsets of them estimate the best of T.

    They are not all drawn alike if a block begins with known settings; with a pruner their number depends on results.
    """
    return method["search"]["sampler"] == RANDOM and "pruner" not in method["search"] and not method["known"]


def sampler_of(method: MethodFacts) -> str:
    """Name what chooses a method's trials, and what stops them: ``random``, ``known, tpe``, ``random, hyperband``."""
    search = method["search"]
    pruner = search.get("pruner")
    parts = ("known" if method["known"] else "", search["sampler"], pruner["name"] if pruner else "")
    return ", ".join(part for part in parts if part)


def space_on(method: MethodFacts, problem: str) -> Space:
    """Return the space of a method on a problem."""
    return from_stored(method["spaces"].get(problem, method["space"]))


def known_on(method: MethodFacts, space: Space) -> list[dict[str, Value]]:
    """Return the known settings of a method, without hyperparameters that are not searched in this space."""
    return [{name: each["params"][name] for name in space} for each in method["known"]]


def fixed_on(method: MethodFacts, problem: str) -> dict[str, Value]:
    """Return the hyperparameters of a method on a problem that are not searched, with their values."""
    return method["fixes"].get(problem, method["fixed"])
