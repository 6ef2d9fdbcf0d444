"""What the commands share: the console, options that mean the same everywhere, and a check of folders."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from relaxbench.errors import UserError

console = Console(highlight=False)

STORAGE = "sqlite:///relaxbench.db"


def named_path(text: str | Path) -> Path:
    """A path as it was typed. An empty one is a mistake: pathlib takes it for the folder that one is in."""
    if text == "":
        raise typer.BadParameter("'' names no file or folder")
    return Path(text)


File = Annotated[
    str | None, typer.Argument(help=r"Study file (TOML).  \[default: studies/digits.toml]", show_default=False)
]
Study = Annotated[str | None, typer.Argument(help=r"Name of a study.  \[default: the only one]", show_default=False)]
Storage = Annotated[
    str,
    typer.Option(
        envvar="RELAXBENCH_STORAGE",
        show_envvar=False,
        show_default=False,
        help="Database: a file (sqlite:///file.db) or postgresql+psycopg://user@host/name.  "
        rf"\[default: $RELAXBENCH_STORAGE, or {STORAGE}]",
    ),
]
Name = Annotated[str | None, typer.Option(help="Name of the study, instead of the file's.")]
Blocks = Annotated[int | None, typer.Option(help="Independent tunings of every method.")]
Trials = Annotated[int | None, typer.Option(help="Random trials in a block.")]
Budget = Annotated[int | None, typer.Option(help="Gradient equivalents a trial.")]
Methods = Annotated[list[str] | None, typer.Option("--method", help="A method; may be repeated.")]
Problems = Annotated[list[str] | None, typer.Option("--problem", help="A problem, or a .py file; may be repeated.")]
Population = Annotated[int | None, typer.Option(help=r"Trials side by side (K).  \[default: the fastest, measured]")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")]
DataDir = Annotated[
    Path | None,
    typer.Option(
        "--data-dir",
        parser=named_path,
        metavar="<Path>",
        help=r"Folder of the data sets.  \[default: $RELAXBENCH_DATA]",
    ),
]
Download = Annotated[bool, typer.Option("--download", help="Fetch what is missing, with torchvision.")]
Seed = Annotated[int | None, typer.Option(help="Of everything random.")]
ReportDir = Annotated[
    Path, typer.Option("--report", parser=named_path, metavar="<Path>", help="Folder for the report.")
]
JsonFile = Annotated[
    Path | None,
    typer.Option("--json", parser=named_path, metavar="<Path>", help="Also write the figures to this file."),
]


Checkpoints = Annotated[
    Path,
    typer.Option(
        parser=named_path,
        metavar="<Path>",
        help="Folder for unfinished trials, shared by all workers on all machines.",
    ),
]
CHECKPOINTS = Path("checkpoints")
MOST_RETRIES = 1000
Retries = Annotated[
    int, typer.Option(help=f"How often a trial is tried again when its worker fails or dies (0 to {MOST_RETRIES}).")
]
RETRIES = 3
Workers = Annotated[
    int | None,
    typer.Option(help=r"Worker processes: 1 to 1024 here, to 4096 on a cluster.  \[default: this one]"),
]
Devices = Annotated[str | None, typer.Option(help=r"Where they work: cuda:0,cuda:1 or cpu.  \[default: --device]")]
PerDevice = Annotated[int | None, typer.Option(help="Workers on each of the devices (1 to 1024).")]
Engine = Annotated[str, typer.Option(help="Where workers run: local (this machine) or ray (a Ray cluster).")]
Address = Annotated[str | None, typer.Option(help=r"Of the Ray cluster: auto or HOST:PORT.  \[default: auto]")]
GpusPerWorker = Annotated[
    float | None, typer.Option(help=r"Of a Ray worker, as a fraction: 0.25 puts four on a GPU.  \[default: 0, the CPU]")
]
CpusPerWorker = Annotated[int | None, typer.Option(help=r"Cores of a Ray worker.  \[default: 1]")]
Optuna = Annotated[
    str | None,
    typer.Option(help="HOST:PORT of Optuna's gRPC storage proxy, for workers to keep off Optuna's tables."),
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print the verdict and nothing else.")]
QuietWorker = Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing unless trials are left undone.")]


def check_counts(population: int | None, retries: int) -> None:
    """Refuse numbers that mean nothing.

    Raises:
        UserError: naming the option.
    """
    if population is not None and population < 1:
        raise UserError(f"--population {population}: expected at least 1")
    if not 0 <= retries <= MOST_RETRIES:
        raise UserError(f"--retries {retries}: expected 0 to {MOST_RETRIES}")


def check_address(option: str, address: str, expected: str = "HOST:PORT") -> None:
    """Refuse what names no port of a host.

    Raises:
        UserError: naming the option.
    """
    host, _, port = address.rpartition(":")
    if not host or "/" in host or not (port.isdecimal() and 0 < int(port) < 65536):
        raise UserError(f"{option} {address!r}: expected {expected}")


def check_optuna(address: str | None) -> None:
    """Refuse what cannot be the address of Optuna's proxy.

    Raises:
        UserError: naming the option.
    """
    if address is not None:
        check_address("--optuna", address)


def use_data(folder: Path | None, download: bool = False) -> None:
    """Take data from this folder, in this process and those that it starts.

    Args:
        folder: as given, or None for the one of the environment.
        download: whether files will be put there, so that it need not exist yet.

    Raises:
        UserError: if it is not there, or could not be made or written into.
    """
    if folder is None:
        return
    if download:
        check_folder("--data-dir", folder)
    elif not folder.is_dir():
        raise UserError(f"--data-dir {str(folder)!r} is not a folder: name the one that holds the data sets")
    os.environ["RELAXBENCH_DATA"] = str(folder.absolute())


def check_folder(option: str, folder: Path) -> None:
    """Refuse, before anything is run, a folder that could not be made or written into at the end."""
    _check_place(f"{option} {str(folder)!r}", folder)


def check_file(option: str, file: Path) -> None:
    """Refuse, before anything is run, a file that could not be written at the end; its folder may be made then."""
    if file.is_dir():
        raise UserError(f"{option} {str(file)!r} is a folder: name a file in it")
    _check_place(f"{option} {str(file)!r}", file.parent)


def _check_place(given: str, folder: Path) -> None:
    nearest = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    if not nearest.is_dir():
        raise UserError(f"{given}: {str(nearest)!r} is not a folder: name another one")
    try:  # permissions do not say everything
        tempfile.TemporaryFile(dir=nearest).close()
    except OSError:
        raise UserError(f"{given}: {str(nearest)!r} is not writable: name another folder") from None


def described(error: UserError) -> str:
    """An error's message, and the options of this command line that set what it concerns."""
    names = [f"--{setting.replace('_', '-')}" for setting in error.settings]
    if not names:
        return str(error)
    return f"{error} (option{'s' if len(names) > 1 else ''} {', '.join(names)})"
