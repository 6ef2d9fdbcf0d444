"""All measurements, one after another: what is printed as it comes, and the figures in a file."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator
from pathlib import Path

from rich.console import RenderableType

from relaxbench.bench import population, steps
from relaxbench.bench.tables import population_tables, step_tables
from relaxbench.errors import UserError
from relaxbench.training.engine import machine, torch_device


def run(device: str, file: Path | None, compiled: bool, tell: Callable[[str], object]) -> Iterator[RenderableType]:
    """Measure, and give what to print as it comes.

    Args:
        device: ``"auto"``, ``"cpu"`` or ``"cuda"``.
        file: for the figures, as JSON.
        compiled: whether compiled training steps are measured too.
        tell: is told what is being measured.

    Raises:
        UserError: if the file cannot be written or the device or a compiler is not there; nothing is measured then.
    """
    place = torch_device(device)
    if compiled:
        steps.check_compiler(place)
        logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)  # it warns that there is no GPU
    if file is not None:
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.open("a").close()
        except OSError as error:
            raise UserError(f"--json {str(file)!r} cannot be written: {error.strerror}") from None
    tell("populations against a plain loop")
    figures = {"machine": machine(), "device": str(place), **population.measure(place)}
    yield from population_tables(figures)
    figures["steps"] = {}
    for name in (*steps.NAMES, *(steps.COMPILED if compiled else ())):
        tell(f"training steps of LeNet: {name}")
        figures["steps"].update(steps.step_costs(place, (name,)))
    yield from step_tables(figures)
    if file is not None:
        file.write_text(json.dumps(figures, indent=2) + "\n")
