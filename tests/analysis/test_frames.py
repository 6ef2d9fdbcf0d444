"""Reading a study: shapes, units, winners, superseded runs, names that do not exist."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sqlalchemy import create_engine

from relaxbench.analysis.frames import StudyFrames, load_study
from relaxbench.analysis.progress import progress
from relaxbench.errors import UserError
from relaxbench.store.database import open_database
from relaxbench.store.schema import CURVE_COLUMNS
from tests import synthetic
from tests.synthetic import Writer, memory, spec


@pytest.fixture(scope="module")
def digits() -> StudyFrames:
    return load_study(synthetic.fill(Writer(memory(), spec())))


def small(**changes: object) -> Writer:
    asked = spec(
        **{"methods": ["sgd"], "controls": [], "looks": [1], "trials": 2, "exploit": 0, "recommend": 1} | changes
    )
    return Writer(memory(), asked)


def confirm(writer: Writer, winner: int, metric: float, block: int = 0) -> int:
    measures = {"validation_loss": 0.3, "validation_metric": 0.03, "test_loss": 0.4, "test_metric": metric}
    return writer.trial("digits-mlp", "sgd", "confirm", block, 0, 0.3, parent=winner, measures=measures)


def test_a_reading_equals_itself_alone_and_can_be_a_key(digits: StudyFrames) -> None:
    other = replace(digits)
    assert digits == digits and digits != other and {digits: 1, other: 2}[digits] == 1


def test_whole_study(digits: StudyFrames) -> None:
    asked = digits.spec
    assert len(digits.trials) == 6 * (10 * 12 + 16 + 10) + len(digits.confirmations)  # equal methods: none is decided
    assert len(digits.blocks) == 6 * 10 and len(digits.recommended) == 6 * 10
    current = digits.confirmations["rank"] <= 40  # a third of 120; others were among the best 24 at the first look
    assert current.sum() == 6 * 40 and not current.all()
    assert list(digits.curves.columns)[-5:] == list(CURVE_COLUMNS)
    assert len(digits.curves) == 25 * len(digits.trials)
    assert digits.curves.groupby("trial_id")["point"].max().eq(24).all()
    assert digits.methods == asked["methods"] and digits.baseline == "sgd" and digits.repetitions == 1
    assert (progress(digits)["done"] == progress(digits)["planned"]).all()


def test_a_study_shows_itself_in_one_short_line() -> None:
    writer = Writer(memory(), spec(name="mine", problems=["rosenbrock"], methods=["sgd", "heat"], looks=[2], trials=1))
    for block in range(2):
        writer.trial("rosenbrock", "sgd", "explore", block, 0, 0.5)
    writer.trial("rosenbrock", "heat", "explore", 0, 0, 0.5, status="running")
    frames = load_study(writer.close())
    assert repr(frames) == str(frames) == "<study 'mine': 1 problem, 2 methods, 2 of 3 trials done>"


def test_every_hyperparameter_is_a_column_as_in_optuna(digits: StudyFrames) -> None:
    for table in (digits.trials, digits.confirmations, digits.blocks, digits.recommended):
        names = {name for params in table["params"] for name in params}
        assert {"lr", "schedule", "gamma_start"} <= names and len(table)
        assert {column for column in table if column.startswith("params_")} == {f"params_{name}" for name in names}
        for _, row in table.iterrows():
            flat = {name: row[f"params_{name}"] for name in names if pd.notna(row[f"params_{name}"])}
            assert flat == row["params"]
    assert "params_lr" in digits.trials.groupby("method").first()


def test_units_and_seconds() -> None:
    writer = small()
    curve = np.array([[300, 600], [0.5, 0.4], [0.6, 0.5], [0.05, 0.04], [np.nan, np.nan]])
    measures = {"train_loss": 0.4, "validation_loss": 0.5, "validation_metric": 0.04}
    writer.trial("digits-mlp", "sgd", "explore", 0, 0, 0.5, measures=measures, gradients=600, curve=curve)
    frames = load_study(writer.close())
    trial = frames.trials.iloc[0]
    assert trial["validation_metric"] == pytest.approx(4.0)  # stored as a fraction, shown in %
    assert np.isnan(trial["test_metric"])
    assert trial["seconds"] == pytest.approx(600 * 2e-4)
    assert frames.curves["validation_metric"].tolist() == pytest.approx([5.0, 4.0])
    assert frames.curves["gradients"].tolist() == [300, 600]


def test_winner_is_the_smallest_value_and_ties_go_to_the_smallest_number() -> None:
    writer = small(trials=3)
    writer.trial("digits-mlp", "sgd", "explore", 0, 0, 0.5)
    second = writer.trial("digits-mlp", "sgd", "explore", 0, 2, 0.3, params={"lr": 2.0})
    first = writer.trial("digits-mlp", "sgd", "explore", 0, 1, 0.3, params={"lr": 1.0})
    confirm(writer, second, 0.9)
    confirm(writer, first, 0.1)
    blocks = load_study(writer.close()).blocks
    assert blocks["winner"].tolist() == [first] and blocks["params"].tolist() == [{"lr": 1.0}]
    assert blocks["test_metric"].tolist() == pytest.approx([10.0])


def test_a_winner_without_a_confirm_run_has_no_result() -> None:
    writer = small()
    old = writer.trial("digits-mlp", "sgd", "explore", 0, 0, 0.5)
    new = writer.trial("digits-mlp", "sgd", "explore", 0, 1, 0.4)
    run = confirm(writer, old, 0.9)
    frames = load_study(writer.close())
    assert frames.blocks["winner"].tolist() == [new]
    assert frames.blocks[["confirm", "test_metric"]].isna().all(axis=None)
    row = frames.confirmations.iloc[0]
    assert (row["id"], row["block"], row["number"], row["parent"], row["rank"]) == (run, 0, 0, old, 2)
    assert row["parent_value"] == 0.5 and row["test_metric"] == pytest.approx(90.0)
    # The best of two of two trials is the first one, which has not been confirmed.
    assert progress(frames).set_index("phase")["planned"].to_dict() == {"explore": 2, "confirm": 1, "recommend": 1}
    assert progress(frames).set_index("phase")["done"].to_dict() == {"explore": 2, "confirm": 0, "recommend": 0}


def test_confirmations_are_ranked_by_the_loss_of_their_trials(digits: StudyFrames) -> None:
    trials = digits.trials.set_index("id")
    explore = digits.trials[digits.trials["phase"] == "explore"]
    for method, runs in digits.confirmations.groupby("method"):
        explored = explore[explore["method"] == method].set_index("id")["value"]
        order = list(explored.sort_values(kind="stable").index)
        confirmed = [order[rank - 1] for rank in runs["rank"]]
        assert runs["parent"].tolist() == confirmed and runs["rank"].is_monotonic_increasing
        assert runs["parent_value"].tolist() == explored[confirmed].tolist()
        for column in ("block", "number"):
            assert runs[column].tolist() == trials.loc[confirmed, column].tolist()


def test_a_method_as_published_has_confirm_runs_alone() -> None:
    about = synthetic.manifest(spec(methods=["sgd"]))
    about["methods"]["sgd"] |= {"arm": "published"}
    asked = spec(methods=["sgd"], controls=[], looks=[2], trials=3, exploit=0, recommend=1)
    frames = load_study(synthetic.fill(Writer(memory(), asked, about)))
    assert frames.tuning("sgd") == 0 and len(frames.trials) == 2
    assert frames.blocks["confirm"].tolist() == frames.confirmations["id"].tolist()
    assert frames.blocks["winner"].isna().all() and frames.confirmations[["parent", "rank"]].isna().all(axis=None)
    assert frames.confirmations[["block", "number"]].to_numpy().tolist() == [[0, 0], [1, 0]]
    assert progress(frames)[["phase", "done", "planned"]].to_numpy().tolist() == [["confirm", 2, 2]]


def test_a_study_of_the_old_protocol_confirms_the_winner_of_every_block() -> None:
    asked = spec(methods=["sgd"], controls=[], trials=2, exploit=0, recommend=0) | {"blocks": 2}
    writer = Writer(memory(), {key: value for key, value in asked.items() if key not in ("looks", "more_blocks")})
    for block in range(2):
        writer.trial("digits-mlp", "sgd", "explore", block, 0, 0.5)
        confirm(writer, writer.trial("digits-mlp", "sgd", "explore", block, 1, 0.4 - block / 10), 0.04, block)
    frames = load_study(writer.close())
    assert frames.looks == (2,) and frames.blocks["confirm"].notna().all()
    assert frames.confirmations[["block", "number", "rank"]].to_numpy().tolist() == [[1, 1, 1], [0, 1, 2]]
    assert progress(frames)[["phase", "done", "planned"]].to_numpy().tolist() == [["explore", 4, 4], ["confirm", 2, 2]]


def test_incomplete_block_does_not_count() -> None:
    writer = small()
    winner = writer.trial("digits-mlp", "sgd", "explore", 0, 0, 0.4)
    writer.trial("digits-mlp", "sgd", "explore", 0, 1, None, status="running")
    confirm(writer, winner, 0.1)
    assert load_study(writer.close()).blocks.empty


def test_recommended_follows_the_best_setting_of_any_phase() -> None:
    writer = small()
    old = writer.trial("digits-mlp", "sgd", "explore", 0, 0, 0.4)
    best = writer.trial("digits-mlp", "sgd", "exploit", 0, 0, 0.2, params={"lr": 0.7})
    for parent, metric in ((old, 0.5), (best, 0.02)):
        writer.trial(
            "digits-mlp",
            "sgd",
            "recommend",
            0,
            0,
            0.2,
            parent=parent,
            measures={"test_metric": metric},
            params={"lr": 0.7},
        )
    recommended = load_study(writer.close()).recommended
    assert recommended["source"].tolist() == [best] and recommended["source_phase"].tolist() == ["exploit"]
    assert recommended["test_metric"].tolist() == pytest.approx([2.0])


def test_which_study() -> None:
    engine = memory()
    synthetic.Base.metadata.create_all(engine)
    with pytest.raises(UserError, match="no study"):
        load_study(engine)
    with pytest.raises(UserError, match="unknown study 'x': there is none yet"):
        load_study(engine, "x")
    Writer(engine, spec(name="digits"))
    assert load_study(engine).name == "digits"
    Writer(engine, spec(name="mnist"))
    with pytest.raises(UserError, match=r"which study.*digits, mnist"):
        load_study(engine)
    with pytest.raises(UserError, match="unknown study 'digit': did you mean 'digits'"):
        load_study(engine, "digit")


def test_only_the_named_study_is_read() -> None:
    engine = memory()
    for name in ("a", "b"):
        writer = Writer(engine, spec(name=name))
        writer.trial("digits-mlp", "sgd", "explore", 0, 0, 1.0, curve=np.ones((5, 3)))
        writer.close()
    frames = load_study(engine, "b")
    assert len(frames.trials) == 1 and len(frames.curves) == 3


def test_from_an_address(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/study.db"
    engine = open_database(url)
    synthetic.fill(Writer(engine, spec(looks=[2], trials=2, exploit=0, recommend=0)))
    engine.dispose()
    assert len(load_study(url).blocks) == 12
    assert create_engine(url).dialect.name == "sqlite"


def test_names_with_anything_in_them() -> None:
    hostile = 'a"b<c>\n;,é🎉' + "x" * 180
    writer = Writer(memory(), spec(name=hostile, methods=["sgd", hostile], controls=[]))
    writer.trial("digits-mlp", hostile, "explore", 0, 0, 1.0)
    assert load_study(writer.close(), hostile).trials["method"].tolist() == [hostile]
