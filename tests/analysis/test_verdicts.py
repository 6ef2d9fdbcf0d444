"""From confirm runs to verdicts: studies with known answers."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from relaxbench.analysis.caveats import cautions
from relaxbench.analysis.comparison import VERDICTS
from relaxbench.analysis.sentences import control_sentence, longer_sentence, sentence
from relaxbench.analysis.verdicts import _decimals, verdicts
from relaxbench.report import StudyFrames, load_study
from tests import synthetic
from tests.analysis.known import SGD, comparison, result, shifted, study
from tests.synthetic import Writer, memory, spec


def test_known_study(digits_table: pd.DataFrame) -> None:
    called = digits_table.set_index("method")["verdict"].to_dict()
    assert called["sgd"] == "baseline" and called["entropy-sgd"] == "better" and called["heat"] == "worse"
    # Five methods beside SGD, on one problem, at two looks.
    assert set(digits_table["family"].dropna()) == {5} and set(digits_table["looks"].dropna()) == {2}


def test_numbers_agree_with_scipy() -> None:
    """With one trial per block the estimate is the mean of the logarithms, and Welch's test has the interval."""
    ours = shifted(-1.0, 0.6)
    frames = study({"sgd": SGD, "hj": ours})
    found = comparison(frames, "hj")
    test = stats.ttest_ind(np.log(ours), np.log(SGD), equal_var=False)
    interval = test.confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((np.exp(interval.low), np.exp(interval.high)))
    assert found.ratio == pytest.approx(stats.gmean(ours) / stats.gmean(SGD)) and found.freedom == pytest.approx(
        test.df
    )
    assert found.points == pytest.approx(stats.gmean(ours) - stats.gmean(SGD))
    own = result(frames, "hj")
    assert (own.level, own.mean, own.std) == pytest.approx((stats.gmean(ours), np.mean(ours), np.std(ours, ddof=1)))


def test_the_level_is_shared_by_all_comparisons_and_looks() -> None:
    metrics = {"sgd": SGD, "hj": shifted(-0.2, 1.5), "heat": shifted(0.1, 1.5)}
    found = comparison(study(metrics, looks=[10, 20, 40], margin="0.1 %"), "hj")
    interval = stats.ttest_ind(np.log(metrics["hj"]), np.log(SGD), equal_var=False).confidence_interval(1 - 0.05 / 6)
    assert (found.family, found.looks, found.look, found.following) == (2, 3, 1, 20) and found.verdict == "undecided"
    assert (found.low, found.high) == pytest.approx((np.exp(interval.low), np.exp(interval.high)))


def test_no_baseline() -> None:
    frames = study({"hj": SGD, "heat": shifted(2)})
    results = verdicts(frames)
    assert [(each.verdict, each.reason) for each in results] == [("no claim", "no baseline")] * 2
    assert "no claim. The study has no baseline to compare with. Test error 4.14 %" in sentence(results[0])


def test_best_control_is_chosen_by_validation_loss() -> None:
    metrics = {"sgd": SGD, "a": shifted(-2), "b": shifted(0.2), "hj": shifted(-1)}
    losses = {"a": [0.6] * 10, "b": [0.4] * 10}  # b wins on validation, a on the test split
    frames = study(metrics, losses, controls=["a", "b"])
    found, against = result(frames, "hj"), comparison(frames, "hj", "control")
    assert found.control == against.reference == "b" and found.verdict == against.verdict == "better"
    assert against.ratio == pytest.approx(stats.gmean(metrics["hj"]) / stats.gmean(metrics["b"]))
    assert control_sentence(found).startswith("Against the best control, b: better. 0.7")
    alone = study({"sgd": SGD, "hj": SGD})
    assert control_sentence(result(alone, "hj")) == ""


def test_one_disaster_of_the_best_control_makes_no_other_one_the_best() -> None:
    metrics = {"sgd": SGD, "a": SGD, "b": SGD, "hj": shifted(-1)}
    losses = {"a": [0.3] * 9 + [50.0], "b": [0.4] * 10}
    assert result(study(metrics, losses, controls=["a", "b"]), "hj").control == "a"
    exact = {"a": [0.0] * 5 + [1e-9] * 4 + [50.0], "b": [0.4] * 10}  # a minimum found exactly has no logarithm
    assert result(study(metrics, exact, controls=["a", "b"]), "hj").control == "a"
    negative = {"a": [-0.3] * 9 + [50.0], "b": [-0.2] * 10}
    assert result(study(metrics, negative, controls=["a", "b"]), "hj").control == "b"


def test_secondary_comparisons_are_tested_for_better_methods_alone() -> None:
    frames = study({"sgd": SGD, "a": SGD, "hj": shifted(1), "heat": shifted(-1)}, controls=["a"])
    tested, described = comparison(frames, "heat", "control"), comparison(frames, "hj", "control")
    assert tested.verdict == "better" and tested.claimed
    assert described.verdict == "not tested" and described.known and not described.claimed
    assert "not tested, as the method is not better than the baseline" in control_sentence(result(frames, "hj"))


def test_a_rung_is_compared_with_the_baseline_at_the_next_larger_budget() -> None:
    asked = spec(problems=["p@600", "p@2000"], methods=["sgd", "hj"], controls=[], trials=1, exploit=0, recommend=0)
    about = synthetic.manifest(spec())
    usual = about["problems"].pop("digits-mlp")
    for rung in (600, 2000):
        about["problems"][f"p@{rung}"] = usual | {"budget": rung, "base": "p", "rung": rung}
    frames = load_study(synthetic.fill(Writer(memory(), asked, about), {"hj": -2.0}, spread=0.2))
    small, large = (row for row in verdicts(frames) if row.method == "hj")
    against = small.against("longer")
    assert against is not None and against.verdict == "better" and large.against("longer") is None
    assert against.family == 2  # one method on two rungs
    other = frames.confirmations.query("problem == 'p@2000' and method == 'sgd' and block < 6")["test_metric"]
    assert against.reference_level == pytest.approx(stats.gmean(other))
    assert longer_sentence(small).startswith("Against SGD with 2,000 gradients: better. 0.5")


def test_looks_fold_and_the_history_is_kept() -> None:
    """A method of another level only at the second look: undecided at the first, then worse; it stays decided."""
    late = [*shifted(0.3, 1.5)[:6], *(value + 4 for value in shifted(0.3, 0.1)[6:])]
    frames = study({"sgd": SGD, "hj": late}, looks=[6, 10], margin="0.1 %")
    found = comparison(frames, "hj")
    assert [step.verdict for step in found.history] == ["undecided", found.verdict] and found.look == 2
    first = stats.ttest_ind(np.log(late[:6]), np.log(SGD[:6]), equal_var=False).confidence_interval(1 - 0.05 / 2)
    assert (found.history[0].low, found.history[0].high) == pytest.approx((first.low, first.high))
    early = study({"sgd": SGD, "hj": [*shifted(2)[:6], *shifted(-2)[6:]]}, looks=[6, 10])
    assert (comparison(early, "hj").verdict, comparison(early, "hj").look) == ("worse", 1)


def test_blocks_beyond_the_last_look_weaken_the_guarantee() -> None:
    frames = study({"sgd": SGD, "hj": shifted(0.1, 1.5)}, looks=[6], more_blocks=4, margin="0.1 %")
    found = comparison(frames, "hj")
    assert (found.looks, found.look, found.blocks) == (1, 2, 10) and found.wrong == pytest.approx(0.1)
    assert "a look beyond the 1 declared" in sentence(result(frames, "hj"))
    assert "on 1 look beyond the 1 declared: a wrong verdict" in sentence(result(frames, "hj"))
    assert "a probability of up to 10 %, no longer 5 %" in sentence(result(frames, "hj"))


def test_every_look_beyond_the_declared_ones_weakens_the_guarantee() -> None:
    """Blocks were asked for three times: at 7, 8 and 10 blocks the study was looked at."""
    metrics = {"sgd": SGD, "hj": shifted(0.1, 1.5)}
    frames = study(metrics, looks=[6], more_blocks=4, extra_looks=[7, 8], margin="0.1 %")
    found = comparison(frames, "hj")
    assert (found.looks, found.look, found.blocks) == (1, 4, 10) and found.wrong == pytest.approx(0.2)
    assert [step.blocks for step in found.history] == [6, 7, 8, 10]
    assert "on 3 looks beyond the 1 declared" in sentence(result(frames, "hj"))
    (told,) = [each for each in cautions(frames, verdicts(frames)) if "beyond" in each]
    assert told.startswith("The study was looked at 3 times beyond its 1 declared look") and "20 %" in told


def test_metrics_without_a_logarithm_make_no_claim() -> None:
    found = comparison(study({"sgd": [value - 4 for value in SGD], "hj": SGD}, problem="rosenbrock"), "hj")
    assert found.verdict == "no claim"
    assert found.reason == "gradients to tolerance of −0.3 is not above 0, so methods have no ratio"


def test_an_error_of_zero_counts_as_half_an_example() -> None:
    found = comparison(study({"sgd": [0.0] * 10, "hj": SGD}), "hj")
    assert found.reference_level == pytest.approx(50 / 360) and found.verdict == "worse"


def test_disasters_are_counted_with_their_bound() -> None:
    frames = study({"sgd": SGD, "hj": [*shifted(-2)[:9], 40.0]}, looks=[10])
    found = result(frames, "hj").disasters
    assert found is not None and (found.count, found.runs) == (1, 10) and found.limit == pytest.approx(3 * 4.15)
    assert found.bound == pytest.approx(stats.binomtest(1, 10).proportion_ci(0.9).high)


def test_a_study_of_the_old_protocol_is_judged_by_its_winners() -> None:
    asked = spec(methods=["sgd", "hj"], controls=[], trials=3, exploit=0, recommend=0) | {"blocks": 8}
    writer = Writer(memory(), {key: value for key, value in asked.items() if key not in ("looks", "more_blocks")})
    rng, metrics = np.random.default_rng(0), {"sgd": [], "hj": []}
    for method in metrics:
        for block in range(8):
            ids = [writer.trial("digits-mlp", method, "explore", block, n, float(rng.random())) for n in range(3)]
            values = [trial["value"] for trial in writer.trials[-3:]]
            metrics[method].append(float(rng.lognormal(-3.5 + 2 * (method == "hj"), 0.1)))
            measures = {"test_metric": metrics[method][-1]}
            winner = ids[int(np.argmin(values))]
            writer.trial("digits-mlp", method, "confirm", block, 0, 0.3, parent=winner, measures=measures)
    frames = load_study(writer.close())
    found = comparison(frames, "hj")
    interval = stats.ttest_ind(*(np.log(metrics[m]) for m in ("hj", "sgd")), equal_var=False).confidence_interval(0.95)
    assert found.verdict == "worse" and (found.look, found.looks, found.blocks) == (1, 1, 8)
    assert (found.low, found.high) == pytest.approx((np.exp(interval.low), np.exp(interval.high)))


def test_repeated_study(repeated: StudyFrames) -> None:
    """Every repetition goes through its looks alone; with one comparison the level is α/2 at each of two looks."""
    found = result(repeated, "again")
    rates = found.rates
    assert found.verdict == "repeated" and rates is not None and rates.repetitions == 40
    assert sum(rates.verdicts[verdict] for verdict in VERDICTS) == 40 and rates.different <= 6
    assert f"called different in {rates.different} of 40 repetitions" in sentence(found)
    assert not found.comparisons and found.planned == found.blocks


def test_an_unfinished_repetition_is_not_counted(repeated: StudyFrames) -> None:
    kept: Any = repeated.confirmations[repeated.confirmations["repetition"] < 7]
    rates = result(replace(repeated, confirmations=kept), "again").rates
    assert rates is not None and rates.repetitions == 7


def test_two_runs_that_both_stopped_at_the_budget_are_no_evidence_of_equivalence() -> None:
    reached = [1500.0, *[2000.0] * 9]
    found = comparison(study({"sgd": reached, "hj": reached}, problem="rosenbrock", margin="50 %"), "hj")
    assert found.ratio == 1 and found.verdict == "no claim" and "both stopped at the budget" in found.reason
    everywhere = [1500.0 + i for i in range(10)]
    assert result(study({"sgd": everywhere, "hj": everywhere}, problem="rosenbrock"), "hj").verdict == "equivalent"


def test_only_methods_that_smooth_the_loss_have_outer_steps() -> None:
    """An inner loop alone, as Lookahead's, makes no result one of a short budget."""
    asked = spec(methods=["sgd", "lookahead", "hj"], controls=["lookahead"], looks=[6], trials=1)
    about = synthetic.manifest(asked | {"exploit": 0, "recommend": 0})
    for method in ("lookahead", "hj"):
        about["methods"][method]["space"] = synthetic.RELAXED | {
            "inner_steps": {"kind": "int", "low": 10, "high": 10, "log": False, "step": 1}
        }
    steps = {r.method: r for r in verdicts(load_study(synthetic.fill(Writer(memory(), asked, about))))}
    assert steps["hj"].outer_steps == 60 and steps["hj"].short
    about["methods"]["hj"]["outer_step"] = [3.0, 2.0]  # three replicas, and two gradients beside the inner loop
    again = verdicts(load_study(synthetic.fill(Writer(memory(), asked, about))))
    assert [r.outer_steps for r in again if r.method == "hj"] == [600 / 32]
    assert np.isnan(steps["lookahead"].outer_steps) and not steps["lookahead"].short


@pytest.mark.parametrize(("spreads", "decimals"), [([np.inf, 0.03], 3), ([np.inf, np.nan], 2), ([np.inf, 1e300], 0)])
def test_spreads_beyond_float64_say_nothing_of_decimals(spreads: list[float], decimals: int) -> None:
    assert _decimals(spreads) == decimals
