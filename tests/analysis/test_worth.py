"""What a part is worth: the words of every verdict, never stronger than the interval, and the headline."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest

from relaxbench.analysis.compare import obstacle
from relaxbench.analysis.comparison import Comparison, MethodResult
from relaxbench.analysis.findings import Findings
from relaxbench.analysis.frames import StudyFrames, load_study
from relaxbench.analysis.verdict_table import verdict_table
from relaxbench.analysis.worth import ablated, instead, worth
from tests import synthetic

EFFECTS = {"no-scoping": 4.0, "no-noise": 0.0, "no-averaging": -2.0}
"""Points of test error that leaving a part out adds to 4 %: it doubles, stays, and is halved."""
PARTS = {"no-scoping": "γ scoping", "no-noise": "noise", "no-averaging": "averaging"}


def taken_apart(whole: str = "hj", **changes: Any) -> StudyFrames:
    """A finished study of a method without its parts; `hj` is the baseline unless another one is named."""
    tables = {label: {"against": whole, "without": part} for label, part in PARTS.items()}
    asked = synthetic.spec(
        **{"baseline": whole, "methods": [whole, *PARTS], "controls": [], "method": tables, **changes}
    )
    about = synthetic.manifest(asked)
    for label, part in PARTS.items():
        title = about["methods"][whole]["title"]
        about["methods"][label] |= {"title": f"{title} without {part}", "without": part, "instead": "something else"}
    return load_study(synthetic.fill(synthetic.Writer(synthetic.memory(), asked, about), EFFECTS, spread=0.2, seed=1))


@pytest.fixture(scope="module")
def found() -> dict[str, tuple[MethodResult, Comparison]]:
    results = Findings.of(taken_apart()).results
    return {result.method: (result, comparison) for result, comparison in ablated(results)}


def test_a_part_helps_where_the_method_is_worse_without_it(found: dict[str, tuple[MethodResult, Comparison]]) -> None:
    result, comparison = found["no-scoping"]
    assert comparison.reference == "hj" and 1 < comparison.low < 2 < comparison.high
    words = worth(result, comparison)
    assert words.startswith("Without γ scoping, Hamilton–Jacobi has ") and ": γ scoping helps. Decided at look" in words
    assert worth(*found["no-averaging"]).count("averaging harms.") == 1 and found["no-averaging"][1].high < 1
    assert instead(result) == "Something else" and instead(replace(result, instead="")) == "–"


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        (
            {"verdict": "undecided", "ratio": 1.0, "low": 0.8, "high": 1.25},
            "whether noise helps, and it lowers the test error by at most 20 % or raises it by at most 25 %.",
        ),
        ({"verdict": "equivalent", "margin": "5 %"}, "noise makes no difference beyond the margin of 5 %."),
        ({"verdict": "no claim", "reason": "too few blocks"}, "Nothing is claimed of noise: too few blocks."),
        ({"low": math.nan, "high": math.nan}, "Nothing is claimed of noise: there is no interval."),
    ],
)
def test_the_words_say_no_more_than_the_interval(
    changes: dict[str, Any], told: str, found: dict[str, tuple[MethodResult, Comparison]]
) -> None:
    result, comparison = found["no-noise"]
    words = worth(result, replace(comparison, **changes))
    assert told in words and ("helps." not in words)


def test_the_headline_names_whole_methods_and_parts_apart() -> None:
    alone = Findings.of(taken_apart()).headlines["digits-mlp"]
    assert alone.startswith("Against the whole method: Hamilton–Jacobi without γ scoping is worse (")
    assert "Hamilton–Jacobi without averaging is better (0.5" in alone and "beat" not in alone
    both = Findings.of(taken_apart(baseline="sgd", methods=["sgd", "hj", *PARTS]))
    head = both.headlines["digits-mlp"]
    assert head.startswith("Hamilton–Jacobi is not shown to beat SGD here: ") and "Against the whole method: " in head
    table = verdict_table(both.results).set_index("method")
    assert table["without"].to_dict() == {"sgd": "", "hj": "", **PARTS}
    assert table["reference"].to_dict() == {"sgd": "sgd", "hj": "sgd", **dict.fromkeys(PARTS, "hj")}
    assert not both.missing and all(result.planned for result in both.results)


def test_studies_that_compare_a_method_with_different_ones_are_not_set_side_by_side() -> None:
    one = taken_apart(baseline="sgd", methods=["sgd", "hj", *PARTS])
    other = replace(one, spec={**one.spec, "method": {}})
    assert obstacle(one, other, "digits-mlp", "no-noise") == "the studies have different baselines"
    assert obstacle(one, other, "digits-mlp", "hj") == ""
