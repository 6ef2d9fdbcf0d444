"""`report` and `dashboard`: a report, a comparison of two studies, an index of all, or a running study."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from relaxbench.cli import checks
from relaxbench.cli.console import console, say
from relaxbench.cli.options import STORAGE, ReportDir, Storage, Study, reader
from relaxbench.cli.outcome import conclude, theory
from relaxbench.errors import UserError
from relaxbench.util.pause import sleep
from relaxbench.util.text import counted

EVERY = 15.0
"""Least number of seconds between two reports of a running study."""

DAY = 86_400.0
"""Seconds; a longer wait would look like a page that stands still."""

Port = Annotated[int, typer.Option(help=r"Port of the local page.  \[default: a free one]", show_default=False)]


def report(
    study: Study = None,
    storage: Storage = STORAGE,
    report: ReportDir = Path("reports"),
    compare: Annotated[
        tuple[str, str] | None,
        typer.Option(
            metavar="A B",
            help="Compare two studies. Each is a study of the database, another database (FILE.db or a URL), or "
            "one study of another database: FILE.db#STUDY.",
        ),
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="Write the reports of all studies, and an index.")] = False,
    watch: Annotated[bool, typer.Option("--watch", help="Show a running study on a local page, until Ctrl-C.")] = False,
    port: Port = 0,
    every: Annotated[
        float, typer.Option(help="With --watch: least number of seconds between two reports.", show_default=True)
    ] = EVERY,
    no_browser: Annotated[bool, typer.Option("--no-browser", help="With --watch: do not open a browser.")] = False,
) -> None:
    """Write the report of a study, finished or not; or compare two studies, list all, or watch one that runs."""
    _check(study, {"--compare": compare is not None, "--all": everything, "--watch": watch})
    given = {"--port": port != 0, "--every": every != EVERY, "--no-browser": no_browser}
    if not watch and any(given.values()):
        raise UserError(f"{next(key for key, on in given.items() if on)} goes with --watch: add it, or leave this out")
    checks.check_port(port)
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
    host: Annotated[str, typer.Option(help="Address to listen on; other values give other machines access.")] = (
        "127.0.0.1"
    ),
    port: Port = 0,
) -> None:
    """Show the trials in optuna-dashboard, until Ctrl-C. The dashboard cannot change the database."""
    from relaxbench.cli.progress import interruptible
    from relaxbench.server.dashboard import dashboard_app
    from relaxbench.server.wsgi import serving

    checks.check_port(port)
    with dashboard_app(storage) as app, serving(app, host, port) as address, interruptible() as stopping:
        say(f"optuna-dashboard, read-only: {address} (Ctrl-C ends it)")
        while not stopping():
            sleep(0.1)


def _check(study: str | None, modes: dict[str, bool]) -> None:
    """Refuse options that exclude each other.

    Raises:
        UserError: naming the options.
    """
    on = [mode for mode, given in modes.items() if given]
    if len(on) > 1:
        raise UserError(f"{' and '.join(on)} exclude each other: give one of them")
    if study is not None and on and on[0] != "--watch":
        raise UserError(f"study {study!r} and {on[0]} exclude each other: leave one of them out")


def _compare(one: str, other: str, storage: str, directory: Path) -> None:
    """Print one sentence per method of both studies, and the path of the page."""
    from relaxbench.analysis.compare import compare, sentence
    from relaxbench.report.compare_page import sides, write_comparison

    first, second = sides(one, other, storage)
    contrasts = compare(first, second)
    for contrast in contrasts:
        console.print(sentence(contrast, first, second), markup=False)
    if not contrasts:
        say("The studies have no problem and method in common.")
    say(f"\nComparison: {write_comparison(first, second, contrasts, directory)}")


def _all(storage: str, directory: Path) -> None:
    """Print one line per study as its report is written, and the path of the index."""
    from relaxbench.report.index_page import index_page, write_all

    count = 0
    for entry in write_all(reader(storage), directory, theory):
        count += 1
        fate = f"no report, {entry.failure}" if entry.failure else str(entry.report)
        say(f"{entry.name}: {entry.done:,} of {counted(entry.planned, 'trial')}; {fate}")
    if not count:
        say("There is no study in this database.")
    say(f"\nIndex: {index_page(directory)}")


def _watch(study: str | None, storage: str, directory: Path, port: int, every: float, browser: bool) -> None:
    """Serve the page of a study until Ctrl-C, and keep its report up to date."""
    import webbrowser

    from relaxbench.cli.progress import interruptible
    from relaxbench.server.live import Live
    from relaxbench.server.wsgi import serving

    if not 0 < every <= DAY:
        raise UserError(f"--every {every:g}: expected a positive number of seconds, at most {DAY:,.0f} (a day)")
    live, announced = Live(reader(storage), study, directory, every), False
    with serving(live, port=port) as address, interruptible() as stopping:
        say(f"Study {live.name}: {address} (Ctrl-C ends it)")
        if browser:
            webbrowser.open(address)
        while not stopping():
            live.report()
            live.state()
            if live.finished and not announced:
                say(f"Study {live.name} is finished; its page stays until Ctrl-C.")
            announced = live.finished  # an extended study finishes again
            sleep(0.2)
