"""The model of a study file: which problems and methods, how much tuning, how many blocks."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from relaxbench.optim.registry import rule_class
from relaxbench.optim.rule import Rule
from relaxbench.problems import Problem
from relaxbench.space import Space, Value
from relaxbench.study.definition import spaces
from relaxbench.study.definition.ranges import Bounds
from relaxbench.training.precision import Precision

Positive = Annotated[int, Field(ge=1, le=10_000_000, strict=True)]
Natural = Annotated[int, Field(ge=0, le=10_000_000, strict=True)]


class Variant(BaseModel):
    """A custom method: a rule with some hyperparameters fixed, or searched over other ranges.

    Attributes:
        rule: name of the rule.
        title: name of the method in sentences; empty for its label.
        fixed: values of hyperparameters that are not searched.
        space: ranges that replace those of the study.
        options: arguments of the rule's constructor.
    """

    model_config = ConfigDict(extra="forbid")
    rule: str
    title: str = ""
    fixed: dict[str, float | str] = {}
    space: dict[str, Bounds] = {}
    options: dict[str, bool | int] = {}


class StudySpec(BaseModel):
    """The specification of a study.

    Attributes:
        name: of the study in the database.
        description: free text.
        problems: names, or paths of Python files.
        methods: labels: names of rules or of variants (tables ``[method.NAME]``).
        baseline: the method that the others are compared with.
        controls: further methods for reference; the rest are candidates.
        seed: random seed.
        blocks: R, independent repetitions of the tuning; the unit of replication.
        trials: n, random trials per block.
        exploit: trials of TPE per method, in generations of 4.
        recommend: fresh seeds for the best params.
        repetitions: how often the whole comparison is repeated (for A/A studies).
        budget: gradient equivalents per trial; None for the problem's own.
        margin: the smallest difference that matters; None for the problem's own.
        precision: ``"float32"``, ``"tf32"`` or ``"bf16"``, see `training.precision`.
        flatness: measure the Hessian's spectrum and the local entropy of every tested run from now on.
        space: ranges for all methods: by name, [low, high] or a list of options.
        method: variants, by label.
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
    space: dict[str, Bounds] = {}
    method: dict[str, Variant] = {}

    def rule_of(self, label: str) -> type[Rule]:
        """Return the rule class of a method."""
        return rule_class(self.method[label].rule if label in self.method else label)

    def make_rule(self, label: str) -> Rule:
        """Construct the rule of a method, with its options."""
        options = self.method[label].options if label in self.method else {}
        return self.rule_of(label)(**options)

    def title_of(self, label: str) -> str:
        """Return the name of a method in sentences."""
        return (self.method[label].title or label) if label in self.method else self.rule_of(label).title

    def role_of(self, label: str) -> str:
        """Return ``"baseline"``, ``"control"`` or ``"candidate"``."""
        return "baseline" if label == self.baseline else "control" if label in self.controls else "candidate"

    def space_of(self, label: str, problem: Problem) -> Space:
        """Return what is searched for a method on a problem, see `spaces.space_of`."""
        return spaces.space_of(self.search_of(label), problem)

    def fixed_of(self, label: str, problem: Problem) -> dict[str, Value]:
        """Return what is not searched for a method on a problem, with its value, see `spaces.fixed_of`."""
        return spaces.fixed_of(self.search_of(label), problem)

    def search_of(self, label: str) -> spaces.Search:
        """Return how a method is tuned, whatever the problem."""
        variant = self.method.get(label)
        if variant is None:
            return spaces.Search(self.rule_of(label), study=self.space)
        return spaces.Search(self.rule_of(label), space=variant.space, fixed=variant.fixed, study=self.space)

    def budget_of(self, problem: Problem) -> int:
        """Return the budget of a trial in gradient equivalents."""
        return self.budget or problem.budget
