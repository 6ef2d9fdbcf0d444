"""All of it: load on SQLite and PostgreSQL, then faults; as tables, with what was aimed at and whether it was met."""

from __future__ import annotations

import json
import os
import platform
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from rich.table import Table
from rich.text import Text

from relaxbench.errors import unknown
from relaxbench.stress.disturbed_study import LOAD, WORKERS
from relaxbench.stress.faults import FAULTS, Survived, reference, suffer
from relaxbench.stress.load import LoadFigures, measure_load, sized
from relaxbench.stress.postgres import Server
from relaxbench.stress.simulated import Load
from relaxbench.util import files
from relaxbench.util.text import counted, duration
from relaxbench.version import __version__

BACKENDS = ("SQLite", "PostgreSQL")
LOADS: dict[str, Load] = {
    "bare": Load(seconds=0.0, hyperparameters=1, rounds=1),
    "full": Load(seconds=0.0, hyperparameters=8, rounds=10),
    "10 ms": Load(seconds=0.01, hyperparameters=8, rounds=10),
    "1 s": Load(seconds=1.0, hyperparameters=8, rounds=10),
}
"""Trials that take no time, with and without hyperparameters and rounds, and trials that take some."""
CREWS = (1, 4, 16, 64)
SECONDS = 6.0
"""That a load lasts, about."""
TRIALS = 20
"""Trials of a worker, at least: its first claim, which all make at the same moment, is no part of a trial's cost."""
MOST = 2000
"""Trials of a load."""
RATES = {"bare": 100.0, "full": 30.0}
"""Trials a second that are aimed at on SQLite, for up to 16 workers."""
OVERHEAD = 0.03
"""Share of the time that is aimed at for trials of a second, 16 workers on PostgreSQL."""


@dataclass(frozen=True)
class StressOptions:
    """What is asked for.

    Attributes:
        only: ``"load"``, names of faults, ``"faults"``; nothing means everything.
        quick: few workers, three faults: a minute or two.
        json: a file for the figures.
    """

    only: Sequence[str] = ()
    quick: bool = False
    json: Path | None = None

    def asks(self, part: str) -> bool:
        """Whether a part, ``"load"`` or a fault, is asked for."""
        return not self.only or part in self.only or (part != "load" and "faults" in self.only)


@dataclass
class Figures:
    """What was found.

    Attributes:
        load: backend and kind of load → a measurement for each number of workers.
        faults: studies after faults.
    """

    load: dict[tuple[str, str], list[LoadFigures]] = field(default_factory=dict)
    faults: list[Survived] = field(default_factory=list)

    def missed(self) -> list[str]:
        """What was aimed at and not met, one line each."""
        lines = [f"{s.fault} on {s.backend}: {w}" for s in self.faults for w in s.wrong]
        for (backend, kind), row in self.load.items():
            for m in (m for m in row if m.workers <= 16):
                what = f"{kind} trials on {backend}, {counted(m.workers, 'worker')}"
                if m.locked:
                    lines.append(f"{what}: the database was locked {counted(m.locked, 'time')}")
                if m.stopped:
                    lines.append(f"{what}: {counted(m.stopped, 'worker')} crashed")
                if backend == "SQLite" and m.rate < RATES.get(kind, 0.0):
                    lines.append(f"{what}: {m.rate:.0f} a second, aimed at {RATES[kind]:.0f}")
                if (backend, kind, m.workers) == ("PostgreSQL", "1 s", 16) and (m.overhead or 0) > OVERHEAD:
                    lines.append(f"{what}: {m.overhead:.1%} overhead, aimed at {OVERHEAD:.0%}")
        return lines


def run(options: StressOptions, tell: Callable[[str], None]) -> Iterator[Any]:
    """Measure and disturb; gives tables as they are ready, and at the end what was missed.

    Raises:
        UserError: for an unknown part, or where no PostgreSQL server can be started.
    """
    for part in options.only:
        if part not in ("load", "faults", *FAULTS):
            raise unknown("part of stress", part, ("load", "faults", *FAULTS))
    figures = Figures()
    with tempfile.TemporaryDirectory(prefix="relaxbench-stress-") as name:
        server, folder = Server(), Path(name)
        try:
            server.start()
            if options.asks("load"):
                for kind in LOADS:
                    for backend in BACKENDS:
                        figures.load[backend, kind] = _loaded(backend, kind, server, folder, options, tell)
                yield load_table(figures)
            faults = [fault for fault in FAULTS if options.asks(fault)]
            faults = [fault for fault in faults if not options.quick or fault in ("kill", "outage", "clock")]
            if faults:
                tell("an undisturbed study")
                expected = reference(folder)
                for fault in faults:
                    for backend in ("PostgreSQL",) if fault == "outage" else BACKENDS:
                        tell(f"{FAULTS[fault][0]} ({backend})")
                        figures.faults.append(suffer(fault, backend, folder, server, expected))
                yield fault_table(figures, len(expected[0]))
        finally:
            server.remove()
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        files.write(options.json, json.dumps(_plain(figures), indent=1) + "\n")
    missed = figures.missed()
    yield Text("\nEverything is as it should be." if not missed else "")
    yield from (Text(f"✗ {line}", style="red") for line in missed)
    if missed:
        raise SystemExit(1)


def _loaded(
    backend: str, kind: str, server: Server, folder: Path, options: StressOptions, tell: Callable[[str], None]
) -> list[LoadFigures]:
    row = []
    for workers in CREWS[:2] if options.quick else CREWS:
        tell(f"{kind} trials, {counted(workers, 'worker')} on {backend}")
        place = folder / f"load-{backend}-{kind.replace(' ', '')}-{workers}"
        place.mkdir()
        storage = server.new_url() if backend == "PostgreSQL" else f"sqlite:///{place / 'study.db'}"
        load = sized(LOADS[kind], workers, max(SECONDS, TRIALS * LOADS[kind].seconds), MOST)
        row.append(measure_load(storage, place, workers, load, "load"))
    return row


def load_table(figures: Figures) -> Table:
    """Trials a second and overhead, a row for each backend and load."""
    table = Table(box=None, pad_edge=False, header_style="dim", title="Trials a second", title_justify="left")
    table.add_column("storage")
    table.add_column("trials")
    crews = sorted({m.workers for row in figures.load.values() for m in row})
    for crew in crews:
        table.add_column(counted(crew, "worker"), justify="right")
    for (backend, kind), row in figures.load.items():
        found = {m.workers: m for m in row}
        table.add_row(backend, kind, *(_cell(found[crew]) if crew in found else "" for crew in crews))
    return table


def _cell(m: LoadFigures) -> str:
    overhead = "" if m.overhead is None else f" ({m.overhead:.1%})"
    return f"{m.rate:.3g}{overhead}{' locked' if m.locked else ''}{' crashed' if m.stopped else ''}"


def fault_table(figures: Figures, trials: int) -> Table:
    """What was done to a study, and whether it ended as if nothing had happened."""
    title = f"Faults, in a study of {trials} trials of {LOAD.seconds:g} s and {counted(WORKERS, 'worker')}"
    table = Table(box=None, pad_edge=False, header_style="dim", title=title, title_justify="left")
    for column in ("fault", "storage", "restarts", "time", "afterwards"):
        table.add_column(column, justify="right" if column in ("restarts", "time") else "left")
    for s in figures.faults:
        after = Text("✓ as undisturbed", style="green") if not s.wrong else Text(f"✗ {'; '.join(s.wrong)}", style="red")
        table.add_row(FAULTS[s.fault][0], s.backend, str(s.restarts), duration(s.seconds), after)
    return table


def _plain(figures: Figures) -> dict[str, Any]:
    load = {f"{backend} {kind}": [asdict(m) for m in row] for (backend, kind), row in figures.load.items()}
    machine = {
        "cpus": len(os.sched_getaffinity(0)),
        "platform": platform.platform(),
        "python": platform.python_version(),
    }
    about = {"version": __version__, **machine}
    return {"about": about, "load": load, "faults": [asdict(s) for s in figures.faults], "missed": figures.missed()}
