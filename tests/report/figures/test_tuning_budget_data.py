"""What tuning buys, against brute force over all subsets; and gradients to a target, by hand."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy import stats

from relaxbench.pages.theme import Look
from relaxbench.report import StudyFrames, load_study
from relaxbench.report.figures.gradients_to_target import profile, profiles, target, to_target
from relaxbench.report.figures.tuning_budget import best, by_budget, differences, explored, medians
from tests.synthetic import Writer, memory, spec

INF = float("inf")


def loaded(writer: Writer) -> StudyFrames:
    engine = writer.close()
    try:
        return load_study(engine)
    finally:
        engine.dispose()


def study(values: dict[str, np.ndarray], running: tuple[str, int, int] | None = None) -> StudyFrames:
    """A study whose explore trials have these values, ``[blocks, trials]``; one of them may not be done."""
    blocks, trials = next(iter(values.values())).shape
    writer = Writer(memory(), spec(methods=list(values), controls=[], blocks=blocks, trials=trials))
    for method, table in values.items():
        for (block, number), value in np.ndenumerate(table):
            status = "running" if (method, block, number) == running else "done"
            writer.trial("digits-mlp", method, "explore", block, number, float(value), status=status)
    return loaded(writer)


def drawn(rng: np.random.Generator, blocks: int = 6, trials: int = 2) -> dict[str, np.ndarray]:
    return {method: rng.gamma(2, 1, (blocks, trials)) + shift for method, shift in (("sgd", 0.0), ("hj", -0.5))}


def enumerated(values: np.ndarray, n: int) -> float:
    """Mean of the best of n over all subsets."""
    return float(np.mean([min(subset) for subset in itertools.combinations(values.ravel(), n)]))


def test_expected_best_and_differences_by_brute_force() -> None:
    values = drawn(np.random.default_rng(0))
    found = by_budget(study(values), "digits-mlp").set_index(["method", "n"])
    assert set(found.index) == set(itertools.product(values, (1, 2)))  # n goes up to a fifth of 12
    for n in (1, 2):
        pseudo = {}
        for method, table in values.items():
            without = np.array([enumerated(np.delete(table, block, axis=0), n) for block in range(6)])
            pseudo[method] = enumerated(table, n) + 5 * (without.mean() - without)
            row = found.loc[method, n]
            low, high = stats.ttest_1samp(pseudo[method], 0).confidence_interval(0.95)
            assert [row["expected"], row["low"], row["high"]] == pytest.approx([enumerated(table, n), low, high])
            assert row["gradients"] == 600 * n
        test = stats.ttest_rel(pseudo["hj"], pseudo["sgd"])
        row, (low, high) = found.loc["hj", n], test.confidence_interval(0.95)
        assert row["difference"] == pytest.approx(np.mean(pseudo["hj"] - pseudo["sgd"]))
        assert [row["difference_low"], row["difference_high"], row["p"]] == pytest.approx([low, high, test.pvalue])
        assert row["p_holm"] == row["p"] and row["compared"] == 6  # one comparison: nothing to correct


def test_a_block_that_is_not_complete_is_left_out() -> None:
    values = drawn(np.random.default_rng(1), blocks=7)
    found = by_budget(study(values, running=("hj", 3, 1)), "digits-mlp").set_index(["method", "n"])
    kept = {method: np.delete(table, 3, axis=0) for method, table in values.items()}
    known = by_budget(study(kept), "digits-mlp").set_index(["method", "n"])
    assert found.loc[("hj", 2), "expected"] == pytest.approx(enumerated(kept["hj"], 2))
    assert found.loc[("sgd", 2), "expected"] == pytest.approx(enumerated(values["sgd"], 2))
    for column in ("difference", "difference_low", "difference_high", "p", "compared"):
        assert found.loc[("hj", 2), column] == pytest.approx(known.loc[("hj", 2), column])
    table = explored(study(values, running=("hj", 3, 1)), "digits-mlp")["hj"]
    assert np.isnan(table[3, 1]) and np.isnan(table).sum() == 1 and table[2, 0] == values["hj"][2, 0]


def test_medians_split_the_searches_in_halves() -> None:
    """Of all subsets of n half have a best at or below the median best, but for the grain of the sample."""
    values = {"sgd": np.random.default_rng(2).gamma(2, 1, (10, 10))}
    found = medians(study(values), "digits-mlp")
    for row in found.itertuples():
        above = stats.hypergeom.sf(row.n - 1, 100, int((values["sgd"] > row.median).sum()), row.n)
        assert abs(above - 0.5) < 0.5 * row.n / 100 + 0.01 and row.low <= row.median <= row.high
    assert found["n"].tolist()[:3] == [1, 2, 3] and found["gradients"].tolist() == (600 * found["n"]).tolist()


def test_an_empty_and_a_repeated_study_have_none(repeated: StudyFrames) -> None:
    empty = loaded(Writer(memory(), spec(methods=["sgd", "hj"], controls=[])))
    look = Look({"sgd": "SGD", "hj": "HJ"}, {"sgd": "#010203", "hj": "#d55e00"}, "sgd")
    for frames in (empty, repeated):
        table = by_budget(frames, "digits-mlp")
        assert table.empty and medians(frames, "digits-mlp").empty
        assert differences(table, look, "digits-mlp") == best(table, table, look, "digits-mlp") == []
    assert to_target(empty, "digits-mlp").empty and target(to_target(empty, "digits-mlp"), look, "digits-mlp") is None
    assert profiles(empty)[0].empty and profile(*profiles(empty), look) is None
