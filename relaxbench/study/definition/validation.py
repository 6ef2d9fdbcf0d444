"""Validate studies: every mistake is reported in one line that names what is wrong."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from pydantic import ValidationError

from relaxbench.errors import UserError, unknown
from relaxbench.optim.hyper import expected, stack
from relaxbench.optim.published import KINDS
from relaxbench.optim.registry import RULES, is_rule, loadable_rules, rule_names
from relaxbench.optim.wrapped.locate import is_path
from relaxbench.problems import Problem
from relaxbench.problems.arguments import check_margin
from relaxbench.space import Int
from relaxbench.study.definition import spaces
from relaxbench.study.definition.ablation import check_opponents
from relaxbench.study.definition.known import check_known, check_known_on
from relaxbench.study.definition.optimizers import check_optimizers, check_refusals
from relaxbench.study.definition.ranges import narrow
from relaxbench.study.definition.refusals import refusal
from relaxbench.study.definition.script_table import check_script
from relaxbench.study.definition.search import check_pruner_of, check_search, check_search_of
from relaxbench.study.definition.spec import StudySpec, Variant
from relaxbench.study.definition.track import check_track
from relaxbench.study.definition.written import check_written


def parse(values: Mapping[str, object], where: str, names: Mapping[str, str] | None = None) -> StudySpec:
    """Make a valid study from plain values that a person wrote.

    Args:
        values: by key.
        where: their origin, for error messages.
        names: how messages name keys whose values have another origin.

    Raises:
        UserError: naming the first key that is wrong.
    """
    spec = restore(values, where, names)
    try:
        check_written(spec, values)
    except UserError as error:
        raise placed(error, where, names or {}) from None
    return spec


def restore(values: Mapping[str, object], where: str, names: Mapping[str, str] | None = None) -> StudySpec:
    """Make a valid study from values that may have been stored; like `parse`, but a look may have any size."""
    try:
        return check(StudySpec.model_validate(values))
    except ValidationError as error:
        models = (StudySpec, Variant)
        raise refusal(error.errors()[0], values, models, where, names or {}) from None
    except UserError as error:
        raise placed(error, where, names or {}) from None


def check(spec: StudySpec) -> StudySpec:
    """Return the study if everything that it names exists and every range is possible.

    Raises:
        UserError: naming the first thing that is wrong.
    """
    known = {*rule_names(), *spec.method} if spec.script is None else set(spec.method)
    for label in [*spec.methods, *spec.controls, spec.baseline]:
        if spec.script is not None and label not in known:
            raise unknown("method of the script", label, known, "state its space in a table [method.NAME]")
        if label not in known and not is_rule(label):
            raise unknown("method", label, known, "python -m relaxbench list shows all")
    for kind, values in (("method", spec.methods), ("problem", spec.problems)):
        twice = [value for value in values if values.count(value) > 1]
        if twice:
            raise UserError(f"{kind} {twice[0]!r} is named twice: name it once")
    if spec.baseline not in spec.methods:
        raise UserError(
            f"baseline {spec.baseline!r} is not among the methods, so nothing could be compared: add it to "
            "`methods`, or name another `baseline`"
        )
    check_opponents(spec)
    _check_looks(spec)
    _check_margin(spec.margin)
    _check_ladder(spec)
    check_known(spec, {*known, *spec.methods})
    if spec.track is not None:
        check_track(spec.track)
    if spec.script is not None:
        return check_script(spec)
    named = {*RULES, *spec.methods, *spec.controls, *spec.method}  # rules of other packages only if they are named
    labels = sorted(named, key=lambda label: (bool(spec.variant(label).without), label))  # whole methods come first
    _check_searches(spec)
    _check_rules(spec)
    check_optimizers(spec, labels)
    searched = {name for label in labels for name in spec.hyperparameters(label)}
    for name in spec.space:
        if name not in searched:
            raise unknown("hyperparameter in [space]", name, searched)
    for label in labels:
        variant, space = spec.variant(label), spec.hyperparameters(label)
        if label in spec.method:
            _check_values(spec, label, variant)
        for bounds in (spec.space, variant.ranges):
            for name in bounds.keys() & space.keys():
                narrow(space[name], name, bounds[name])
        check_refusals(spec, label)
        if label in spec.method:
            _check_options(spec, label, variant)
            _check_published(spec, label, variant)
    return spec


def check_on(spec: StudySpec, problems: Sequence[Problem]) -> None:
    """Check that every method can run on every problem: within the budget, and with the curvature that it needs.

    Raises:
        UserError: if the budget is smaller than the longest outer step that could be drawn, if a rule that uses
            curvature meets a loss without it, or if the margin is no smaller than the largest metric.
    """
    for problem in problems:
        _check_worst(problem)
        check_known_on(spec, problem)
        if spec.script is not None:
            _check_margin_on(spec, problem)
            continue
        _check_ranges_of(spec, problem)
        if problem.kind and problem.kind not in KINDS:
            raise unknown(f"kind of problem {problem.name!r}:", problem.kind, KINDS)
        _check_margin_on(spec, problem)
        for label in spec.methods:
            check_search_of(spec.sampling_of(label), label, spec.space_of(label, problem), problem, spec.trials)
            params = spaces.typical(spec.search_of(label), problem)
            steps = spec.space_of(label, problem).get("inner_steps")
            if isinstance(steps, Int):
                params["inner_steps"] = steps.high
            rule = spec.make_rule(label, problem)
            if rule.curvature:
                problem.convex_loss()
            queries = int(rule.period(stack([params], torch.device("cpu"), torch.float32)))
            period = math.ceil(queries * rule.price * rule.replicas)
            if period > spec.budget_of(problem):
                key = "budgets" if spec.budgets else "budget"
                raise UserError(
                    f"{key} = {spec.budget_of(problem)}: smaller than one outer step of {label} on {problem.name} (up "
                    f"to {period} gradients): raise the budget, or lower inner_steps in [space]"
                )


def check_pruners_on(spec: StudySpec, problems: Sequence[Problem]) -> None:
    """Check that trials have rounds at which a pruner can stop them; their number may depend on the data.

    Raises:
        UserError: for a method whose trials no pruner can stop.
    """
    for problem in problems:
        for label in spec.methods:
            if "pruner" in (sampling := spec.sampling_of(label)):
                if sampling["generation"] >= spec.trials:
                    raise UserError(
                        f"pruner {sampling['pruner']['name']!r} is never asked for {label}: a generation of "
                        f"{sampling['generation']} is a whole block of {spec.trials} trials, and the first one runs "
                        "to its end: raise `trials`, or lower `generation` in [search]"
                    )
                rule = spec.make_rule(label, problem)
                rounds = min(problem.rounds, int(spec.budget_of(problem) / (rule.price * rule.replicas)))
                check_pruner_of(sampling, label, problem, rounds, spec.trials)


def _check_values(spec: StudySpec, label: str, variant: Variant) -> None:
    """Check the names of a variant's hyperparameters and its fixed values."""
    space = spec.hyperparameters(label)
    for name in [*variant.ranges, *variant.fixed]:
        if name not in space and name in spec.rule_of(label).option_names():
            raise UserError(
                f"method.{label}: {name} is an option, equal in all trials: state it in method.{label}.options"
            )
        if name not in space:
            raise unknown(f"hyperparameter of [method.{label}]", name, space)
    for name, option in spaces.without_effect(spec.rule_of(label), variant.options).items():
        if name in variant.ranges or name in variant.fixed:
            raise UserError(f"method.{label}: {name} has no effect with the option {option}: leave one of them out")
    for name in variant.ranges.keys() & variant.fixed.keys():
        raise UserError(
            f"method.{label}: {name} is fixed at {variant.fixed[name]!r} and has the range {variant.ranges[name]!r}: "
            "leave one of them out"
        )
    for name, value in variant.fixed.items():
        wanted = expected(name, space[name], value)
        if wanted:
            raise UserError(f"method.{label}.fixed.{name} = {value!r}: expected {wanted}")


def _check_options(spec: StudySpec, label: str, variant: Variant) -> None:
    """Check that the rule takes a variant's options."""
    for name, value in variant.options.items():
        if not isinstance(value, (bool, int)) and not is_path(variant.rule or label):
            raise UserError(f"method.{label}.options.{name} = {value!r}: expected true, false or a whole number")
    try:
        spec.rule_of(label)(**variant.options)
    except TypeError:
        rule, known = variant.rule or label, spec.rule_of(label).option_names()
        options = f"its options are {', '.join(known)}" if known else "it has no options"
        raise UserError(f"method.{label}.options = {variant.options}: {rule} has no such option; {options}") from None
    except ValueError as error:
        raise UserError(f"method.{label}.options: {error}") from None


def _check_rules(spec: StudySpec) -> None:
    """Check that every table of a method names its rule, or is called like one."""
    for label, variant in spec.method.items():
        if not variant.rule and not is_rule(label):
            raise UserError(f"the key 'method.{label}.rule' is missing: {label!r} is no rule, so name its rule")


def _check_searches(spec: StudySpec) -> None:
    """Check the samplers and the pruners of the study and of its methods."""
    own = {f"method.{label}.search": variant.search for label, variant in spec.method.items()}
    for key, search in {"search": spec.search, **own}.items():
        if search is not None:
            check_search(search, key, spec.trials)


def _check_published(spec: StudySpec, label: str, variant: Variant) -> None:
    """Check that a method that is run as published has published settings, and no others."""
    if variant.arm != "published":
        return
    own = variant.search
    search = {key: getattr(own, key) for key in ("sampler", *sorted(own.model_fields_set))} if own else {}
    stated = {"fixed": variant.fixed, "space": {} if variant.space == "default" else variant.space, "search": search}
    for key, value in stated.items():
        if value:
            raise UserError(
                f'method.{label}: arm = "published" runs its authors\' settings, and {key} = {value!r} states others: '
                f"leave {key} out"
            )
    if label == spec.baseline:
        raise UserError(
            f'method.{label}: arm = "published" does not tune the baseline, with which tuned methods are compared: '
            "name another baseline"
        )
    if not spec.rule_of(label).publications:
        raise UserError(f'method.{label}: arm = "published", but rule {variant.rule or label!r} has no such settings')


def _check_looks(spec: StudySpec) -> None:
    """Check that looks rise, and that nothing is asked for beyond those of a study with repetitions."""
    for before, after in zip(spec.looks, spec.looks[1:], strict=False):
        if after <= before:
            raise UserError(
                f"looks = {spec.looks}: {after} blocks come after {before}: expected numbers that rise, such as "
                "[10, 20, 40]"
            )
    if spec.more_blocks and spec.repetitions > 1:
        raise UserError(
            f"more_blocks = {spec.more_blocks}: a study with repetitions ends with its last look: leave it out"
        )


def _check_margin(margin: float | str | None) -> None:
    """Check that a margin is a positive number or a ratio below 100 %."""
    if margin is None:
        return
    from relaxbench.analysis.equivalence import parse_margin

    try:
        known = parse_margin(margin)
    except ValueError:
        known = None
    if known is None:
        raise UserError(
            f'margin = {margin!r}: expected a positive number, or a ratio above 0 and below 100 %, such as "10 %"'
        )


def _check_worst(problem: Problem) -> None:
    """Check that a diverged trial has a loss and a metric that can be stored and compared, the latter above 0."""
    for key in ("worst", "worst_metric"):
        value = getattr(problem, key)
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise UserError(f"problem {problem.name!r}: {key} = {value!r}: expected a finite number, such as 10.0")
    if problem.worst_metric <= 0 and problem.tolerance is None:
        raise UserError(
            f"problem {problem.name!r}: worst_metric = {problem.worst_metric:g}: expected a positive number, larger "
            "than the metric of any useful run, because methods are compared by ratios of it"
        )


def _check_ranges_of(spec: StudySpec, problem: Problem) -> None:
    """Check that some rule has the hyperparameters for which a problem gives ranges."""
    if not problem.space:
        return  # a study without such ranges need not import every package that has a rule
    known = {name for label in spec.methods for name in spec.hyperparameters(label)}
    known.update(name for rule in loadable_rules() for name in rule.wide)
    for name in problem.space:
        if name not in known:
            raise unknown(f"hyperparameter in the space of problem {problem.name!r}:", name, known)


def _check_margin_on(spec: StudySpec, problem: Problem) -> None:
    """Check that a margin is one, and that one in the metric's unit is smaller than the largest metric."""
    margin = problem.margin if spec.margin is None else spec.margin
    if spec.margin is None and spec.script is None:  # a script has none of its own
        check_margin(problem.name, margin)
    shortened = spec.margin is None and problem.tolerance is not None and (spec.budget or spec.budgets)
    if not isinstance(margin, int | float) or shortened:
        return  # a problem's own margin in gradients may exceed a short budget of the study
    worst = problem.worst_metric if problem.tolerance is None else spec.budget_of(problem)
    largest = worst * problem.metric_scale
    if margin >= largest:
        where = "" if spec.margin is not None else f"problem {problem.name!r}: "
        unit = f" {problem.unit}" if problem.unit else ""
        raise UserError(
            f"{where}margin = {margin:g}: the {problem.metric} of {problem.name!r} is at most {largest:g}{unit}, so "
            'all methods would be equivalent: give a smaller margin, or a ratio such as "10 %"'
        )


def _check_ladder(spec: StudySpec) -> None:
    """Check that the budgets of a ladder differ, and that there is no other budget."""
    twice = [budget for budget in spec.budgets if spec.budgets.count(budget) > 1]
    if twice:
        raise UserError(f"budgets = {spec.budgets}: {twice[0]} stands there twice: name it once")
    if spec.budgets and spec.budget is not None:
        raise UserError(f"budget = {spec.budget} and budgets = {spec.budgets} exclude each other: leave one out")


def placed(error: UserError, where: str, names: Mapping[str, str]) -> UserError:
    """Return an error that begins with ``KEY = `` with the origin of the value; see `parse`."""
    key, sign, rest = str(error).partition(" = ")
    text = f"{names[key]} {rest}" if sign and key in names else f"{where}: {error}"
    return UserError(text, *error.settings)
