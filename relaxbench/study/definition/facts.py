"""What the manifest says of problems, methods and what is searched: enough for those who cannot import them."""

from __future__ import annotations

from optuna.distributions import BaseDistribution

from relaxbench.optim.hyper import Choice, Hyperparameter, Int, SearchSpace
from relaxbench.problems import Problem
from relaxbench.store.facts import MethodFacts, ProblemFacts, RangeFacts, SpaceFacts
from relaxbench.study.coordination.random_search import described
from relaxbench.study.definition.spec import StudySpec


def describe(space: SearchSpace) -> SpaceFacts:
    """A declared space as plain values."""
    return {name: _description(declared) for name, declared in space.items()}


def distributions(space: SearchSpace) -> dict[str, BaseDistribution]:
    """A declared space for Optuna."""
    return described(describe(space))


def describe_problem(problem: Problem, spec: StudySpec) -> ProblemFacts:
    """What the report must know of a problem."""
    return {
        "title": problem.title,
        "metric": problem.metric,
        "unit": problem.unit,
        "metric_scale": problem.metric_scale,
        "loss": problem.loss.name,
        "parameters": problem.size,
        "data": problem.data,
        "fingerprint": problem.fingerprint(),
        "budget": spec.budget_of(problem),
        "worst": problem.worst,
        "worst_metric": problem.worst_metric,
        "margin": spec.margin or problem.margin,
        "censored": problem.tolerance is not None,
        "train_examples": problem.train_examples,
        "test_examples": problem.test_examples,
        "caution": problem.caution,
    }


def describe_method(label: str, spec: StudySpec, problems: list[Problem]) -> MethodFacts:
    """What the report and the plan of trials must know of a method; its calibration is added when it is measured."""
    rule = spec.rule_of(label)
    return {
        "rule": rule.name,
        "title": spec.title_of(label),
        "source": rule.source,
        "role": spec.role_of(label),
        "dimensions": len(spec.space_of(label, problems[0])),
        "space": describe(spec.space_of(label, problems[0])),
        "spaces": {problem.name: describe(spec.space_of(label, problem)) for problem in problems},
        "fixed": spec.fixed_of(label, problems[0]),
        "fixes": {problem.name: spec.fixed_of(label, problem) for problem in problems},
        "options": spec.method[label].options if label in spec.method else {},
        "copies": spec.make_rule(label).copies,
        "scope": rule.scope,
        "calibration": {},
    }


def _description(declared: Hyperparameter) -> RangeFacts:
    if isinstance(declared, Choice):
        return {"kind": "categorical", "choices": list(declared.options)}
    if isinstance(declared, Int):
        return {"kind": "int", "low": declared.low, "high": declared.high, "step": declared.step, "log": False}
    return {"kind": "float", "low": declared.low, "high": declared.high, "log": declared.log}
