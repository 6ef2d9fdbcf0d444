"""Study files: which problems and methods, how much tuning, how many blocks. TOML, validated, every mistake named."""

from __future__ import annotations

import math
import tomllib
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from relaxbench.errors import UserError, unknown
from relaxbench.optim.hyper import OPTIONS, defaults, expected, stack
from relaxbench.optim.registry import RULES, rule_class, rule_names
from relaxbench.optim.rule import Rule
from relaxbench.problems import Problem
from relaxbench.space import Choice, Hyperparameter, Int, Space, Value
from relaxbench.training.precision import Precision

Range = list[float] | list[str]
Positive = Annotated[int, Field(ge=1, le=10_000_000, strict=True)]
Natural = Annotated[int, Field(ge=0, le=10_000_000, strict=True)]

EXTENDABLE = ("problems", "methods", "blocks", "trials", "exploit", "recommend", "repetitions", "method")
"""Keys that may grow in a study that has begun."""
FREE = ("description", "controls", "margin", "baseline", "flatness")
"""Keys that may change at any time: they say what is told of runs, not how these are made."""


class Variant(BaseModel):
    """A method of one's own: a rule with some settings fixed or searched elsewhere."""

    model_config = ConfigDict(extra="forbid")
    rule: str
    title: str = ""
    fixed: dict[str, float | str] = {}
    space: dict[str, Range] = {}
    options: dict[str, bool | int] = {}


class StudySpec(BaseModel):
    """A study.

    Attributes:
        name: under which the database holds it.
        problems: names, or paths of Python files.
        methods: names of rules or of variants (tables ``[method.NAME]``).
        baseline: the method that the others are compared with.
        controls: methods that stand beside the baseline; the rest are candidates.
        seed: of everything.
        blocks: R, independent repetitions of the tuning; the unit of replication.
        trials: n, random trials in a block.
        exploit: trials that TPE may spend a method, in generations of 4.
        recommend: fresh seeds for the best settings.
        repetitions: how often the whole comparison is repeated (for A/A studies).
        budget: gradient equivalents a trial; None for the problem's own.
        margin: the smallest difference that matters; None for the problem's own.
        precision: ``"float32"``, ``"tf32"`` or ``"bf16"``, see `training.precision`.
        flatness: measure the Hessian's spectrum and the local entropy of every tested run from now on.
        space: ranges for all methods, name → [low, high] or a list of choices.
        method: variants.
    """

    model_config = ConfigDict(extra="forbid")
    name: Annotated[str, Field(min_length=1, max_length=200)]
    description: str = ""
    problems: Annotated[list[str], Field(min_length=1)]
    methods: Annotated[list[str], Field(min_length=1)]
    baseline: str = "sgd"
    controls: list[str] = []
    seed: Annotated[int, Field(ge=0, lt=2**63, strict=True)] = 0
    blocks: Positive = 10
    trials: Positive = 12
    exploit: Natural = 16
    recommend: Natural = 10
    repetitions: Positive = 1
    budget: Annotated[int, Field(ge=1, le=10**12, strict=True)] | None = None
    margin: Annotated[float, Field(gt=0)] | None = None
    precision: Precision = "float32"
    flatness: Annotated[bool, Field(strict=True)] = True
    space: dict[str, Range] = {}
    method: dict[str, Variant] = {}

    def rule_of(self, label: str) -> type[Rule]:
        """The rule that a method's label stands for."""
        return rule_class(self.method[label].rule if label in self.method else label)

    def make_rule(self, label: str) -> Rule:
        """The rule object of a label, with its options."""
        options = self.method[label].options if label in self.method else {}
        return self.rule_of(label)(**options)

    def title_of(self, label: str) -> str:
        """The name of a method in sentences."""
        return (self.method[label].title or label) if label in self.method else self.rule_of(label).title

    def role_of(self, label: str) -> str:
        """``"baseline"``, ``"control"`` or ``"candidate"``."""
        return "baseline" if label == self.baseline else "control" if label in self.controls else "candidate"

    def space_of(self, label: str, problem: Problem) -> Space:
        """What is searched for a method on a problem: shared ranges, then the problem's, the study's, the method's."""
        variant = self.method.get(label)
        space = dict(self.rule_of(label).space)
        for ranges in (problem.space, self.space, variant.space if variant else {}):
            for name in ranges.keys() & space.keys():
                space[name] = narrowed(space[name], name, list(ranges[name]))
        fixed = self.fixed_of(label, problem)
        return {name: declared for name, declared in space.items() if name not in fixed}

    def fixed_of(self, label: str, problem: Problem) -> dict[str, Value]:
        """Hyperparameters that are not searched: those the problem fixes for all methods, and those of a variant."""
        shared = {name: value for name, value in problem.fixed.items() if name in self.rule_of(label).space}
        return {**shared, **(self.method[label].fixed if label in self.method else {})}

    def check_on(self, problems: list[Problem]) -> None:
        """Refuse a budget that is smaller than the longest outer step that could be drawn, or a loss without curvature.

        Raises:
            UserError: naming the problem, or the method, the budget and the outer step.
        """
        for problem in problems:
            for label in self.methods:
                params = {**defaults(self.rule_of(label).space), **self.fixed_of(label, problem)}
                steps = self.space_of(label, problem).get("inner_steps")
                if isinstance(steps, Int):
                    params["inner_steps"] = steps.high
                rule = self.make_rule(label)
                if rule.curvature:
                    problem.convex_loss()
                queries = int(rule.period(stack([params], torch.device("cpu"), torch.float32)))
                period = math.ceil(queries * rule.price * rule.replicas)
                if period > self.budget_of(problem):
                    raise UserError(
                        f"budget {self.budget_of(problem)} is smaller than one outer step of {label} (up to {period} "
                        "gradients): raise the budget, or lower inner_steps in [space]"
                    )

    def budget_of(self, problem: Problem) -> int:
        """Gradient equivalents a trial."""
        return self.budget or problem.budget

    def check(self) -> StudySpec:
        """This study, if everything that it names exists and every range stands the right way round.

        Raises:
            UserError: naming the first thing that is wrong.
        """
        known = {*rule_names(), *self.method}
        for label in [*self.methods, *self.controls, self.baseline]:
            if label not in known:
                raise unknown("method", label, known, "python -m relaxbench list shows all")
        names = {*RULES, *self.methods, *self.controls, *self.method}  # of other packages, only what is asked for
        for kind, values in (("method", self.methods), ("problem", self.problems)):
            twice = [value for value in values if values.count(value) > 1]
            if twice:
                raise UserError(f"{kind} {twice[0]!r} is named twice: name it once")
        if self.baseline not in self.methods:
            raise UserError(
                f"baseline {self.baseline!r} is not among the methods, so nothing could be compared: add it to "
                "`methods`, or name another `baseline`"
            )
        searched = {name for label in names for name in self.rule_of(label).space}
        for name in self.space:
            if name not in searched:
                raise unknown("hyperparameter in [space]", name, searched)
        for label in names:
            variant, space = self.method.get(label), self.rule_of(label).space
            for name in [*variant.space, *variant.fixed] if variant else []:
                if name not in space:
                    raise unknown(f"hyperparameter of [method.{label}]", name, space)
            for name, value in variant.fixed.items() if variant else ():
                wanted = expected(name, space[name], value)
                if wanted:
                    raise UserError(f"method.{label}.fixed.{name} = {value!r}: expected {wanted}")
            for ranges in (self.space, variant.space if variant else {}):
                for name in ranges.keys() & space.keys():
                    narrowed(space[name], name, list(ranges[name]))
            if variant:
                try:
                    self.make_rule(label)
                except TypeError:
                    raise UserError(
                        f"method.{label}.options = {variant.options}: {variant.rule} has no such option"
                    ) from None
                except ValueError as error:
                    raise UserError(f"method.{label}.options: {error}") from None
        return self


def narrowed(declared: Hyperparameter, name: str, given: list[Any]) -> Hyperparameter:
    """A declared hyperparameter, searched over another range.

    Raises:
        UserError: if the range is turned around, of the wrong kind, or not on a scale that allows it.
    """
    if not given:
        raise UserError(f"range {name} = []: expected {'choices' if isinstance(declared, Choice) else '[low, high]'}")
    if isinstance(declared, Choice):
        for option in given:
            if option not in OPTIONS[name]:
                raise unknown(f"choice of {name}", option, OPTIONS[name])
        return Choice(tuple(given), given[0])
    if len(given) != 2 or not all(isinstance(bound, (int, float)) for bound in given):
        raise UserError(f"range {name} = {given}: expected [low, high]")
    low, high = given
    if not (math.isfinite(low) and math.isfinite(high)):
        raise UserError(f"range {name} = [{low:g}, {high:g}]: expected finite numbers")
    if low >= high:
        raise UserError(f"range {name} = [{low:g}, {high:g}] is turned around: expected low < high")
    if isinstance(declared, Int):
        if low < 1 or low != int(low) or high != int(high) or (high - low) % declared.step:
            raise UserError(f"range {name} = [{low:g}, {high:g}]: expected integers ≥ 1 in steps of {declared.step}")
        nearest = min(range(int(low), int(high) + 1, declared.step), key=lambda value: abs(value - declared.default))
        return Int(int(low), int(high), nearest, declared.step)
    if low < 0 or high >= declared.below:
        below = f" and below {declared.below:g}" if declared.below < math.inf else ""
        raise UserError(f"range {name} = [{low:g}, {high:g}]: expected numbers that are not negative{below}")
    if declared.log and low <= 0:
        raise UserError(f"range {name} = [{low:g}, {high:g}]: searched on a log scale, expected low > 0")
    return replace(declared, low=low, high=high, default=min(max(declared.default, low), high))


def load(file: Path, overrides: dict[str, Any] | None = None) -> tuple[StudySpec, str]:
    """A study and the text of its file, with some keys replaced (by options of the command line).

    Raises:
        UserError: if the file is missing, not TOML, or not a study.
    """
    if file.is_dir():
        raise UserError(f"study file {str(file)!r} is a folder: give a TOML file, e.g. one of {', '.join(shipped())}")
    if not file.is_file():
        raise UserError(
            f"study file {str(file)!r} does not exist: give a TOML file, e.g. one of {', '.join(shipped())}"
        )
    try:
        text = file.read_text(encoding="utf-8")
        values = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, OSError) as error:
        raise UserError(f"study file {str(file)!r} cannot be read: {error}") from None
    values.update(overrides or {})
    if overrides and "methods" in overrides:  # what everything is compared with always takes part
        values["methods"] = list(dict.fromkeys([values.get("baseline", "sgd"), *overrides["methods"]]))
        return parse(values, str(file), overrides), text
    spec = parse(values, str(file), overrides or ())
    for key, labels in (("controls", spec.controls), ("[method.…]", spec.method)):
        idle = [label for label in labels if label not in spec.methods]
        if idle:
            raise UserError(f"{file}: {key} names {idle[0]!r}, which is not among the methods: add it to `methods`")
    return spec, text


def parse(values: dict[str, Any], where: str, options: Collection[str] = ()) -> StudySpec:
    """A checked study from plain values.

    Args:
        values: key → value.
        where: names their origin in error messages.
        options: keys whose values are the command line's.

    Raises:
        UserError: naming the first key, or option, that is wrong.
    """
    try:
        return StudySpec.model_validate(values).check()
    except ValidationError as error:
        first = error.errors()[0]
        path = [str(part) for part in first["loc"]]
        key = ".".join(part for part in path if part not in ("list[float]", "list[str]", "float", "str"))
        if first["type"] == "extra_forbidden":
            fields = Variant.model_fields if path[0] == "method" else StudySpec.model_fields
            raise unknown(f"key in {where}:", path[-1], fields) from None
        if first["type"] == "too_short":
            raise UserError(f"{where}: {key} is empty: name at least one") from None
        if first["type"] == "missing":
            raise UserError(f"{where}: the key {key!r} is missing") from None
        origin = f"--{key} {first['input']!r}" if key in options else f"{where}: {key} = {first['input']!r}"
        raise UserError(f"{origin}: {first['msg'][0].lower()}{first['msg'][1:]}") from None
    except UserError as error:
        raise UserError(f"{where}: {error}") from None


def studies_folder() -> Path:
    """Where the shipped study files lie: in the installed package, else beside it in a checkout."""
    inside = Path(__file__).parents[2] / "studies"
    return inside if inside.is_dir() else Path(__file__).parents[3] / "studies"


def shipped() -> list[str]:
    """Names of the shipped study files."""
    return sorted(f"studies/{path.name}" for path in studies_folder().glob("*.toml"))


def find(file: str | None) -> Path:
    """The path of a study file; ``studies/NAME.toml`` is found in the package when it is not in this folder."""
    path = Path(file or "studies/digits.toml")
    if file is None or (not path.exists() and path.parent == Path("studies")):
        packaged = studies_folder() / path.name
        return packaged if packaged.exists() else path
    return path


def changes(old: dict[str, Any], new: dict[str, Any]) -> tuple[list[str], dict[str, Any]]:
    """What keeps a stored study from going on as a new one, and the stored study extended by the new one.

    Returns:
        differences that cannot be reconciled, one line each; the merged specification.
    """
    refused: list[str] = []
    merged = dict(old)
    for key in sorted(old.keys() | new.keys()):
        before: Any = old.get(key)
        after: Any = new.get(key)
        if key in FREE:
            merged[key] = after
        elif key in ("problems", "methods"):
            merged[key] = [*before, *(name for name in after if name not in before)]
        elif key == "method":
            both = sorted(before.keys() & after.keys())
            refused += [f"method.{n}: {before[n]} → {after[n]}" for n in both if before[n] != after[n]]
            merged[key] = {**before, **after}
        elif key in EXTENDABLE:
            if after < before:
                refused.append(f"{key}: {before} → {after} (may grow, not shrink)")
            merged[key] = after
        elif before != after:
            refused.append(f"{key}: {before} → {after}")
    if merged["repetitions"] > 1 and old["blocks"] != new["blocks"]:
        refused.append(f"blocks: {old['blocks']} → {new['blocks']} (fixed in a study with repetitions)")
    return refused, merged
