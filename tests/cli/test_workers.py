"""Workers: what is refused, the rights that a database user needs, and freeing trials by hand."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, select

from relaxbench.cli.main import main
from relaxbench.store.claims import Claims
from relaxbench.store.database import open_database
from relaxbench.store.schema import Study, Trial
from relaxbench.store.workers import arrive, workers
from tests.cli.commands import SPEC, nothing_written, printed, refused
from tests.postgres import Server, free_port
from tests.study import tiny
from tests.study.coordination.test_manifest import DEAD

pytestmark = pytest.mark.usefixtures("study_file")


def trials(database: Engine) -> list[Any]:
    with database.connect() as connection:
        return list(connection.execute(select(Trial.__table__)))


BAD: list[tuple[tuple[str, ...], str]] = [
    (("study", "--workers", "0"), "0 workers: expected 1 to 1024 (option --workers)"),
    (("study", "--workers", "two"), "--workers"),
    (("study", "--devices", "gpu"), "'gpu' is no device: expected cpu, or cuda:0,cuda:1 and so on (option --devices)"),
    (("study", "--devices", ""), "'' is no device"),
    (("study", "--devices", "cpu,cuda:0"), "a study runs on one kind of device, cuda or cpu"),
    (("study", "--devices", "cpu", "--device", "cuda:77"), "cuda:77"),
    (("study", "--device", "gpu", "--workers", "2"), "'gpu'"),
    (("study", "--devices", "cuda:77"), "device 'cuda:77' is not there (no CUDA device is usable here): use cpu, or"),
    (("study", "--devices", "cuda:99999"), "device 'cuda:99999' is not there"),
    (("study", "--per-device", "0"), "0 workers per device: expected 1 to 1024 (option --per-device)"),
    (("study", "--workers", "3", "--per-device", "2", "--device", "cpu"), "3 workers do not fit on 1 device"),
    (("study", "--retries", "-1"), "--retries -1: expected 0 to 1000"),
    (("study", "--retries", "9" * 20), f"--retries {'9' * 20}: expected 0 to 1000"),
    (("study", "tiny.toml", "--name", "x" * 201), "xxx': expected at most 200 characters"),
    (("study", "--workers", "2", "--population", "0"), "--population 0: expected 1 to 100,000 trials"),
    (("worker", "tiny"), "'sqlite:///relaxbench.db' does not exist"),
    (("worker",), "'study'"),
    (("worker", "tiny", "--retries", "-1"), "--retries -1: expected 0 to 1000"),
    (("worker", "tiny", "--retries", "1001"), "--retries 1001: expected 0 to 1000"),
    (("worker", "tiny", "--checkpoints", ""), "'--checkpoints': '' names no file or folder"),
    (("worker", "tiny", "--population", "0"), "--population 0: expected 1 to 100,000 trials"),
    (("worker", "tiny", "--checkpoints", "/dev/null"), "--checkpoints '/dev/null'"),
    (("worker", "tiny", "--data-dir", "no/such"), "--data-dir 'no/such' is not a folder"),
    (("worker", "nobody", "--storage", "study.db"), "unknown study 'nobody': did you mean"),
    (("worker", "tiny", "--storage", "study.db", "--device", "gpu"), "'gpu'"),
    (("worker", "tiny", "--storage", "study.db", "--problem", "none.py"), "'none.py' does not exist"),
    (("worker", "none.toml", "--storage", "study.db"), "'none.toml' does not exist"),
    (("status",), "does not exist"),
    (("status", "tyni", "--storage", "study.db"), "unknown study 'tyni': did you mean 'tiny'?"),
    (("reap",), "does not exist"),
    (("reap", "tyni", "--storage", "study.db"), "unknown study 'tyni': did you mean 'tiny'?"),
    (("reap", "--worker", "host:1", "--storage", "study.db"), "'host:1' has none to free (option --worker)"),
    (("stress", "--json", "."), "--json '.' is a folder: name a file in it"),
    (("stress", "--json", "tiny.toml/x.json"), "--json 'tiny.toml/x.json': "),
    (
        ("stress", "--json", "/proc/nowhere/x.json"),
        "'/proc/nowhere/x.json': the folder '/proc/nowhere' does not exist",
    ),
]


@pytest.mark.parametrize(("arguments", "words"), BAD, ids=lambda value: " ".join(value) if type(value) is tuple else "")
def test_bad_input_is_one_line_and_code_2(
    arguments: tuple[str, ...], words: str, database: Engine, capsys: pytest.CaptureFixture[str]
) -> None:
    if "nobody" in arguments:
        words = "unknown study 'nobody'"
    with database.connect() as connection:
        before = connection.execute(select(Study.__table__)).all()
    with nothing_written():
        line = refused(capsys, *arguments)
    assert words in line
    with database.connect() as connection:
        assert connection.execute(select(Study.__table__)).all() == before


def test_a_proxy_that_is_not_there_is_refused_before_a_database_is_made(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("grpc")
    from relaxbench.study.coordination import optuna_proxy

    monkeypatch.setattr(optuna_proxy, "READY_SECONDS", 0.2)
    for more in ((), ("--workers", "2")):
        said = refused(capsys, "study", "tiny.toml", "--device", "cpu", "--optuna", f"127.0.0.1:{free_port()}", *more)
        assert "no gRPC storage proxy of Optuna answers at" in said


def test_rights_that_are_wanting_are_one_line_and_those_that_are_advised_suffice(
    server: Server, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """For another user of the database than the one who began the study."""
    url = server.new_url()
    engine = open_database(url)
    tiny.settle(engine, SPEC)
    server.execute("CREATE USER guest")
    server.execute("GRANT SELECT ON ALL TABLES IN SCHEMA public TO guest", url)
    at = ("--storage", url.replace("tester@", "guest@"))
    cpu = ("--device", "cpu")
    Claims(engine, 1, DEAD).take("rosenbrock", "sgd", 2)  # of whom there is something to free
    for line in ("status", "show"):
        assert "rosenbrock" in printed(capsys, line, *at)
    for line in (("reap",), ("worker", "tiny", *cpu), ("study", "tiny.toml", "--no-report", *cpu)):
        assert main([*line, *at]) == 2
        err = capsys.readouterr().err
        assert err.count("\n") == 1 and "permission denied for table relaxbench_" in err
        assert "GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES" in err and "GRANT CREATE" not in err
    assert {row.status for row in trials(engine)} == {"waiting", "running"}
    (advised,) = re.findall(r"\((GRANT.*)\)", err)
    for grant in advised.split(", GRANT "):
        server.execute(f"GRANT {grant.removeprefix('GRANT ')} TO guest", url)
    assert "2 trials freed" in printed(capsys, "reap", *at)
    presence = arrive(open_database(at[1], create=False), 1, "guest:1:1", "cpu", {})
    presence.leave()
    assert [row.name for row in workers(engine, 1)] == ["guest:1:1"]
    engine.dispose()
    presence.engine.dispose()


def test_a_file_that_is_damaged_is_one_line(database: Engine, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """In the pages of a table: the file can still be opened."""
    with database.connect() as connection:
        query = "SELECT rootpage FROM sqlite_master WHERE name = 'relaxbench_trials'"
        page = connection.exec_driver_sql(query).scalar_one()
        size = connection.exec_driver_sql("PRAGMA page_size").scalar_one()
    database.dispose()
    with Path("study.db").open("r+b") as file:
        file.seek((page - 1) * size)
        file.write(b"\xff" * size)
    for line in (("status",), ("show",)):
        said = refused(capsys, *line, "--storage", "study.db")
        assert "(database disk image is malformed): the file is damaged: restore a copy of it" in said


def test_status_and_reap_by_hand(database: Engine, capsys: pytest.CaptureFixture[str]) -> None:
    Claims(database, 1, DEAD).take("rosenbrock", "sgd", 3)
    at = ("--storage", "study.db")
    out = printed(capsys, "status", *at)
    assert "Study tiny" in out and "No worker is running." in out
    assert re.search(r"^  sgd\s+\d+\s+3\s+0\s+0$", out, re.MULTILINE)
    assert printed(capsys, "reap", "tiny", *at) == "3 trials freed\n"
    assert printed(capsys, "reap", *at) == "0 trials freed\n"
    Claims(database, 1, "far:1:1").take("rosenbrock", "heat", 1)
    assert printed(capsys, "reap", *at, "--worker", "far:1") == "1 trial freed\n"
    Claims(database, 1, "far:1:1").take("rosenbrock", "heat", 2)
    assert printed(capsys, "reap", *at, "--all") == "2 trials freed\n"
    mine = Claims(database, 1, retries=0)
    mine.take("rosenbrock", "heat", 2)
    mine.fail("no")
    assert printed(capsys, "reap", *at, "--failed") == "0 trials freed, 2 to be retried\n"
    assert {row.status for row in trials(database)} == {"waiting"}
