"""Processes of tests that begin within milliseconds: forks of one that has imported PyTorch and more.

Each is a process as a person starts it: its arguments, environment, folder and streams, its signals and its exit code
are its own. What a command imports before its first line is not: a test of that starts an interpreter.
"""

from __future__ import annotations

import atexit
import contextlib
import fcntl
import gc
import importlib
import json
import os
import runpy
import select
import signal
import socket
import struct
import subprocess
import sys
import threading
import traceback
import types
import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from multiprocessing import util
from pathlib import Path
from typing import IO, Any, NoReturn

from relaxbench.cli.forked import IMPORTED

ROOT = Path(__file__).parents[1]
LARGEST = 2**20
"""Bytes of a request: mostly the environment."""

NUMBER = struct.Struct("i")
SHARED = "RELAXBENCH_TESTS_PROCESSES"
"""Environment variable: where the process that forks listens, if several processes of tests share one."""

OFTEN = ("relaxbench.report", "sklearn.datasets", "torch._dynamo", "torch.func", "tests.study.tiny")
"""Imported for the forks, many of which would import it themselves."""

_server: socket.socket | None = None


class Forked:
    """A Python process, with the arguments, attributes and methods of `subprocess.Popen` that tests use.

    Args:
        arguments: of the interpreter: ``-m module``, ``-c code`` or a file, then its own.
        cwd: its folder.
        env: its whole environment.
        stdin, stdout, stderr: ``subprocess.PIPE``, a file, or None for those of this process; ``stderr`` may be
            ``subprocess.STDOUT``.
    """

    def __init__(
        self,
        arguments: list[str],
        *,
        cwd: Path | str | None = None,
        env: Mapping[str, str] | None = None,
        stdin: int | IO[Any] | None = None,
        stdout: int | IO[Any] | None = None,
        stderr: int | IO[Any] | None = None,
    ) -> None:
        self.args = arguments
        self.returncode: int | None = None
        self.stdin, own_in = _pipe(stdin, 0, "w")
        self.stdout, own_out = _pipe(stdout, 1, "r")
        self.stderr, own_err = (None, own_out) if stderr == subprocess.STDOUT else _pipe(stderr, 2, "r")
        self._status, own_status = os.pipe()
        request = {
            "arguments": arguments,
            "cwd": str(cwd or Path.cwd()),
            "env": dict(os.environ if env is None else env),
        }
        socket.send_fds(server(), [json.dumps(request).encode()], [own_in, own_out, own_err, own_status])
        pipes = [(stdin, own_in), (stdout, own_out), (stderr, own_err), (subprocess.PIPE, own_status)]
        for end in [end for asked, end in pipes if asked == subprocess.PIPE]:
            os.close(end)
        self.pid: int = NUMBER.unpack(os.read(self._status, NUMBER.size))[0]

    def poll(self) -> int | None:
        """Its exit code, negative for a signal; None while it runs."""
        return self._ended(0)

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end; its exit code."""
        if self._ended(timeout) is None:
            raise subprocess.TimeoutExpired(self.args, timeout or 0)
        assert self.returncode is not None
        return self.returncode

    def communicate(self, text: str = "", timeout: float | None = None) -> tuple[str, str]:
        """Write the last it is told; what it still writes until it ends."""
        if self.stdin:
            self.stdin.write(text)
            self.stdin.close()
        written = ["", ""]

        def read(at: int, stream: IO[str]) -> None:
            written[at] = stream.read()

        streams = [(at, each) for at, each in enumerate((self.stdout, self.stderr)) if each and not each.closed]
        readers = [threading.Thread(target=read, args=each, daemon=True) for each in streams]
        for reader in readers:
            reader.start()
        self.wait(timeout)
        for (_, stream), reader in zip(streams, readers, strict=True):
            reader.join(timeout)
            stream.close()
        return written[0], written[1]

    def send_signal(self, number: int) -> None:
        """Send a signal, unless it has ended."""
        if self.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def terminate(self) -> None:
        """Send SIGTERM."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """End it as `kill -9` does."""
        self.send_signal(signal.SIGKILL)

    def _ended(self, timeout: float | None) -> int | None:
        if self.returncode is None and select.select([self._status], [], [], timeout)[0]:
            code = os.read(self._status, NUMBER.size)
            os.close(self._status)
            assert code, "the process from which the tests' processes are forked has died"
            self.returncode = NUMBER.unpack(code)[0]
        return self.returncode


def run(arguments: list[str], **options: Any) -> subprocess.CompletedProcess[str]:
    """A process up to its end, as of `subprocess.run` with ``capture_output=True, text=True``."""
    process = Forked(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options)
    out, err = process.communicate(timeout=300)
    return subprocess.CompletedProcess(arguments, process.wait(), out, err)


def _pipe(asked: int | IO[Any] | None, inherited: int, mode: str) -> tuple[IO[str] | None, int]:
    """Our end of a pipe, if one was asked for, and the number of what the process reads or writes."""
    if asked != subprocess.PIPE:
        return None, inherited if asked is None else asked.fileno()  # type: ignore[union-attr]
    reading, writing = os.pipe()
    ours, its = (writing, reading) if mode == "w" else (reading, writing)
    return os.fdopen(ours, mode, 1), its


def server() -> socket.socket:
    """The line to the process that forks; it is started at the first call, unless it is shared."""
    global _server
    if _server is None and (address := os.environ.get(SHARED)):
        _server = _line()
        _server.connect(address)
        atexit.register(_server.close)
    elif _server is None:
        _server = _start()
    return _server


def share(address: str) -> None:
    """Start a process that forks for this one and its children, which find it by the environment."""
    global _server
    listener = _line()
    listener.bind(address)
    listener.listen(16)
    _server = _start(listener)
    listener.close()
    os.environ[SHARED] = address


def _start(*listeners: socket.socket) -> socket.socket:
    ours, his = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    for end in (ours, his):
        end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, LARGEST)
    ends = [end.fileno() for end in (his, *listeners)]
    line = [sys.executable, "-m", "tests.processes", *map(str, ends)]
    # Threads would not be in the forks: Python 3.12 and newer warn of that. One thread is what conftest.py gives tests
    # that share the cores; the other belongs to the allocator of pyarrow.
    env = {"OMP_NUM_THREADS": "1", "JE_ARROW_MALLOC_CONF": "background_thread:false", "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(line, cwd=ROOT, env={**os.environ, **env}, pass_fds=ends)
    his.close()
    atexit.register(lambda: (ours.close(), process.wait()))
    return ours


def _line() -> socket.socket:
    line = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    line.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, LARGEST)
    return line


# What follows is run in the process that forks, and in its forks.


def prepare() -> None:
    """Import what takes long. Not the console, which asks at its import what it writes to."""
    os.environ.setdefault("MKL_CBWR", "AUTO,STRICT")  # as the commands do
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of what is imported
        for name in (*IMPORTED, *OFTEN):
            importlib.import_module(name)
    brief = importlib.import_module("tests.brief")
    brief.measure_briefly()
    brief.load_migrations_once()
    brief.compile_statements_once()
    gc.collect()
    gc.freeze()


def serve(first: socket.socket, listener: socket.socket | None) -> dict[str, Any] | None:
    """Fork for every request, until the first line ends (None); in a fork, the request."""
    running: dict[int, int] = {}
    server = os.getpid()
    woken, waking = socket.socketpair()
    waking.setblocking(False)
    signal.set_wakeup_fd(waking.fileno(), warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    interrupt = signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the tests
    lines = [first]
    listeners = [listener] if listener else []
    while True:
        ready, _, _ = select.select([woken, *listeners, *lines], [], [])
        if woken in ready:
            woken.recv(1000)
            for pid in [pid for pid in running if os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)]:
                code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
                with contextlib.suppress(BrokenPipeError):
                    os.write(running[pid], NUMBER.pack(code))
                os.close(running.pop(pid))
        for each in set(listeners).intersection(ready):
            lines.append(each.accept()[0])
        for line in [line for line in lines if line in ready]:
            request, fds, _, _ = socket.recv_fds(line, LARGEST, 4)
            if not request and line is first:
                return None
            if not request:
                lines.remove(line)
                line.close()
                continue
            if pid := os.fork():
                os.write(fds[3], NUMBER.pack(pid))
                running[pid] = fds.pop()
                for fd in fds:
                    os.close(fd)
                continue
            (tests,) = NUMBER.unpack(line.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)[: NUMBER.size])
            os.getppid = partial(_parent, os.getppid, {server: tests})
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            signal.signal(signal.SIGINT, interrupt)
            for own, given in enumerate(fds[:3]):
                os.dup2(given, own)
            for fd in (*fds, *running.values()):
                os.close(fd)
            for end in (*lines, *listeners, waking, woken):
                end.close()
            return dict(json.loads(request))


def _parent(getppid: Callable[[], int], of: Mapping[int, int]) -> int:
    """The parent of a fork: the process of tests that asked for it, as of others."""
    number = getppid()
    return of.get(number, number)


def begin(arguments: list[str], cwd: str, env: dict[str, str]) -> None:
    """Be the process that was asked for."""
    import torch

    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(env)
    spare()
    torch.set_num_threads(int(env.get("OMP_NUM_THREADS", os.cpu_count() or 1)))  # OpenMP has read its variable already
    unbuffered = arguments[0] == "-u"
    sys.stdin = os.fdopen(0, closefd=False)
    sys.stdout = sys.__stdout__ = os.fdopen(1, "w", 1 if unbuffered else -1, closefd=False)
    sys.stderr = sys.__stderr__ = os.fdopen(2, "w", 1, closefd=False)
    what, *others = arguments[unbuffered:]
    own = {str(ROOT), *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))}
    first = {"-m": cwd, "-c": ""}.get(what, str(Path(what).resolve().parent))
    sys.path[:] = [first, *own, *(each for each in sys.path if each and each not in own)]
    if what == "-m":
        sys.argv = others
        runpy.run_module(others[0], run_name="__main__", alter_sys=True)
    elif what == "-c":
        sys.argv = ["-c", *others[1:]]
        main = sys.modules["__main__"] = types.ModuleType("__main__")
        exec(compile(others[0], "<string>", "exec"), main.__dict__)
    else:
        sys.argv = [what, *others]
        runpy.run_path(what, run_name="__main__")


def spare() -> None:
    """Keep a fork that waits to be multiprocessing's fork server, which imports all anew where it is an interpreter."""
    ours, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    if pid := os.fork():
        its.close()
    else:
        ours.close()
        request, fds, _, _ = socket.recv_fds(its, LARGEST, 4)
        if not request:
            os._exit(0)
        code, numbers = json.loads(request)
        for moved, number in [
            (fcntl.fcntl(fd, fcntl.F_DUPFD, 100), number) for fd, number in zip(fds, numbers, strict=True)
        ]:
            os.dup2(moved, number)
        exec(code)
    interpreter = util.spawnv_passfds  # type: ignore[attr-defined]

    def start(path: str, arguments: list[str], fds: Sequence[int]) -> int:
        if "forkserver" not in arguments[-1]:
            return int(interpreter(path, arguments, fds))
        util.spawnv_passfds = interpreter  # type: ignore[attr-defined]
        socket.send_fds(ours, [json.dumps((arguments[-1], fds)).encode()], fds)
        return pid

    util.spawnv_passfds = start  # type: ignore[attr-defined]


def end(begin: Callable[[], None]) -> NoReturn:
    """Run a process and end it as the interpreter does, but leave its memory, which is that of all forks, as it is."""
    code: Any = 0
    try:
        begin()
    except SystemExit as asked:
        code = asked.code or 0
        if not isinstance(code, int):
            print(code, file=sys.stderr)
            code = 1
    except BaseException:
        traceback.print_exc()
        code = 1
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    connection, *listening = (socket.socket(fileno=int(number)) for number in sys.argv[1:])
    prepare()
    if request := serve(connection, *listening or [None]):
        end(partial(begin, **request))
    os._exit(0)  # Triton would call objects that nobody has collected leaked
