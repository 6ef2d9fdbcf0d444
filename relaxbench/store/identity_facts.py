"""What makes a study's problems and methods the ones with which it began: the types of the manifest's `identity`."""

from __future__ import annotations

from typing import Literal, NotRequired, TypedDict

from relaxbench.space import Value

SAME = "same examples as"
"""Key of a split: the split before it with the same examples."""
SHARED = "examples that are also in "
"""Begin of a key of a split: how many of its examples are also in the split before it that ends the key."""


class TensorFacts(TypedDict):
    """A parameter or a buffer of a model."""

    name: str
    shape: list[int]
    dtype: str
    kind: Literal["trained", "frozen", "buffer"]


class ProblemIdentity(TypedDict):
    """What makes a problem this one and no other; see `study.definition.identity`."""

    tensors: list[TensorFacts]
    settings: dict[str, str | float | int | None]  # loss, metric, batch size, rounds, budget, …
    probe: dict[str, list[float | None]]  # numbers of the model at a seeded point; empty if they cannot be repeated
    precision: str  # of the probe: float64, float32
    file: str  # name of its file; empty without one
    text: str  # of its file, for messages; empty without one
    failure: NotRequired[str]  # why the probe has no numbers
    splits: NotRequired[dict[str, dict[str, str | int | float]]]  # what is told of changed data
    modules: NotRequired[dict[str, str]]  # texts of the modules beside its file, for messages


class MethodIdentity(TypedDict):
    """What makes a method this one and no other."""

    options: dict[str, dict[str, bool | Value]]  # of the rule's constructor, by problem
    params: dict[str, Value]  # of the probe
    probe: dict[str, list[float | None]]  # where its steps lead on a quadratic; empty if they cannot be repeated
    failure: NotRequired[str]  # why the probe has no numbers
    others: NotRequired[list[dict[str, Value]]]  # further values of the probe; none for a rule that is built in
    settings: NotRequired[dict[str, dict[str, float]]]  # price, replicas, copies, by problem
    steps: NotRequired[dict[str, list[float | None]]]  # where they lead on a problem, by layer
    file: NotRequired[str]  # name of the rule's file; empty for one that is built in
    text: NotRequired[str]  # of that file, for messages
    origin: NotRequired[str]  # the optimizer that a rule wraps, with the version of its package


class IdentityFacts(TypedDict):
    """The identities of a study's problems and methods, by name."""

    problems: dict[str, ProblemIdentity]
    methods: dict[str, MethodIdentity]
