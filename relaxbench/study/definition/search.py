"""The table ``[search]`` of a study file: which sampler chooses the trials of a block, and which pruner stops them."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import lru_cache
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, SerializerFunctionWrapHandler, model_serializer

from relaxbench.errors import UserError
from relaxbench.problems import Problem
from relaxbench.space import Choice, Space
from relaxbench.store.facts import RANDOM, PrunerFacts, SearchFacts
from relaxbench.study.coordination.judge import BlockPruner, Past
from relaxbench.study.coordination.pruners import CLASSES as PRUNERS
from relaxbench.study.coordination.pruners import NONE, make_pruner
from relaxbench.study.coordination.samplers import CLASSES, WITHOUT_CHOICES, make_sampler
from relaxbench.study.coordination.tuner import Finished, Tuner
from relaxbench.util.text import listed

GENERATION = 4
"""Trials of a block that are chosen together. In larger generations a sampler would learn too rarely."""
SPOT_CHECKS = 0.1
"""Share of the pruned trials that are run to the end all the same."""

ELDERS, HOPELESS = 12, 8
"""Finished trials at least that a pruner has seen, and far worse ones after them, of which it has to stop one."""

T = TypeVar("T")


class Search(BaseModel):
    """How the trials of a block are chosen, and stopped, of a study or of one method.

    Attributes:
        sampler: ``"random"``, a name of `coordination.samplers.CLASSES`, or the path of a class.
        options: arguments of the sampler's class.
        generation: trials of a block that are chosen together.
        pruner: ``"none"``, a name of `coordination.pruners.CLASSES`, or the path of a class.
        pruner_options: arguments of the pruner's class.
        spot_checks: share of the pruned trials that are run to the end all the same.
    """

    model_config = ConfigDict(extra="forbid")
    sampler: str = RANDOM
    options: dict[str, Any] = {}
    generation: Annotated[int, Field(ge=1, le=10_000, strict=True)] = GENERATION
    pruner: str = NONE
    pruner_options: dict[str, Any] = {}
    spot_checks: Annotated[float, Field(ge=0, le=1, strict=True)] = SPOT_CHECKS

    @model_serializer(mode="wrap")
    def _stored(self, stored: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out what says nothing without a pruner."""
        values: dict[str, Any] = stored(self)
        without = self.pruner == NONE and not self.pruner_options
        return {key: value for key, value in values.items() if not (without and key in KEYS_OF_PRUNER)}

    @property
    def facts(self) -> SearchFacts:
        """What the plan and the report need of it; random trials need generations beside a pruner alone."""
        facts: SearchFacts = {"sampler": self.sampler, "options": self.options, "generation": self.generation}
        if self.pruner != NONE:
            facts["pruner"] = {
                "name": self.pruner,
                "options": self.pruner_options,
                "spot_checks": self.spot_checks,
            }
        return facts


KEYS_OF_PRUNER = ("pruner", "pruner_options", "spot_checks")


def check_search(search: Search, key: str, trials: int) -> None:
    """Check that a sampler and a pruner exist and take their options.

    Args:
        search: the table.
        key: its place in the study file: ``search``, ``method.NAME.search``.
        trials: of a block.

    Raises:
        UserError: naming what is wrong.
    """
    for name, options in (("options", search.options), ("pruner_options", search.pruner_options)):
        try:
            json.dumps(options, allow_nan=False)
        except (TypeError, ValueError):
            raise UserError(f"{key}.{name} = {options}: expected numbers, texts, true, false, lists") from None
    if search.sampler == RANDOM and search.options:
        raise UserError(f'{key}.options = {search.options}: sampler "random" has no options: leave them out')
    if search.pruner == NONE and search.pruner_options:
        raise UserError(f'{key}.pruner_options = {search.pruner_options}: pruner "none" has no options: leave them out')
    if search.pruner == NONE and "spot_checks" in search.model_fields_set:
        raise UserError(f'{key}.spot_checks = {search.spot_checks}: pruner "none" stops no trials: leave it out')
    try:
        if search.sampler != RANDOM:
            make_sampler(search.facts, 0, trials)
        if search.pruner != NONE:
            _try_pruner(search.facts["pruner"], trials)
    except UserError as error:
        raise UserError(f"{key}: {error}") from None


def check_search_of(facts: SearchFacts, label: str, space: Space, problem: Problem, trials: int) -> None:
    """Check that a sampler can search a method's space.

    Raises:
        UserError: for a sampler without choices that meets one, or a class of another package, or options, that fail on
            the space.
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
    if name != RANDOM and (name not in CLASSES or facts["options"]):
        _try(facts, label, space, problem, trials)


def check_pruner_of(facts: SearchFacts, label: str, problem: Problem, rounds: int, trials: int) -> None:
    """Check that a pruner can stop the trials of a method: it can be asked, and stops one that is far too bad.

    Args:
        facts: how trials are chosen and stopped.
        label: of the method.
        problem: on which.
        rounds: measurements on validation data in a trial of the method.
        trials: of a block.

    Raises:
        UserError: for a trial without rounds, or options with which one of Optuna's pruners stops none.
    """
    pruner = facts.get("pruner")
    if pruner is None:
        return
    where = f"pruner {pruner['name']!r} cannot stop trials of {label} on {problem.name}"
    if problem.tolerance is not None:
        raise UserError(
            f"{where}: its metric counts gradients until a tolerance is met, which a stopped trial does not have: use "
            f'pruner "none" for this problem'
        )
    if rounds < 2:
        raise UserError(
            f"{where}: a trial has no round but its last, so there is nothing to ask it before the end: raise the "
            'budget, or use pruner "none"'
        )
    if pruner["name"] in PRUNERS and not _stops(
        pruner["name"], json.dumps(pruner["options"]), trials, facts["generation"], rounds
    ):
        options = f" with options {pruner['options']!r}" if pruner["options"] else ""
        raise UserError(
            f"pruner {pruner['name']!r}{options} stops no trial of {label} on {problem.name}, not even one that is far "
            f"worse than all others at each of its {rounds} rounds: correct its options, raise the budget, or use "
            'pruner "none"'
        )


def _first(choice: object) -> object:
    return choice.options[0] if isinstance(choice, Choice) else choice


def _try(facts: SearchFacts, label: str, space: Space, problem: Problem, trials: int) -> None:
    """Ask a sampler for two generations, twice: it must be able to, and repeat itself."""
    size = min(facts["generation"], trials)

    def ask() -> list[dict[str, Any]]:
        tuner = Tuner(space, make_sampler(facts, 0, trials))
        first = tuner.propose([], size)
        told = [Finished(params, float(place)) for place, params in enumerate(first)]
        return [*first, *tuner.propose([told], size)]

    sampler, on = f"sampler {facts['sampler']!r}", f"the space of {label} on {problem.name}"
    advice = 'fix the hyperparameters that it cannot search, or use sampler "tpe"'
    if facts["options"]:
        sampler, advice = f"{sampler} with options {facts['options']!r}", f"correct its options; or {advice}"
    if facts["sampler"] in CLASSES:
        advice = "correct its options"
    one, other = _twice(ask, f"{sampler} cannot search {on}", advice)
    if one != other:
        raise UserError(
            f"{sampler} proposes other settings when it is asked again with the same seed, so a study could not be "
            "continued or shared: use another one"
        )


def _try_pruner(pruner: PrunerFacts, trials: int) -> None:
    """Ask a pruner about a trial that is worse than all earlier ones, twice: it must be able to, and repeat itself."""
    name, rounds = pruner["name"], 9
    losses = [[(1 + place) / (1 + step) for step in range(rounds)] for place in range(6)]
    earlier = [Past(place, {}, own[-1], losses=own) for place, own in enumerate(losses[:-1])]

    def ask() -> list[bool]:
        judge = BlockPruner("try", {}, lambda: make_pruner(pruner, trials, rounds)).judge([earlier], len(earlier), {})
        return [] if judge is None else [judge(losses[-1][: step + 1]) for step in range(rounds - 1)]

    fails = f"pruner {name!r} with options {pruner['options']!r} fails when it is asked about a trial"
    one, other = _twice(ask, fails, "correct its options or its class")
    if one != other:
        raise UserError(
            f"pruner {name!r} answers otherwise when it is asked again, so a study could not be continued or shared: "
            "use another one"
        )


@lru_cache
def _stops(name: str, options: str, trials: int, generation: int, rounds: int) -> bool:
    """Whether a pruner of Optuna's stops any of a few hopeless trials; Hyperband alone spares some of them."""
    pruner: PrunerFacts = {"name": name, "options": json.loads(options), "spot_checks": 0.0}
    count = max(trials - 1, ELDERS)
    losses = [[(1 + place / count) / (1 + step) for step in range(rounds)] for place in range(count)]
    elders = [Past(place, {}, own[-1], losses=own) for place, own in enumerate(losses)]
    generations = [elders[first : first + generation] for first in range(0, count, generation)]
    block = BlockPruner("try", {}, lambda: make_pruner(pruner, trials, rounds))
    judges = [block.judge(generations, count + place, {}) for place in range(HOPELESS)]
    return any(judge([1e6] * step) for judge in judges if judge is not None for step in range(1, rounds))


def _twice(ask: Callable[[], T], fails: str, advice: str) -> tuple[T, T]:
    """Return what a class, or one with options, answers when it is asked twice.

    Raises:
        UserError: if it fails.
    """
    try:
        return ask(), ask()
    except UserError:
        raise
    except (Exception, SystemExit) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UserError(f"{fails} ({reason}): {advice}") from None
