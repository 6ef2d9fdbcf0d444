"""Facts that a study stores have the keys that their types name, so that readers can rely on these."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_type_hints

import pytest

from relaxbench.space import StoredChoice, StoredFloat, StoredInt
from relaxbench.store.facts import (
    Circumstances,
    CostFacts,
    EngineFacts,
    Manifest,
    MethodFacts,
    ProblemFacts,
    SpecFacts,
)
from relaxbench.study.coordination.manifest import read_manifest
from relaxbench.study.definition.spec import StudySpec
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
        assert set(engine) == keys(EngineFacts)
    for method in manifest["methods"].values():
        assert set(method) == keys(MethodFacts)
        assert all(set(cost) == keys(CostFacts) for cost in method["calibration"].values())
        for space in (method["space"], *method["spaces"].values()):
            assert all(set(searched) == keys(STORED[searched["kind"]]) for searched in space.values())


def test_a_stored_specification_has_the_keys_that_its_type_names() -> None:
    assert set(StudySpec.model_fields) == keys(SpecFacts)
