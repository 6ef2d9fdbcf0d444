"""A local page of a running study: its numbers, its report, and the files that it must not serve."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, text, update

from relaxbench.analysis.sentences import sentence
from relaxbench.analysis.verdicts import verdicts
from relaxbench.errors import UserError
from relaxbench.report import load_study, progress
from relaxbench.server import live as module
from relaxbench.server.live import Live
from relaxbench.server.wsgi import serving
from relaxbench.store.claims import worker_name
from relaxbench.store.database import open_database
from relaxbench.store.schema import Trial
from relaxbench.store.workers import arrive
from tests import browser, synthetic
from tests.barriers import barriers
from tests.browser import Visit
from tests.report.test_study_page import HOSTILE
from tests.server.test_wsgi import ask
from tests.study.coordination.test_manifest import DEAD

METHODS = ["sgd", "lookahead", "hj"]


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Engine]:
    """A finished study of two problems."""
    engine = open_database(str(tmp_path / "study.db"))
    synthetic.fill(synthetic.Writer(engine, asked()), {"hj": -2.0}, spread=0.35)
    yield engine
    engine.dispose()


def asked(**changes: Any) -> dict[str, Any]:
    problems = ["digits-mlp", "rosenbrock"]
    usual = {"problems": problems, "methods": METHODS, "controls": ["lookahead"], "trials": 3, "exploit": 4}
    return synthetic.spec(**{**usual, "recommend": 2, **changes})


@pytest.fixture
def live(database: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Live]:
    """A page that queries and writes at every call, without minimum intervals."""
    monkeypatch.setattr(module, "LOOK_SECONDS", 0.0)
    monkeypatch.setattr(module, "SHARE", 0)
    reader = open_database(str(tmp_path / "study.db"), create=False, read_only=True)
    yield Live(reader, None, tmp_path / "reports", every=0.0)
    reader.dispose()


def state(live: Live) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(live.state())
    return found


def lose(database: Engine, where: str) -> None:
    """Turn trials back into waiting ones."""
    with database.begin() as connection:
        connection.execute(text(f"UPDATE relaxbench_trials SET status = 'waiting', value = NULL WHERE {where}"))


# Numbers.

# Recommended runs come last: without all trials of the search there are none.
SEARCH = "OR phase = 'recommend'"
LOST = ["0", "phase = 'confirm'", f"block > 6 {SEARCH}", f"(method = 'hj' AND number = 2) {SEARCH}", "1"]


@pytest.mark.parametrize("lost", LOST)
def test_progress_equals_that_of_the_report(database: Engine, live: Live, lost: str) -> None:
    lose(database, lost)
    counts = progress(load_study(database))
    found = state(live)
    progress_rows = [
        (row["problem"], row["method"], phase, done, planned)
        for row in found["methods"]
        for phase, (done, planned) in row["phases"].items()
    ]
    about = synthetic.manifest(asked())
    titles = [about["problems"][row.problem]["title"] for row in counts.itertuples()]
    methods = [synthetic.TITLES[row.method] for row in counts.itertuples()]
    rows = zip(titles, methods, counts["phase"], counts["done"], counts["planned"], strict=True)
    assert progress_rows == [tuple(row) for row in rows]
    assert (found["done"], found["planned"]) == (counts["done"].sum(), counts["planned"].sum())
    assert found["finished"] == live.finished == (lost == "0")


def test_progress_reads_no_trial(live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "load_study", lambda *_: pytest.fail("trials were read"))
    assert state(live)["done"] > 0


def test_the_database_is_queried_at_most_once_per_interval(
    database: Engine, live: Live, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LOOK_SECONDS", 1000.0)
    before = state(live)
    lose(database, "1")
    assert state(live) == before


def test_present_and_lost_workers_are_shown(database: Engine, live: Live) -> None:
    presence = arrive(database, 1, worker_name(), "cuda:0", {})
    presence.doing, presence.finished = "digits-mlp sgd", 7
    presence.seen()
    arrive(database, 1, DEAD, "cpu", {})
    arrive(database, 1, "once:1:1", "cpu", {}).leave()
    with database.begin() as connection:
        held = update(Trial).where(Trial.number == 0, Trial.phase == "explore", Trial.block == 0)
        connection.execute(held.values(status="running", worker=DEAD))
    found = {row["name"]: row for row in state(live)["workers"]}
    assert found.keys() == {name.rpartition(":")[0] for name in (worker_name(), DEAD)}
    me, dead = (found[name.rpartition(":")[0]] for name in (worker_name(), DEAD))
    assert (me["device"], me["doing"], me["finished"], me["gone"]) == ("cuda:0", "digits-mlp sgd", 7, False)
    assert (dead["running"], dead["gone"]) == (6, True) and 0 <= me["silent"] < 60


# The report.


def test_the_report_is_rewritten_only_after_new_results(database: Engine, live: Live) -> None:
    assert state(live)["report"] is None
    live.report()
    page = live.directory / "digits.html"
    first = page.stat().st_mtime_ns
    found = state(live)
    assert found["report"] == "/digits.html" and abs(found["written"] - time.time()) < 60
    sentences = [sentence(result) for result in verdicts(load_study(database))]
    assert [row["sentence"].replace("\u00a0", " ") for row in found["verdicts"]] == sentences
    live.report()
    assert page.stat().st_mtime_ns == first
    with database.begin() as connection:
        connection.execute(text("UPDATE relaxbench_trials SET finished_at = 1.0 WHERE block = 0 AND phase = 'confirm'"))
    live.report()
    assert page.stat().st_mtime_ns > first


def test_reports_are_at_least_the_given_time_apart(
    database: Engine, live: Live, monkeypatch: pytest.MonkeyPatch
) -> None:
    live.every = 1000.0
    live.report()
    page = live.directory / "digits.html"
    first = page.stat().st_mtime_ns
    lose(database, "block = 9")
    live.report()
    assert page.stat().st_mtime_ns == first


def test_a_failed_report_is_shown_and_the_numbers_continue(live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> None:
        raise UserError("cannot write the report: disk full")

    monkeypatch.setattr(module, "write_report", fail)
    live.report()
    found = state(live)
    assert "disk full" in found["failure"] and found["report"] is None and found["done"] > 0


def test_a_damaged_study_is_reported(database: Engine, live: Live) -> None:
    with database.begin() as connection:
        connection.execute(text("UPDATE relaxbench_studies SET spec = '{'"))
    assert "JSONDecodeError" in state(live)["failure"]


def test_an_unknown_study_is_refused(database: Engine, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="unknown study 'digist'"):
        Live(database, "digist", tmp_path, 1.0)


# The files that are served.


def test_the_report_and_its_tables_are_served_and_nothing_else(live: Live, tmp_path: Path) -> None:
    live.report()
    for place in (tmp_path, live.directory):
        (place / "secret.txt").write_text("secret")
    (live.directory / "other.html").write_text("another study's")
    with serving(live) as address:
        for path, file in (("/digits.html", "digits.html"), ("/digits/blocks.csv", "digits/blocks.csv")):
            status, _, body = ask(address, path)
            assert status == 200 and body == (live.directory / file).read_bytes()
        assert ask(address, "/digits/blocks.csv")[1]["Content-Type"].startswith("text/csv")
        for path in (
            *("/secret.txt", "/../secret.txt", "/digits/../secret.txt", "/digits/../../secret.txt", "/other.html"),
            *("/%2e%2e/secret.txt", "/digits/%2e%2e/%2e%2e/secret.txt", "//etc/passwd", "/digits//etc/passwd"),
            *(f"/digits/{tmp_path}/secret.txt", "/digits/..%5csecret.txt", "/digits/", "/digits", "/study.db"),
        ):
            status, _, body = ask(address, path)
            assert status == 404 and b"secret" not in body, path


def test_the_page_shows_the_numbers_and_runs_no_code_in_names(tmp_path: Path, visit: Visit) -> None:
    engine = open_database(str(tmp_path / "hostile.db"))
    spec = synthetic.spec(name=HOSTILE[0], methods=["sgd", *HOSTILE], controls=[], trials=1, exploit=0, recommend=0)
    synthetic.fill(synthetic.Writer(engine, spec)).dispose()
    reader = open_database(str(tmp_path / "hostile.db"), create=False, read_only=True)
    live = Live(reader, None, tmp_path / "reports", every=1.0)
    live.report()
    total = 10 * 2 * len(spec["methods"])
    with serving(live) as address:
        for width in (1200, 390):
            page = visit.open(address, width)
            page.get_by_text(f"{total} of {total} trials are done. The study is finished: ").wait_for()
            assert page.locator("tr", has=page.locator("progress")).count() == len(spec["methods"])
            assert {*page.locator("tbody th").all_text_contents()} >= {*HOSTILE}
            assert not page.evaluate("'hacked' in window")
            assert browser.wide(page) <= 0 and barriers(page) == []
            page.goto("about:blank")  # before the server ends: the page queries it every two seconds
    reader.dispose()
