"""A temporary PostgreSQL server that can be stopped and started again."""

from __future__ import annotations

import itertools
import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sqlalchemy import create_engine, text

from relaxbench.errors import UserError

USER = "tester"
NOBODY = 65534


class Server:
    """A server in its own temporary folder, reached through a socket in it, and optionally over TCP.

    Args:
        password: of its user; None trusts every user.
        tcp: also listen on a free port of the loopback interface.
        settings: further settings of the server, e.g. ``{"max_connections": 10}``.
    """

    def __init__(
        self, password: str | None = None, tcp: bool = False, settings: Mapping[str, object] | None = None
    ) -> None:
        self.password = password
        self.settings = dict(settings or {})
        self.port = free_port() if tcp else None
        self.folder = Path(tempfile.mkdtemp(prefix="pg"))
        self.numbers = itertools.count(1)
        self.running = False
        secret = self.folder / "secret"
        secret.write_text(password or "")
        if os.getuid() == 0:  # a server refuses to run as root
            os.chown(self.folder, NOBODY, NOBODY)
            os.chown(secret, NOBODY, NOBODY)
        access = ("-A", "scram-sha-256", "--pwfile", str(secret)) if password else ("-A", "trust")
        self._run("initdb", *access, "-U", USER, "--no-sync", "-E", "UTF8")

    def start(self) -> None:
        """Start the server; one that was killed recovers first."""
        listen = f"127.0.0.1 -p {self.port}" if self.port else "''"
        options = [f"-k {self.folder} -c fsync=off -c listen_addresses={listen}"]
        options += [f"-c {name}={value}" for name, value in self.settings.items()]
        self._run("pg_ctl", "-o", " ".join(options), "-l", str(self.folder / "log"), "-w", "start")
        self.running = True

    def stop(self, mode: str = "immediate") -> None:
        """Stop the server: ``"immediate"`` like a crash, ``"fast"`` after ending all sessions in order."""
        if self.running:
            self._run("pg_ctl", "-m", mode, "-w", "stop")
            self.running = False

    def restart(self, mode: str = "immediate") -> None:
        """Stop the server and start it again."""
        self.stop(mode)
        self.start()

    def remove(self) -> None:
        """Stop the server and delete its folder."""
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    @property
    def url(self) -> str:
        """The URL of the database that every server has."""
        return self.url_of("postgres")

    def url_of(self, database: str, user: str = USER, password: str | None = None) -> str:
        """The URL of a database on this server, for a user."""
        password = password or self.password
        account = f"{user}:{password}" if password else user
        if self.port:
            return f"postgresql+psycopg://{account}@127.0.0.1:{self.port}/{database}"
        return f"postgresql+psycopg://{account}@/{database}?host={self.folder}"

    def new_url(self) -> str:
        """Create an empty database; returns its URL."""
        name = f"test{next(self.numbers)}"
        self.execute(f"CREATE DATABASE {name}")
        return self.url_of(name)

    def execute(self, statement: str, url: str | None = None) -> Any:
        """Run a statement as the owner; returns its rows, if any."""
        engine = create_engine(url or self.url, isolation_level="AUTOCOMMIT")
        try:
            with engine.connect() as connection:
                result = connection.execute(text(statement))
                return result.all() if result.returns_rows else None
        finally:
            engine.dispose()

    def _run(self, name: str, *arguments: str) -> None:
        owner: dict[str, Any] = {"user": NOBODY, "group": NOBODY} if os.getuid() == 0 else {}
        command = [program(name), "-D", str(self.folder / "data"), *arguments]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, cwd=self.folder, **owner)


def program(name: str) -> str:
    """The path of a program of the server; Debian keeps these outside PATH."""
    paths = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"), key=lambda path: int(path.parts[-3]))
    file = str(paths[-1]) if paths else shutil.which(name)
    if not file:
        raise UserError(f"PostgreSQL's program {name!r} is not installed: install it (apt install postgresql)")
    return file


def free_port() -> int:
    """A free TCP port of this machine."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
