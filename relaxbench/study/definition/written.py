"""Check what only a study that a person wrote must obey; what is stored may be older, and stays readable."""

from __future__ import annotations

import inspect
from collections.abc import Mapping

from optuna.pruners import NopPruner

from relaxbench.errors import UserError
from relaxbench.optim.registry import RULES
from relaxbench.space import Choice, Int
from relaxbench.store.facts import RANDOM
from relaxbench.study.coordination.pruners import NONE, pruner_class
from relaxbench.study.definition.ranges import MOST_STEPS
from relaxbench.study.definition.spec import StudySpec
from relaxbench.util.text import counted

LONGEST_NAME = 200
"""Characters of the name of a study, problem or method."""
LONGEST_TEXT = 10_000
"""Characters of a description, which stands on the page."""
TEXTS = ("rule", "title", "against", "without", "instead")
"""Of a method's table."""
FEWEST_BLOCKS = 6
"""Of a look in a study file: fewer blocks make no claim, see `analysis.simultaneous.MIN_BLOCKS`."""
SMALLEST, LARGEST = 1e-30, 1e30
"""Of hyperparameters. Beyond them a number of 32 bits is zero or infinite, or its product with another one is."""


def check_written(spec: StudySpec, values: Mapping[str, object]) -> None:
    """Check looks, names, texts, roles, options and ranges of a study that a person wrote.

    Raises:
        UserError: naming the first key that is wrong.
    """
    if spec.looks[0] < FEWEST_BLOCKS:
        raise UserError(
            f"looks = {spec.looks}: a look at {counted(spec.looks[0], 'block')} comes too early, because fewer than "
            f"{FEWEST_BLOCKS} make no claim: begin with {FEWEST_BLOCKS} or more"
        )
    if values.get("budgets") == []:
        raise UserError("budgets = []: expected at least one budget, such as [600, 2000]; or leave the key out")
    _check_texts(spec)
    _check_controls(spec)
    for label, variant in spec.method.items():
        if label in RULES and variant.rule and variant.rule != label:
            raise UserError(
                f"method.{label}.rule = {variant.rule!r}: {label!r} is the name of another rule, and the page would "
                "show one as the other: give this method a name of its own"
            )
        _check_options(spec, label)
    _check_effects(spec)
    _check_ranges(spec)
    _check_titles(spec)


def _check_texts(spec: StudySpec) -> None:
    """Check names and titles: printable, not too long, and neither blank nor with blanks at their ends."""
    texts = [("name", spec.name), ("baseline", spec.baseline)]
    texts += [(key, value) for key in ("problems", "methods", "controls") for value in getattr(spec, key)]
    texts += [("method", label) for label in spec.method]
    for label, variant in spec.method.items():
        given = {key: getattr(variant, key) for key in TEXTS if key in variant.model_fields_set}
        texts += [(f"method.{label}.{key}", value) for key, value in given.items() if value is not None]
    for key, value in texts:
        if not value.strip():
            raise UserError(f"{key} = {value!r}: expected a name, not blanks")
        if value != value.strip():
            raise UserError(f"{key} = {value!r}: expected a name without blanks at its ends, such as {value.strip()!r}")
        if not value.isprintable():
            raise UserError(f"{key} = {value!r}: expected printable characters, without line breaks")
        if len(value) > LONGEST_NAME and not value.endswith(".py"):
            raise UserError(f"{key} = {value!r}: expected at most {LONGEST_NAME} characters, not {len(value):,}")
    if len(spec.description) > LONGEST_TEXT:
        raise UserError(f"description: expected at most {LONGEST_TEXT:,} characters, not {len(spec.description):,}")
    strange = next((c for c in spec.description if not (c.isprintable() or c in "\n\t")), None)
    if strange:
        raise UserError(f"description holds the character {strange!r}: expected printable characters and line breaks")


def _check_titles(spec: StudySpec) -> None:
    """Check that sentences tell methods apart."""
    titles: dict[str, str] = {}
    for label in spec.methods:
        other = titles.setdefault(spec.title_of(label), label)
        if other != label:
            given = label if spec.variant(label).title else other
            raise UserError(
                f"method.{given}.title = {spec.title_of(given)!r}: {other!r} and {label!r} would have one name in "
                "sentences: give one of them another title"
            )


def _check_controls(spec: StudySpec) -> None:
    """Check that controls differ from each other and from the baseline."""
    for label in spec.controls:
        if spec.controls.count(label) > 1:
            raise UserError(f"controls = {spec.controls}: {label!r} stands there twice: name it once")
        if label == spec.baseline:
            raise UserError(
                f"controls = {spec.controls}: {label!r} is the baseline, with which controls are compared: leave it out"
            )


def _check_options(spec: StudySpec, label: str) -> None:
    """Check that options have the types of the rule's defaults: in Python, 3 is as true as `True`."""
    defaults = {key: given.default for key, given in inspect.signature(spec.rule_of(label)).parameters.items()}
    for key, value in spec.method[label].options.items():
        usual = defaults.get(key)
        if isinstance(usual, bool) != isinstance(value, bool) and isinstance(usual, int):
            wanted = "true or false" if isinstance(usual, bool) else "a whole number"
            raise UserError(f"method.{label}.options.{key} = {value!r}: expected {wanted}")


def _check_effects(spec: StudySpec) -> None:
    """Check that what is stated of a search has an effect: a pruner, and the generation, within a block."""
    tables = {f"method.{label}.search": variant.search for label, variant in spec.method.items()}
    for where, search in {"search": spec.search, **tables}.items():
        if search is None:
            continue
        if search.pruner != NONE and issubclass(pruner_class(search.pruner), NopPruner):
            raise UserError(
                f'{where}.pruner = {search.pruner!r}: it stops no trial: use pruner "none", or leave it out'
            )
        if "generation" not in search.model_fields_set:
            continue
        if search.sampler == RANDOM and search.pruner == NONE:
            raise UserError(
                f'{where}.generation = {search.generation}: sampler "random" without a pruner has no generations: '
                "leave it out"
            )
        if search.sampler in (RANDOM, "qmc"):
            continue
        if search.generation >= spec.trials:
            raise UserError(
                f"{where}.generation = {search.generation}: a block of {counted(spec.trials, 'trial')} is chosen at "
                f"once, so that sampler {search.sampler!r} learns from none: lower it, or raise `trials`"
            )


def _check_ranges(spec: StudySpec) -> None:
    """Check that hyperparameters are numbers to compute with, and that no choice stands twice."""
    own = {f"method.{label}.space": variant.ranges for label, variant in spec.method.items()}
    wide = {name: declared for label in spec.methods for name, declared in spec.hyperparameters(label).items()}
    for where, ranges in {"space": spec.space, **own}.items():
        for name, bounds in ranges.items():
            if isinstance(wide.get(name), Choice):
                twice = next((choice for choice in bounds if list(bounds).count(choice) > 1), None)
                if twice is not None:
                    raise UserError(f"{where}.{name} = {bounds!r}: {twice!r} stands there twice: name it once")
                continue
            for bound in bounds:
                if isinstance(bound, float) and bound and not SMALLEST <= abs(bound) <= LARGEST:
                    raise UserError(f"{where}.{name} = {bounds!r}: expected numbers from {SMALLEST:g} to {LARGEST:g}")
    for label, variant in spec.method.items():
        for name, value in variant.fixed.items():
            whole = isinstance(spec.hyperparameters(label)[name], Int)
            smallest, largest = (1, MOST_STEPS) if whole else (SMALLEST, LARGEST)
            if isinstance(value, float) and value and not smallest <= value <= largest:
                raise UserError(
                    f"method.{label}.fixed.{name} = {value:g}: expected a number from {smallest:g} to {largest:g}"
                )
