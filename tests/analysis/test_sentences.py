"""Verdicts in words, which are never stronger than the numbers."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from relaxbench.analysis.sentences import number, probability, sentence
from tests.analysis.known import SGD, comparison, result, shifted, study


@pytest.mark.parametrize(
    ("metrics", "start", "end"),
    [
        (shifted(-1.0), "HJ against SGD on digits-mlp: better. Test error is 1.0", "over 10 blocks)."),
        (shifted(1.0), "HJ against SGD on digits-mlp: worse. Test error is", "over 10 blocks)."),
        (shifted(0.05, 0.3), "HJ against SGD on digits-mlp: equivalent. Test error is", "margin of ±0.5 points."),
        (shifted(-0.3, 1.5), "HJ against SGD on digits-mlp: undecided. Test error is", "points or more."),
        (
            SGD,
            "HJ against SGD on digits-mlp: equivalent. Test error is the same in every block (95 % interval",
            "points.",
        ),
        (shifted(-3, 0.0), "HJ against SGD on digits-mlp: better. Test error is 3.00 points lower", "over 10 blocks)."),
    ],
)
def test_sentences(metrics: list[float], start: str, end: str) -> None:
    frames = study({"sgd": SGD, "hj": metrics})
    frames.manifest["methods"]["hj"]["title"] = "HJ"
    words = sentence(result(frames, "hj"))
    assert words.startswith(start), words
    assert words.endswith(end), words


def test_words_and_signs_agree() -> None:
    better, worse = (sentence(result(study({"sgd": SGD, "hj": shifted(by)}), "hj")) for by in (-1, 1))
    assert "lower (95 % interval −" in better and "higher (95 % interval +" in worse


def test_few_blocks_and_missing_blocks() -> None:
    words = sentence(result(study({"sgd": SGD[:4], "hj": shifted(-3)[:4]}), "hj"))
    assert words.endswith("no claim. 4 complete blocks, at least 6 are needed.")
    assert sentence(result(study({"sgd": SGD, "hj": []}), "hj")).endswith("no claim. No complete block yet.")
    assert sentence(result(study({"sgd": [], "hj": SGD}), "hj")).endswith("The reference has no complete block yet.")
    assert sentence(result(study({"sgd": [], "hj": SGD}), "sgd")).endswith("It has no complete block yet.")


def test_everything_diverged_is_no_claim() -> None:
    frames = study({"sgd": SGD, "hj": [100.0] * 10})
    assert sentence(result(frames, "hj")).endswith("no claim. Every confirming run diverged.")
    frames = study({"sgd": [100.0] * 10, "hj": SGD})
    assert "no claim" in sentence(result(frames, "hj"))


def test_censored_metric() -> None:
    ours, theirs = [1000.0 + 10 * i for i in range(10)], [1800.0 + 5 * i for i in range(9)] + [2000.0]
    words = sentence(result(study({"sgd": theirs, "hj": ours}, problem="rosenbrock"), "hj"))
    assert "better. It takes 793 gradients fewer to the tolerance" in words
    assert "0 of its 10 runs and 1 of SGD's missed the tolerance and count as the full budget of 2,000" in words
    nobody = study({"sgd": [2000.0] * 10, "hj": [2000.0] * 10}, problem="rosenbrock")
    assert "no claim. No run of either reached the tolerance." in sentence(result(nobody, "hj"))


def test_exact_test_that_disagrees_is_told() -> None:
    differences = np.array([-1.0] * 5 + [0.001])
    frames = study({"sgd": [4.0] * 6, "hj": list(4 + differences)})
    found = comparison(frames, "hj")
    assert found.verdict == "better" and found.p_exact > 0.05
    assert "The exact permutation test does not confirm it (p = 0.062)." in sentence(result(frames, "hj"))


def test_significant_alone_but_not_after_holm() -> None:
    rng = np.random.default_rng(0)
    p, shift = 1.0, 0.0
    noise = rng.normal(0, 1, 10)
    while not 0.02 < p < 0.04:  # a difference that counts alone
        shift -= 0.01
        p = stats.ttest_rel(np.array(SGD) + noise + shift, SGD).pvalue
    others = {name: list(np.array(SGD) + rng.normal(0, 2, 10)) for name in ("a", "b", "c")}
    frames = study({"sgd": SGD, "hj": list(np.array(SGD) + noise + shift)} | others, margin=0.01)
    found = comparison(frames, "hj")
    assert found.p < 0.05 < found.p_holm and found.verdict == "undecided"
    words = sentence(result(frames, "hj"))
    assert f"Alone the difference would count (p {probability(p)}), but not after Holm's correction for 4" in words


def test_numbers_for_people() -> None:
    assert number(-1234.5, 0) == "−1,234" and number(0.5, 2, sign=True) == "+0.50"
    assert number(-0.001, 2) == "0.00" and number(float("nan")) == "–" and number(None) == "–"
    assert probability(0.0001) == "< 0.001" and probability(0.0312) == "= 0.031" and probability(0.312) == "= 0.31"
