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
    from relaxbench.study.coordination.supervisor import WorkerPlace
    from relaxbench.study.execution.run import StudyRun, Summary


@dataclass
class LocalWorkers:
    """The requested worker processes on this machine; see `supervisor.worker_places`."""

    workers: int | None
    devices: str | None
    per_device: int | None
    kind: str = "cpu"

    def check(self, device: str) -> None:
        """Refuse options that do not fit together, and set `kind`, the kind of all devices.

        Args:
            device: value of ``--device``, used if ``--devices`` is not given.

        Raises:
            UserError: naming the option.
        """
        from relaxbench.training.devices import torch_device

        torch_device(device)
        if self.devices is None and device != "cpu":
            import torch

            count = torch.cuda.device_count() if torch.cuda.is_available() else 0
            usable = ",".join(f"cuda:{i}" for i in range(count)) or "cpu"
            self.devices = usable if device in ("auto", "cuda") else device
        places = self.places(Path(), "")
        kinds = {place.device.partition(":")[0] for place in places}
        if len(kinds) > 1:
            raise UserError(f"--devices {self.devices!r}: a study runs on one kind of device, cuda or cpu")
        (self.kind,) = kinds
        if device != "auto" and torch_device(device).type != self.kind:
            raise UserError(f"--devices {self.devices!r}: --device {device} is of another kind: leave out one of them")
        for place in places:
            torch_device(place.device)

    def places(self, folder: Path, name: str) -> list[WorkerPlace]:
        """Return one place per worker."""
        from relaxbench.study.coordination.supervisor import worker_places

        return worker_places(self.workers, self.devices, self.per_device, folder, name)


def supervise(run: StudyRun, local: LocalWorkers, storage: str, display: Display) -> Summary:
    """Run a session whose work is done by worker processes; this process watches them."""
    from relaxbench.cli.watch import Watch
    from relaxbench.study.coordination.manifest import read_manifest
    from relaxbench.study.coordination.supervisor import Supervisor, environment

    watch = Watch(run, display)
    name = watch.opened.spec.name
    places = local.places(run.checkpoints, read_manifest(run.database, watch.opened.study)["key"])

    def command(place: WorkerPlace) -> tuple[list[str], dict[str, str]]:
        line = [sys.executable, "-m", "relaxbench", "worker", "--quiet", "--device", run.device]
        line += ["--checkpoints", str(run.checkpoints), "--retries", str(run.retries)]
        line += ["--population", str(run.population)] if run.population else []
        line += ["--optuna", run.optuna] if run.optuna else []
        # The study may have more problems and methods than this command requests.
        line += [f"--problem={problem.name}" for problem in watch.opened.problems]
        line += [f"--method={label}" for label in watch.opened.spec.methods]
        line += ["--", name]
        # The storage's address may contain a password, and every user of a machine can read command lines.
        return line, {**environment(place, len(places)), "RELAXBENCH_STORAGE": storage}

    def work() -> None:
        display.say(f"Study {name}: {counted(len(places), 'worker')} on {_where(places)}.")
        Supervisor(watch.claims, places, command, run.stopping, watch.tick, display.say).run()

    return watch.over(work)


def _where(places: list[WorkerPlace]) -> str:
    counts = {place.device: sum(other.device == place.device for other in places) for place in places}
    return ", ".join(device if count == 1 else f"{device} ({count})" for device, count in counts.items())
