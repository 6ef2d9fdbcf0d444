"""The command line: an app of all commands, and the entry point."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import Annotated

import typer

from relaxbench.cli.best import best
from relaxbench.cli.catalogue import list_
from relaxbench.cli.console import log_to_console, replace_unprintable
from relaxbench.cli.doctor import doctor
from relaxbench.cli.options import described
from relaxbench.cli.plan import plan
from relaxbench.cli.report import dashboard, report
from relaxbench.cli.show import show
from relaxbench.cli.status import status
from relaxbench.cli.storage import copy, export, import_, upgrade
from relaxbench.cli.study import study
from relaxbench.cli.tools import bench, check, reproduce, theory
from relaxbench.cli.workers import reap, stress, worker
from relaxbench.errors import UserError
from relaxbench.util.malloc import keep_freed_memory
from relaxbench.util.text import one_line
from relaxbench.version import __version__

app = typer.Typer(
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Does a relaxation optimizer beat a well-tuned SGD on this model, by how much, and how sure is that?",
    epilog="Start with: python -m relaxbench study",
)


def _version(value: bool) -> None:
    if value:
        print(f"relaxbench {__version__}")
        raise typer.Exit()


@app.callback()
def before(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Options before the command."""


COMMANDS: dict[str, Callable[..., None]] = {
    "study": study,
    "plan": plan,
    "list": list_,
    "show": show,
    "best": best,
    "report": report,
    "dashboard": dashboard,
    "worker": worker,
    "status": status,
    "reap": reap,
    "stress": stress,
    "copy": copy,
    "export": export,
    "import": import_,
    "upgrade": upgrade,
    "doctor": doctor,
    "bench": bench,
    "check": check,
    "theory": theory,
    "reproduce": reproduce,
}
"""Every command, in the order of --help."""

for name, command in COMMANDS.items():
    app.command(name)(command)


def main(arguments: list[str] | None = None) -> int:
    """Run a command and return its exit code. Print a user's mistake as one line on the error stream: code 2."""
    # MKL reads this at its first call; with it, results do not depend on the alignment of a member's rows.
    os.environ.setdefault("MKL_CBWR", "AUTO,STRICT")
    keep_freed_memory()
    log_to_console()
    replace_unprintable()
    arguments = sys.argv[1:] if arguments is None else arguments
    try:
        return app(arguments or ["--help"], prog_name="relaxbench", standalone_mode=False) or 0
    except UserError as error:
        return _mistake(described(error))
    except typer.TyperException as error:
        return _mistake(f"{error.format_message().rstrip('.')}{_given(error)} (see python -m relaxbench --help)")
    except (KeyboardInterrupt, typer.Abort):
        print("relaxbench: interrupted; finished trials are kept", file=sys.stderr)
        return 130
    except Exception as error:
        message = _database_message(error)
        if message is None:
            raise
        return _mistake(message)


def _mistake(message: str) -> int:
    print(f"relaxbench: {one_line(message)}", file=sys.stderr)
    return 2


def _given(error: typer.TyperException) -> str:
    """Return the value that was typed, if the message does not contain it."""
    from pydantic import ValidationError

    cause = error.__cause__
    return f", given {cause.errors()[0]['input']!r}" if isinstance(cause, ValidationError) else ""


def _database_message(error: Exception) -> str | None:
    """Return advice on an error of the database; None for a bug of relaxbench."""
    from sqlalchemy.exc import DBAPIError

    from relaxbench.store.transactions import curable
    from relaxbench.store.urls import advice, reason

    if isinstance(error, DBAPIError) and curable(error):
        return f"the database refuses ({reason(error)}): {advice(error)}"
    return None
