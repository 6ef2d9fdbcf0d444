"""`doctor`: try every part that relaxbench needs or can use, and say how to fix what does not work."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Literal, NamedTuple

import typer
from rich.table import Table
from rich.text import Text

from relaxbench.cli.console import say_table
from relaxbench.cli.options import STORAGE, Storage
from relaxbench.errors import UserError
from relaxbench.trackers.tracker import TRACKERS
from relaxbench.util.text import counted

State = Literal["works", "absent", "broken"]
MARKS = {"works": ("✓ works", "green"), "absent": ("– absent", "yellow"), "broken": ("✗ broken", "red")}


class Finding(NamedTuple):
    """The state of one part; `advice` says how to fix it unless it works."""

    part: str
    state: State
    what: str
    advice: str = ""


def doctor(storage: Storage = STORAGE) -> None:
    """Check Python, torch, GPU, storage and data on this machine, and say how to fix what does not work."""
    table, healthy = examine(storage)
    say_table(table)
    if not healthy:
        raise typer.Exit(1)


def examine(storage: str) -> tuple[Table, bool]:
    """Return a table of all findings, and whether nothing is broken (absent extras are fine)."""
    table = Table(box=None, pad_edge=False, header_style="dim")
    for column in ("part", "state", "details", "what to do"):
        table.add_column(column, overflow="fold")
    findings = list(findings_of(storage))
    for finding in findings:
        mark, colour = MARKS[finding.state]
        table.add_row(finding.part, Text(mark, style=colour), Text(finding.what), Text(finding.advice))
    return table, all(finding.state != "broken" for finding in findings)


def findings_of(storage: str) -> Iterator[Finding]:
    """Try everything that relaxbench needs or can use."""
    yield Finding("Python", "works", platform.python_version())
    yield _tried("PyTorch", _torch, "pip install 'torch>=2.9' torchvision, as a pair of the same release")
    yield _tried(
        "torchvision", _torchvision, "install torch and torchvision of one release (constraints.txt names a pair)"
    )
    yield _tried("population engine", _engine, "report this as a bug: a small population should train anywhere")
    yield _gpu()
    yield _compiler()
    for package in ("optuna", "sqlalchemy", "pandas", "plotly", "scipy"):
        yield _tried(package, partial(importlib.metadata.version, package), "pip install 'relaxbench[study]'")
    yield _storage(storage)
    yield _data()
    for extra, module, use in (
        ("postgres", "psycopg", "studies in PostgreSQL"),
        ("dashboard", "optuna_dashboard", "optuna-dashboard on a study"),
        ("ray", "ray", "workers on a Ray cluster"),
        ("grpc", "grpc", "study --optuna, which is Optuna's gRPC storage proxy"),
        *((tracker, tracker, f"log --to {tracker}") for tracker in TRACKERS),
    ):
        if importlib.util.find_spec(module) is not None:
            yield Finding(f"extra {extra!r}", "works", f"for {use}")
        else:
            yield Finding(f"extra {extra!r}", "absent", f"only needed for {use}", f"pip install 'relaxbench[{extra}]'")


def _tried(part: str, test: Callable[[], str], advice: str) -> Finding:
    try:
        return Finding(part, "works", test())
    except Exception as error:
        reason = next(iter(str(error).splitlines()), "")
        return Finding(part, "broken", f"{type(error).__name__}: {reason}", advice)


def _torch() -> str:
    import torch

    return f"{torch.__version__}, {counted(torch.get_num_threads(), 'CPU thread')}"


def _torchvision() -> str:
    import torchvision

    return str(torchvision.__version__)


def _engine() -> str:
    import torch

    from relaxbench.problems import problem
    from relaxbench.training.compatibility import invariance_of

    return f"gradients do not depend on the slot: {invariance_of(problem('digits-mlp'), 8, torch.device('cpu'))}"


def _gpu() -> Finding:
    import torch

    if not torch.cuda.is_available():
        advice = (
            "nothing, unless this machine has a GPU: then install its driver"
            if torch.version.cuda
            else "install a CUDA build of torch"
        )
        return Finding("GPU", "absent", "no CUDA device; studies run on the CPU", advice)
    try:
        for index in range(torch.cuda.device_count()):
            torch.ones(8, device=f"cuda:{index}").sum().item()
    except RuntimeError as error:
        return Finding("GPU", "broken", str(error).splitlines()[0], "check nvidia-smi, or use --device cpu")
    names = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return Finding("GPU", "works", ", ".join(names))


def _compiler() -> Finding:
    """Compile an empty extension, as the steps of long studies on the CPU are; leave nothing."""
    from relaxbench.training.compilers import tried

    part = "C++ compiler"
    apple = sys.platform == "darwin"
    how = "xcode-select --install, brew install libomp" if apple else "install g++ and Python's headers"
    found, cache, problem = tried()
    if not found:
        advice = f"nothing, unless studies are long: then {how}, which makes them several times as fast"
        return Finding(part, "absent", problem, advice)
    if problem:
        advice = f"{how}; or set TORCHINDUCTOR_CACHE_DIR to a folder that can be written"
        return Finding(part, "broken", problem, advice)
    return Finding(part, "works", f"{found}; compiled steps are kept in {cache} (TORCHINDUCTOR_CACHE_DIR)")


def _storage(storage: str) -> Finding:
    """Open the storage for reading; create nothing."""
    from sqlalchemy import func, select

    from relaxbench.store.database import open_database, parse_url
    from relaxbench.store.schema import Study
    from relaxbench.store.urls import show_url

    try:
        url = parse_url(storage)
        shown = show_url(url)
        if url.get_backend_name() == "sqlite" and not Path(str(url.database)).exists():
            folder = Path(str(url.database)).absolute().parent
            if os.access(folder, os.W_OK):
                return Finding("storage", "works", f"{shown} will be created by the first study")
            what = f"{shown}: its folder is missing or not writable"
            return Finding("storage", "broken", what, "give another --storage")
        database = open_database(storage, create=False, read_only=True)
        with database.connect() as connection:
            count = connection.scalar(select(func.count()).select_from(Study))
        database.dispose()
        return Finding("storage", "works", f"{shown}, {counted(count, 'study')}")
    except UserError as error:
        reason, _, advice = str(error).rpartition(": ")
        return Finding("storage", "broken", reason, advice)


def _data() -> Finding:
    from relaxbench.problems.data.published import SOURCES, data_dir

    variable, folder = os.environ.get("RELAXBENCH_DATA"), data_dir()
    if variable is not None and not folder.is_dir():
        reason = f"RELAXBENCH_DATA = {variable} is not a folder"
        return Finding("data folder", "broken", reason, "set it to a folder, or unset it")
    here = [source.title for source in SOURCES.values() if source.present(folder)]
    where = f"{folder}" if variable is not None else f"{folder} (RELAXBENCH_DATA is not set)"
    what = f"has {', '.join(here)}" if here else "has no images yet: study --data-dir or --download"
    return Finding("data folder", "works", f"{where} {what}")
