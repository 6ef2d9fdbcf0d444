"""The command line: an app of all commands, and the entry point."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Callable, Sequence
from functools import cache
from typing import Annotated

import typer
from typer.main import get_command

from relaxbench.cli.ablate import ablate
from relaxbench.cli.atlas import atlas
from relaxbench.cli.best import best
from relaxbench.cli.catalogue import list_
from relaxbench.cli.console import log_to_console, replace_unprintable
from relaxbench.cli.doctor import doctor
from relaxbench.cli.log import log
from relaxbench.cli.options import described
from relaxbench.cli.plan import plan
from relaxbench.cli.report import dashboard, report
from relaxbench.cli.reproduce import reproduce
from relaxbench.cli.show import show
from relaxbench.cli.status import status
from relaxbench.cli.storage import copy, export, import_, upgrade
from relaxbench.cli.study import study
from relaxbench.cli.tools import bench, check, theory
from relaxbench.cli.values import Command, Group
from relaxbench.cli.workers import reap, stress, worker
from relaxbench.errors import UserError, exited, is_slip, require_system
from relaxbench.util.malloc import keep_freed_memory, look_for_garbage_seldom
from relaxbench.util.text import one_line
from relaxbench.version import __version__

app = typer.Typer(
    cls=Group,
    context_settings={"help_option_names": ["-h", "--help"]},
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
    "ablate": ablate,
    "plan": plan,
    "list": list_,
    "show": show,
    "best": best,
    "report": report,
    "atlas": atlas,
    "dashboard": dashboard,
    "log": log,
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
    app.command(name, cls=Command)(command)


@cache
def _program() -> Callable[..., int | None]:
    """The app as click knows it: typer reads every command's signature for that."""
    return get_command(app)


SYSTEM = {
    errno.ENAMETOOLONG: "give a shorter name",
    errno.ENOSPC: "free some space, and run the same command again",
    errno.EDQUOT: "free some space, and run the same command again",
    errno.EROFS: "choose another folder",
    errno.EACCES: "change its permissions, or choose another one",
    errno.EPERM: "change its permissions, or choose another one",
    errno.EIO: "check the disk",
    errno.ELOOP: "its symbolic links lead in a circle",
}
"""What the user can do about an error of the system."""


def main(arguments: list[str] | None = None) -> int:
    """Run a command and return its exit code. Print a user's mistake as one line on the error stream: code 2."""
    # MKL reads this at its first call; with it, results do not depend on the alignment of a member's rows.
    os.environ.setdefault("MKL_CBWR", "AUTO,STRICT")
    # OpenMP reads this when torch is loaded. Threads that spin at a barrier take the cores from those they wait for.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    keep_freed_memory()
    look_for_garbage_seldom()
    log_to_console()
    replace_unprintable()
    arguments = sys.argv[1:] if arguments is None else arguments
    if any("\0" in argument for argument in arguments):
        return _mistake("an argument contains a NUL character: leave it out")
    try:
        require_system()
        return _program()(arguments or ["--help"], prog_name="relaxbench", standalone_mode=False) or 0
    except UserError as error:
        return _mistake(described(error))
    except SystemExit as error:
        foreign = exited(error)
        if foreign is None:
            raise
        return _mistake(str(foreign))
    except typer.TyperException as error:
        if getattr(error, "option_name", "") == "--blocks":  # the option before studies had looks
            return _mistake("--blocks is no option: say --looks 6, or --more-blocks 6 for blocks beyond the last look")
        if meant := getattr(error, "possibilities", None):  # click finds "sampler" like "name"
            given = str(getattr(error, "option_name", "")).lstrip("-")
            error.possibilities = [name for name in meant if is_slip(given, name.lstrip("-"))]  # type: ignore[attr-defined]
        return _mistake(f"{error.format_message().rstrip('.')}{_given(error)} (see {_help(arguments)})")
    except (KeyboardInterrupt, typer.Abort):
        print("relaxbench: interrupted; finished trials are kept", file=sys.stderr)
        return 130
    except Exception as error:
        message = _system_message(error) or _database_message(error)
        if message is None:
            raise
        return _mistake(message)


def _mistake(message: str) -> int:
    print(f"relaxbench: {one_line(message)}", file=sys.stderr)
    return 2


def _help(arguments: Sequence[str]) -> str:
    """Return the help that explains what was typed: that of the command, or the list of all commands."""
    command = next((name for name in arguments[:1] if name in COMMANDS), None)
    return " ".join(filter(None, ("python -m relaxbench", command, "--help")))


def _given(error: typer.TyperException) -> str:
    """Return the value that was typed, if the message does not contain it."""
    from pydantic import ValidationError

    cause = error.__cause__
    return f", given {cause.errors()[0]['input']!r}" if isinstance(cause, ValidationError) else ""


def _database_message(error: Exception) -> str | None:
    """Return advice on an error of the database; None for a bug of relaxbench."""
    import json

    from sqlalchemy.exc import DBAPIError

    from relaxbench.store.transactions import curable
    from relaxbench.store.urls import advice, reason

    if isinstance(error, DBAPIError) and curable(error):
        return f"the database refuses ({reason(error)}): {advice(error)}"
    if isinstance(error, json.JSONDecodeError):
        return f"the database is damaged (a value that is no JSON: {error}): restore it from a backup"
    return None


def _system_message(error: Exception) -> str | None:
    """Return what the system refuses (a full disk, rights, a name that is too long); None for a bug of relaxbench."""
    if not isinstance(error, OSError) or error.errno not in SYSTEM:
        return None
    where = f"{str(error.filename)!r}: " if error.filename else ""
    return f"{where}{error.strerror}; {SYSTEM[error.errno]}"
