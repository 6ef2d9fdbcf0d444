"""The manifest of a study: what was decided once, and whose turn it is. Changed in one transaction at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy

from sqlalchemy import Connection, select, update
from sqlalchemy import Engine as Database

from relaxbench.store.claims import alive
from relaxbench.store.facts import Manifest
from relaxbench.store.schema import Study
from relaxbench.store.transactions import now, read, write

TURN_SECONDS = 600.0
"""After this long a worker of another machine is taken for dead if it has not given its turn back."""


def read_manifest(database: Database, study: int) -> Manifest:
    """The manifest of a study."""
    query = select(Study.manifest).where(Study.id == study)
    return read(database, lambda connection: connection.scalar(query)) or Manifest()


def edit_manifest(database: Database, study: int, edit: Callable[[Manifest], None]) -> Manifest:
    """Change the manifest in one transaction; `edit` may be called again if that has to be repeated."""

    def change(connection: Connection) -> Manifest:
        return _edited(connection, study, edit)

    return write(database, change)


@contextmanager
def turn(database: Database, study: int, task: str, worker: str) -> Iterator[bool]:
    """Do something that one worker alone may do at a time; gives whether it is this worker's turn.

    The turn of a worker that has died is over, on this machine at once, on another one after `TURN_SECONDS`.
    """
    granted = False

    def take(connection: Connection) -> None:
        time = now(connection)

        def edit(manifest: Manifest) -> None:
            nonlocal granted
            holder = manifest.get("turns", {}).get(task)
            mine = holder is not None and holder["worker"] == worker  # taken, and the answer was lost
            granted = holder is None or mine or not alive(holder["worker"]) or holder["until"] < time
            if granted:
                until = time + TURN_SECONDS
                manifest["turns"] = {**manifest.get("turns", {}), task: {"worker": worker, "until": until}}

        _edited(connection, study, edit)

    def give(manifest: Manifest) -> None:
        turns = manifest.get("turns", {})
        if task in turns and turns[task]["worker"] == worker:
            manifest["turns"] = {name: holder for name, holder in turns.items() if name != task}

    write(database, take)
    try:
        yield granted
    finally:
        if granted:
            edit_manifest(database, study, give)


def _edited(connection: Connection, study: int, edit: Callable[[Manifest], None]) -> Manifest:
    # SQLite has locked the file already, and leaves the last words of this out.
    stored = connection.scalar(select(Study.manifest).where(Study.id == study).with_for_update())
    manifest = deepcopy(stored) if stored else Manifest()
    edit(manifest)
    if manifest != stored:  # many workers may be asking whose turn it is
        connection.execute(update(Study).where(Study.id == study).values(manifest=manifest))
    return manifest
