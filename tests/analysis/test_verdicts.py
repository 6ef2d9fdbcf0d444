"""From blocks to verdicts: studies with known answers."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from relaxbench.analysis.comparison import VERDICTS
from relaxbench.analysis.sentences import control_sentence, sentence
from relaxbench.analysis.verdicts import verdicts
from relaxbench.report import StudyFrames
from tests.analysis.known import SGD, comparison, result, shifted, study


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


def test_no_baseline() -> None:
    frames = study({"hj": SGD, "heat": shifted(2)})
    results = verdicts(frames)
    assert [(each.verdict, each.reason) for each in results] == [("no claim", "no baseline")] * 2
    assert "no claim. The study has no baseline to compare with. Test error 4.15 ± 0.30 %" in sentence(results[0])


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


def test_two_runs_that_both_stopped_at_the_budget_are_no_evidence_of_equivalence() -> None:
    reached = [1500.0, *[2000.0] * 9]
    found = comparison(study({"sgd": reached, "hj": reached}, problem="rosenbrock"), "hj")
    assert found.difference == 0 and found.verdict == "undecided"
    everywhere = [1500.0 + i for i in range(10)]
    assert result(study({"sgd": everywhere, "hj": everywhere}, problem="rosenbrock"), "hj").verdict == "equivalent"
