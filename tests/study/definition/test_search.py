"""The table [search]: samplers that exist and take their options, in one line where they do not."""

from __future__ import annotations

import importlib.util
import itertools
import sys
from typing import Any

import pytest
from optuna.pruners import BasePruner
from optuna.samplers import RandomSampler, TPESampler

from relaxbench.errors import UserError
from relaxbench.problems import problem
from relaxbench.study.definition.changes import merge
from relaxbench.study.definition.unsearched import unsearched
from relaxbench.study.definition.validation import check_on, check_pruners_on, parse
from tests.study.definition.test_validation import GOOD, refusal

HERE = "tests.study.definition.test_search"


class Seedless(RandomSampler):
    """A sampler that cannot be repeated."""

    def __init__(self) -> None:
        super().__init__()


class Unrepeatable(TPESampler):
    """A sampler that takes a seed and does not use it."""

    def __init__(self, seed: int) -> None:
        super().__init__(n_startup_trials=1)


class Numeric(RandomSampler):
    """A sampler that fails on choices."""

    def __init__(self, seed: int) -> None:
        super().__init__(seed)

    def sample_independent(self, study: Any, trial: Any, name: str, distribution: Any) -> Any:
        return super().sample_independent(study, trial, name, distribution) + 0.0


MISTAKES: list[tuple[Any, tuple[str, ...]]] = [
    ({"sampler": "tpee"}, ("search: unknown sampler 'tpee'", "did you mean 'tpe'?", "package.module:Class")),
    ({"sampler": "optuna.samplers.TPESampler"}, ("search: unknown sampler", "did you mean 'tpe'?", "module:Class")),
    ({"pruner": "SuccessiveHalvingPruner"}, ("search: unknown pruner", "did you mean 'successive-halving'?")),
    ({"sampler": "tpe", "options": {"n_startup_trial": 3}}, ("'n_startup_trial'", "did you mean 'n_startup_trials'?")),
    ({"sampler": "tpe", "options": {"seed": 3}}, ("option of sampler 'tpe'", "'seed'")),
    ({"sampler": "qmc", "options": {"qmc_type": "sobel"}}, ("sampler 'qmc'", "sobel")),
    ({"sampler": "random", "options": {"x": 1}}, ("search.options", "no options: leave them out")),
    ({"sampler": "tpe", "option": {}}, ("table [search]", "'option'", "did you mean 'options'?")),
    ({"sampler": "tpe", "generation": 0}, ("search.generation = 0", "at least 1")),
    ({"sampler": 3}, ("search.sampler = 3", "text")),
    ("tpe", ("search = 'tpe'", 'a table, such as { sampler = "tpe" }')),
    ({"sampler": "no.such:Sampler"}, ("'no.such:Sampler' cannot be imported", "install its package")),
    ({"sampler": "json:JSONDecoder"}, ("is not a class of samplers", "BaseSampler")),
    ({"sampler": f"{HERE}:Seedless"}, ("takes no seed",)),
    ({"pruner": "hyperbnad"}, ("search: unknown pruner 'hyperbnad'", "did you mean 'hyperband'?")),
    ({"pruner": "median", "pruner_options": {"n_startup": 3}}, ("option of pruner 'median'", "'n_startup_trials'?")),
    (
        {"pruner": "hyperband", "pruner_options": {"reduction_factor": 1}},
        ("pruner 'hyperband'", "{'reduction_factor': 1} fails"),
    ),
    ({"pruner": f"{HERE}:Moody"}, ("answers otherwise when it is asked again",)),
    ({"pruner": f"{HERE}:Broken"}, ("(no idea)", "correct its options or its class")),
    ({"pruner_options": {"n_startup_trials": 3}}, ("search.pruner_options", 'pruner "none"', "leave them out")),
    ({"pruner": "median", "spot_checks": 1.5}, ("search.spot_checks = 1.5", "at most 1")),
    ({"pruner": "optuna.pruners:ThresholdPruner"}, ("pruner 'optuna.pruners:ThresholdPruner'", "upper")),
    ({"pruner": "optuna.pruners:PatientPruner"}, ("it needs wrapped_pruner, which a study file cannot give",)),
    ({"pruner": "optuna.pruners:NopPruner"}, ("search.pruner = ", "stops no trial", 'use pruner "none"')),
    ({"pruner": "optuna.pruners:BasePruner"}, ("is abstract",)),
    ({"sampler": "optuna.samplers:BaseSampler"}, ("is abstract",)),
    ({"sampler": "optuna.samplers:GridSampler"}, ("it needs search_space",)),
    ({"sampler": "tpe", "options": {"gamma": 3}}, ("gamma = 3: it is a function, which a study file cannot give",)),
    ({"sampler": "qmc", "options": {"independent_sampler": "tpe"}}, ("it is an object, which a study file cannot",)),
    ({"pruner": "json:JSONDecoder"}, ("is not a class of pruners", "BasePruner")),
    ({"sampler": "tpe", "options": {"group": "no"}}, ("group = 'no': expected true or false",)),
    (
        {"sampler": "tpe", "options": {"n_startup_trials": -1}},
        ("n_startup_trials = -1: expected a number that is not",),
    ),
    ({"sampler": "tpe", "options": {"n_startup_trials": True}}, ("n_startup_trials = True: expected a whole number",)),
    ({"sampler": "gp", "options": {"deterministic_objective": 1}}, ("deterministic_objective = 1: expected true or",)),
    ({"pruner": "wilcoxon", "pruner_options": {"p_threshold": "a"}}, ("p_threshold = 'a': expected a number",)),
    ({"pruner": "hyperband", "pruner_options": {"max_resource": 1.5}}, ("a text in quotes or a whole number",)),
    ({"pruner": f"{HERE}:Exits"}, ("fails when it is asked", "correct its options or its class")),
    ({"spot_checks": 0.5}, ("search.spot_checks = 0.5", 'pruner "none" stops no trials: leave it out')),
    ({"prunner": "median"}, ("table [search]", "'prunner'", "did you mean 'pruner'?")),
]


@pytest.mark.parametrize(("search", "parts"), MISTAKES)
def test_a_wrong_search_is_refused_in_one_line(search: Any, parts: tuple[str, ...]) -> None:
    line = refusal(search=search)
    assert all(part in line for part in parts), line


def test_a_wrong_search_of_a_method_is_named_with_its_place() -> None:
    assert "method.heat.search: unknown sampler 'gpp'" in refusal(method={"heat": {"search": {"sampler": "gpp"}}})
    line = refusal(method={"heat": {"search": {"sampler": "gp", "size": 1}}})
    assert "table [method.heat.search]" in line and "known: generation, options, pruner, " in line
    line = refusal(method={"heat": {"arm": "published", "search": {"sampler": "tpe"}}})
    assert "search = {'sampler': 'tpe'} states others: leave search out" in line
    assert """method.heat.search = 'tpe': expected a table, such as {""" in refusal(method={"heat": {"search": "tpe"}})


def test_a_missing_package_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name == "cmaes" else find(name, *rest))
    line = refusal(search={"sampler": "cmaes"})
    assert "the package cmaes, which is not installed: pip install 'relaxbench[samplers]'" in line


@pytest.mark.parametrize(
    ("sampler", "parts"),
    [
        ("cmaes", ("cannot search schedule of sgd on rosenbrock", 'fixed = { schedule = "constant" }')),
        (f"{HERE}:Numeric", ("cannot search the space of sgd on rosenbrock",)),
        (f"{HERE}:Unrepeatable", ("proposes other settings when it is asked again",)),
    ],
)
def test_a_sampler_that_cannot_search_a_space_is_refused(sampler: str, parts: tuple[str, ...]) -> None:
    if sampler == "cmaes":
        pytest.importorskip("cmaes", reason="CMA-ES needs the package cmaes (relaxbench[samplers])")
    spec = parse({**GOOD, "methods": ["sgd"], "search": {"sampler": sampler}}, "my.toml")
    with pytest.raises(UserError) as refused:
        check_on(spec, [problem("rosenbrock")])
    line = str(refused.value)
    assert "\n" not in line and all(part in line for part in parts), line


class Moody(BasePruner):
    """A pruner that answers otherwise every time."""

    answers = itertools.cycle([True, False, False])

    def prune(self, study: Any, trial: Any) -> bool:
        return next(self.answers)


class Broken(BasePruner):
    """A pruner that fails."""

    def prune(self, study: Any, trial: Any) -> bool:
        raise RuntimeError("no idea")


class Exits(BasePruner):
    """A pruner that ends the program."""

    def prune(self, study: Any, trial: Any) -> bool:
        sys.exit(3)


@pytest.mark.parametrize(
    ("task", "pruner", "budget", "parts"),
    [
        ("rosenbrock", "median", 100, ("cannot stop trials of sgd on rosenbrock", "gradients until a tolerance")),
        ("digits-mlp", "median", 1, ("cannot stop trials of sgd on digits-mlp", "no round but its last")),
        ("rugged-1d", "hyperband", 100, ("cannot stop trials of sgd on rugged-1d",)),
    ],
)
def test_a_pruner_that_cannot_stop_trials_is_refused(
    task: str, pruner: str, budget: int, parts: tuple[str, ...]
) -> None:
    values = {**GOOD, "problems": [task], "methods": ["sgd"], "budget": budget, "search": {"pruner": pruner}}
    with pytest.raises(UserError) as refused:
        check_pruners_on(parse(values, "my.toml"), [problem(task)])
    line = str(refused.value)
    assert "\n" not in line and all(part in line for part in parts), line


def test_a_pruner_whose_first_generation_is_the_whole_block_is_refused() -> None:
    values = {**GOOD, "problems": ["digits-mlp"], "methods": ["sgd"], "budget": 100, "trials": 5}
    check_pruners_on(parse({**values, "search": {"pruner": "median"}}, "my.toml"), [problem("digits-mlp")])
    for trials in (3, 4):
        spec = parse({**values, "trials": trials, "search": {"pruner": "median"}}, "my.toml")
        with pytest.raises(UserError, match=f"never asked for sgd: .* a whole block of {trials} trials"):
            check_pruners_on(spec, [problem("digits-mlp")])


@pytest.mark.parametrize(
    ("pruner", "stops"),
    [
        ({"pruner": "hyperband"}, True),
        ({"pruner": "successive-halving"}, True),
        ({"pruner": "median"}, True),
        ({"pruner": "wilcoxon"}, True),
        ({"pruner": "hyperband", "pruner_options": {"min_resource": 99_999}}, False),
        ({"pruner": "successive-halving", "pruner_options": {"min_early_stopping_rate": 9}}, False),
        ({"pruner": "median", "pruner_options": {"n_startup_trials": 50}}, False),
        ({"pruner": "wilcoxon", "pruner_options": {"n_startup_steps": 50}}, False),
    ],
)
def test_a_pruner_whose_options_stop_no_trial_is_refused(pruner: dict[str, Any], stops: bool) -> None:
    spec = parse({**GOOD, "methods": ["sgd"], "problems": ["digits-mlp"], "search": pruner}, "my.toml")
    if stops:
        check_pruners_on(spec, [problem("digits-mlp")])
        return
    with pytest.raises(UserError, match=r"with options .* stops no trial of sgd on digits-mlp, not even"):
        check_pruners_on(spec, [problem("digits-mlp")])


def test_a_sampler_that_sees_no_result_is_refused_where_the_generation_is_stated() -> None:
    values = {**GOOD, "trials": 4, "search": {"sampler": "tpe", "generation": 4}}
    with pytest.raises(UserError, match=r"search.generation = 4: a block of 4 trials is chosen at once, .* from none"):
        parse(values, "my.toml")
    own = {**GOOD, "trials": 4, "methods": ["sgd", "mine"]}
    table = {"rule": "heat", "search": {"sampler": "gp", "generation": 9}}
    with pytest.raises(UserError, match=r"method.mine.search.generation = 9"):
        parse({**own, "method": {"mine": table}}, "my.toml")
    for search in ({"generation": 2}, {"sampler": "random", "generation": 2}):
        with pytest.raises(UserError, match=r'search.generation = 2: sampler "random" without a pruner has no gener'):
            parse({**values, "search": search}, "my.toml")
    for search in (
        {"sampler": "tpe"},
        {"pruner": "median", "generation": 2},
        {"sampler": "tpe", "generation": 3},
        {"sampler": "qmc", "generation": 4},
    ):
        parse({**values, "search": search}, "my.toml")


def test_options_with_which_a_sampler_fails_later_are_refused_before() -> None:
    search = {"sampler": "tpe", "options": {"n_ei_candidates": 0}}
    with pytest.raises(UserError, match=r"^sampler 'tpe' with options .* cannot search .*: correct its options$"):
        check_on(parse({**GOOD, "methods": ["sgd"], "search": search}, "my.toml"), [problem("rosenbrock")])


def test_a_pruner_goes_with_any_sampler_and_belongs_to_a_method() -> None:
    own = {"heat": {"search": {"sampler": "tpe", "pruner": "median", "pruner_options": {"n_warmup_steps": 2}}}}
    spec = parse({**GOOD, "method": own, "search": {"pruner": "optuna.pruners:MedianPruner"}}, "my.toml")
    assert spec.sampling_of("sgd")["pruner"]["name"] == "optuna.pruners:MedianPruner"
    pruner = spec.sampling_of("heat")["pruner"]
    assert pruner == {"name": "median", "options": {"n_warmup_steps": 2}, "spot_checks": 0.1}
    refused, _ = merge(parse(GOOD, "my.toml").model_dump(), spec.model_dump())
    assert any(line.startswith("search: none → ") and "declared" in line for line in refused)


def test_a_study_without_a_pruner_is_stored_as_before_there_were_any() -> None:
    spec = parse({**GOOD, "search": {"sampler": "tpe"}}, "my.toml")
    assert spec.model_dump()["search"] == {"sampler": "tpe", "options": {}, "generation": 4}
    assert spec.sampling_of("sgd") == {"sampler": "tpe", "options": {}, "generation": 4}


def test_a_class_of_another_package_can_be_the_sampler() -> None:
    spec = parse({**GOOD, "search": {"sampler": "optuna.samplers:RandomSampler"}}, "my.toml")
    check_on(spec, [problem("rosenbrock")])


def test_a_method_has_its_own_sampler_or_the_studys() -> None:
    own = {"heat": {"search": {"sampler": "qmc"}}, "mine": {"rule": "heat", "arm": "published"}}
    values = {**GOOD, "methods": ["sgd", "heat", "mine"], "method": own, "search": {"sampler": "tpe"}}
    spec = parse(values, "my.toml")
    assert [spec.sampling_of(label)["sampler"] for label in spec.methods] == ["tpe", "qmc", "random"]


@pytest.mark.parametrize(
    ("own", "parts"),
    [
        ({}, ("sampler 'random' in place of 'qmc'", "no pruner in place of 'median'")),
        ({"sampler": "tpe"}, ("no pruner in place of 'median', so that all of its trials run to their end",)),
        ({"sampler": "tpe", "pruner": "none"}, ()),
        ({"pruner": "hyperband"}, ("sampler 'random' in place of 'qmc'",)),
    ],
)
def test_what_a_methods_own_table_leaves_out_is_told(own: dict[str, Any], parts: tuple[str, ...]) -> None:
    study = {**GOOD, "methods": ["sgd", "heat"], "search": {"sampler": "qmc", "pruner": "median"}}
    lines = unsearched(parse({**study, "method": {"heat": {"search": own}}}, "mine.toml"), [problem("rosenbrock")])
    assert len(lines) == bool(parts)
    for line in lines:
        assert line.startswith("method 'heat': [method.heat.search] replaces the whole table [search] of the study: ")
        assert all(part in line for part in parts) and ("pruner" in line) == any("pruner" in part for part in parts)


def test_a_sampler_cannot_change_in_a_study_that_has_begun() -> None:
    before = parse(GOOD, "my.toml").model_dump()
    refused, _ = merge(before, parse({**GOOD, "search": {"sampler": "tpe"}}, "my.toml").model_dump())
    assert len(refused) == 1 and refused[0].startswith("search: none → ") and "declared" in refused[0]
    older = {key: value for key, value in before.items() if key != "search"}  # of a study before there was the table
    assert merge(older, before)[0] == []
