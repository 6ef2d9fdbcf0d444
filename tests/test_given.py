"""Objects that a program gives to a study, and their copies in its worker processes."""

from __future__ import annotations

import pickle
import sys
import threading
from contextvars import Context
from pathlib import Path

import pytest

from relaxbench import given
from relaxbench.errors import UserError


def test_objects_belong_to_their_block() -> None:
    assert given.lookup("problem", "a") is None and given.names("problem") == []
    with given.giving({("problem", "a"): 1, ("rule", "a"): 2}):
        with given.giving({("problem", "b"): 3}):
            assert given.lookup("problem", "a") is None and given.names("problem") == ["b"]
        assert (given.lookup("problem", "a"), given.lookup("rule", "a")) == (1, 2)
        assert given.names("problem") == given.names("rule") == ["a"] and given.names("optimizer") == []
    assert given.names("rule") == given.names() == []


def test_a_worker_receives_copies_also_of_what_a_program_defines(monkeypatch: pytest.MonkeyPatch) -> None:
    class Local:
        def __init__(self) -> None:
            self.value = lambda: 7

    own = Local()

    def worker() -> bool:
        given.receive()
        copied = given.lookup("problem", "a")
        return copied is not own and copied.value() == 7

    monkeypatch.syspath_prepend("/somewhere/else")
    with given.giving({("problem", "a"): own}), given.for_workers() as environment:
        file = Path(environment[given.FILE])
        assert file.parent.stat().st_mode & 0o077 == 0  # for nobody else: who may write it may run code here
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        sys.path.remove("/somewhere/else")
        assert Context().run(worker) and sys.path[-1] == "/somewhere/else"
    assert not file.parent.exists()
    with given.for_workers() as environment:
        assert environment == {}


def test_what_cannot_be_copied_is_named() -> None:
    objects = {("problem", "fine"): 1, ("rule", "locked"): threading.Lock()}
    with given.giving(objects), pytest.raises(UserError, match=r"rule 'locked' cannot be sent .* name the file$"):
        given.packed()
    with given.giving({("problem", "fine"): 1}):
        assert pickle.loads(given.packed())[0] == sys.path
