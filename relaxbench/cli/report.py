"""The commands that show studies: a report, two side by side, all of a database, one that runs, Optuna's dashboard."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from relaxbench.cli import checks
from relaxbench.cli.console import console, say
from relaxbench.cli.options import STORAGE, ReportDir, Storage, Study, reader
from relaxbench.cli.outcome import conclude, theory
from relaxbench.errors import UserError
from relaxbench.util.text import counted

EVERY = 15.0
"""Seconds between two reports of a study that runs, at least."""

Port = Annotated[int, typer.Option(help=r"Of the local page.  \[default: one that is free]", show_default=False)]


def report(
    study: Study = None,
    storage: Storage = STORAGE,
    report: ReportDir = Path("reports"),
    compare: Annotated[
        tuple[str, str] | None,
        typer.Option(
            metavar="A B",
            help="Two studies side by side. Each is a study of the database, another database (FILE.db or a URL), or "
            "one study of another database: FILE.db#STUDY.",
        ),
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="Reports of all studies, and an index of them.")] = False,
    watch: Annotated[
        bool, typer.Option("--watch", help="Show a study that runs on a local page, up to Ctrl-C.")
    ] = False,
    port: Port = 0,
    every: Annotated[
        float, typer.Option(help="With --watch: seconds between two reports, at least.", show_default=True)
    ] = EVERY,
    no_browser: Annotated[bool, typer.Option("--no-browser", help="With --watch: print the address only.")] = False,
) -> None:
    """Write the report of a study again, finished or not; or compare two, list all, watch one that runs."""
    _check(study, {"--compare": compare is not None, "--all": everything, "--watch": watch})
    given = {"--port": port != 0, "--every": every != EVERY, "--no-browser": no_browser}
    if not watch and any(given.values()):
        raise UserError(f"{next(key for key, on in given.items() if on)} goes with --watch: add it, or leave this out")
    checks.check_folder("--report", report)
    if compare is not None:
        _compare(*compare, storage, report)
    elif everything:
        _all(storage, report)
    elif watch:
        _watch(study, storage, report, port, every, not no_browser)
    else:
        conclude(storage, study, report)


def dashboard(
    storage: Storage = STORAGE,
    host: Annotated[str, typer.Option(help="Address to listen on; anything else lets other machines look.")] = (
        "127.0.0.1"
    ),
    port: Port = 0,
) -> None:
    """Look at the trials with optuna-dashboard, up to Ctrl-C. It can only read: the study's database is safe."""
    from relaxbench.cli.progress import interruptible
    from relaxbench.server.dashboard import dashboard_app
    from relaxbench.server.wsgi import serving

    with dashboard_app(storage) as app, serving(app, host, port) as address, interruptible() as stopping:
        say(f"optuna-dashboard, read-only: {address} (Ctrl-C ends it)")
        while not stopping():
            time.sleep(0.1)


def _check(study: str | None, modes: dict[str, bool]) -> None:
    """Refuse what excludes each other.

    Raises:
        UserError: naming the options.
    """
    on = [mode for mode, given in modes.items() if given]
    if len(on) > 1:
        raise UserError(f"{' and '.join(on)} exclude each other: give one of them")
    if study is not None and on and on[0] != "--watch":
        raise UserError(f"study {study!r} and {on[0]} exclude each other: leave one of them out")


def _compare(one: str, other: str, storage: str, directory: Path) -> None:
    """Print one sentence a method that both have, and where the page lies."""
    from relaxbench.analysis.compare import compare, sentence
    from relaxbench.report.compare_page import sides, write_comparison

    first, second = sides(one, other, storage)
    table = compare(first, second)
    for row in table.to_dict("records"):
        console.print(sentence(row, first, second), markup=False)
    if table.empty:
        say("The studies have no problem and method in common.")
    say(f"\nComparison: {write_comparison(first, second, table, directory)}")


def _all(storage: str, directory: Path) -> None:
    """Print a line a study as its report is written, and where the index lies."""
    from relaxbench.report.index_page import index_page, write_all

    found = list[str]()
    for entry in write_all(reader(storage), directory, theory):
        found.append(entry.name)
        fate = f"no report, {entry.failure}" if entry.failure else str(entry.report)
        say(f"{entry.name}: {entry.done:,} of {counted(entry.planned, 'trial')}; {fate}")
    if not found:
        say("There is no study in this database.")
    say(f"\nIndex: {index_page(directory)}")


def _watch(study: str | None, storage: str, directory: Path, port: int, every: float, browser: bool) -> None:
    """Serve a page on a study up to Ctrl-C, and write its report now and then."""
    import webbrowser

    from relaxbench.cli.progress import interruptible
    from relaxbench.server.live import Live
    from relaxbench.server.wsgi import serving

    if not every > 0:
        raise UserError(f"--every {every:g}: expected a positive number of seconds")
    live, told = Live(reader(storage), study, directory, every), False
    with serving(live, port=port) as address, interruptible() as stopping:
        say(f"Study {live.name}: {address} (Ctrl-C ends it)")
        if browser:
            webbrowser.open(address)
        while not stopping():
            live.report()
            live.state()
            if live.finished and not told:
                say(f"Study {live.name} is finished; its page stays up to Ctrl-C.")
            told = live.finished  # it may be extended, and finish again
            time.sleep(0.2)
