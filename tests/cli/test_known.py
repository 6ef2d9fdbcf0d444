"""`study --known`: the best settings of another study begin every block, and the manifest says where they are from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from relaxbench.store.database import open_database
from relaxbench.store.schema import Study
from relaxbench.study.definition.borrowed import borrow
from relaxbench.study.definition.prepare import prepare
from tests.cli.commands import printed, refused, rows
from tests.shared import built_once
from tests.study import tiny

SMALL: dict[str, Any] = {"problems": ["rugged-1d"], "looks": [6], "exploit": 2, "recommend": 1, "flatness": False}
MINE = {**SMALL, "name": "mine", "exploit": 0, "recommend": 0}
RUN = ("study", "mine.toml", "--no-report", "--population", "16", "--quiet")

pytestmark = pytest.mark.usefixtures("folder")


@pytest.fixture(scope="module")
def lender(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database with two finished studies, of sgd and heat, and one that has only begun."""

    def build(place: Path) -> None:
        with pytest.MonkeyPatch.context() as patch:
            tiny.set_engine(patch)
            for name in ("old", "older"):
                tiny.run(place, tiny.spec(**{**SMALL, "name": name, "seed": len(name)}))
        database = open_database(str(place / "study.db"))
        tiny.settle(database, tiny.spec(**{**SMALL, "name": "begun"}))
        database.dispose()

    return built_once(tmp_path_factory, "lender", build) / "study.db"


@pytest.fixture(autouse=True)
def here(lender: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tiny.set_engine(monkeypatch)
    (folder / "relaxbench.db").write_bytes(lender.read_bytes())
    write()


def write(**changes: Any) -> None:
    Path("mine.toml").write_text(tiny.file(tiny.spec(**{**MINE, **changes})))


def best(study: str, method: str) -> dict[str, Any]:
    """The settings with the least validation loss, found here by looking through the trials."""
    ids = {name: id_ for id_, name in names()}
    own = [row for row in rows("relaxbench.db") if row.study_id == ids[study] and row.method == method]
    searched = [row for row in own if row.phase in ("explore", "exploit")]
    return dict(min(searched, key=lambda row: (row.value, row.phase == "exploit", row.block, row.number)).params)


def names() -> list[tuple[int, str]]:
    database = open_database("relaxbench.db", create=False, read_only=True)
    with database.connect() as connection:
        found = [(row.id, row.name) for row in connection.execute(select(Study.id, Study.name))]
    database.dispose()
    return found


def manifest(file: str = "relaxbench.db") -> Any:
    database = open_database(file, create=False, read_only=True)
    with database.connect() as connection:
        found = connection.scalar(select(Study.manifest).where(Study.name == "mine"))
    database.dispose()
    return found


def first_trials(file: str = "relaxbench.db") -> list[Any]:
    last = max(row.study_id for row in rows(file))
    return [row for row in rows(file) if row.study_id == last and row.phase == "explore" and row.number == 0]


def test_every_block_begins_with_the_best_of_the_other_study(capsys: pytest.CaptureFixture[str]) -> None:
    out = printed(capsys, *RUN, "--known", "old")
    began = first_trials()
    assert len(began) == 12 and {row.block for row in began} == set(range(6))
    assert all(row.params == best("old", row.method) for row in began)
    assert manifest()["known_from"] == {"old": ["rugged-1d"]}
    assert {method["known"][0]["origin"] for method in manifest()["methods"].values()} == {"old"}
    assert "old is a study on rugged-1d too, with the same test set: the search of all" in " ".join(out.split())


def test_a_study_goes_on_with_the_settings_that_it_began_with(capsys: pytest.CaptureFixture[str]) -> None:
    printed(capsys, *RUN, "--known", "old")
    before = [row.params for row in first_trials()]
    edit("UPDATE relaxbench_trials SET value = -1 WHERE study_id = 1 AND block = 1")  # it has found better ones since
    assert best("old", "sgd") != before[0]
    write(recommend=1)
    printed(capsys, *RUN, "--known", "old")
    assert [row.params for row in first_trials()] == before
    assert len([row for row in rows("relaxbench.db") if row.study_id == 4 and row.phase == "recommend"]) == 2
    assert "known: [{ method" in refused(capsys, *RUN)
    assert "differs (known: [" in refused(capsys, *RUN, "--known", "older")


def test_a_file_lends_too_and_is_named(capsys: pytest.CaptureFixture[str], lender: Path) -> None:
    there = ("--storage", "new.db", "--known")
    out = printed(capsys, *RUN, *there, f"{lender}#old")
    origin = f"old in sqlite:///{lender}"
    assert manifest("new.db")["known_from"] == {origin: ["rugged-1d"]}
    assert [row.params for row in first_trials("new.db")] == [best("old", row.method) for row in first_trials("new.db")]
    assert f"{origin} is a study on rugged-1d too" in " ".join(out.split())
    assert "nothing was run" in printed(capsys, *RUN[:-1], *there, f"{lender}#old")


def test_a_quick_try_that_lends_is_told_as_such(capsys: pytest.CaptureFixture[str]) -> None:
    edit("UPDATE relaxbench_studies SET spec = json_set(spec, '$.looks', json('[2]')) WHERE name = 'old'")
    told = "Study old was a quick try, 2 blocks of 2 trials: its best settings are the best of few."
    first = printed(capsys, *RUN[:-1], "--known", "old")
    assert manifest()["known_search"] == {"old": [2, 2]}
    assert " ".join(first.split()).count(told) == 2  # before it begins, and below the verdicts


def test_a_storage_that_does_not_exist_is_what_is_wrong(capsys: pytest.CaptureFixture[str]) -> None:
    line = refused(capsys, *RUN, "--known", "old", "--storage", "missing.db")
    assert line.startswith("relaxbench: storage 'sqlite:///missing.db' does not exist yet, so it has no study 'old'")
    assert "FILE.db#old" in line


def test_settings_follow_those_of_the_file_and_stand_there_once() -> None:
    params = best("old", "sgd")
    old = {"method": "sgd", "params": params}
    other = {"method": "sgd", "params": {**params, "momentum": 0.5}, "from": "a paper"}
    for own, expected in (([other], ["a paper", "old", "old"]), ([old], ["", "old"])):
        s = tiny.spec(**MINE, known=own)
        borrowed = borrow(s, prepare(s), "old", "relaxbench.db")
        assert [each.origin for each in borrowed.spec.known or []] == expected


REFUSALS = [
    ("nope", {}, ("from 'nope': unknown study 'nope'", "begun, old, older")),
    ("mine2", {"name": "mine2"}, ("unknown study 'mine2'",)),
    ("old", {"name": "old"}, ("that is this study itself",)),
    ("begun", {}, ("study 'begun' has not finished the search of 'sgd' on rugged-1d: finish it first",)),
    ("old", {"problems": ["rosenbrock"]}, ("study 'old' is on rugged-1d, not on rosenbrock",)),
    ("old", {"methods": ["sgd", "hj"]}, ("unknown method in study 'old': 'hj'", "it is tuned here")),
    ("old", {"space": {"lr": [1e-7, 1e-6]}}, ("entry 1 of known (sgd on rugged-1d): lr = ", "a number from 1e-07 to")),
    ("old", {"method": {"heat": {"fixed": {"schedule": "step"}}}}, ("(heat on rugged-1d): schedule = ", "is fixed at")),
    ("none.db", {}, ("'sqlite:///none.db' does not exist",)),
    ("", {}, ("it names no study: name a study of the storage, or FILE.db#STUDY",)),
    (".", {}, ("it is a folder: name a study",)),
    ("#s", {}, ("there is no database before #",)),
    ("s.toml", {}, ("a study file has no results: name its study",)),
    ("relaxbench.db", {}, ("which study? there are 3",)),
]


@pytest.mark.parametrize(("source", "changes", "parts"), REFUSALS)
def test_what_cannot_be_taken_is_refused_in_one_line(
    source: str, changes: dict[str, Any], parts: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    write_toml(changes)
    line = refused(capsys, *RUN, "--known", source)
    assert line.rstrip().endswith("(option --known)") and all(part in line for part in parts), line


def write_toml(changes: dict[str, Any]) -> None:
    """A study file; tables after the keys."""
    tables = {key: value for key, value in changes.items() if isinstance(value, dict)}
    write(**{key: value for key, value in changes.items() if key not in tables})
    lines = [Path("mine.toml").read_text()]
    if "space" in tables:
        lines += ["[space]", *(f"{name} = {value}" for name, value in tables["space"].items())]
    for label, variant in tables.get("method", {}).items():
        lines.append(f"[method.{label}]")
        for key, value in variant.items():
            inner = ", ".join(f'{k} = "{v}"' for k, v in value.items()) if isinstance(value, dict) else f'"{value}"'
            lines.append(f"{key} = {{ {inner} }}" if isinstance(value, dict) else f"{key} = {inner}")
    Path("mine.toml").write_text("\n".join(lines))


def test_a_hyperparameter_or_a_rule_that_was_not_there_is_missed(capsys: pytest.CaptureFixture[str]) -> None:
    edit("UPDATE relaxbench_trials SET params = json_remove(params, '$.momentum')")
    assert "momentum is missing: state every hyperparameter" in refused(capsys, *RUN, "--known", "old")
    edit("UPDATE relaxbench_studies SET manifest = json_set(manifest, '$.methods.sgd.rule', 'sam')")
    assert "'sgd' of study 'old' is the rule 'sam', not 'sgd'" in refused(capsys, *RUN, "--known", "old")


def edit(statement: str) -> None:
    database = open_database("relaxbench.db")
    with database.begin() as connection:
        connection.exec_driver_sql(statement)
    database.dispose()
