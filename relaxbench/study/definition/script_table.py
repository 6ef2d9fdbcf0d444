"""The table ``[script]`` of a study file: a training script of the user's own, in place of a problem."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from relaxbench.errors import UserError, unknown
from relaxbench.loop.job import REPORTS
from relaxbench.loop.spaces import middle, range_of, space_of, value_of
from relaxbench.space import Choice, Float, Hyperparameter, Int, Space, Value
from relaxbench.study.definition.ranges import Number

if TYPE_CHECKING:
    from relaxbench.study.definition.spec import StudySpec

EXAMPLE = ', such as "train.py"'


class Script(BaseModel):
    """A training script and its metric. All numbers are those that the script reports.

    Attributes:
        file: path of the script.
        name: of the problem in the database; the file's name if it is not stated.
        title: of the problem in sentences.
        metric: name of what the script reports and tests.
        direction: whether a smaller or a larger metric is better.
        best: the best possible metric. What is compared is the distance to it, because verdicts are ratios.
        worst: the metric of a run that has diverged.
        worst_loss: its validation loss, for a script that reports one.
        unit: of the metric in reports.
        scale: factor from what the script reports to that unit.
        reports: how often a run is asked to report.
        integer: hyperparameters that are whole numbers.
        linear: hyperparameters that are searched on a linear scale although their range spans a decade or more.
        test_examples: independent test examples, for a share of errors in %: half of one replaces a share of 0.
        silence: seconds without a sign of a run after which it has failed.
    """

    model_config = ConfigDict(extra="forbid")
    file: str = Field("", exclude=True)  # the path belongs to a machine, not to the study
    name: str = ""
    title: str = ""
    metric: Annotated[str, Field(min_length=1, max_length=100)]
    direction: Literal["minimize", "maximize"] = "minimize"
    best: Number | None = None
    worst: Number
    worst_loss: Number | None = None
    unit: str = ""
    scale: Number = 1.0
    reports: Annotated[int, Field(ge=1, le=1000, strict=True)] = REPORTS
    integer: list[str] = []
    linear: list[str] = []
    test_examples: Annotated[int, Field(ge=1, le=10**12, strict=True)] | None = None
    silence: Annotated[float, Field(gt=0, le=1e7)] = 600.0

    def distance(self, metric: float) -> float:
        """Return how far a reported metric is from the best one; negative if it is better than that."""
        best = self.best or 0.0
        return best - metric if self.direction == "maximize" else metric - best

    @property
    def compared(self) -> str:
        """The name of what is compared."""
        if not self.best and self.direction == "minimize":
            return self.metric
        best = f"{(self.best or 0.0) * self.scale:g}{f' {self.unit}' if self.unit else ''}"
        return f"{self.metric} {'below' if self.direction == 'maximize' else 'above'} {best}"


def completed(values: Any) -> Any:
    """Return the values of a study with what its table ``[script]`` implies: the problem, its name, no flatness."""
    script = values.get("script") if isinstance(values, Mapping) else None
    if not isinstance(script, Mapping):
        return values
    whole = {"flatness": False, **values}
    file = script.get("file")
    if isinstance(file, str) and file:
        whole.setdefault("problems", [file])
        whole["script"] = {"name": Path(file).stem, **script}
    return whole


def script_space(spec: StudySpec, label: str) -> Space:
    """Return what is searched for a method of a script."""
    script = spec.script
    assert script is not None
    return space_of(spec.variant(label).ranges, script.integer, script.linear)


def script_fixed(spec: StudySpec, label: str) -> dict[str, Value]:
    """Return what is not searched for a method of a script, with its value."""
    script = spec.script
    assert script is not None
    return {name: value_of(name, value, script.integer) for name, value in spec.variant(label).fixed.items()}


def script_middle(spec: StudySpec, label: str) -> dict[str, Value]:
    """Return the middle of a method's ranges, and what it fixes."""
    return {**middle(script_space(spec, label)), **script_fixed(spec, label)}


def script_hyperparameters(spec: StudySpec, label: str) -> Space:
    """Return every hyperparameter of a method of a script, searched or fixed."""
    fixed = {name: _fixed(value) for name, value in script_fixed(spec, label).items()}
    return {**script_space(spec, label), **fixed}


def _fixed(value: Value) -> Hyperparameter:
    if isinstance(value, str):
        return Choice((value,), value)
    return Int(value, value, value) if isinstance(value, int) else Float(value, value, value)


def check_script(spec: StudySpec) -> StudySpec:
    """Return a study of a script if its tables are possible.

    Raises:
        UserError: naming the first key that is wrong.
    """
    script = spec.script
    assert script is not None
    if script.file and (not script.file.endswith(".py") or Path(script.file).stem == ".py"):
        folder = f"is a folder, and a script is expected{EXAMPLE}" if Path(script.file).is_dir() else ""
        raise UserError(f"script.file = {script.file!r}: {folder or f'expected the path of a script{EXAMPLE}'}")
    _check_table(script)
    _check_rest(spec, script)
    known = {name for label in spec.method for name in (*spec.variant(label).ranges, *spec.variant(label).fixed)}
    for key in ("integer", "linear"):
        for name in getattr(script, key):
            if name not in known:
                raise unknown(f"hyperparameter in script.{key}:", name, known)
    for label, variant in spec.method.items():
        for key in ("rule", "options"):
            if getattr(variant, key):
                raise UserError(
                    f"method.{label}.{key} = {getattr(variant, key)!r}: a method of a script is what the script makes "
                    "of its name and its params: leave the key out, and state values in `fixed`"
                )
        if variant.arm == "published":
            raise UserError(
                f'method.{label}.arm = "published": a script has no published settings: state them in `fixed`'
            )
        if isinstance(variant.space, str) and variant.space != "default":
            raise UserError(f"method.{label}.space = {variant.space!r}: expected a table of ranges")
        for name in variant.ranges.keys() & variant.fixed.keys():
            raise UserError(f"method.{label}: {name} is fixed and has a range: leave one of them out")
        for name, bounds in variant.ranges.items():
            try:
                range_of(name, bounds, name in script.integer, name in script.linear)
            except UserError as error:
                raise UserError(f"method.{label}.space: {error}") from None
        for name, value in variant.fixed.items():
            if isinstance(value, float) and not math.isfinite(value):
                raise UserError(f"method.{label}.fixed.{name} = {value!r}: expected a finite number, or a text")
            try:
                value_of(name, value, script.integer)
            except UserError as error:
                raise UserError(f"method.{label}.fixed.{error}") from None
    return spec


def _check_table(script: Script) -> None:
    for key in ("name", "title", "metric", "unit"):
        text = getattr(script, key)
        blank = not text.strip() if key == "metric" or (key == "name" and key in script.model_fields_set) else False
        if blank or text != text.strip() or not text.isprintable() or (key == "name" and "@" in text):
            kind = "a name without @" if key == "name" else "a text"
            raise UserError(
                f"script.{key} = {text!r}: expected {kind} of printable characters, without blanks around it"
            )
    for key in ("best", "worst", "worst_loss", "scale"):
        value = getattr(script, key)
        if value is not None and not math.isfinite(value):
            raise UserError(f"script.{key} = {value!r}: expected a finite number")
    if script.direction == "maximize" and script.best is None:
        raise UserError(
            'script.direction = "maximize": verdicts are ratios of the distance to the best possible metric: state it, '
            "such as best = 1.0 for an accuracy"
        )
    if script.distance(script.worst) <= 0:
        side = "below" if script.direction == "maximize" else "above"
        raise UserError(f"script.worst = {script.worst:g}: expected a number {side} the best one, {script.best or 0:g}")
    if script.scale <= 0:
        raise UserError(f"script.scale = {script.scale:g}: expected a positive factor, such as 100 for a share in %")


def _check_rest(spec: StudySpec, script: Script) -> None:
    """Check that nothing else of the study file says what only problems of relaxbench have."""
    if len(spec.problems) != 1 or not spec.problems[0].endswith(".py"):
        raise UserError(
            f"problems = {spec.problems}: a study with a table [script] has that script alone: leave it out"
        )
    if script.file and spec.problems != [script.file]:
        raise UserError(f"problems = {spec.problems}: script.file is {script.file!r}: leave `problems` out")
    if spec.budget is None and not spec.budgets:
        raise UserError("the key 'budget' is missing: state how many gradients a run of the script may take")
    if spec.flatness:
        raise UserError(f"flatness = {spec.flatness!r}: it cannot be measured in a script: leave the key out")
    if spec.precision != "float32":
        raise UserError(f"precision = {spec.precision!r}: a script chooses its own precision: leave the key out")
    if spec.space:
        raise UserError(
            f"space = {spec.space}: a script's methods have their own ranges: state them in [method.NAME], as `space`"
        )
