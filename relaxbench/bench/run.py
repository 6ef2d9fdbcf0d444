"""Run all measurements one after another; print the tables, write the numbers to a file, and write the page."""

from __future__ import annotations

import json
import logging
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import torch
from rich.console import RenderableType

from relaxbench.bench import (
    allcnn,
    alone,
    busy,
    compiled,
    contenders,
    ledger,
    memory,
    plan,
    population,
    residual,
    steps,
    trials,
)
from relaxbench.bench.tables import TABLES
from relaxbench.errors import UserError, unknown
from relaxbench.training.devices import machine, torch_device
from relaxbench.util.cores import cores
from relaxbench.version import __version__

Tell = Callable[[str], object]
PARTS = tuple(TABLES)


@dataclass(frozen=True)
class BenchOptions:
    """The requested measurements.

    Attributes:
        device: ``"auto"``, ``"cpu"`` or ``"cuda"``.
        only: names of parts; none means all.
        quick: measure briefly.
        compiled: whether compiled training steps are measured too.
        json: file for the numbers, or None.
        page: file for the page, or None.
        command: the command line, for the page.
    """

    device: str = "auto"
    only: Sequence[str] = ()
    quick: bool = False
    compiled: bool = False
    json: Path | None = None
    page: Path | None = None
    command: str = ""


def run(options: BenchOptions, tell: Tell) -> Iterator[RenderableType]:
    """Measure, and yield tables to print. Write the files after every part, atomically.

    Args:
        options: the requested measurements.
        tell: called with the name of each measurement as it begins.

    Raises:
        UserError: before anything is measured, if a part is unknown, a file cannot be written, or the device or a
            compiler is missing.
    """
    for name in options.only:
        if name not in PARTS:
            raise unknown("part", name, PARTS)
    parts = [part for part in PARTS if not options.only or part in options.only]
    device = torch_device(options.device)
    if options.compiled:
        if not {"steps", "residual"} & {*parts}:
            raise UserError(
                "compiled steps are measured by the parts 'residual' and 'steps', none of which is requested",
                "compile",
                "only",
            )
        steps.check_compiler(device)
        logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)  # it warns of a missing GPU
    check_file(options.json, "json")
    check_file(options.page, "report")
    figures: dict[str, Any] = {"machine": machine(), "about": _about(options, device)}
    for part in parts:
        figures[part] = _measure(part, device, options, tell)
        for table in TABLES[part][1](figures[part]):
            yield from table.printed()
        _write(figures, options)


def check_file(file: Path | None, setting: str) -> None:
    """Refuse, before anything is measured, a file that cannot be written at the end.

    Write a temporary file next to it, because permission bits are not enough to know.

    Args:
        file: the file; None is accepted.
        setting: the name of the setting that it comes from.

    Raises:
        UserError: naming the setting.
    """
    if file is None:
        return
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=file.parent).close()
        reason = "it is a folder" if file.is_dir() else ""
    except OSError as error:
        reason = error.strerror or type(error).__name__
    if reason:
        raise UserError(f"{str(file)!r} cannot be written ({reason}): name another file", setting)


def _about(options: BenchOptions, device: torch.device) -> dict[str, Any]:
    return {
        "version": __version__,
        "date": datetime.now().astimezone().isoformat(timespec="minutes"),
        "device": str(device),
        "cores": cores(),
        "quick": options.quick,
        "command": options.command,
    }


def _measure(part: str, device: torch.device, options: BenchOptions, tell: Tell) -> dict[str, Any]:
    quick = options.quick
    match part:
        case "population":
            return population.measure(device, quick, tell)
        case "contenders":
            return contenders.measure(device, quick, tell)
        case "compiled":
            return compiled.measure(device, quick, tell)
        case "busy":
            return busy.measure(device, quick, tell)
        case "residual":
            return residual.measure(device, quick, options.compiled, tell)
        case "alone":
            return alone.measure(device, quick, tell)
        case "trials":
            return trials.measure(device, quick, tell)
        case "steps":
            return steps.measure(device, quick, options.compiled, tell)
        case "allcnn":
            return allcnn.measure(device, quick, tell)
        case "memory":
            return memory.measure(device, quick, tell)
        case "plan":
            return plan.measure(quick, tell)
        case _:
            return ledger.measure(tell)


def _write(figures: dict[str, Any], options: BenchOptions) -> None:
    from relaxbench.util import files

    try:
        if options.json is not None:
            files.write(options.json, json.dumps(figures, indent=2) + "\n")
        if options.page is not None:
            from relaxbench.bench.page import render

            files.write(options.page, render(figures))
    except OSError as error:
        raise UserError(f"cannot write the figures to {error.filename!r}: {error.strerror}") from error
