"""Options that mean the same in every command."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from relaxbench.errors import UserError

if TYPE_CHECKING:
    from sqlalchemy import Engine as Database

    from relaxbench.errors import UserError

STORAGE = "sqlite:///relaxbench.db"


def named_path(text: str | Path) -> Path:
    """Parse a path. Refuse an empty one, which pathlib takes for the current folder."""
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
Name = Annotated[str | None, typer.Option(help="Name of the study, instead of the name in the file.")]
Looks = Annotated[
    str | None,
    typer.Option(help="Numbers of blocks (independent tunings of a method) at which the study is looked at: 10,20,40."),
]
MoreBlocks = Annotated[
    int | None, typer.Option(help="Blocks beyond the last look, for undecided methods; they void the guarantee.")
]
Trials = Annotated[int | None, typer.Option(help="Random trials per block.")]
Budget = Annotated[int | None, typer.Option(help="Gradient equivalents per trial.")]
Methods = Annotated[list[str] | None, typer.Option("--method", help="Compare this method; may be repeated.")]
Problems = Annotated[
    list[str] | None,
    typer.Option("--problem", help="Train this problem, or the problem in a .py file; may be repeated."),
]
Population = Annotated[
    int | None, typer.Option(help=r"Trials trained in parallel (K).  \[default: the fastest, measured]")
]
TrainingPath = Annotated[
    str,
    typer.Option(
        "--path",
        help="How trials are trained: auto (measured; compiled where it clearly repays), vectorized, direct, compiled. "
        "A study keeps its path.",
    ),
]
Device = Annotated[str, typer.Option(help="Device: auto, cpu, cuda or cuda:N.")]
DataDir = Annotated[
    Path | None,
    typer.Option(
        "--data-dir",
        parser=named_path,
        metavar="PATH",
        help=r"Folder of the data sets.  \[default: $RELAXBENCH_DATA]",
    ),
]
Download = Annotated[bool, typer.Option("--download", help="Download missing data sets with torchvision.")]
Seed = Annotated[int | None, typer.Option(help="Random seed.")]
ReportDir = Annotated[Path, typer.Option("--report", parser=named_path, metavar="PATH", help="Folder for the report.")]
JsonFile = Annotated[
    Path | None,
    typer.Option("--json", parser=named_path, metavar="PATH", help="Also write the numbers to this file."),
]


Checkpoints = Annotated[
    Path,
    typer.Option(
        parser=named_path,
        metavar="PATH",
        help="Folder for unfinished trials, shared by all workers on all machines.",
    ),
]
CHECKPOINTS = Path("checkpoints")
MOST_RETRIES = 1000
Retries = Annotated[int, typer.Option(help=f"Retries of a trial whose worker fails or dies (0 to {MOST_RETRIES}).")]
RETRIES = 3
SkipUnfit = Annotated[
    bool, typer.Option("--skip-unfit", help="Leave methods out that cannot train a problem, with a line for each.")
]
Quick = Annotated[
    bool,
    typer.Option(
        "--quick", help="Try in seconds whether all works: few trials, no verdicts, under the name NAME-quick."
    ),
]
Known = Annotated[
    str | None,
    typer.Option(
        metavar="STUDY|FILE",
        help="Begin every block with the best settings of another study, FILE.db#STUDY or a database's only one.",
    ),
]
NoExploit = Annotated[bool, typer.Option("--no-exploit", help="Leave out TPE's trials, which are shown separately.")]
NoRecommend = Annotated[
    bool, typer.Option("--no-recommend", help="Leave out the best settings on fresh seeds; they enter no verdict.")
]
NoFlatness = Annotated[bool, typer.Option("--no-flatness", help="Measure no flatness.")]
Workers = Annotated[
    int | None,
    typer.Option(
        help=r"Worker processes: 1 to 1024 here, up to 4096 on a cluster.  \[default: one per core for a long study]"
    ),
]
Devices = Annotated[
    str | None, typer.Option(help=r"Devices of the workers: cuda:0,cuda:1 or cpu.  \[default: --device]")
]
PerDevice = Annotated[int | None, typer.Option(help="Workers per device (1 to 1024).")]
Engine = Annotated[str, typer.Option(help="Where workers run: local (this machine) or ray (a Ray cluster).")]
Address = Annotated[str | None, typer.Option(help=r"Address of the Ray cluster: auto or HOST:PORT.  \[default: auto]")]
GpusPerWorker = Annotated[
    float | None, typer.Option(help=r"GPUs per Ray worker: 0.25 puts four workers on a GPU.  \[default: 0, the CPU]")
]
CpusPerWorker = Annotated[int | None, typer.Option(help=r"CPU cores per Ray worker.  \[default: 1]")]
Optuna = Annotated[
    str | None,
    typer.Option(help="HOST:PORT of Optuna's gRPC storage proxy; workers then write Optuna's tables through it."),
]
Restate = Annotated[
    bool,
    typer.Option("--restate", help="Change margin, baseline or controls after test data were read; the page says so."),
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print the verdicts only.")]
QuietWorker = Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing unless trials remain.")]


def reader(storage: str) -> Database:
    """Open the database of ``--storage`` for reading only."""
    from relaxbench.store.database import open_database

    return open_database(storage, create=False, read_only=True)


def described(error: UserError) -> str:
    """Return an error's message, followed by the options that set what it concerns."""
    names = [f"--{setting.replace('_', '-')}" for setting in error.settings]
    if not names:
        return str(error)
    return f"{error} (option{'s' if len(names) > 1 else ''} {', '.join(names)})"
