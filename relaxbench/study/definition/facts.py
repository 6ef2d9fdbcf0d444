"""The manifest's facts about problems, methods and spaces: all that the plan and the report need without the code."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from relaxbench.optim.hyper import defaults, stack
from relaxbench.optim.published import KINDS
from relaxbench.optim.rule import Rule
from relaxbench.problems import Problem
from relaxbench.space import to_stored
from relaxbench.store.facts import MethodFacts, ProblemFacts, PublicationFacts
from relaxbench.study.definition.known import known_of
from relaxbench.study.definition.ladder import base_name
from relaxbench.study.definition.spec import StudySpec


def describe_problem(problem: Problem, spec: StudySpec) -> ProblemFacts:
    """Describe a problem for the report."""
    return {
        "title": problem.title,
        "metric": problem.metric,
        "unit": problem.unit,
        "metric_scale": problem.metric_scale,
        "loss": problem.loss.name,
        "parameters": problem.size or None,  # a script's are not known
        "data": problem.data,
        "fingerprint": problem.fingerprint(),
        "budget": spec.budget_of(problem),
        "worst": problem.worst,
        "worst_metric": problem.worst_metric,
        "margin": problem.margin if spec.margin is None else spec.margin,
        "censored": problem.tolerance is not None,
        "train_examples": problem.train_examples,
        "test_examples": problem.test_examples,
        "caution": problem.caution,
        "base": base_name(problem) if spec.budgets else problem.name,
        "rung": problem.budget if spec.budgets else None,
        "rounds": problem.rounds,
        "decades": problem.decades,
    }


def outer_step_of(rule: Rule) -> list[float]:
    """Return the gradients of an outer step: of each inner step, with all replicas, and those beside the inner loop."""
    values, lengths = defaults(rule.wide), []
    for inner_steps in (10, 20):
        hyper = stack([{**values, "inner_steps": inner_steps}], torch.device("cpu"), torch.float32)
        lengths.append(float(rule.period(hyper)) * rule.price * rule.replicas)
    each = (lengths[1] - lengths[0]) / 10
    return [each, lengths[0] - 10 * each]


def describe_method(label: str, spec: StudySpec, problems: Sequence[Problem]) -> MethodFacts:
    """Describe a method for the report and the plan of trials. Its calibration is added when it has been measured."""
    rule = spec.rule_of(label)
    return {
        "rule": rule.name,
        "title": spec.title_of(label),
        "source": rule.source,
        "role": spec.role_of(label),
        "without": spec.variant(label).without or "",
        "instead": spec.variant(label).instead or "",
        "arm": spec.arm_of(label),
        "space_name": spec.space_name_of(label),
        "dimensions": len(spec.space_of(label, problems[0])),
        "space": to_stored(spec.space_of(label, problems[0])),
        "spaces": {problem.name: to_stored(spec.space_of(label, problem)) for problem in problems},
        "fixed": spec.fixed_of(label, problems[0]),
        "fixes": {problem.name: spec.fixed_of(label, problem) for problem in problems},
        "options": spec.options_of(label, problems[0]),
        "search": spec.sampling_of(label),
        "known": known_of(spec, label),
        "publications": {
            problem.name: facts for problem in problems if (facts := describe_publication(label, spec, problem))
        },
        "copies": spec.make_rule(label, problems[0]).copies,
        "outer_step": outer_step_of(spec.make_rule(label, problems[0])),
        "scope": rule.scope,
        "calibration": {},
    }


def describe_publication(label: str, spec: StudySpec, problem: Problem) -> PublicationFacts | None:
    """Describe where a method's settings on a problem come from; None for a method that is tuned."""
    publication = spec.rule_of(label).publication(problem.kind) if spec.arm_of(label) == "published" else None
    if publication is None:
        return None
    return {
        "kind": KINDS.get(publication.kind, publication.kind),
        "source": publication.source,
        "wanted": KINDS.get(problem.kind, problem.kind),
        "fits": publication.kind == problem.kind,
    }
