"""`study --workers`: worker processes on this machine, and the session that watches them."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from relaxbench.errors import UserError
from relaxbench.util.text import counted

if TYPE_CHECKING:
    from relaxbench.cli.progress import Display
    from relaxbench.study.coordination.supervisor import Slot
    from relaxbench.study.execution.run import StudyRun, Summary


@dataclass
class Crew:
    """Worker processes as they were asked for; see `supervisor.places`."""

    workers: int | None
    devices: str | None
    per_device: int | None
    kind: str = "cpu"

    def check(self, device: str) -> None:
        """Refuse what does not fit together; `kind` is then what all of its devices are.

        Args:
            device: of ``--device``, which says where the crew works if ``--devices`` does not.

        Raises:
            UserError: naming the option.
        """
        from relaxbench.training.engine import torch_device

        torch_device(device)
        if self.devices is None and device != "cpu":
            import torch

            count = torch.cuda.device_count() if torch.cuda.is_available() else 0
            found = ",".join(f"cuda:{i}" for i in range(count)) or "cpu"
            self.devices = found if device in ("auto", "cuda") else device
        slots = self.places(Path(), "")
        kinds = {slot.device.partition(":")[0] for slot in slots}
        if len(kinds) > 1:
            raise UserError(f"--devices {self.devices!r}: a study runs on one kind of device, cuda or cpu")
        (self.kind,) = kinds
        if device != "auto" and torch_device(device).type != self.kind:
            raise UserError(f"--devices {self.devices!r}: --device {device} is of another kind: leave one of them out")
        for slot in slots:
            torch_device(slot.device)

    def places(self, folder: Path, name: str) -> list[Slot]:
        """A slot for every worker."""
        from relaxbench.study.coordination.supervisor import places

        return places(self.workers, self.devices, self.per_device, folder, name)


def supervise(run: StudyRun, crew: Crew, storage: str, display: Display) -> Summary:
    """A session in which processes of their own do the work; this one watches them."""
    from relaxbench.cli.watch import Watch
    from relaxbench.study.coordination.manifest import read_manifest
    from relaxbench.study.coordination.supervisor import Supervisor, environment

    watch = Watch(run, display)
    name = watch.opened.spec.name
    slots = crew.places(run.checkpoints, read_manifest(run.database, watch.opened.study)["key"])

    def command(slot: Slot) -> tuple[list[str], dict[str, str]]:
        line = [sys.executable, "-m", "relaxbench", "worker", "--quiet", "--device", run.device]
        line += ["--checkpoints", str(run.checkpoints), "--retries", str(run.retries)]
        line += ["--population", str(run.population)] if run.population else []
        line += ["--optuna", run.optuna] if run.optuna else []
        # The study may have more than what was asked for here.
        line += [f"--problem={problem.name}" for problem in watch.opened.problems]
        line += [f"--method={label}" for label in watch.opened.spec.methods]
        line += ["--", name]
        # The storage's address may hold a password, and every user of a machine can read command lines.
        return line, {**environment(slot, len(slots)), "RELAXBENCH_STORAGE": storage}

    def work() -> None:
        display.say(f"Study {name}: {counted(len(slots), 'worker')} on {_where(slots)}.")
        Supervisor(watch.claims, slots, command, run.stopping, watch.tick, display.say).run()

    return watch.over(work)


def _where(slots: list[Slot]) -> str:
    counts = {slot.device: sum(other.device == slot.device for other in slots) for slot in slots}
    return ", ".join(device if count == 1 else f"{device} ({count})" for device, count in counts.items())
