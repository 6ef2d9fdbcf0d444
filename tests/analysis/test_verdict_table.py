"""The verdict table: its columns are the fields of the results and comparisons, each of which is built once."""

from __future__ import annotations

import math
from typing import Any

import pandas as pd
import pytest

from relaxbench.analysis import verdict_table as module
from relaxbench.analysis.comparison import KINDS, VERDICTS, Comparison, MethodResult
from relaxbench.analysis.verdict_table import look_table, verdict_table
from relaxbench.analysis.verdicts import verdicts
from relaxbench.report import StudyFrames, load_study
from tests import synthetic

PREFIX = {
    ("baseline", "gradients"): "",
    ("baseline", "seconds"): "seconds_",
    ("control", "gradients"): "control_",
    ("longer", "gradients"): "longer_",
}
COLUMN = {("", "level"): "compared_level", ("", "blocks"): "compared_blocks"}
"""Columns whose name is not the field's: the method's own level and blocks have those."""
FIELDS = (
    *("ratio", "low", "high", "error", "freedom", "band_low", "band_high", "level", "reference_level", "points"),
    *("look", "blocks", "reference_blocks", "verdict", "reason"),
)


def column(prefix: str, field: str) -> str:
    """The column of a field of a comparison."""
    return COLUMN.get((prefix, field), prefix + field)


def same(cell: Any, value: Any) -> bool:
    """Whether a cell holds a field's value; what is missing is NaN or None there, and "" where it is text."""
    if value is None or value == "" or (isinstance(value, float) and math.isnan(value)):
        return bool(pd.isna(cell)) or cell == ""
    return bool(cell == value)


@pytest.fixture(params=["digits", "both", "repeated"])
def frames(request: pytest.FixtureRequest) -> StudyFrames:
    found: StudyFrames = request.getfixturevalue(request.param)
    return found


def test_a_row_has_the_fields_of_its_result_and_comparisons(frames: StudyFrames) -> None:
    results = verdicts(frames)
    rows = verdict_table(results).to_dict("records")
    assert len(rows) == len(results) == len(frames.problems) * len(frames.methods)
    for row, result in zip(rows, results, strict=True):
        kept = [key for key in MethodResult.__dataclass_fields__ if key in row and key not in ("control", "looks")]
        own = {key: row[key] for key in kept}
        assert all(same(value, getattr(result, key)) for key, value in own.items()) and len(own) > 20
        assert same(row["reference"], result.baseline) and same(row["control"], result.control)
        assert row["verdict"] == result.verdict
        for (opponent, clock), prefix in PREFIX.items():
            comparison = result.against(opponent, clock)
            for field in FIELDS:
                if prefix + field == "verdict":
                    continue
                value = None if comparison is None else getattr(comparison, field)
                assert same(row[column(prefix, field)], value), (result.method, prefix, field)


def test_every_comparison_is_built_once(frames: StudyFrames) -> None:
    """One object per method, opponent and clock, which the table, the sentences and the figures share."""
    for result in verdicts(frames):
        kinds = [(comparison.opponent, comparison.clock) for comparison in result.comparisons]
        expected = [] if result.method == frames.baseline else [("baseline", "gradients"), ("baseline", "seconds")]
        if result.role == "candidate" and result.control:
            expected += [("control", "gradients")]
        if frames.repetitions > 1:
            expected = []
        assert kinds == expected
        for comparison in result.comparisons:
            assert (comparison.problem, comparison.method) == (result.problem, result.method)
            assert result.against(comparison.opponent, comparison.clock) is comparison


def test_prefixes_are_those_of_the_csv() -> None:
    assert {kind: module._prefix(*kind) for kind in KINDS} == PREFIX


def test_rates_of_a_repeated_study_have_columns(repeated: StudyFrames) -> None:
    results = verdicts(repeated)
    row = verdict_table(results).set_index("method").loc["again"]
    rates = results[1].rates
    assert rates is not None and row["repeated"] == rates.repetitions and row["called_different"] == rates.different
    assert (row["rate"], row["rate_low"], row["rate_high"]) == (rates.rate, rates.low, rates.high)
    counts = [row["called_" + verdict.replace(" ", "_")] for verdict in VERDICTS]
    assert counts == [rates.verdicts[verdict] for verdict in VERDICTS]


@pytest.mark.parametrize("spec", [{"looks": []}, {"baseline": None, "controls": []}, {"methods": [], "controls": []}])
def test_every_comparison_has_columns_whatever_a_study_lacks(spec: dict[str, Any]) -> None:
    asked = synthetic.spec(**{"trials": 1, "exploit": 0, "recommend": 0, "methods": ["sgd", "hj"]} | spec)
    table = verdict_table(verdicts(load_study(synthetic.fill(synthetic.Writer(synthetic.memory(), asked)))))
    assert {column(prefix, field) for prefix in PREFIX.values() for field in FIELDS} <= set(table)
    assert len(table) == len(asked["methods"]) and table["decimals"].dtype.kind == "i"


def test_the_looks_are_those_of_the_history(digits: StudyFrames) -> None:
    results = verdicts(digits)
    table = look_table(results).set_index(["method", "look"])
    for result in results:
        comparison = result.against("baseline")
        if comparison is None:
            assert result.method not in table.index.get_level_values("method")
            continue
        own = table.loc[result.method]
        assert own.index.tolist() == list(range(1, comparison.look + 1))
        assert own["blocks"].tolist() == list(digits.looks[: comparison.look])
        last = own.iloc[-1]
        assert last["verdict"] == comparison.verdict
        for field in ("ratio", "low", "high", "error", "freedom", "band_low", "band_high"):
            assert last[field] == pytest.approx(getattr(comparison, field), rel=1e-12), field
        assert set(own["verdict"].iloc[:-1]) <= {"undecided"}


def test_an_unknown_ratio_is_not_known() -> None:
    comparison = Comparison(
        problem="p",
        method="m",
        opponent="baseline",
        clock="gradients",
        reference="sgd",
        reference_title="SGD",
        metric="test error",
        unit="%",
        censored=False,
        decimals=2,
    )
    assert not comparison.known and comparison.verdict == "no claim"
