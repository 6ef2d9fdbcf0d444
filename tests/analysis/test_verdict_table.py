"""The verdict table: its columns are the fields of the results and comparisons, each of which is built once."""

from __future__ import annotations

import math
from typing import Any, get_args

import pandas as pd
import pytest

from relaxbench.analysis import verdict_table as module
from relaxbench.analysis.comparison import VERDICTS, Clock, Comparison, MethodResult, Opponent
from relaxbench.analysis.verdict_table import verdict_table
from relaxbench.analysis.verdicts import verdicts
from relaxbench.report import StudyFrames, load_study
from tests import synthetic

PREFIX = {
    ("baseline", "gradients"): "",
    ("baseline", "seconds"): "seconds_",
    ("control", "gradients"): "control_",
    ("control", "seconds"): "control_seconds_",
}
COLUMN = {"pairs": "compared"}
"""Columns whose name is not the field's."""
FIELDS = (
    *("difference", "low", "high", "p", "p_holm", "p_exact", "p_equivalence", "correlation", "detectable"),
    *("probability_better", "pairs", "family", "verdict", "reason"),
)


def same(column: Any, value: Any) -> bool:
    """Whether a cell holds a field's value; what is missing is NaN or None there, and "" where it is text."""
    if value is None or value == "" or (isinstance(value, float) and math.isnan(value)):
        return bool(pd.isna(column)) or column == ""
    return bool(column == value)


@pytest.fixture(params=["digits", "both", "repeated"])
def frames(request: pytest.FixtureRequest) -> StudyFrames:
    found: StudyFrames = request.getfixturevalue(request.param)
    return found


def test_a_row_has_the_fields_of_its_result_and_comparisons(frames: StudyFrames) -> None:
    results = verdicts(frames)
    rows = verdict_table(results).to_dict("records")
    assert len(rows) == len(results) == len(frames.problems) * len(frames.methods)
    for row, result in zip(rows, results, strict=True):
        own = {key: row[key] for key in MethodResult.__dataclass_fields__ if key in row and key != "control"}
        assert all(same(value, getattr(result, key)) for key, value in own.items()) and len(own) > 20
        assert same(row["reference"], result.baseline) and same(row["control"], result.control)
        assert row["verdict"] == result.verdict
        for (opponent, clock), prefix in PREFIX.items():
            comparison = result.against(opponent, clock)
            for field in FIELDS:
                if prefix + field == "verdict":
                    continue
                value = None if comparison is None else getattr(comparison, field)
                assert same(row[prefix + COLUMN.get(field, field)], value), (result.method, prefix, field)


def test_every_comparison_is_built_once(frames: StudyFrames) -> None:
    """One object per method, opponent and clock, which the table, the sentences and the figures share."""
    for result in verdicts(frames):
        kinds = [(comparison.opponent, comparison.clock) for comparison in result.comparisons]
        expected = [] if result.method == frames.baseline else [("baseline", "gradients"), ("baseline", "seconds")]
        if result.role == "candidate" and result.control:
            expected += [("control", "gradients"), ("control", "seconds")]
        assert kinds == expected
        for comparison in result.comparisons:
            assert (comparison.problem, comparison.method) == (result.problem, result.method)
            assert result.against(comparison.opponent, comparison.clock) is comparison


def test_prefixes_are_those_of_the_csv() -> None:
    kinds = {(opponent, clock): "" for opponent in get_args(Opponent) for clock in get_args(Clock)}
    assert {kind: module._prefix(*kind) for kind in kinds} == PREFIX


def test_rates_of_a_repeated_study_have_columns(repeated: StudyFrames) -> None:
    results = verdicts(repeated)
    row = verdict_table(results).set_index("method").loc["again"]
    rates = results[1].rates
    assert rates is not None and row["repeated"] == rates.repetitions and row["called_different"] == rates.different
    assert (row["rate"], row["rate_low"], row["rate_high"]) == (rates.rate, rates.low, rates.high)
    counts = [row["called_" + verdict.replace(" ", "_")] for verdict in VERDICTS]
    assert counts == [rates.verdicts[verdict] for verdict in VERDICTS]


@pytest.mark.parametrize("spec", [{"blocks": 0}, {"baseline": None, "controls": []}, {"methods": [], "controls": []}])
def test_every_comparison_has_columns_whatever_a_study_lacks(spec: dict[str, Any]) -> None:
    asked = synthetic.spec(**{"trials": 1, "exploit": 0, "recommend": 0, "methods": ["sgd", "hj"]} | spec)
    table = verdict_table(verdicts(load_study(synthetic.fill(synthetic.Writer(synthetic.memory(), asked)))))
    assert {prefix + COLUMN.get(field, field) for prefix in PREFIX.values() for field in FIELDS} <= set(table)
    assert len(table) == len(asked["methods"])
    assert [table[column].dtype.kind for column in ("decimals", "seconds_decimals")] == ["i", "i"]


def test_an_unknown_difference_is_not_known() -> None:
    comparison = Comparison(
        problem="p", method="m", opponent="baseline", clock="gradients", reference="sgd", reference_title="SGD",
        metric="test error", unit="points", censored=False, decimals=2,
    )  # fmt: skip
    assert not comparison.known and comparison.verdict == "no claim"
