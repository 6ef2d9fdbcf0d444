"""Where no server can be started, tests of one are skipped; where everything must be tested, they fail."""

from __future__ import annotations

import pytest

from tests import postgres


def test_a_missing_server_is_a_skip_here_and_a_failure_where_all_must_be_tested(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("CI", raising=False)
    with pytest.raises(pytest.skip.Exception, match=r"PostgreSQL's program 'no-such-program' is not installed"):
        postgres.require("no-such-program")
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match=r"cannot be skipped here: .*no-such-program"):
        postgres.require("no-such-program")


def test_a_server_that_was_killed_keeps_what_was_committed(server: postgres.Server) -> None:
    url = server.new_url()
    server.execute("CREATE TABLE t AS SELECT 7 AS x", url)
    server.restart()
    assert server.execute("SELECT x FROM t", url) == [(7,)]
    server.stop("fast")
    server.stop()  # already
    server.start()
    assert server.execute("SELECT x FROM t", url) == [(7,)]
