"""Read and change the manifest of a study, in one transaction at a time; and take turns by it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from sqlalchemy import Connection, select, update
from sqlalchemy import Engine as Database

from relaxbench.store.claims import alive
from relaxbench.store.facts import Manifest
from relaxbench.store.schema import Study
from relaxbench.store.transactions import now, read, write

TURN_SECONDS = 600.0
"""A worker of another machine counts as dead if it has not given its turn back for this long."""


def read_manifest(database: Database, study: int) -> Manifest:
    """Read the manifest of a study."""
    query = select(Study.manifest).where(Study.id == study)
    return read(database, lambda connection: connection.scalar(query)) or Manifest()


def edit_manifest(database: Database, study: int, edit: Callable[[Manifest], None]) -> Manifest:
    """Change the manifest in one transaction; `edit` may be called again if the transaction is repeated."""

    def change(connection: Connection) -> Manifest:
        return _edited(connection, study, edit)

    return write(database, change)


@contextmanager
def turn(database: Database, study: int, task: str, worker: str) -> Iterator[bool]:
    """Take the turn for a task that only one worker may do at a time; yields whether this worker has the turn.

    The turn of a dead worker ends: at once on this machine, after `TURN_SECONDS` on another one.
    """
    granted = False

    def take(connection: Connection) -> None:
        time = now(connection)

        def edit(manifest: Manifest) -> None:
            nonlocal granted
            holder = manifest.get("turns", {}).get(task)
            mine = holder is not None and holder["worker"] == worker  # the answer to an earlier attempt was lost
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
    # SQLite has locked the file already, and ignores FOR UPDATE.
    stored = connection.scalar(select(Study.manifest).where(Study.id == study).with_for_update())
    manifest: Manifest = json.loads(json.dumps(stored)) if stored else Manifest()  # sooner than a deep copy
    edit(manifest)
    if manifest != stored:  # most attempts to take a turn change nothing
        connection.execute(update(Study).where(Study.id == study).values(manifest=manifest))
    return manifest
