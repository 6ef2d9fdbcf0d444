"""optuna-dashboard shows a study's trials, and cannot change them."""

from __future__ import annotations

import io
import json
import sqlite3
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any
from wsgiref.util import setup_testing_defaults

import optuna
import pytest
from sqlalchemy import text

from relaxbench.errors import UserError
from relaxbench.server.dashboard import dashboard_app
from relaxbench.server.wsgi import serving
from relaxbench.store.database import open_database
from relaxbench.study.coordination.optuna_mirror import open_optuna
from tests.postgres import Server
from tests.server.test_wsgi import ask
from tests.store.conftest import add_study

if TYPE_CHECKING:
    from wsgiref.types import WSGIApplication

# The requests of the dashboard's own buttons.
WRITES = [
    ("DELETE", "/api/studies/1", {}),
    ("PUT", "/api/studies/1/note", {"body": "changed", "version": 1}),
    ("PUT", "/api/studies/1/1/note", {"body": "changed", "version": 1}),
    ("POST", "/api/studies", {"study_name": "another", "directions": ["minimize"]}),
    ("POST", "/api/studies/1/rename", {"study_name": "renamed"}),
    ("POST", "/api/trials/1/user-attrs", {"user_attrs": {"x": 1}}),
]


def fill(storage: str) -> str:
    """A database with a study of ours and one of Optuna's that has three trials."""
    engine = open_database(storage)
    add_study(engine)
    with open_optuna(engine) as rdb:
        study = optuna.create_study(storage=rdb, study_name="s/digits-mlp/sgd/explore")
        study.optimize(lambda trial: trial.suggest_float("lr", 0, 1), n_trials=3)
        rdb.remove_session()
    engine.dispose()
    return storage


@pytest.fixture
def file(tmp_path: Path) -> Path:
    file = tmp_path / "study.db"
    fill(str(file))
    return file


def call(app: WSGIApplication, method: str, path: str, data: Any = None) -> tuple[int, bytes]:
    """Status and body of the application itself, without the server that refuses writes."""
    body = json.dumps(data).encode()
    environ: dict[str, Any] = {"REQUEST_METHOD": method, "PATH_INFO": path, "wsgi.input": io.BytesIO(body)}
    environ |= {"CONTENT_TYPE": "application/json", "CONTENT_LENGTH": str(len(body))}
    setup_testing_defaults(environ)
    status: list[str] = []
    parts = app(environ, lambda line, headers, error=None: status.append(line) or (lambda data: None))  # type: ignore[func-returns-value]
    return int(status[0].split()[0]), b"".join(parts)


def dump(file: Path) -> list[str]:
    connection = sqlite3.connect(f"{file.as_uri()}?mode=ro", uri=True)
    try:
        return list(connection.iterdump())
    finally:
        connection.close()


def test_trials_are_shown_and_the_file_is_unchanged(file: Path) -> None:
    before, bytes_before = dump(file), file.read_bytes()
    with dashboard_app(str(file)) as app:
        with serving(app) as address:
            studies = json.loads(ask(address, "/api/studies")[2])["study_summaries"]
            assert [study["study_name"] for study in studies] == ["s/digits-mlp/sgd/explore"]
            assert len(json.loads(ask(address, "/api/studies/1?after=0")[2])["trials"]) == 3
            assert b"<html" in ask(address, "/dashboard")[2]
            assert {ask(address, path, method)[0] for method, path, _ in WRITES} == {405}
        # Both the server and the database refuse writes; here the server is left out.
        assert {call(app, *write)[0] for write in WRITES} == {500}
    assert dump(file) == before and file.read_bytes() == bytes_before


def test_these_writes_would_succeed_on_a_database_that_can_be_written(file: Path) -> None:
    from optuna_dashboard import wsgi

    before = dump(file)
    engine = open_database(str(file))
    with open_optuna(engine) as rdb:
        assert call(wsgi(rdb), *WRITES[1])[0] == 204
        rdb.remove_session()
    engine.dispose()
    assert dump(file) != before


def test_new_trials_are_seen_while_it_runs(file: Path) -> None:
    with dashboard_app(str(file)) as app:
        engine = open_database(str(file))
        with open_optuna(engine) as rdb:
            optuna.create_study(storage=rdb, study_name="later")
            rdb.remove_session()
        engine.dispose()
        assert b'"later"' in call(app, "GET", "/api/studies")[1]


def test_missing_or_other_tables_of_optuna_are_reported(file: Path, tmp_path: Path) -> None:
    bare = tmp_path / "bare.db"
    open_database(str(bare)).dispose()
    with pytest.raises(UserError, match=r"'sqlite:.*bare\.db' has no trials of Optuna yet"):
        dashboard_app(str(bare)).__enter__()
    with sqlite3.connect(file) as connection:
        connection.execute("UPDATE alembic_version SET version_num = 'v9.9.9'")
    connection.close()
    with pytest.raises(UserError, match=r"cannot be shown \(The runtime optuna version"):
        dashboard_app(str(file)).__enter__()
    with pytest.raises(UserError, match="does not exist"):
        dashboard_app(str(tmp_path / "none.db")).__enter__()


def test_without_the_extra_the_error_says_what_to_install(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "optuna_dashboard", None)
    with pytest.raises(UserError, match=r"pip install 'relaxbench\[dashboard\]'"):
        dashboard_app(str(file)).__enter__()


def test_postgresql_is_read_only_too(server: Server) -> None:
    storage = fill(server.new_url())
    with dashboard_app(storage) as app:
        assert b"s/digits-mlp/sgd/explore" in call(app, "GET", "/api/studies")[1]
        assert {call(app, *write)[0] for write in WRITES} == {500}
    engine = open_database(storage, create=False)
    with engine.connect() as connection:
        names = list(connection.scalars(text("SELECT study_name FROM studies")))
    engine.dispose()
    assert names == ["s/digits-mlp/sgd/explore"]


def test_errors_contain_no_password() -> None:
    with pytest.raises(UserError) as refusal:
        dashboard_app("postgresql+psycopg://me:secret@127.0.0.1:1/none?connect_timeout=2").__enter__()
    assert "secret" not in str(refusal.value) and "***" in str(refusal.value)
