"""The model of a study file: which problems and methods, how much tuning, how many blocks."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from relaxbench.optim.registry import rule_class
from relaxbench.optim.rule import Rule
from relaxbench.optim.wrapped.arguments import Option
from relaxbench.problems import Problem
from relaxbench.space import Space, Value
from relaxbench.store.facts import SearchFacts
from relaxbench.study.definition import spaces
from relaxbench.study.definition.known import Known
from relaxbench.study.definition.ranges import Bounds, Number
from relaxbench.study.definition.script_problem import rule_of_script
from relaxbench.study.definition.script_table import (
    Script,
    completed,
    script_fixed,
    script_hyperparameters,
    script_space,
)
from relaxbench.study.definition.search import Search
from relaxbench.study.definition.track import Track
from relaxbench.training.precision import Precision

Positive = Annotated[int, Field(ge=1, le=10_000_000, strict=True)]
Natural = Annotated[int, Field(ge=0, le=10_000_000, strict=True)]

Gradients = Annotated[int, Field(ge=1, le=10**12, strict=True)]


OptionValue = Annotated[bool, Field(strict=True)] | Annotated[int, Field(strict=True)] | Number | str


class Variant(BaseModel):
    """A custom method: a rule with some hyperparameters fixed, or searched over other ranges, or not tuned at all.

    Attributes:
        rule: name of the rule; empty for the method's label.
        title: name of the method in sentences; empty for that of the rule, or for a label of its own.
        arm: ``"published"`` for the authors' settings on fresh seeds, without tuning.
        fixed: values of hyperparameters that are not searched.
        space: ``"default"``, ``"wide"`` for everything that the rule has, or ranges that replace those of the study.
        options: arguments of the rule's constructor.
        search: how its trials are chosen; None for the study's way.
        against: the method that it is compared with; None for the baseline.
        without: the part of that method that it leaves out, as in "Entropy-SGD without γ scoping"; None for none.
        instead: what stands in the place of this part.
    """

    model_config = ConfigDict(extra="forbid")
    rule: str = ""
    title: str = ""
    arm: Literal["tuned", "published"] = "tuned"
    fixed: dict[str, Number | str] = {}
    space: spaces.SpaceName | dict[str, Bounds] = "default"
    options: dict[str, OptionValue] = {}
    search: Search | None = None
    against: str | None = None
    without: str | None = None
    instead: str | None = None

    @property
    def ranges(self) -> dict[str, Bounds]:
        """The ranges of this method alone."""
        return self.space if isinstance(self.space, dict) else {}


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
        looks: the numbers of blocks at which the study is looked at. A block is an independent tuning of a method, the
            unit of replication. After a look only undecided methods go on to the next.
        more_blocks: blocks beyond the last look, for methods that are undecided there. They void the guarantee.
        trials: T, random trials per block.
        exploit: trials of TPE per method, in generations of 4.
        recommend: fresh seeds for the best params.
        repetitions: how often the whole comparison is repeated (for A/A studies).
        budget: gradient equivalents per trial; None for the problem's own.
        budgets: a ladder: every method at each of these budgets, each a problem of its own; excludes `budget`.
        margin: the largest difference that does not matter, in the metric's unit, or a ratio such as ``"10 %"``; None
            for the problem's own.
        precision: ``"float32"``, ``"float64"``, ``"tf32"`` or ``"bf16"``, see `training.precision`.
        flatness: measure the Hessian's spectrum and the local entropy of winners and recommended runs from now on, as
            far as a quarter of training pays for it; ``"full"`` for all of them, whatever they cost.
        space: ranges for all methods: by name, [low, high] or a list of options.
        search: how the trials of a block are chosen; None for independent random trials.
        known: settings that every block of a method tries first; None without any.
        method: variants, by label.
        script: a training script of the user's own, in place of a problem; each method then is a label and params.
        track: the experiment tracker that gets the runs while the study goes on; None for none.
    """

    model_config = ConfigDict(extra="forbid")
    name: Annotated[str, Field(min_length=1, max_length=200)]
    description: str = ""
    problems: Annotated[list[str], Field(min_length=1)]
    methods: Annotated[list[str], Field(min_length=1)]
    baseline: str = "sgd"
    controls: list[str] = []
    seed: Annotated[int, Field(ge=0, lt=2**63, strict=True)] = 0
    looks: Annotated[list[Positive], Field(min_length=1)] = [10, 20, 40]
    more_blocks: Natural = 0
    trials: Positive = 12
    exploit: Natural = 16
    recommend: Natural = 10
    repetitions: Positive = 1
    budget: Gradients | None = None
    budgets: list[Gradients] = []
    margin: Number | str | None = None
    precision: Precision = "float32"
    flatness: Annotated[bool, Field(strict=True)] | Literal["full"] = True
    space: dict[str, Bounds] = {}
    search: Search | None = None
    known: Annotated[list[Known], Field(min_length=1)] | None = None
    method: dict[str, Variant] = {}
    script: Script | None = None
    track: Track | None = None

    @model_validator(mode="before")
    @classmethod
    def _complete(cls, values: Any) -> Any:
        return completed(values)

    def rule_of(self, label: str) -> type[Rule]:
        """Return the rule class of a method."""
        if self.script is not None:
            return rule_of_script(label, self.problems[0])
        variant = self.variant(label)
        return rule_class(variant.rule or label, variant.options)

    def make_rule(self, label: str, problem: Problem) -> Rule:
        """Construct the rule of a method for a problem, with its options."""
        rule = self.rule_of(label)(**self.options_of(label, problem))
        rule.bind([shape for _, shape in problem.layout()])
        return rule

    def options_of(self, label: str, problem: Problem) -> dict[str, Option]:
        """Return the arguments of a rule's constructor: those of its published program, and the method's own."""
        if self.script is not None:
            return {}
        return {**spaces.options_of(self.search_of(label), problem), **self.variant(label).options}

    def variant(self, label: str) -> Variant:
        """Return what the study file says of a method, neutral where it has no table ``[method.LABEL]``."""
        return self.method.get(label, Variant())

    def title_of(self, label: str) -> str:
        """Return the name of a method in sentences."""
        rule = self.rule_of(label)
        return self.variant(label).title or (rule.title if label == rule.name else label)

    def role_of(self, label: str) -> str:
        """Return ``"baseline"``, ``"control"`` or ``"candidate"``."""
        return "baseline" if label == self.baseline else "control" if label in self.controls else "candidate"

    def arm_of(self, label: str) -> Literal["tuned", "published"]:
        """Return whether a method is tuned, or run as published."""
        return self.variant(label).arm

    def space_name_of(self, label: str) -> Literal["default", "wide", "custom"]:
        """Return which space of its rule a method searches; custom if this study states ranges for it."""
        variant = self.variant(label)
        if self.script is not None:
            return "default"  # it has no other
        if variant.ranges or self.space.keys() & self.hyperparameters(label).keys():
            return "custom"
        return "wide" if variant.space == "wide" else "default"

    def hyperparameters(self, label: str) -> Space:
        """Return every hyperparameter of a method, with the widest range that its rule declares."""
        if self.script is not None:
            return script_hyperparameters(self, label)
        return dict(self.rule_of(label).wide)

    def search_of(self, label: str) -> spaces.Search:
        """Return how a method is tuned, whatever the problem."""
        variant = self.variant(label)
        return spaces.Search(
            self.rule_of(label), variant.arm, variant.space, variant.fixed, self.space, variant.options
        )

    def sampling_of(self, label: str) -> SearchFacts:
        """Return how the trials of a method are chosen: its own way, or the study's; none of an arm as published."""
        variant = self.variant(label)
        own = Search() if variant.arm == "published" else variant.search or self.search or Search()
        return own.facts

    def space_of(self, label: str, problem: Problem) -> Space:
        """Return what is searched for a method on a problem, see `spaces.space_of`."""
        if self.script is not None:
            return script_space(self, label)
        return spaces.space_of(self.search_of(label), problem)

    def fixed_of(self, label: str, problem: Problem) -> dict[str, Value]:
        """Return what is not searched for a method on a problem, with its value, see `spaces.fixed_of`."""
        if self.script is not None:
            return script_fixed(self, label)
        return spaces.fixed_of(self.search_of(label), problem)

    def budget_of(self, problem: Problem) -> int:
        """Return the budget of a trial in gradient equivalents. A rung of a ladder has its own, see `prepare`."""
        return problem.budget if self.budgets else self.budget or problem.budget
