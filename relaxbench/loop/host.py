"""A process that runs a script once for every trial: ``python -m relaxbench.loop.host SCRIPT``.

It imports what the script imports, once, and forks for every trial, because importing a framework takes seconds. Jobs
come as lines on its standard input. Messages leave as lines on its standard output, of the running trial and, last,
of its end. What the script prints goes to a file, of which the end is told if it fails. When the input closes, because
the worker has ended in whatever way, the trial ends too.
"""

from __future__ import annotations

import ast
import atexit
import contextlib
import gc
import importlib
import io
import json
import os
import resource
import select
import signal
import sys
import tempfile
import threading
import traceback
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from relaxbench.loop.current import give, taken
from relaxbench.loop.job import GO_ON, PRUNE, STOP, Job
from relaxbench.loop.trial import Trial, TrialOver

THREADED = {"equinox", "flax", "haiku", "jax", "keras", "optax", "tensorflow"}
"""Packages that are not forked once imported: they start threads."""
AHEAD = {"torch._dynamo": "torch"}
"""What a package imports at its first use: the first step of an optimizer of PyTorch takes seconds."""
LONGEST_OUTPUT = 4000
"""Bytes of the end of a script's output that are told."""


def main(path: str) -> None:
    """Serve until the input closes."""
    pipe = os.dup(1)
    os.dup2(2, 1)
    sys.argv = [path]
    sys.path.insert(0, str(Path(path).resolve().parent))
    try:
        text = Path(path).read_bytes()
        code, tree = compile(text, path, "exec", dont_inherit=True), ast.parse(text)
    except (OSError, SyntaxError, ValueError) as error:
        where = f" (line {error.lineno})" if isinstance(error, SyntaxError) else ""
        reason = error.msg if isinstance(error, SyntaxError) else str(error)
        _write(pipe, {"kind": "broken", "error": f"{type(error).__name__}: {reason}{where}"})
        return
    if sys.platform == "linux":  # elsewhere, system libraries do not survive a fork
        gc.disable()  # what is imported stays: looking for garbage in it takes a quarter of the time
        _import_ahead(tree, Path(path).resolve().parent)
        gc.enable()
    gc.freeze()  # what is imported stays: forks need not look at it, and so share its memory
    wake, woken = os.pipe()
    for end in (wake, woken):
        os.set_blocking(end, False)
    signal.set_wakeup_fd(woken)
    signal.signal(signal.SIGCHLD, lambda number, frame: None)
    _write(pipe, {"kind": "ready"})
    lines = _Lines(0)
    while (line := lines.wait()) is not None:
        if line.strip() not in (STOP, PRUNE, GO_ON):  # words for a trial that had ended
            _run(line, code, path, pipe, lines, wake)


class _Lines:
    """Lines of a file descriptor, read without blocking longer than wished."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor, self._rest, self.closed = descriptor, b"", False

    def wait(self) -> str | None:
        """Return the next line; None when the other end has closed."""
        while (line := self.next()) is None and not self.closed:
            select.select([self.descriptor], [], [])
            self.read()
        return line

    def read(self) -> None:
        """Take what there is."""
        data = os.read(self.descriptor, 65536)
        self.closed = not data
        self._rest += data

    def next(self) -> str | None:
        """Return a complete line, or None."""
        line, newline, rest = self._rest.partition(b"\n")
        if not newline:
            return None
        self._rest = rest
        return line.decode()


def _run(line: str, code: types.CodeType, path: str, pipe: int, lines: _Lines, wake: int) -> None:
    """Run a trial in a forked process; tell how it ended."""
    heard, answers = os.pipe()
    with tempfile.TemporaryFile() as output, open(heard, "rb", 0) as hearing, open(answers, "wb", 0) as answering:
        child = os.fork()
        if child == 0:
            answering.close()
            _be_script(Job.of(line), code, path, pipe, output, hearing)  # does not return
        with contextlib.suppress(OSError):
            os.setpgid(child, child)
        status, usage = _wait(child, lines, wake, answering)
        output.seek(max(0, output.seek(0, os.SEEK_END) - LONGEST_OUTPUT))
        told = output.read().decode(errors="replace")
    unit = 1 if sys.platform == "darwin" else 1024
    _write(pipe, {"kind": "exit", "status": status, "output": told, "peak_bytes": usage.ru_maxrss * unit})


def _wait(child: int, lines: _Lines, wake: int, answering: io.FileIO) -> tuple[int, resource.struct_rusage]:
    """Wait for a trial's process, pass answers on, and end it if asked to, or if nobody is there to ask any longer."""
    while True:
        done, status, usage = os.wait4(child, os.WNOHANG)
        if done:
            _kill(child)  # processes that the script has left behind
            return os.waitstatus_to_exitcode(status), usage
        ready, _, _ = select.select([lines.descriptor, wake], [], [], 1.0)
        if wake in ready:
            with contextlib.suppress(BlockingIOError):
                os.read(wake, 512)
        if lines.descriptor in ready:
            lines.read()
            while (line := lines.next()) in (PRUNE, GO_ON):
                answering.write(b"1" if line == PRUNE else b"0")
            if lines.closed or line == STOP:
                _kill(child)
        if lines.closed:
            os.waitpid(child, 0)
            os._exit(1)


def _kill(child: int) -> None:
    """End the process group of a trial."""
    with contextlib.suppress(OSError):
        os.killpg(child, signal.SIGKILL)
    with contextlib.suppress(OSError):
        os.kill(child, signal.SIGKILL)


def _be_script(job: Job, code: types.CodeType, path: str, pipe: int, output: BinaryIO, hearing: io.FileIO) -> None:
    """Run the script as ``python SCRIPT`` would, and end this process."""
    os.setpgid(0, 0)
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    for stream in (1, 2):
        os.dup2(output.fileno(), stream)
    trial = Trial(job, lambda message: _write(pipe, message), lambda: hearing.read(1) == b"1")
    give(trial)
    module = types.ModuleType("__main__")
    module.__file__ = path
    sys.modules["__main__"] = module
    status, left = 0, False
    try:
        exec(code, module.__dict__)
    except SystemExit as end:
        failed = end.code not in (None, 0)
        if failed:
            _write(pipe, {"kind": "error", "error": f"SystemExit: {end.code}"})
        status, left = int(failed), not isinstance(end, TrialOver)
    except BaseException as error:
        traceback.print_exc()
        _write(pipe, {"kind": "error", "error": _described(error, path)})
        status = 1
    seconds, gradients = trial.seconds()
    spent = {"billed": trial.billed, "seconds": seconds, "gradients": gradients}
    _write(pipe, {"kind": "end", **spent, "taken": taken(), "left": left})
    _leave(status)


def _leave(status: int) -> None:
    """End this process as Python does, but without freeing every object that the host has imported: that takes long."""
    for thread in threading.enumerate():
        if thread is not threading.current_thread() and not thread.daemon:
            thread.join()
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    os._exit(status)


def _described(error: BaseException, path: str) -> str:
    """Return an exception in one line, with the line of the script in which it was raised."""
    words = " ".join(str(error).split())[:300]
    places = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == path]
    where = f" (line {places[-1]} of {Path(path).name})" if places else ""
    return f"{type(error).__name__}{': ' if words else ''}{words}{where}"


def _write(pipe: int, message: dict[str, Any]) -> None:
    os.write(pipe, json.dumps(message).encode() + b"\n")


def _import_ahead(tree: ast.Module, folder: Path) -> None:
    """Import the installed modules that a script imports; its own ones are imported anew by every trial."""
    names = list(_imported(tree))
    if any(name.partition(".")[0] in THREADED for name in names):
        return
    for name in [*names, *AHEAD]:
        if name in AHEAD and AHEAD[name] not in sys.modules:
            continue
        top = name.partition(".")[0]
        if (folder / f"{top}.py").exists() or (folder / top).is_dir():
            continue
        with contextlib.suppress(Exception, SystemExit):  # the trial itself will say what fails
            importlib.import_module(name)


def _imported(tree: ast.Module) -> Iterator[str]:
    """The modules that are imported at the top of a script."""
    for node in tree.body:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module


if __name__ == "__main__":
    main(sys.argv[1])
