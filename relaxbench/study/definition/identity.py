"""The identity of a study's problems and methods: stored when the study begins, compared whenever it goes on.

A person edits the file of a model and runs the study again. Without this, trials of two models would enter one verdict.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal

from torch import Tensor, nn

from relaxbench.errors import UserError
from relaxbench.optim.hyper import defaults
from relaxbench.optim.registry import RULES, option_defaults
from relaxbench.optim.wrapped.make import require_that_many_steps_can_be_stored
from relaxbench.optim.wrapped.rule import WrappedRule
from relaxbench.problems import Problem
from relaxbench.store.facts import Manifest
from relaxbench.store.identity_facts import IdentityFacts, MethodIdentity, ProblemIdentity, TensorFacts
from relaxbench.study.definition.code_files import modules_beside, rule_file, text_of
from relaxbench.study.definition.differences import (
    code_change,
    method_differences,
    problem_differences,
    space_differences,
)
from relaxbench.study.definition.facts import describe_method
from relaxbench.study.definition.probes import Probe, probe_problem
from relaxbench.study.definition.rule_probes import elsewhere, probe_rule, steps_on
from relaxbench.study.definition.script_problem import LoopProblem, identify_script, identify_script_method
from relaxbench.study.definition.spec import StudySpec
from relaxbench.study.definition.splits import describe_splits, split_differences

MOST = 4
"""Number of differences that a message names."""


def identify(
    spec: StudySpec, problems: Sequence[Problem], sources: Mapping[str, str], manifest: Manifest | None = None
) -> IdentityFacts:
    """Describe what makes the problems and methods of a study these and no others.

    Args:
        spec: the study, or the part of it that is worked on.
        problems: of that part.
        sources: where each problem comes from, by its name: the path of a file, or a name.
        manifest: of the stored study. What it has identified is probed as it was then, and only once.
    """
    known = _stored(manifest or Manifest())
    return {
        "problems": {
            p.name: identify_problem(p, spec, sources[p.name], known["problems"].get(p.name)) for p in problems
        },
        "methods": {
            label: identify_method(label, spec, problems, known["methods"].get(label)) for label in spec.methods
        },
    }


def identify_problem(problem: Problem, spec: StudySpec, source: str, known: ProblemIdentity | None) -> ProblemIdentity:
    """Describe a problem: its parameters, its settings, and numbers that its code gives at a seeded point."""
    if isinstance(problem, LoopProblem):
        return identify_script(problem, spec)
    probe = probe_problem(problem, known["precision"] if known else None)
    return {
        "tensors": _tensors(problem),
        "settings": {
            "loss": problem.loss.name,
            "metric": problem.metric,
            "unit": problem.unit,
            "factor of the metric": problem.metric_scale,
            "batch size": problem.batch_size,
            "rounds": problem.rounds,
            "budget": spec.budget_of(problem),
            "worst": problem.worst,
            "worst metric": problem.worst_metric,
            "tolerance": problem.tolerance,
            "examples for batch normalization": problem.statistics_examples,
        },
        "probe": probe.numbers,
        "precision": probe.precision,
        "failure": probe.failure,
        "splits": describe_splits(problem),
        "file": Path(source).name if source.endswith(".py") else "",
        "text": text_of(Path(source)),
        "modules": modules_beside(source),
    }


def identify_method(
    label: str, spec: StudySpec, problems: Sequence[Problem], known: MethodIdentity | None
) -> MethodIdentity:
    """Describe a method: the options of its rule, and where the rule's steps lead on a quadratic."""
    if spec.script is not None:
        return identify_script_method()
    rule = spec.rule_of(label)
    params = defaults(rule.wide) if known is None else known["params"]
    same = params.keys() == rule.wide.keys()
    built_in = rule in RULES.values()
    others = known.get("others", []) if known is not None else [] if built_in else elsewhere(rule)
    if known is None and issubclass(rule, WrappedRule):
        try:
            require_that_many_steps_can_be_stored(rule)
        except UserError as error:
            raise UserError(f"method.{label}: {error}") from None
    twice = known is None and not built_in  # those that are built in repeat their steps
    gone = f"its hyperparameters are {', '.join(rule.wide)}"
    options = spec.variant(label).options
    probe = probe_rule(rule, options, params, twice, others) if same else Probe("float64", {}, gone)
    made = {problem.name: spec.make_rule(label, problem) for problem in problems}
    file = rule_file(rule)
    identity: MethodIdentity = {
        "options": {problem.name: spec.options_of(label, problem) for problem in problems},
        "params": params,
        "probe": probe.numbers,
        "failure": probe.failure,
        "others": others,
        "settings": {
            name: {"gradients per query": own.price, "replicas": own.replicas, "copies of the parameters": own.copies}
            for name, own in made.items()
        },
        "steps": {p.name: steps_on(made[p.name], p, params) for p in problems} if others and same else {},
        "file": file.name if file else "",
        "text": text_of(file) if file else "",
    }
    return {**identity, "origin": origin} if (origin := rule.origin()) else identity


def refuse_edits(
    manifest: Manifest, study: str, identity: IdentityFacts, spec: StudySpec, problems: Sequence[Problem]
) -> None:
    """Check that problems and methods are those with which the study began.

    Raises:
        UserError: naming what differs.
    """
    stored = _stored(manifest)
    lines: list[str] = []
    edited: set[str] = set()
    for name, now in identity["problems"].items():
        if name in stored["problems"] and (found := problem_differences(stored["problems"][name], now)):
            lines += [f"{_label(name, now)}: {line}" for line in found]
            edited.add(name)
    names = [problem.name for problem in problems if problem.name in manifest.get("problems", {})]
    for label in spec.methods:
        facts = manifest.get("methods", {}).get(label)
        known = stored["methods"].get(label)
        usual = option_defaults(spec.variant(label).rule or label)
        told = method_differences(known, identity["methods"][label], edited, usual) if known else []
        if facts:
            told = space_differences(facts, describe_method(label, spec, problems), names) + told
        lines += [f"method {label!r}: {line}" for line in told]
    if lines:
        more = f"; and {len(lines) - MOST} more" if len(lines) > MOST else ""
        raise UserError(
            f"study {study!r} began otherwise: {'; '.join(lines[:MOST])}{more}. One verdict cannot hold both: "
            "change it back, or use another study name"
        )


def refuse_other_model(manifest: Manifest, study: str, name: str, problem: Problem, source: str) -> None:
    """Check that a model is the one whose weights a study stored.

    Args:
        manifest: of the study.
        study: its name.
        name: of the problem in it.
        problem: as it is now.
        source: where it comes from.

    Raises:
        UserError: naming what differs.
    """
    was = _stored(manifest)["problems"].get(name)
    if was is None:
        return
    probe = probe_problem(problem, was["precision"])
    numbers: ProblemIdentity = {**was, "probe": probe.numbers, "failure": probe.failure}
    now: ProblemIdentity = {
        **numbers,
        "tensors": _tensors(problem),
        "text": text_of(Path(source)),
        "modules": modules_beside(source),
    }
    lines = problem_differences(was, now)
    if lines:
        raise UserError(
            f"study {study!r} trained another model: {_label(name, now)}: {'; '.join(lines[:MOST])}. Its weights are "
            "not those of this one: change it back"
        )


def keep_measurements(manifest: Manifest, problems: Sequence[Problem]) -> None:
    """Let problems go on with the rounds of a study that began before these adapted to the budget."""
    known = _stored(manifest)["problems"]
    for problem in problems:
        if problem.name in known:
            settings = known[problem.name]["settings"]
            problem.go_on_as_begun(settings["rounds"], settings["examples for batch normalization"])


def changed_splits(manifest: Manifest, problem: Problem) -> list[str]:
    """Say which splits of a problem are not those with which a study began; empty if that is not known."""
    known = _stored(manifest)["problems"].get(problem.name)
    return split_differences(known.get("splits", {}), describe_splits(problem)) if known else []


def edited_notes(manifest: Manifest, identity: IdentityFacts) -> list[str]:
    """Say which files have other code than when the study began, although they give the same numbers."""
    stored = _stored(manifest)
    found: dict[str, str] = {}
    for name, now in identity["problems"].items():
        if name in stored["problems"]:
            was = stored["problems"][name]
            found[now["file"]] = code_change(was["text"], now["text"])
            for path, text in was.get("modules", {}).items():
                found[path] = found.get(path) or code_change(text, now["modules"].get(path, ""))
    for label, own in identity["methods"].items():
        if label in stored["methods"]:
            file, text = own["file"], stored["methods"][label].get("text", "")
            found[file] = found.get(file) or code_change(text, own["text"])
    return [*_origin_notes(manifest, identity)] + [
        f"`{file}` is not as it was when the study began{change}. It gives the same numbers wherever both were "
        "tried, so the study goes on; if it is another model or method, use another study name."
        for file, change in found.items()
        if change
    ]


def _origin_notes(manifest: Manifest, identity: IdentityFacts) -> Iterator[str]:
    """Say which methods take the steps of another version of a package, although it gives the same numbers."""
    stored = _stored(manifest)["methods"]
    for label, now in identity["methods"].items():
        was, here = stored[label].get("origin", "") if label in stored else "", now.get("origin", "")
        if was and was != here:
            yield (
                f"method {label!r} is {here}, was {was} when the study began. It takes the same steps wherever both "
                "were tried, so the study goes on."
            )


def keep_identity(manifest: Manifest, identity: IdentityFacts) -> bool:
    """Add the identities that a manifest lacks; returns whether it had begun without some of them."""
    stored = _stored(manifest)
    late = any(name in manifest.get("problems", {}) for name in identity["problems"].keys() - stored["problems"].keys())
    methods = {**identity["methods"], **stored["methods"]}
    for label, now in identity["methods"].items():  # a problem that was added has options of its own
        was = methods[label]
        grown: MethodIdentity = {**was, "options": {**now["options"], **was["options"]}}
        if "settings" in was:
            grown["settings"] = {**now["settings"], **was["settings"]}
        if "steps" in was:
            grown["steps"] = {**now["steps"], **was["steps"]}
        methods[label] = grown
    manifest["identity"] = {"problems": {**identity["problems"], **stored["problems"]}, "methods": methods}
    return late


def _stored(manifest: Manifest) -> IdentityFacts:
    return manifest.get("identity", IdentityFacts(problems={}, methods={}))


def _tensors(problem: Problem) -> list[TensorFacts]:
    """Describe the parameters of a problem in their order, and the buffers of its model."""
    dtype = str(problem.dtype).removeprefix("torch.")
    facts: dict[str, TensorFacts] = {
        name: {"name": name, "shape": list(shape), "dtype": dtype, "kind": "trained"}
        for name, shape in problem.layout()
    }
    model = getattr(problem, "model", None)
    if isinstance(model, nn.Module):
        parameters = {name: _facts(name, p, p.requires_grad) for name, p in model.named_parameters()}
        buffers = {name: _facts(name, buffer, None) for name, buffer in model.named_buffers()}
        facts = {**facts, **parameters, **buffers}
    return list(facts.values())


def _facts(name: str, value: Tensor, trained: bool | None) -> TensorFacts:
    kind: Literal["trained", "frozen", "buffer"] = "buffer" if trained is None else "trained" if trained else "frozen"
    return {"name": name, "shape": list(value.shape), "dtype": str(value.dtype).removeprefix("torch."), "kind": kind}


def _label(name: str, identity: ProblemIdentity) -> str:
    return f"`{identity['file']}`" if identity["file"] else f"problem {name!r}"
