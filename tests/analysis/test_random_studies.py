"""Over random studies: no interval contradicts its verdict, in the table, in the words, and look by look."""

from __future__ import annotations

import math
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relaxbench.analysis.comparison import Comparison
from relaxbench.analysis.sentences import control_sentence, explanation, seconds_sentence
from relaxbench.analysis.verdict_table import look_table, verdict_table
from relaxbench.analysis.verdicts import verdicts
from relaxbench.report import StudyFrames, load_study
from tests.synthetic import Writer, manifest, memory, spec

METHODS = ["sgd", "lookahead", "hj", "heat"]


def random_study(seed: int, scale: float, trials: int, margin: float | str | None, floor: bool) -> StudyFrames:
    """Three methods beside SGD with log-normal errors of random levels and spreads, at looks of 6 and 9 blocks."""
    rng = np.random.default_rng(seed)
    asked = spec(methods=METHODS, controls=["lookahead"], looks=[6, 9], trials=trials, exploit=0, recommend=0)
    asked |= {"margin": margin}
    about = manifest(asked)
    for method in METHODS:
        about["methods"][method]["calibration"] = {
            "digits-mlp": {"seconds_per_gradient": 1e-3 * rng.choice([1.0, 1.05, 2.0]), "peak_bytes": 1e6}
        }
    writer = Writer(memory(), asked, about)
    for method in METHODS:
        level, spread = rng.normal(math.log(0.03), 0.2 * scale), scale * rng.uniform(0.02, 0.4)
        for block in range(9):
            for number in range(trials):
                value = float(rng.integers(0, 5)) / 10 if floor else float(rng.random())  # with ties
                parent = writer.trial("digits-mlp", method, "explore", block, number, value)
                metric = min(float(np.exp(level + spread * rng.standard_normal())), 1.0)
                metric = 0.0 if floor and rng.random() < 0.3 else metric
                gradients = np.array([100.0, 350.0, 600.0])
                curve = np.stack([gradients, *3 * [metric + 0.1 * (1 - gradients / 600)], np.full(3, np.nan)])
                writer.trial(
                    "digits-mlp",
                    method,
                    "confirm",
                    block,
                    number,
                    0.3,
                    parent=parent,
                    measures={"test_metric": metric, "validation_metric": metric},
                    curve=curve,
                )
    return load_study(writer.close())


def says(verdict: str, low: float, high: float, band: tuple[float, float]) -> bool:
    """Whether a verdict is where the interval lies."""
    if verdict == "equivalent":
        return band[0] <= low <= 1 <= high <= band[1]
    if verdict == "undecided":
        return low <= 1 <= high
    return high < 1 if verdict == "better" else low > 1 if verdict == "worse" else math.isnan(low) and math.isnan(high)


def words_agree(words: str, comparison: Comparison) -> bool:
    """Whether the interval in a sentence lies on the side of 1 that its verdict names."""
    found = re.search(r", ([\d.,]+) to ([\d.,]+) (?:at|with)", words)
    if found is None:
        return not comparison.claimed
    low, high = (float(end.replace(",", "")) for end in found.groups())
    sides = {"better": high < 1, "worse": low > 1}
    return sides.get(comparison.verdict, low <= 1 <= high)


@settings(max_examples=8, deadline=None, derandomize=True)
@given(
    st.integers(0, 10_000),
    st.sampled_from([0.05, 0.5, 3.0]),
    st.sampled_from([1, 2]),
    st.sampled_from([None, 0.5, "10 %", "60 %"]),
    st.booleans(),
)
def test_no_interval_contradicts_its_verdict(
    seed: int, scale: float, trials: int, margin: float | str | None, floor: bool
) -> None:
    results = verdicts(random_study(seed, scale, trials, margin, floor))
    for result in results:
        for comparison in result.comparisons:
            band = comparison.band_low, comparison.band_high
            assert says(comparison.verdict, comparison.low, comparison.high, band), comparison
            assert not comparison.claimed or comparison.low <= comparison.ratio * (1 + 1e-12), comparison
        pairs = (
            (explanation(result), result.against("baseline")),
            (seconds_sentence(result), result.against("baseline", "seconds")),
            (control_sentence(result), result.against("control")),
        )
        assert all(words_agree(words, comparison) for words, comparison in pairs if comparison)
    for row in look_table(results).itertuples():
        assert says(row.verdict, row.low, row.high, (row.band_low, row.band_high))
    table = verdict_table(results).set_index("method").loc[METHODS[1:]]
    for row in table.itertuples():
        assert says(row.verdict, row.low, row.high, (row.band_low, row.band_high))


def test_the_random_studies_are_of_all_kinds() -> None:
    """All verdicts come up in them, so that the property is not one of undecided studies alone."""
    known = {
        result.verdict
        for seed, scale, margin in ((6, 3.0, None), (2, 0.05, "10 %"), (4, 3.0, None))
        for result in verdicts(random_study(seed, scale, 1, margin, floor=False))
    }
    assert known >= {"better", "worse", "equivalent", "undecided"}


@pytest.mark.parametrize("verdict", ["better", "worse"])
def test_the_property_can_fail(verdict: str) -> None:
    assert not says(verdict, 0.9, 1.1, (math.nan, math.nan)) and not says("equivalent", 0.9, 1.1, (0.95, 1.05))
