"""Options of a session: on which device it works, how, and where it reports.

The options belong to the session, not to the study: sessions with different options may work on one study.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from relaxbench.store.claims import RETRIES
from relaxbench.study.coordination.progress import Progress
from relaxbench.training.devices import torch_device


def _ignore(_: object) -> None:
    """Do nothing."""


def _never() -> bool:
    """Let a session go on."""
    return False


def parse_device(name: str) -> torch.device | None:
    """Return the device of a name.

    Args:
        name: ``"cpu"``, ``"cuda"``, ``"cuda:1"``, …; or ``"auto"``: the kind of device on which the study began, and a
            GPU where one is usable for a new study. That is known when the study is open; the result is then None.

    Raises:
        UserError: if the name is not that of a device, or if the machine has no such device.
    """
    return None if name == "auto" else torch_device(name)


@dataclass(frozen=True)
class RunOptions:
    """How a session works on a study.

    Attributes:
        device: from `parse_device`.
        population: K, or None for the fastest.
        checkpoints: folder of unfinished trials, the same for all workers.
        retries: how often a trial is tried again when its worker fails or dies.
        optuna: ``HOST:PORT`` of Optuna's gRPC storage proxy, or None to reach Optuna's tables directly.
        observe: receives the progress of all methods, now and then.
        stopping: called at the end of every round; True ends the session.
        announce: receives lines for people: what is done, and by which engine.
        threads: of torch on the CPU, for a study that has stored no number yet; None for torch's own.
    """

    device: torch.device | None = None
    population: int | None = None
    checkpoints: Path = Path("checkpoints")
    retries: int = RETRIES
    optuna: str | None = None
    observe: Callable[[list[Progress]], None] = _ignore
    stopping: Callable[[], bool] = _never
    announce: Callable[[str], None] = _ignore
    threads: int | None = None
