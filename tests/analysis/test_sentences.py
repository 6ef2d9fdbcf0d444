"""Verdicts in words, which are never stronger than the numbers."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from relaxbench.analysis.comparison import Comparison
from relaxbench.analysis.disasters import Disasters
from relaxbench.analysis.headline import headline
from relaxbench.analysis.sentences import amount, evidence, number, percent, prospect, ratio, sentence, sentences
from tests.analysis.known import SGD, comparison, result, shifted, study

HJ = "HJ against SGD on digits-mlp:"


@pytest.mark.parametrize(
    ("metrics", "start", "end"),
    [
        (shifted(-1.0), f"{HJ} better. 0.7", "with 95 % confidence, at most 26 % of all its runs are."),
        (shifted(1.0), f"{HJ} worse. 1.2", "Decided at look 1 of 1, after 10 blocks of 1 trial."),
        (shifted(0.05, 0.3), f"{HJ} equivalent. 1.0", "%."),
        (shifted(-0.3, 1.5), f"{HJ} undecided. 0.9", "blocks would decide it if ratio and spread stay as they are."),
        (SGD, f"{HJ} equivalent. 1.00 times SGD's test error, 0.9", "%."),
    ],
)
def test_sentences(metrics: list[float], start: str, end: str) -> None:
    frames = study({"sgd": SGD, "hj": metrics})
    frames.manifest["methods"]["hj"] |= {"title": "HJ", "scope": None}
    words = sentence(result(frames, "hj"))
    assert words.startswith(start), words
    assert words.endswith(end), words
    assert "with 95 % confidence (" in words and " points at SGD's 4.14 %)." in words


def test_the_margin_is_said_where_it_decides() -> None:
    words = sentence(result(study({"sgd": SGD, "hj": shifted(0.05, 0.3)}), "hj"))
    assert "That is within the margin of ±0.5 points; the test allows margins down to " in words
    words = sentence(result(study({"sgd": SGD, "hj": [value * 0.97 for value in SGD]}, margin="50 %"), "hj"))
    assert "within the margin of 50 %" in words


def test_a_difference_that_does_not_matter_is_said() -> None:
    even = [4.0 + 0.001 * index for index in range(10)]
    words = sentence(result(study({"sgd": even, "hj": [value + 0.1 for value in even]}), "hj"))
    assert "worse" in words and "It is worse by less than the margin of ±0.5 points." in words
    words = sentence(result(study({"sgd": even, "hj": [value - 0.1 for value in even]}), "hj"))
    assert "better" in words and "It is better by less than the margin of ±0.5 points." in words


def test_a_decision_that_is_far_away_says_how_far_was_looked() -> None:
    undecided = comparison(study({"sgd": SGD, "hj": shifted(-0.3, 1.5)}), "hj")
    assert undecided.verdict == "undecided" and undecided.blocks == 10
    assert "More than 1,000 blocks would be needed if" in prospect(replace(undecided, needed=None))


def test_looks_are_told() -> None:
    frames = study({"sgd": SGD, "hj": shifted(-0.3, 1.5)}, looks=[10, 20, 40])
    words = sentence(result(frames, "hj"))
    assert "at once for all 3 looks (" in words
    assert "Undecided at look 1 of 3, after 10 blocks of 1 trial; the next look is at 20 blocks." in words
    two = study({"sgd": SGD, "hj": shifted(-2), "heat": shifted(2)}, looks=[10, 20])
    assert "at once for all 2 comparisons and 2 looks (" in sentence(result(two, "hj"))
    before = study({"sgd": SGD, "hj": SGD}, looks=[11, 20])
    assert sentence(result(before, "hj")).endswith("Nothing is decided before the first look, at 11 blocks of 1 trial.")


def test_few_blocks_and_missing_blocks() -> None:
    words = sentence(result(study({"sgd": SGD[:4], "hj": shifted(-3)[:4]}), "hj"))
    assert words.endswith("no claim. 4 blocks, at least 6 are needed.")
    missing = "no claim. Nothing is decided before the first look, at 10 blocks of 1 trial."
    assert sentence(result(study({"sgd": SGD, "hj": []}), "hj")).endswith(missing)
    assert sentence(result(study({"sgd": [], "hj": SGD}), "hj")).endswith(missing)
    assert sentence(result(study({"sgd": [], "hj": SGD}), "sgd")).endswith("It has no complete look yet.")


def test_methods_without_a_claim_for_the_same_reason_share_a_sentence() -> None:
    """Each method is named once; one with a claim keeps a sentence of its own."""
    lost = [100.0] * 10
    frames = study({"sgd": SGD, "hj": lost, "heat": shifted(-3), "parle": lost, "adamw": lost})
    own = [result(frames, name) for name in ("sgd", "hj", "heat", "parle", "adamw")]
    together = (
        f"Hamilton–Jacobi, parle and adamw against SGD on digits-mlp: no claim. Every confirming run diverged. {RANGES}"
    )
    assert sentences(own) == [sentence(own[0]), together, sentence(own[2])]
    assert sentences(own[:2]) == [sentence(own[0]), sentence(own[1])]


RANGES = "Ranges with smaller step sizes on digits-mlp may help; more blocks would not."
LONGER = "A larger budget for rosenbrock may show a difference; more blocks would not."


def test_a_metric_that_is_not_above_zero_is_said_plainly() -> None:
    """One sentence says what is wrong, the next one what to do; it is no unfinished study."""
    frames = study({"sgd": [value - 4 for value in SGD], "hj": SGD}, problem="rosenbrock")
    assert sentence(result(frames, "hj")).endswith(
        "no claim. Gradients to tolerance of −0.3 is not above 0, so methods have no ratio. "
        "Give rosenbrock a metric that is always above 0, such as an error rate or a loss plus a constant."
    )
    assert sentence(result(frames, "sgd")).endswith("no geometric mean, which needs values above 0.")
    told = headline([result(frames, method) for method in ("sgd", "hj")])
    assert told == "No claim can be made: gradients to tolerance of −0.3 is not above 0, so methods have no ratio."


@pytest.mark.parametrize(
    ("metric", "start"), [("test error", "Test error 4."), ("accuracy below 100 %", "Accuracy below 100 %: 4.")]
)
def test_a_metric_whose_name_ends_in_a_number_is_parted_from_its_value(metric: str, start: str) -> None:
    baseline = replace(result(study({"sgd": SGD, "hj": SGD}), "sgd"), metric=metric)
    assert f"digits-mlp. {start}" in sentence(baseline)


def test_everything_diverged_is_no_claim() -> None:
    frames = study({"sgd": SGD, "hj": [100.0] * 10})
    assert sentence(result(frames, "hj")).endswith(f"no claim. Every confirming run diverged. {RANGES}")
    frames = study({"sgd": [100.0] * 10, "hj": SGD})
    assert sentence(result(frames, "hj")).endswith(f"no claim. Every confirming run of SGD diverged. {RANGES}")


def test_censored_metric() -> None:
    ours, theirs = [1000.0 + 10 * i for i in range(10)], [1800.0 + 5 * i for i in range(9)] + [2000.0]
    words = sentence(result(study({"sgd": theirs, "hj": ours}, problem="rosenbrock"), "hj"))
    assert "better. 0.57 times SGD's gradients to tolerance, 0.55 to 0.58" in words
    fewer, level = stats.gmean(theirs) - stats.gmean(ours), stats.gmean(theirs)
    assert f"(−{fewer:.0f} gradients at SGD's {level:,.0f})" in words
    assert "0 of its 10 runs and 1 of SGD's 10 missed the tolerance and count as the full budget of 2,000" in words
    assert "disaster" not in words  # three times SGD's median is beyond the budget
    fast = study({"sgd": [value / 5 for value in theirs], "hj": [value / 5 for value in ours]}, problem="rosenbrock")
    assert "None of its 10 runs was a disaster" in sentence(result(fast, "hj"))
    few = {"sgd": [2000.0] * 9 + [1500.0], "hj": [2000.0] * 9 + [900.0]}
    hardly = sentence(result(study(few, problem="rosenbrock"), "hj"))
    assert "undecided" in hardly and "Most runs of both missed the tolerance: a larger budget would say more" in hardly
    nobody = study({"sgd": [2000.0] * 10, "hj": [2000.0] * 10}, problem="rosenbrock")
    assert f"no claim. No run of either reached the tolerance. {LONGER}" in sentence(result(nobody, "hj"))


def test_short_budgets_are_said() -> None:
    own = result(study({"sgd": SGD, "hj": shifted(-1)}), "hj")
    assert "Short-budget result: a median of 30 outer steps per run, below 300." in sentence(
        replace(own, outer_steps=30)
    )
    assert "a median of 1 outer step per run, below 300." in sentence(replace(own, outer_steps=1))
    assert "Short-budget" not in sentence(replace(own, outer_steps=300.0)) + sentence(own)


def test_no_disaster_is_counted_where_a_diverged_run_is_none() -> None:
    """Every run of SGD diverged, so that nothing can be three times as bad."""
    for worst, told in ((0.045, False), (1.0, True)):
        frames = study({"sgd": SGD, "hj": shifted(-1)})
        frames.manifest["problems"]["digits-mlp"]["worst_metric"] = worst  # 3 times SGD's median is 12.45 %
        assert (result(frames, "hj").disasters is not None) is told


def test_gradients_to_a_tolerance_that_nobody_reached_have_no_decimals() -> None:
    frames = study({"sgd": [60.0] * 10, "hj": [60.0] * 10})
    assert result(frames, "hj").decimals == 2
    frames.manifest["problems"]["digits-mlp"]["censored"] = True
    assert result(frames, "hj").decimals == 0


def test_disasters_limit_a_better_and_an_equivalent() -> None:
    own = comparison(study({"sgd": SGD, "hj": shifted(-1)}), "hj")
    rare = Disasters(2, 53, 2 / 53, 0.1132, 12.4)
    words = evidence(replace(own, disasters=rare))
    assert (
        "2 of its 53 runs were disasters (above 3 times SGD's median); with 95 % confidence, at most 11 % of all"
        in words
    )
    assert "2 of its 53 runs were disasters" in evidence(replace(own, disasters=rare, verdict="equivalent"))
    assert "disaster" not in evidence(replace(own, disasters=rare, verdict="worse"))
    never = Disasters(0, 53, 0.0, 0.055, 12.4)
    assert "None of its 53 runs was a disaster" in evidence(replace(own, disasters=never))
    assert "disaster" not in evidence(replace(own, disasters=never, verdict="equivalent"))


@given(
    st.sampled_from(["better", "worse"]),
    st.floats(1e-9, 3.0),
    st.floats(1e-9, 3.0),
)
def test_no_rounding_moves_an_interval_over_one(verdict: str, near: float, wide: float) -> None:
    """The interval in words lies on the side of 1 that the verdict names, however near it ends."""
    ends = (1 + near, 1 + near + wide) if verdict == "worse" else (1 / (1 + near + wide), 1 / (1 + near))
    usual = comparison(study({"sgd": SGD[:6], "hj": shifted(-1)[:6]}), "hj") if not KEPT else KEPT[0]
    KEPT.append(usual)
    words = amount(replace(usual, ratio=(ends[0] * ends[1]) ** 0.5, low=ends[0], high=ends[1]))
    said = words.split(", ")[1].split(" with")[0].split(" to ")
    low, high = (float(end.replace(",", "")) for end in said)
    assert high < 1 if verdict == "better" else low > 1


KEPT: list[Comparison] = []


def test_numbers_for_people() -> None:
    assert number(-1234.5, 0) == "−1,234" and number(0.5, 2, sign=True) == "+0.50"
    assert number(-0.001, 2) == "0.00" and number(float("nan")) == "–" and number(None) == "–"
    assert number(5e-12, 6) == "5.00·10⁻¹²" and number(-2e-7, 6, sign=True) == "−2.00·10⁻⁷"
    assert number(1e-5, 6, sign=True) == "+0.000010" and number(0.0, 6) == "0.000000"
    assert number(3e-7, 3) == "3.00·10⁻⁷" and number(0.0042, 2) == "0.0042" and number(0.0, 3) == "0.000"
    assert number(0.0042, 2, sign=True) == "0.00"  # a difference may be nothing
    assert number(8.2e33, 0) == "8.20·10³³" and number(2e6, 0) == "2,000,000"
    assert [ratio(value) for value in (1.0, 0.5, 0.034, 0.998, 1.0004, 12.34, 250.4)] == [
        *("1.00", "0.50", "0.034", "0.998", "1.0004", "12.3", "250")
    ]
    assert ratio(float("nan")) == ratio(None) == ratio(0.0) == "–"
    assert [percent(value) for value in (0.26, 0.0834, 0.004)] == ["26 %", "8.3 %", "0.4 %"]
