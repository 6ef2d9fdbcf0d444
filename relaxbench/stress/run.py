"""Run load tests on SQLite and PostgreSQL, then faults; report tables, and which targets were missed."""

from __future__ import annotations

import json
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
from relaxbench.util.cores import cores
from relaxbench.util.text import counted, duration, percent
from relaxbench.version import __version__

BACKENDS = ("SQLite", "PostgreSQL")
LOADS: dict[str, Load] = {
    "bare": Load(seconds=0.0, hyperparameters=1, rounds=1),
    "full": Load(seconds=0.0, hyperparameters=8, rounds=10),
    "10 ms": Load(seconds=0.01, hyperparameters=8, rounds=10),
    "1 s": Load(seconds=1.0, hyperparameters=8, rounds=10),
}
"""Trials that take no time, with few and many hyperparameters and rounds, and trials of 10 ms and 1 s."""
CREWS = (1, 4, 16, 64)
SECONDS = 6.0
"""Approximate duration of a load."""
TRIALS = 20
"""Least trials per worker: the first claims, all made at one moment, must not dominate the cost of a trial."""
MOST = 2000
"""Most trials of a load."""
RATES = {"bare": 100.0, "full": 30.0}
"""Target on SQLite for up to 16 workers: trials per second."""
OVERHEAD = 0.03
"""Target for trials of 1 s by 16 workers on PostgreSQL: overhead as a share of the time."""


@dataclass(frozen=True)
class StressOptions:
    """The requested parts.

    Attributes:
        only: ``"load"``, names of faults, or ``"faults"``; empty means everything.
        quick: use few workers and three faults, which takes one or two minutes.
        json: a file for the figures, or None.
    """

    only: Sequence[str] = ()
    quick: bool = False
    json: Path | None = None

    def includes(self, part: str) -> bool:
        """Whether a part, ``"load"`` or a fault, is requested."""
        return not self.only or part in self.only or (part != "load" and "faults" in self.only)


@dataclass
class Figures:
    """The results.

    Attributes:
        load: backend and kind of load → a measurement for each number of workers.
        faults: studies after faults.
    """

    load: dict[tuple[str, str], list[LoadFigures]] = field(default_factory=dict)
    faults: list[Survived] = field(default_factory=list)

    def missed(self) -> list[str]:
        """The missed targets, one line each."""
        lines = [f"{s.fault} on {s.backend}: {w}" for s in self.faults for w in s.wrong]
        for (backend, kind), row in self.load.items():
            for m in (m for m in row if m.workers <= 16):
                what = f"{kind} trials on {backend}, {counted(m.workers, 'worker')}"
                if m.locked:
                    lines.append(f"{what}: the database was locked {counted(m.locked, 'time')}")
                if m.stopped:
                    lines.append(f"{what}: {counted(m.stopped, 'worker')} crashed")
                if backend == "SQLite" and m.rate < RATES.get(kind, 0.0):
                    lines.append(f"{what}: {m.rate:.0f} per second, target {RATES[kind]:.0f}")
                if (backend, kind, m.workers) == ("PostgreSQL", "1 s", 16) and (m.overhead or 0) > OVERHEAD:
                    lines.append(f"{what}: {percent(m.overhead or 0.0)} overhead, target {percent(OVERHEAD)}")
        return lines


def run(options: StressOptions, tell: Callable[[str], None]) -> Iterator[Any]:
    """Run the requested parts; yields each table when it is ready, and at the end the missed targets.

    Raises:
        UserError: for an unknown part, or if no PostgreSQL server can be started.
    """
    for part in options.only:
        if part not in ("load", "faults", *FAULTS):
            raise unknown("part of stress", part, ("load", "faults", *FAULTS))
    figures = Figures()
    with tempfile.TemporaryDirectory(prefix="relaxbench-stress-") as name:
        server, folder = Server(), Path(name)
        try:
            server.start()
            if options.includes("load"):
                for kind in LOADS:
                    for backend in BACKENDS:
                        figures.load[backend, kind] = _loaded(backend, kind, server, folder, options, tell)
                yield load_table(figures)
            faults = [fault for fault in FAULTS if options.includes(fault)]
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
    """Trials per second and overhead, one row per backend and load."""
    table = Table(box=None, pad_edge=False, header_style="dim", title="Trials per second", title_justify="left")
    table.add_column("storage")
    table.add_column("trials")
    crews = sorted({m.workers for row in figures.load.values() for m in row})
    for crew in crews:
        table.add_column(counted(crew, "worker"), justify="right")
    for (backend, kind), row in figures.load.items():
        by_workers = {m.workers: m for m in row}
        table.add_row(backend, kind, *(_cell(by_workers[crew]) if crew in by_workers else "" for crew in crews))
    return table


def _cell(m: LoadFigures) -> str:
    overhead = "" if m.overhead is None else f" ({percent(m.overhead)})"
    return f"{m.rate:.3g}{overhead}{' locked' if m.locked else ''}{' crashed' if m.stopped else ''}"


def fault_table(figures: Figures, trials: int) -> Table:
    """The faults of studies, and whether each study ended as if nothing had happened."""
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
        "cpus": cores(),
        "platform": platform.platform(),
        "python": platform.python_version(),
    }
    about = {"version": __version__, **machine}
    return {"about": about, "load": load, "faults": [asdict(s) for s in figures.faults], "missed": figures.missed()}
