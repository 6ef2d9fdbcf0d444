"""The tables [[known]]: settings that a block can begin with, in one line where it cannot, and where they come from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from relaxbench.errors import UserError
from relaxbench.problems import problem
from relaxbench.store.database import open_database
from relaxbench.store.schema import Study
from relaxbench.study.definition.changes import merge
from relaxbench.study.definition.files import load
from relaxbench.study.definition.known import known_of
from relaxbench.study.definition.opening import open_study
from relaxbench.study.definition.prepare import prepare
from relaxbench.study.definition.validation import check_on, parse, restore
from tests.study import tiny
from tests.study.definition.test_validation import GOOD, refusal

SGD: dict[str, Any] = {"lr": 0.002, "momentum": 0.5, "schedule": "step"}
KNOWN: dict[str, Any] = {"method": "sgd", "params": SGD}
PUBLISHED: dict[str, Any] = {"mine": {"rule": "heat", "arm": "published"}}

MISTAKES: list[tuple[dict[str, Any], tuple[str, ...]]] = [
    ({"known": [{**KNOWN, "method": "sdg"}]}, ("method in entry 1 of known: 'sdg'", "did you mean 'sgd'?")),
    ({"known": [{"method": "mine", "params": {}}], "method": PUBLISHED}, ("entry 1", "'mine' is run as published")),
    ({"known": [KNOWN, {**KNOWN, "params": {**SGD, "lr": 0.001}}], "trials": 1}, ("'sgd' has 2 known", "has 1 trial:")),
    ({"known": [KNOWN, KNOWN]}, ("entry 2 of known", "stand there before")),
    ({"known": [{**KNOWN, "from": "a\nb"}]}, ("entry 1 of known: from = 'a\\nb'", "printable")),
    ({"known": [{**KNOWN, "form": "x"}]}, ("table [[known]]", "'form'", "did you mean 'from'?")),
    ({"known": [{**KNOWN, "origin": "x"}]}, ("table [[known]]", "'origin'", "known: from, method, params")),
    ({"known": [{"method": "sgd"}]}, ("entry 1 of known: the key 'params' is missing, such as params = {",)),
    ({"known": [KNOWN, {}]}, ("entry 2 of known: the key 'method' is missing, such as method = ",)),
    ({"known": [{**KNOWN, "params": {"lr": True}}]}, ("entry 1 of known.params.lr = True", "a number, or a choice")),
    ({"known": KNOWN}, ("known = {", "expected a list, such as tables [[known]]")),
    ({"known": []}, ("known is empty",)),
]


@pytest.mark.parametrize(("values", "parts"), MISTAKES)
def test_a_wrong_table_is_refused_in_one_line(values: dict[str, Any], parts: tuple[str, ...]) -> None:
    line = refusal(**values)
    assert all(part in line for part in parts), line


@pytest.mark.parametrize(
    ("changes", "parts"),
    [
        ({"lr": 2.0}, ("lr = 2.0", "a number from 1e-05 to 0.01,")),
        ({"lr": float("nan")}, ("lr = nan", "a number from")),
        ({"lr": "fast"}, ("lr = 'fast'", "a number from")),
        ({"schedule": "cosin"}, ("schedule = 'cosin'", "one of constant, step, cosine, warmup")),
        ({"schedule": 1.0}, ("schedule = 1.0", "one of constant")),
        ({"lr": None}, ("lr is missing", "every hyperparameter that is searched")),
        ({"momentun": 0.5}, ("'momentun'", "did you mean 'momentum'?")),
        ({"weight_decay": 0.1}, ("weight_decay = 0.1, but it is not searched: it is fixed at 0.0",)),
        ({"momentum": 0.5, "fixed": True}, ("momentum = 0.5, but it is not searched: it is fixed at 0.9: leave",)),
    ],
)
def test_settings_that_a_search_could_not_draw_are_refused(changes: dict[str, Any], parts: tuple[str, ...]) -> None:
    fixed = {"fixed": {"momentum": 0.9}} if changes.get("fixed") else {}
    params = {name: value for name, value in {**SGD, **changes}.items() if value is not None and name != "fixed"}
    spec = parse({**GOOD, "method": {"sgd": fixed}, "known": [{"method": "sgd", "params": params}]}, "my.toml")
    with pytest.raises(UserError) as refused:
        check_on(spec, [problem("rosenbrock")])
    line = str(refused.value)
    assert "\n" not in line and "entry 1 of known (sgd on rosenbrock)" in line
    assert all(part in line for part in parts), line


def test_an_integer_must_be_one_that_is_searched() -> None:
    ranges = {"rule": "lookahead", "space": {"inner_steps": [6, 20]}}

    def refused(steps: object) -> str:
        spec = parse({**GOOD, "methods": ["sgd", "mine"], "method": {"mine": ranges}}, "my.toml")
        space = spec.space_of("mine", problem("rosenbrock"))
        params = {name: declared.default for name, declared in space.items()} | {"inner_steps": steps}
        known = [{"method": "mine", "params": params}]
        spec = restore({**spec.model_dump(), "known": known}, "my.toml")
        try:
            check_on(spec, [problem("rosenbrock")])
        except UserError as error:
            return str(error)
        (settings,) = known_of(spec, "mine")
        assert type(settings["params"]["inner_steps"]) is int
        return ""

    assert "inner_steps = 4.0: expected a whole number from 6 to 20 in steps of 2" in refused(4)
    assert "inner_steps = 7.5: expected a whole number" in refused(7.5)
    assert "inner_steps = 7.0: expected" in refused(7)
    assert refused(6) == refused(20.0) == ""


def test_known_settings_of_a_method_that_is_not_studied_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "my.toml"
    file.write_text(
        'name = "s"\nproblems = ["rosenbrock"]\nmethods = ["sgd"]\n[[known]]\nmethod = "heat"\nparams = {}\n'
    )
    with pytest.raises(UserError, match="known names 'heat', which is not among the methods"):
        load(file)


def test_known_settings_cannot_change_in_a_study_that_has_begun() -> None:
    before, with_known = (parse({**GOOD, **more}, "my.toml").model_dump() for more in ({}, {"known": [KNOWN]}))
    refused, _ = merge(before, with_known)
    assert len(refused) == 1 and refused[0].startswith("known: none → [{ method = sgd, params = { lr = 0.002, ")
    assert refused[0].endswith("(declared before the study began)")
    older = {key: value for key, value in before.items() if key != "known"}  # of a study before there was the table
    assert merge(older, before)[0] == [] and merge(with_known, with_known)[0] == []
    assert restore(with_known, "stored").model_dump() == with_known


def test_the_manifest_keeps_settings_and_what_their_study_shares(tmp_path: Path) -> None:
    database = open_database(str(tmp_path / "study.db"))
    try:
        for name, problems in (("same", ["rosenbrock"]), ("other", ["rugged-1d"])):
            s = tiny.spec(name=name, problems=problems, methods=["sgd"])
            open_study(database, s, "", prepare(s))
        origins = ("same", "other", "a paper", "new", "")
        known = [{**KNOWN, "params": {**SGD, "lr": 0.001 * (2 + n)}, "from": o} for n, o in enumerate(origins)]
        s = tiny.spec(name="new", known=known, trials=5)
        for _ in range(2):  # begun, and continued
            open_study(database, s, "", prepare(s))
            with database.connect() as connection:
                manifest = connection.scalar(select(Study.manifest).where(Study.name == "new"))
            assert manifest["known_from"] == {"same": ["rosenbrock"], "other": []}
            assert [each["origin"] for each in manifest["methods"]["sgd"]["known"]] == list(origins)
            assert manifest["methods"]["sgd"]["known"][0]["params"] == SGD
            assert manifest["methods"]["heat"]["known"] == []
    finally:
        database.dispose()
