"""Facts that a study stores have the keys that their types name, so that readers can rely on these."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_type_hints

import pytest

from relaxbench.optim.registry import RULES
from relaxbench.problems import problem as named
from relaxbench.space import StoredChoice, StoredFloat, StoredInt
from relaxbench.store.facts import (
    Circumstances,
    CostFacts,
    EngineFacts,
    Manifest,
    MethodFacts,
    ProblemFacts,
    PublicationFacts,
    SpecFacts,
)
from relaxbench.study.coordination.manifest import read_manifest
from relaxbench.study.definition.facts import describe_method, outer_step_of
from relaxbench.study.definition.spec import StudySpec
from relaxbench.study.definition.validation import restore
from tests.study import tiny

STORED = {"float": StoredFloat, "int": StoredInt, "categorical": StoredChoice}


def keys(facts: Any) -> set[str]:
    return set(get_type_hints(facts))


@pytest.mark.usefixtures("steady")
def test_a_study_stores_the_keys_that_the_types_name(tmp_path: Path) -> None:
    tiny.run(tmp_path, tiny.spec(looks=[1], trials=1, exploit=0, recommend=0))
    database = tiny.opened(tmp_path)
    manifest = read_manifest(database, 1)
    database.dispose()
    assert set(manifest) <= keys(Manifest)
    assert set(manifest) >= keys(Circumstances) | {"key", "version", "device", "problems", "origins", "methods"}
    for problem in manifest["problems"].values():
        assert set(problem) == keys(ProblemFacts)
    for engine in manifest["engines"].values():
        assert set(engine) == keys(EngineFacts) - {"compiled"}  # of another path
    for method in manifest["methods"].values():
        assert set(method) == keys(MethodFacts)
        assert all(set(cost) == keys(CostFacts) for cost in method["calibration"].values())
        for space in (method["space"], *method["spaces"].values()):
            assert all(set(searched) == keys(STORED[searched["kind"]]) for searched in space.values())


@pytest.mark.parametrize(
    ("rule", "name", "kind", "fits"),
    [
        ("hj", "digits-mlp", "a fully connected network", True),
        ("curveball", "rosenbrock", "Rosenbrock's function", True),
        ("lookahead", "digits-mlp", "a convolutional network on CIFAR-10 or other photographs", False),
        ("hj", "rosenbrock", "a fully connected network", False),
    ],
)
def test_the_publication_of_a_method_as_published(rule: str, name: str, kind: str, fits: bool) -> None:
    method = {"p": {"rule": rule, "arm": "published"}}
    asked = restore({"name": "x", "problems": [name], "methods": ["sgd", "p"], "method": method}, "x")
    task = named(name)
    facts = describe_method("p", asked, [task])["publications"][name]
    assert set(facts) == keys(PublicationFacts)
    assert (facts["kind"], facts["fits"]) == (kind, fits)
    used = describe_method("p", asked, [task])["fixed"]
    assert any(own.source == facts["source"] and used["schedule"] == own.values["schedule"]
               for own in asked.rule_of("p").publications)  # fmt: skip
    assert describe_method("sgd", asked, [task])["publications"] == {}


def test_a_stored_specification_has_the_keys_that_its_type_names() -> None:
    assert set(StudySpec.model_fields) == keys(SpecFacts)


@pytest.mark.parametrize(
    ("rule", "gradients"),
    [
        ("sgd", [0, 1]),
        ("entropy-sgd", [1, 0]),
        ("hj-implicit", [1, 1]),  # one at x, before the inner loop
        ("parle", [3, 0]),  # of three replicas
        ("elastic-sgd", [0, 3]),
    ],
)
def test_the_gradients_of_an_outer_step(rule: str, gradients: list[float]) -> None:
    assert outer_step_of(RULES[rule]()) == gradients
