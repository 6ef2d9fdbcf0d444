"""Studies that several tests use, each built once per process, its page once (a plugin of tests/conftest.py)."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from relaxbench.analysis.findings import Findings
from relaxbench.analysis.verdict_table import verdict_table
from relaxbench.analysis.verdicts import verdicts
from relaxbench.report import StudyFrames, load_study, write_report
from tests import synthetic
from tests.browser import with_each_kind
from tests.shared import built_once

EFFECTS = {"entropy-sgd": -1.9, "hj": 0.1, "heat": 1.5}
"""Points of test error that a method differs from SGD by in the synthetic studies."""


@pytest.fixture(scope="session")
def digits() -> StudyFrames:
    """A finished study with one clearly better and one clearly worse method."""
    return load_study(synthetic.fill(synthetic.Writer(synthetic.memory(), synthetic.spec()), EFFECTS, spread=0.35))


@pytest.fixture(scope="session")
def both() -> StudyFrames:
    """A finished study of two problems, one of them with a censored metric."""
    asked = synthetic.spec(name="both", problems=["digits-mlp", "rosenbrock"], trials=5, exploit=4, recommend=3)
    return load_study(synthetic.fill(synthetic.Writer(synthetic.memory(), asked), EFFECTS))


@pytest.fixture(scope="session")
def repeated() -> StudyFrames:
    """SGD against itself, 40 times over."""
    asked = synthetic.spec(
        name="aa", methods=["sgd", "again"], controls=[], trials=2, repetitions=40, exploit=0, recommend=0
    )
    return load_study(synthetic.fill(synthetic.Writer(synthetic.memory(), asked), seed=3))


@pytest.fixture(scope="session")
def digits_table(digits: StudyFrames) -> pd.DataFrame:
    return verdict_table(verdicts(digits))


@pytest.fixture(scope="session")
def digits_page(digits: StudyFrames, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = built_once(tmp_path_factory, "digits-page", lambda place: write_report(Findings.of(digits), place))
    return folder / "digits.html"


@pytest.fixture(scope="session")
def both_page(both: StudyFrames, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = built_once(tmp_path_factory, "both-page", lambda place: write_report(Findings.of(both), place))
    return folder / "both.html"


@pytest.fixture(scope="session")
def digits_kinds(digits: StudyFrames, digits_page: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of `digits` with two figures of every kind."""
    return with_each_kind(digits_page, tmp_path_factory.mktemp("kinds") / "digits.html", digits.problems, 2)
