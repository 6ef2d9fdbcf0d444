"""The best of n random trials, against brute force over all subsets, and the panels that show it."""

from __future__ import annotations

import itertools
import json
import re
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from relaxbench.analysis.best_of_n import differences_by_budget, medians_by_budget
from relaxbench.pages.figure import Figure
from relaxbench.pages.html import embed
from relaxbench.report import StudyFrames, load_study
from relaxbench.report.figures import tuning_budget
from tests import synthetic
from tests.report.figures.looks import DIGITS, TWO, look_of, texts
from tests.report.test_study_page import HOSTILE
from tests.synthetic import Writer, memory, spec


def budget_panels(frames: StudyFrames, problem: str = DIGITS) -> tuple[list[Figure], list[Figure]]:
    table, look = tuning_budget.by_budget(frames, problem), look_of(frames)
    medians = tuning_budget.medians(frames, problem)
    return tuning_budget.differences(table, look, problem), tuning_budget.best(table, medians, look, problem)


def loaded(writer: Writer) -> StudyFrames:
    engine = writer.close()
    try:
        return load_study(engine)
    finally:
        engine.dispose()


def study(values: dict[str, np.ndarray], running: tuple[str, int, int] | None = None) -> StudyFrames:
    """A study whose explore trials have these values, ``[blocks, trials]``; one of them may not be done."""
    blocks, trials = next(iter(values.values())).shape
    writer = Writer(memory(), spec(methods=list(values), controls=[], looks=[blocks], trials=trials))
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


def test_explored_is_every_trial_in_its_place(digits: StudyFrames) -> None:
    found = tuning_budget.explored(digits, DIGITS)
    explore = digits.trials.query("phase == 'explore'").set_index(["method", "block", "number"])["value"]
    assert list(found) == digits.methods
    for method, table in found.items():
        assert table.tolist() == explore[method].unstack().to_numpy().tolist()
        assert table.shape in ((6, 12), (10, 12))  # blocks of the look that decided, or of the last


def test_losses_that_span_decades_are_averaged_as_logarithms() -> None:
    values = {method: 10 ** (3 * table) for method, table in drawn(np.random.default_rng(2)).items()}
    frames = study(values)
    assert tuning_budget.loss_name(frames, DIGITS) == "log10 of the validation loss"
    found = tuning_budget.by_budget(frames, DIGITS).set_index(["method", "n"])
    expected = {method: enumerated(np.log10(table), 2) for method, table in values.items()}
    assert found.loc[("sgd", 2), "expected"] == pytest.approx(expected["sgd"])
    assert found.loc[("hj", 2), "difference"] == pytest.approx(expected["hj"] - expected["sgd"])
    assert tuning_budget.explored(frames, DIGITS)["sgd"].tolist() == values["sgd"].tolist()  # as stored
    look, table = look_of(frames), tuning_budget.by_budget(frames, DIGITS)
    figures = tuning_budget.best(table, tuning_budget.medians(frames, DIGITS), look, DIGITS, tuning_budget.LOGARITHM)
    assert all("log10 of the validation loss" in str(figure.figure.layout) for figure in figures)


def test_few_losses_far_from_the_others_are_not_decades_but_the_problem_may_say_that_they_are() -> None:
    values = {method: table + 1 for method, table in drawn(np.random.default_rng(2), blocks=20).items()}
    values["sgd"][0, 0] = 1e9
    frames = study(values)
    assert tuning_budget.loss_name(frames, DIGITS) == "validation loss"
    frames.manifest["problems"][DIGITS]["decades"] = True
    assert tuning_budget.loss_name(frames, DIGITS) == "log10 of the validation loss"
    negative = study({method: 1e6 * (table - 1) for method, table in values.items()} | {"hj": values["hj"] - 9})
    assert tuning_budget.loss_name(negative, DIGITS) == "validation loss"  # which has no logarithm


def test_a_loss_of_zero_counts_as_the_smallest_above_it() -> None:
    values = {method: 10 ** (6 * table) for method, table in drawn(np.random.default_rng(2)).items()}
    smallest = min(table.min() for table in values.values())
    zeros = {method: np.where(table == smallest, 0, table) for method, table in values.items()}
    second = min(table[table > 0].min() for table in zeros.values())
    found = tuning_budget.by_budget(study(zeros), DIGITS).set_index(["method", "n"])
    for method, table in zeros.items():
        expected = enumerated(np.log10(np.where(table == 0, second, table)), 1)
        assert found.loc[(method, 1), "expected"] == pytest.approx(expected)


def test_expected_best_and_differences_by_brute_force() -> None:
    values = drawn(np.random.default_rng(0))
    found = tuning_budget.by_budget(study(values), DIGITS).set_index(["method", "n"])
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
        test = stats.ttest_ind(pseudo["hj"], pseudo["sgd"], equal_var=False)
        row, (low, high) = found.loc["hj", n], test.confidence_interval(0.95)  # one comparison: nothing to correct
        assert row["difference"] == pytest.approx(np.mean(pseudo["hj"] - pseudo["sgd"]))
        assert [row["difference_low"], row["difference_high"]] == pytest.approx([low, high])


def test_a_block_that_is_not_complete_is_left_out() -> None:
    values = drawn(np.random.default_rng(1), blocks=7)
    found = tuning_budget.by_budget(study(values, running=("hj", 3, 1)), DIGITS).set_index(["method", "n"])
    kept = {method: np.delete(table, 3, axis=0) for method, table in values.items()}
    assert found.loc[("hj", 2), "expected"] == pytest.approx(enumerated(kept["hj"], 2))
    assert found.loc[("sgd", 2), "expected"] == pytest.approx(enumerated(values["sgd"], 2))
    table = tuning_budget.explored(study(values, running=("hj", 3, 1)), DIGITS)["hj"]
    assert np.isnan(table[3, 1]) and np.isnan(table).sum() == 1 and table[2, 0] == values["hj"][2, 0]


def test_unfinished_blocks_are_left_out(digits: StudyFrames) -> None:
    trials = digits.trials.copy()
    chosen = trials.query("method == 'hj' and phase == 'explore' and block == 3 and number == 5").index
    trials.loc[chosen, "status"] = "running"
    table = tuning_budget.by_budget(replace(digits, trials=trials), DIGITS)
    kept = trials.query("method == 'hj' and phase == 'explore' and block != 3")["value"]
    assert table.query("method == 'hj' and n == 1")["expected"].item() == pytest.approx(kept.mean())


def test_medians_split_the_searches_in_halves() -> None:
    """Of all subsets of n half have a best at or below the median best, but for the grain of the sample."""
    values = {"sgd": np.random.default_rng(2).gamma(2, 1, (10, 10))}
    found = tuning_budget.medians(study(values), DIGITS)
    for row in found.itertuples():
        above = stats.hypergeom.sf(row.n - 1, 100, int((values["sgd"] > row.median).sum()), row.n)
        assert abs(above - 0.5) < 0.5 * row.n / 100 + 0.01 and row.low <= row.median <= row.high
    assert found["n"].tolist()[:3] == [1, 2, 3] and found["gradients"].tolist() == (600 * found["n"]).tolist()


def test_an_empty_study_has_no_budgets() -> None:
    frames = loaded(Writer(memory(), spec(methods=["sgd", "hj"], controls=[])))
    table = tuning_budget.by_budget(frames, DIGITS)
    assert table.empty and tuning_budget.medians(frames, DIGITS).empty
    assert tuning_budget.differences(table, TWO, DIGITS) == tuning_budget.best(table, table, TWO, DIGITS) == []


def test_budgets_of_a_repeated_study_are_not_judged(repeated: StudyFrames) -> None:
    table = tuning_budget.by_budget(repeated, DIGITS)
    assert table.empty and tuning_budget.medians(repeated, DIGITS).empty
    assert tuning_budget.differences(table, TWO, DIGITS) == tuning_budget.best(table, table, TWO, DIGITS) == []
    assert budget_panels(repeated) == ([], [])


def test_without_a_baseline_there_is_no_difference(digits: StudyFrames) -> None:
    panels, best = budget_panels(replace(digits, spec={**digits.spec, "baseline": None}))
    assert panels == [] and len(best) == len(digits.methods)


@pytest.mark.parametrize("blocks", [1, 6])
def test_a_panel_shows_its_method_also_where_another_equals_the_baseline(blocks: int) -> None:
    """With one block there is no interval; HJ equals SGD at every n, HEAT is better by 3.5 points."""
    sgd = 5 + np.tile(np.arange(12.0), (blocks, 1)) / 12
    frames = study({"sgd": sgd, "hj": sgd, "heat": sgd - 3.5})
    for panel in budget_panels(frames)[0]:
        low, high = panel.figure.layout["yaxis"]["range"]
        assert low < -3.5 and high > 0 and "annotations" in panel.figure.layout
        assert len(panel.figure.layout["annotations"]) == 1  # the key alone
    (alone,) = budget_panels(study({"sgd": sgd, "heat": sgd - 3.5}))[0]
    assert alone.figure.layout["yaxis"]["range"][0] < -3.5


def test_a_method_beyond_the_axis_of_the_others_is_told_in_its_panel() -> None:
    rng = np.random.default_rng(3)
    near = {method: rng.gamma(2, 1, (6, 12)) for method in ("sgd", "hj", "heat", "lookahead", "sgd-ema")}
    panels = {panel.key: panel for panel in budget_panels(study(near | {"entropy-sgd": near["sgd"] + 500.0}))[0]}
    layout = panels[f"budget-{DIGITS}-entropy-sgd"].figure.layout
    assert layout["yaxis"]["range"][1] < 500
    assert [note["text"] for note in layout["annotations"][1:]] == ["↑ 500"]
    assert len(panels[f"budget-{DIGITS}-hj"].figure.layout["annotations"]) == 1


def test_every_method_has_a_panel_of_its_difference(digits: StudyFrames) -> None:
    panels, _ = budget_panels(digits)
    table = tuning_budget.by_budget(digits, DIGITS)
    assert [panel.key for panel in panels] == [f"budget-{DIGITS}-{m}" for m in digits.methods if m != "sgd"]
    for method, panel in zip([m for m in digits.methods if m != "sgd"], panels, strict=True):
        rows = table[(table["method"] == method) & table["difference"].notna()]
        assert np.asarray(panel.figure.data[-1]["y"]) == pytest.approx(rows["difference"].to_numpy(), rel=1e-6)
        assert panel.data is not None and panel.data["n"].tolist() == rows["n"].tolist()


def test_every_panel_shows_one_view_at_a_time(digits: StudyFrames) -> None:
    _, panels = budget_panels(digits)
    ranges = set()
    for panel in panels:
        assert list(panel.views) == [tuning_budget.EXPECTED, tuning_budget.MEDIAN]
        first, second = (np.array(view["visible"]) for view in panel.views.values())
        assert len(first) == len(panel.figure.data) and np.all(first ^ second)
        assert [trace["visible"] for trace in panel.figure.data] == first.tolist()
        ranges.add(json.dumps([view["layout"]["yaxis.range"] for view in panel.views.values()], default=float))
        dotted = [trace for trace in panel.figure.data if trace["line"].get("dash") == "dot"]
        assert len(dotted) == 2  # the baseline's, in either view
        assert panel.data is not None and set(panel.data["view"]) == set(panel.views)
    assert len(ranges) == 1  # panels can be compared by height


def test_every_vertical_axis_has_ticks() -> None:
    """A logarithmic axis from 0.105 to 0.19 would have none."""
    rng = np.random.default_rng(1)
    for low, high in ((0.105, 0.19), (0.1, 0.6), (1e-6, 2.0)):
        blocks = {name: np.exp(rng.uniform(np.log(low), np.log(high), (10, 12))) for name in ("sgd", "hj")}
        table, medians = differences_by_budget(blocks, "sgd", 1.0), medians_by_budget(blocks, 1.0)
        for view in tuning_budget.best(table, medians, TWO, "p")[0].views.values():
            bottom, top = view["layout"]["yaxis.range"]
            if view["layout"]["yaxis.type"] == "log":
                ticks = np.log10(view["layout"]["yaxis.tickvals"])
                assert np.sum((bottom < ticks) & (ticks < top)) >= 2
            else:
                assert high < 6 * low and bottom < top


def test_hostile_names_are_shown_as_they_are() -> None:
    for name in HOSTILE:
        asked = spec(problems=[DIGITS], methods=["sgd", name], controls=[], looks=[6], trials=2, exploit=0, recommend=0)
        about = synthetic.manifest(asked)
        about["methods"][name] |= {"title": name}
        frames = load_study(synthetic.fill(Writer(memory(), asked, about)))
        panels, best = budget_panels(frames)
        for figure in [*panels, *best]:
            assert figure is not None and re.fullmatch(r"[A-Za-z0-9._-]+", figure.key)
            assert "<" not in embed(figure)
            for text in texts([figure.figure.data, figure.figure.layout]):
                assert "<script" not in text and "<img" not in text and "<b>bold" not in text


def test_losses_below_zero_and_single_blocks_can_be_drawn() -> None:
    rng = np.random.default_rng(0)
    tables = {
        "negative": {"sgd": rng.normal(-3, 1, (8, 6)), "hj": rng.normal(-3, 1, (8, 6))},
        "single": {"sgd": rng.normal(3, 1, (1, 6)), "hj": rng.normal(3, 1, (1, 6))},
        "constant": {"sgd": np.ones((8, 6)), "hj": np.ones((8, 6))},
    }
    for name, blocks in tables.items():
        table = differences_by_budget(blocks, "sgd", 10.0)
        medians = medians_by_budget(blocks, 10.0)
        drawn = [*tuning_budget.differences(table, TWO, name), *tuning_budget.best(table, medians, TWO, name)]
        assert len(drawn) == 2
        for figure in drawn:
            assert np.all(np.diff(figure.figure.layout["yaxis"]["range"]) > 0)
            for trace in figure.figure.data:
                assert np.isfinite(np.asarray(trace["y"], dtype=float)).all()
