"""From blocks to verdicts to sentences: known studies, and words that are never stronger than the numbers."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from relaxbench.analysis.comparison import VERDICTS, Comparison, MethodResult, Opponent
from relaxbench.analysis.sentences import number, probability
from relaxbench.analysis.verdicts import verdicts
from relaxbench.report import StudyFrames, control_sentence, load_study, sentence
from tests.synthetic import Writer, memory, spec

Metrics = dict[str, list[float]]


def study(
    metrics: Metrics, losses: Metrics | None = None, problem: str = "digits-mlp", **changes: object
) -> StudyFrames:
    """A study whose confirm runs have these test metrics (display units), one a block."""
    blocks = max(len(values) for values in metrics.values())
    usual = {"problems": [problem], "methods": list(metrics), "controls": [], "blocks": blocks, "trials": 1,
             "exploit": 0, "recommend": 0}  # fmt: skip
    writer = Writer(memory(), spec(**usual | changes))
    scale = writer.about["problems"][problem]["metric_scale"]
    for method, values in metrics.items():
        for block, metric in enumerate(values):
            winner = writer.trial(problem, method, "explore", block, 0, 0.5)
            loss = (losses or {}).get(method, [0.5] * blocks)[block]
            measures = {"validation_loss": loss, "test_metric": metric / scale}
            diverged = metric == 100
            writer.trial(
                problem, method, "confirm", block, 0, loss, parent=winner, measures=measures, diverged=diverged
            )
    return load_study(writer.close())


def result(frames: StudyFrames, method: str) -> MethodResult:
    (found,) = (found for found in verdicts(frames) if found.method == method)
    return found


def comparison(frames: StudyFrames, method: str, opponent: Opponent = "baseline") -> Comparison:
    """The comparison of a method at equal gradients."""
    found = result(frames, method).against(opponent)
    assert found is not None
    return found


SGD = [4.0, 4.4, 3.7, 4.1, 4.6, 3.9, 4.2, 4.3, 3.8, 4.5]


def shifted(by: float, noise: float = 0.1) -> list[float]:
    return [value + by + noise * np.sin(7 * index) for index, value in enumerate(SGD)]


def test_known_study(digits_table: pd.DataFrame) -> None:
    called = digits_table.set_index("method")["verdict"].to_dict()
    assert called["sgd"] == "baseline" and called["entropy-sgd"] == "better" and called["heat"] == "worse"
    # Five methods beside SGD, three of them candidates; each comparison at equal gradients and at equal seconds.
    assert set(digits_table["family"].dropna()) == {10} and set(digits_table["control_family"].dropna()) == {6}


def test_numbers_agree_with_scipy() -> None:
    ours = shifted(-1.0, 0.6)
    frames = study({"sgd": SGD, "hj": ours})
    found, known = comparison(frames, "hj"), stats.ttest_rel(ours, SGD)
    assert found.p == pytest.approx(known.pvalue) and found.p_holm == pytest.approx(known.pvalue)
    interval = known.confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((interval.low, interval.high))
    own = result(frames, "hj")
    assert (own.mean, own.std) == pytest.approx((np.mean(ours), np.std(ours, ddof=1)))


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


def test_no_baseline() -> None:
    frames = study({"hj": SGD, "heat": shifted(2)})
    results = verdicts(frames)
    assert [(each.verdict, each.reason) for each in results] == [("no claim", "no baseline")] * 2
    assert "no claim. The study has no baseline to compare with. Test error 4.15 ± 0.30 %" in sentence(results[0])


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


def test_best_control_is_chosen_by_validation_loss() -> None:
    metrics = {"sgd": SGD, "a": shifted(-2), "b": shifted(0.2), "hj": shifted(-1)}
    losses = {"a": [0.6] * 10, "b": [0.4] * 10}  # b wins on validation, a on the test split
    frames = study(metrics, losses, controls=["a", "b"])
    found, against = result(frames, "hj"), comparison(frames, "hj", "control")
    assert found.control == against.reference == "b" and found.verdict == against.verdict == "better"
    assert against.difference == pytest.approx(np.mean(metrics["hj"]) - np.mean(metrics["b"]))
    assert control_sentence(found).startswith("Against the best control, b: better. Test error is 1.")
    alone = study({"sgd": SGD, "hj": SGD})
    assert control_sentence(result(alone, "hj")) == ""


def test_exact_test_that_disagrees_is_told() -> None:
    differences = np.array([-1.0] * 5 + [0.001])
    frames = study({"sgd": [4.0] * 6, "hj": list(4 + differences)})
    found = comparison(frames, "hj")
    assert found.verdict == "better" and found.p_exact > 0.05
    assert "The exact permutation test does not confirm it (p = 0.062)." in sentence(result(frames, "hj"))


def test_repeated_study(repeated: StudyFrames) -> None:
    found = result(repeated, "again")
    rates = found.rates
    assert found.verdict == "repeated" and rates is not None and rates.repetitions == 40
    assert sum(rates.verdicts[verdict] for verdict in VERDICTS) == 40 and 1 <= rates.different <= 8
    last = repeated.curves.groupby("trial_id")["validation_metric"].last()  # both cost the same: read at the end
    blocks = repeated.blocks.assign(last=repeated.blocks["confirm"].map(last).astype(float))
    pairs = [
        [
            stats.ttest_rel(*(part.loc[part["method"] == m, key].to_numpy() for m in ("again", "sgd"))).pvalue
            for key in ("test_metric", "last")
        ]
        for _, part in blocks.groupby("repetition")
    ]
    by_hand = sum(2 * min(pair) <= 0.05 for pair in pairs)  # Holm's correction of two
    assert rates.different == by_hand
    assert f"called different in {by_hand} of 40 repetitions" in sentence(found)


def test_numbers_for_people() -> None:
    assert number(-1234.5, 0) == "−1,234" and number(0.5, 2, sign=True) == "+0.50"
    assert number(-0.001, 2) == "0.00" and number(float("nan")) == "–" and number(None) == "–"
    assert probability(0.0001) == "< 0.001" and probability(0.0312) == "= 0.031" and probability(0.312) == "= 0.31"


def test_two_runs_that_both_stopped_at_the_budget_are_no_evidence_of_equivalence() -> None:
    reached = [1500.0, *[2000.0] * 9]
    found = comparison(study({"sgd": reached, "hj": reached}, problem="rosenbrock"), "hj")
    assert found.difference == 0 and found.verdict == "undecided"
    everywhere = [1500.0 + i for i in range(10)]
    assert result(study({"sgd": everywhere, "hj": everywhere}, problem="rosenbrock"), "hj").verdict == "equivalent"
