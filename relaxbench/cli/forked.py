"""Start the workers of a machine from one process that has imported what they need.

Importing PyTorch takes a process two seconds of a core. A fork of a process that has it spares that, and shares
its memory. Only for workers on the CPU, because CUDA does not survive a fork, and only on Linux, because system
libraries of others do not either.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from multiprocessing import forkserver
from pathlib import Path

from relaxbench.util.unimported import main_unimported

IMPORTED = [
    "relaxbench.util.importing",  # first: the others take a quarter less time
    "alembic.context",
    "optuna.storages",
    "relaxbench.cli.forked",
    "relaxbench.store.soundness",
    "relaxbench.study.execution.join",
    "relaxbench.study.execution.run",
    "rich.live",
    "rich.progress_bar",
    "rich.table",
    "torch.fx.experimental.symbolic_shapes",  # at its first vectorized loss
    "typer",
]
"""What a worker imports. Not the console, which asks at its import what it writes to."""

LONG_GRADIENTS = 100_000
"""Gradients of a study that several workers are likely to share: some 10 s of one worker on the digits."""
BLOCKS, TRIALS, BUDGET, METHODS = 40, 12, 600, 3
"""Of a study that does not say otherwise, as in `StudySpec`, which imports PyTorch; the budget is the digits', and a
study without a file has at least these methods."""


def can_fork(devices: Sequence[str]) -> bool:
    """Whether the workers of these devices can be forked."""
    return sys.platform == "linux" and set(devices) == {"cpu"}


def long(
    file: str | None, looks: str | None, trials: int | None, budget: int | None, methods: Sequence[str] | None
) -> bool:
    """Guess whether a study has work for several workers, before anything is imported that knows.

    A wrong guess costs the time of a second core, or the workers' imports after those of the command.

    Args:
        file: of the study; what is wrong with it is said later.
        looks: of the command line, like the others, which go before what the file says.
        trials: per block.
        budget: of a trial.
        methods: which are compared with the baseline.
    """
    given = {"looks": looks and [looks.split(",")[-1]], "trials": trials, "budget": budget, "methods": methods}
    try:
        values = tomllib.loads(Path(file).read_text()) if file is not None else {}
        values |= {key: value for key, value in given.items() if value}
        blocks, trials_of_block = int(values.get("looks", [BLOCKS])[-1]), int(values.get("trials", TRIALS))
        methods_in_all = len(values["methods"]) if "methods" in values else METHODS
        gradients = blocks * trials_of_block * int(values.get("budget", BUDGET)) * methods_in_all
    except (ArithmeticError, LookupError, OSError, RecursionError, TypeError, ValueError):
        return False
    return gradients >= LONG_GRADIENTS


def prepare() -> None:
    """Start the process that workers are forked from: it imports what they need while this one imports the same.

    Without an effect where workers are not forked.
    """
    if can_fork(["cpu"]):
        multiprocessing.get_context("forkserver").set_forkserver_preload(IMPORTED)
        with ignored(signal.SIGINT):  # the process inherits this: Ctrl-C while it imports is for the command alone
            forkserver.ensure_running()


@contextmanager
def ignored(number: signal.Signals) -> Iterator[None]:
    """Ignore a signal for a moment. Python lets the main thread alone do so; in another one, nothing changes."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(number, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(number, before)


class ForkedWorker:
    """A worker process, with the methods of a `subprocess.Popen` that a supervisor calls.

    Args:
        command: of the worker: an interpreter, ``-m``, ``relaxbench``, then the arguments.
        environment: all of it.
        log: file for its output.
    """

    def __init__(self, command: list[str], environment: Mapping[str, str], log: Path) -> None:
        prepare()
        context = multiprocessing.get_context("forkserver")
        self._process = context.Process(target=_work, args=(command[3:], dict(environment), str(log)))
        with main_unimported():
            self._process.start()
        assert self._process.pid is not None
        self.pid = self._process.pid

    def poll(self) -> int | None:
        """Return the exit code, negative for a signal; None while it runs."""
        return self._process.exitcode

    def wait(self) -> int | None:
        """Wait for its end; return the exit code."""
        self._process.join()
        return self._process.exitcode

    def send_signal(self, number: int) -> None:
        """Send a signal, unless it has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        """Send SIGTERM, unless it has ended."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """Send SIGKILL, unless it has ended."""
        self.send_signal(signal.SIGKILL)


def _work(arguments: list[str], environment: dict[str, str], log: str) -> None:
    """Be a worker: in the forked process."""
    os.setsid()
    signal.signal(signal.SIGINT, signal.default_int_handler)  # as in an interpreter that has just started
    with open(log, "ab") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    os.environ.clear()
    os.environ.update(environment)

    import torch

    from relaxbench.cli.main import main

    torch.set_num_threads(int(environment["OMP_NUM_THREADS"]))  # OpenMP has read its variable already
    sys.exit(main(arguments))
