"""A storage's URL as people type it: mistyped ones are refused without their passwords, and told what to do."""

from __future__ import annotations

import traceback
from pathlib import Path

import pytest

from relaxbench.errors import UserError
from relaxbench.store.database import open_database
from relaxbench.store.urls import advice, parse_url, split_study
from tests import postgres

SECRETS = ("s3cr", "3tpw")


def refusal(storage: str) -> str:
    """The line with which a URL is refused, before anything is opened; no part of a password is in the error."""
    with pytest.raises(UserError) as error:
        parse_url(storage)
    assert not any(secret in "".join(traceback.format_exception(error.value)) for secret in SECRETS)
    return str(error.value)


@pytest.mark.parametrize(
    ("storage", "shown"),
    [
        ("tester:s3cr3tpw@127.0.0.1:5432/name", "tester:***@127.0.0.1:5432/name"),
        ("tester:s3c/r@s3cr3tpw@host/name", "tester:***@host/name"),
        ("postgresql:/tester:s3cr3tpw@host/name", "postgresql:***@host/name"),
        ("postgresql:tester:s3cr3tpw@host/name", "postgresql:***@host/name"),
        ("postgresql//tester:s3cr3tpw@host/name", "postgresql//tester:***@host/name"),
        ("postgres:/host/name", "postgres:/host/name"),
        ("sqlite:/study.db", "sqlite:/study.db"),
        ("host/name?user=me&password=s3cr3tpw", "host/name?user=me&password=***"),
        ("host=h password=s3cr3tpw dbname=name", "host=h password=*** dbname=name"),
    ],
)
def test_a_misspelt_url_is_not_taken_for_a_path(storage: str, shown: str, tmp_path: Path) -> None:
    assert refusal(storage) == (
        f"storage {shown!r} is not a database URL: expected sqlite:///file.db or postgresql+psycopg://user@host/name"
    )


@pytest.mark.parametrize("path", ["study.db", "me@home.db", "a b/c?d.db", "10:30.db", "sqlite.db", "../x=y&z.db"])
def test_a_path_is_a_sqlite_file(path: str) -> None:
    url = parse_url(path)
    assert (url.drivername, url.database) == ("sqlite", path)
    assert parse_url(f"sqlite:///{path.replace('?', '%3F')}").database == path


@pytest.mark.parametrize(
    "password", ["s3cr@3tpw", "s3cr@@3tpw", "s3cr@/3tpw", "s3cr/@3tpw", "s3cr:@3tpw", "s3cr?@3tpw", "@s3cr3tpw"]
)
def test_an_at_sign_in_a_password_hides_all_of_it_and_is_told_how_to_be_written(password: str) -> None:
    assert refusal(f"postgresql://tester:{password}@127.0.0.1:5432/name") == (
        "storage 'postgresql://tester:***@127.0.0.1:5432/name' has more than one @: write those of the user and the "
        "password as %40"
    )
    right = parse_url(f"postgresql://tester:{password.replace('@', '%40')}@127.0.0.1:5432/name")
    assert (right.password, right.host, right.port, right.database) == (password, "127.0.0.1", 5432, "name")


def test_a_user_s_name_may_hold_an_at_sign() -> None:
    assert parse_url("postgresql://me%40home:x@host/name").username == "me@home"


@pytest.mark.parametrize("storage", ["", "sqlite://", "sqlite:///:memory:"])
def test_a_sqlite_storage_that_is_no_file_is_refused(storage: str) -> None:
    assert refusal(storage).startswith(f"storage {storage!r} must be a file")


# What to do.


@pytest.mark.parametrize(
    ("end", "said", "todo"),
    [
        (":99999/name", "invalid port number", "expected a port from 1 to 65535"),
        (":1/name?color=red", 'invalid connection option "color"', "check what stands after the ? of the URL"),
    ],
)
def test_parts_of_a_url_that_the_driver_refuses_come_with_advice(end: str, said: str, todo: str) -> None:
    postgres.require()
    with pytest.raises(UserError) as error:
        open_database(f"postgresql://tester@127.0.0.1{end}")
    assert said in str(error.value) and str(error.value).endswith(f": {todo}")


@pytest.mark.parametrize(
    ("said", "todo"),
    [
        ("permission denied for table relaxbench_trials", "rights on the tables (GRANT SELECT, INSERT, UPDATE, DELETE"),
        ("permission denied for sequence relaxbench_trials_id_seq", "GRANT USAGE ON ALL SEQUENCES"),
        ("permission denied for schema public", "GRANT CREATE ON SCHEMA public"),
        ("must be owner of table relaxbench_trials", "the owner of the tables run python -m relaxbench upgrade"),
        ("database disk image is malformed", "the file is damaged"),
        ("'utf-8' codec can't decode byte 0xe8", "the file is damaged"),
        ("file is not a database", "the file is damaged"),
        ("attempt to write a readonly database", "that can be written"),
        ("cannot execute INSERT in a read-only transaction", "that can be written"),
    ],
)
def test_the_advice_follows_from_the_error_of_the_database(said: str, todo: str) -> None:
    assert todo in advice(Exception(said))


@pytest.mark.parametrize("storage", ["~/a.db", "sqlite:///~/a.db"])
def test_the_home_folder_is_where_a_tilde_leads(storage: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    open_database(storage).dispose()
    assert (tmp_path / "a.db").is_file() and not (tmp_path / "~").exists()


def test_a_study_may_stand_behind_its_database() -> None:
    assert split_study("a/b.db#digits") == ("a/b.db", "digits")
    assert split_study("sqlite:///b.db#a#b") == ("sqlite:///b.db#a", "b")
    assert split_study("a#b.db") == ("a#b.db", None) and split_study("b.db#") == ("b.db", None)
    assert split_study("sqlite:///a#b.db") == ("sqlite:///a#b.db", None)


def test_a_number_sign_may_stand_in_the_name_of_a_file(tmp_path: Path) -> None:
    for name in ("plain", "plain#1"):
        (tmp_path / name).touch()
    assert split_study(f"{tmp_path}/plain#1") == (f"{tmp_path}/plain#1", None)
    assert split_study(f"{tmp_path}/plain#2") == (f"{tmp_path}/plain", "2")
