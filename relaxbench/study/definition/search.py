"""The table ``[search]`` of a study file: which sampler chooses the trials of a block."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from relaxbench.errors import UserError
from relaxbench.problems import Problem
from relaxbench.space import Choice, Space
from relaxbench.store.facts import RANDOM, SearchFacts
from relaxbench.study.coordination.samplers import CLASSES, WITHOUT_CHOICES, make_sampler
from relaxbench.study.coordination.tuner import Tuner
from relaxbench.util.text import listed

GENERATION = 4
"""Trials of a block that are chosen together. In larger generations a sampler would learn too rarely."""


class Search(BaseModel):
    """How the trials of a block are chosen, of a study or of one method.

    Attributes:
        sampler: ``"random"``, a name of `coordination.samplers.CLASSES`, or the path of a class.
        options: arguments of the sampler's class.
        generation: trials of a block that are chosen together.
    """

    model_config = ConfigDict(extra="forbid")
    sampler: str = RANDOM
    options: dict[str, Any] = {}
    generation: Annotated[int, Field(ge=1, le=10_000, strict=True)] = GENERATION

    @property
    def facts(self) -> SearchFacts:
        """What the plan and the report need of it; random trials need no generations."""
        return {"sampler": self.sampler, "options": self.options, "generation": self.generation}


def check_search(search: Search, key: str, trials: int) -> None:
    """Check that a sampler exists and takes its options.

    Args:
        search: the table.
        key: its place in the study file: ``search``, ``method.NAME.search``.
        trials: of a block.

    Raises:
        UserError: naming what is wrong.
    """
    try:
        json.dumps(search.options, allow_nan=False)
    except (TypeError, ValueError):
        raise UserError(f"{key}.options = {search.options}: expected numbers, texts, true, false, lists") from None
    if search.sampler == RANDOM:
        if search.options:
            raise UserError(f'{key}.options = {search.options}: sampler "random" has no options: leave them out')
        return
    try:
        make_sampler(search.facts, 0, trials)
    except UserError as error:
        raise UserError(f"{key}: {error}") from None


def check_search_of(facts: SearchFacts, label: str, space: Space, problem: Problem, trials: int) -> None:
    """Check that a sampler can search a method's space.

    Raises:
        UserError: for a sampler without choices that meets one, or a class of another package that fails on the space.
    """
    name = facts["sampler"]
    choices = [key for key, declared in space.items() if isinstance(declared, Choice)]
    if name in WITHOUT_CHOICES and choices:
        key = choices[0]
        raise UserError(
            f"sampler {name!r} cannot search {listed(choices)} of {label} on {problem.name}, which "
            f"{'is a choice' if len(choices) == 1 else 'are choices'} between names: fix "
            f"{'it' if len(choices) == 1 else 'each'} in [method.{label}], such as "
            f'fixed = {{ {key} = "{_first(space[key])}" }}, or use sampler "tpe", "gp" or "qmc"'
        )
    if name not in CLASSES and name != RANDOM:
        _try(facts, label, space, problem, trials)


def _first(choice: object) -> object:
    return choice.options[0] if isinstance(choice, Choice) else choice


def _try(facts: SearchFacts, label: str, space: Space, problem: Problem, trials: int) -> None:
    """Ask a sampler of another package for two generations, twice: it must be able to, and repeat itself."""
    size = min(facts["generation"], trials)
    tries: list[Sequence[object]] = []
    for _ in range(2):
        try:
            tuner = Tuner(space, make_sampler(facts, 0, trials))
            first = [(params, float(place)) for place, params in enumerate(tuner.propose([], size))]
            tries.append([first, tuner.propose([first], size)])
        except UserError:
            raise
        except Exception as error:
            reason = " ".join(str(error).split()) or type(error).__name__
            raise UserError(
                f"sampler {facts['sampler']!r} cannot search the space of {label} on {problem.name} ({reason}): fix "
                'the hyperparameters that it cannot search, or use sampler "tpe"'
            ) from None
    if tries[0] != tries[1]:
        raise UserError(
            f"sampler {facts['sampler']!r} proposes other settings when it is asked again with the same seed, so a "
            "study could not be continued or shared: use another one"
        )
