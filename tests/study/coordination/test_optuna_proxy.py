"""Optuna's tables behind its own gRPC proxy: workers give it their trials there, and wait for it when it is away."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import optuna
import pytest

from relaxbench.cli.main import main
from relaxbench.errors import UserError
from relaxbench.study.coordination import optuna_mirror, optuna_proxy
from tests.postgres import free_port
from tests.study import tiny
from tests.study.results import told_to_optuna

pytestmark = pytest.mark.usefixtures("steady")


class Proxy:
    """Optuna's server in this process, in front of a study's own database."""

    def __init__(self, folder: Path, port: int) -> None:
        from optuna.storages._grpc.server import make_server

        self.storage = optuna.storages.RDBStorage(f"sqlite:///{folder / 'study.db'}")
        self.server: Any = make_server(self.storage, "127.0.0.1", port, ThreadPoolExecutor(4))
        self.server.start()

    def stop(self) -> None:
        self.server.stop(None).wait()
        self.storage.engine.dispose()


@pytest.fixture
def port() -> Iterator[int]:
    pytest.importorskip("grpc")
    return free_port()


def test_trials_reach_optuna_through_the_proxy_alone(
    tmp_path: Path, port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(database: Any) -> None:
        raise AssertionError("Optuna's tables were reached directly")

    monkeypatch.setattr(optuna_mirror, "optuna_storage", never)
    tiny.run(tmp_path, tiny.spec(), lambda: True)  # there is a database to serve
    server = Proxy(tmp_path, port)
    try:
        assert tiny.run(tmp_path, tiny.spec(), optuna=f"127.0.0.1:{port}").missing == 0
    finally:
        server.stop()
    rows = [row for row in tiny.rows(tmp_path) if row.phase in ("explore", "exploit")]
    assert all(row.mirrored for row in rows)
    with told_to_optuna(tmp_path) as storage:
        trials = [trial for study in storage.get_all_studies() for trial in storage.get_all_trials(study._study_id)]
    assert {t.user_attrs[optuna_mirror.ID]: t.value for t in trials} == {row.id: row.value for row in rows}
    assert {trial.state for trial in trials} == {optuna.trial.TrialState.COMPLETE}


def test_a_proxy_that_goes_away_is_waited_for(
    tmp_path: Path, port: int, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny.run(tmp_path, tiny.spec(), lambda: True)
    monkeypatch.setattr(optuna_proxy, "reach", lambda address: None)  # it was there when the study began
    late: list[Proxy] = []

    def begin() -> None:
        while not any(record.message.startswith("the database does not answer") for record in caplog.records):
            time.sleep(0.1)
        late.append(Proxy(tmp_path, port))

    thread = threading.Thread(target=begin)
    thread.start()
    with caplog.at_level(logging.WARNING, "relaxbench"):
        summary = tiny.run(tmp_path, tiny.spec(), optuna=f"127.0.0.1:{port}")
    thread.join()
    late[0].stop()
    assert summary.missing == 0
    assert all(row.mirrored for row in tiny.rows(tmp_path) if row.phase in ("explore", "exploit"))
    first, second = caplog.messages
    assert f"Optuna's gRPC storage proxy at 127.0.0.1:{port} cannot be reached" in first
    assert second.startswith("the database answers again")


def test_a_missing_proxy_is_reported_before_anything_is_run(
    tmp_path: Path, port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(optuna_proxy, "READY_SECONDS", 0.2)
    with pytest.raises(UserError, match="no gRPC storage proxy of Optuna answers at"):
        tiny.run(tmp_path, tiny.spec(), optuna=f"127.0.0.1:{port}")
    assert {row.status for row in tiny.rows(tmp_path)} == {"waiting"}


@pytest.mark.parametrize("address", ["here", "here:", ":13000", "here:0", "here:65536", "grpc://here:13000"])
def test_an_invalid_address_is_refused(address: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    storage = ["--storage", f"sqlite:///{tmp_path / 'x.db'}", "--optuna", address]
    for command in (["study", "--problem", "rosenbrock"], ["worker", "rosenbrock"]):
        assert main([*command, *storage]) == 2
        assert capsys.readouterr().err == f"relaxbench: --optuna {address!r}: expected HOST:PORT\n"
