"""Processes of tests that are forked behave as those that a person starts."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.processes import ROOT, Forked, run

SCRIPT = """
import atexit, os, signal, sys
atexit.register(print, "at the end")
print(sys.argv[1:], os.getcwd(), os.environ["ONE"], "HOME" in os.environ, __name__, sys.path[0], sys.stdin.read())
print(signal.getsignal(signal.SIGINT) is signal.default_int_handler, os.get_inheritable(2), os.isatty(1))
print("told", file=sys.stderr)
import neighbour
sys.exit(neighbour.code)
"""


@pytest.mark.parametrize("arguments", [("file",), ("-m", "module"), ("-c", SCRIPT), ("-m", "relaxbench", "--version")])
def test_a_forked_process_is_as_one_of_an_interpreter(arguments: tuple[str, ...], tmp_path: Path) -> None:
    for name in ("file", "module.py"):
        (tmp_path / name).write_text(SCRIPT)
    (tmp_path / "neighbour.py").write_text("code = 3")
    options = {"cwd": tmp_path, "env": {"ONE": "1", "PYTHONPATH": f"{ROOT}{os.pathsep}{tmp_path}"}}
    forked = run([*arguments, "a b"], **options)
    done = subprocess.run(
        [sys.executable, *arguments, "a b"], capture_output=True, text=True, check=False, input="", **options
    )
    assert (forked.returncode, forked.stderr) == (done.returncode, done.stderr)
    assert forked.stdout == done.stdout != ""


def test_signals_end_it_and_each_is_forked_from_the_same_state() -> None:
    first = Forked(["-c", "import signal; signal.pause()"])
    assert first.poll() is None
    with pytest.raises(subprocess.TimeoutExpired):
        first.wait(0.01)
    first.terminate()
    assert first.wait(60) == first.poll() == -signal.SIGTERM
    first.kill()  # nothing happens to whoever has its number now
    assert run(["-c", "import json; json.mine = 1"]).returncode == 0
    failed = run(["-c", "import json; json.mine"])
    assert failed.returncode == 1 and failed.stderr.endswith("AttributeError: module 'json' has no attribute 'mine'\n")
