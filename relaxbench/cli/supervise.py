"""`study --workers`: worker processes on this machine, and the session that watches them."""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from relaxbench import given
from relaxbench.errors import UserError
from relaxbench.util.text import counted

if TYPE_CHECKING:
    import torch

    from relaxbench.cli.progress import Display
    from relaxbench.study.coordination.supervisor import WorkerPlace
    from relaxbench.study.definition.opening import OpenStudy
    from relaxbench.study.execution.run import StudyRun, Summary


@dataclass(frozen=True)
class LocalWorkers:
    """The requested worker processes on this machine; see `supervisor.worker_places`.

    Attributes:
        workers: of ``--workers``.
        devices: of ``--devices``, or all usable ones.
        per_device: of ``--per-device``.
        place: the first of their devices, which are all of one kind.
        threads: of each worker on the CPU; None for its share of the cores.
    """

    workers: int | None
    devices: str | None
    per_device: int | None
    place: torch.device
    threads: int | None = None

    @classmethod
    def parse(cls, device: str, workers: int | None, devices: str | None, per_device: int | None) -> LocalWorkers:
        """Check that the options fit together, and that every device is there.

        Args:
            device: value of ``--device``, used if ``--devices`` is not given.
            workers: of ``--workers``.
            devices: of ``--devices``.
            per_device: of ``--per-device``.

        Raises:
            UserError: naming the option.
        """
        from relaxbench.study.coordination.supervisor import worker_places
        from relaxbench.study.execution.options import parse_device

        place = parse_device(device)
        if devices is None and device != "cpu":
            devices = _gpus() if device in ("auto", "cuda") else device
        names = list(dict.fromkeys(p.device for p in worker_places(workers, devices, per_device, Path(), "")))
        kinds = {name.partition(":")[0] for name in names}
        if len(kinds) > 1:
            raise UserError(f"--devices {devices!r}: a study runs on one kind of device, cuda or cpu")
        if place is not None and place.type not in kinds:
            raise UserError(f"--devices {devices!r}: --device {device} is of another kind: leave out one of them")
        parsed = [place if name == str(place) else parse_device(name) for name in names]
        assert parsed[0] is not None, "no worker's device is called auto"
        return cls(workers, devices, per_device, parsed[0])

    def places(self, folder: Path, name: str) -> list[WorkerPlace]:
        """Return one place per worker."""
        from relaxbench.study.coordination.supervisor import worker_places

        return worker_places(self.workers, self.devices, self.per_device, folder, name)


def _gpus() -> str:
    """Return the names of all GPUs with commas between them, or ``"cpu"`` without one."""
    import torch

    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    return ",".join(f"cuda:{i}" for i in range(count)) or "cpu"


def work_on_this_machine(run: StudyRun, opened: OpenStudy, storage: str, display: Display) -> Summary:
    """Run a session with as many processes as it is worth: one per core for a long study on the CPU, else this one."""
    from relaxbench.study.coordination.manifest import read_manifest
    from relaxbench.study.execution.processes import cpu_threads, cpu_workers
    from relaxbench.training.devices import torch_device

    manifest = read_manifest(run.database, opened.id)
    place = run.options.device or torch_device(manifest.get("device", "auto"))
    if place.type != "cpu":
        return run.work(opened)
    threads = cpu_threads(manifest)
    workers = cpu_workers(opened, threads)
    if workers > 1 and _can_send(display):
        return supervise(run, opened, LocalWorkers(workers, None, None, place, threads), storage, display)
    return replace(run, options=replace(run.options, threads=threads)).work(opened)


def _can_send(display: Display) -> bool:
    """Whether worker processes can have what the program has given; else it is said why they cannot."""
    try:
        given.packed()
    except UserError as error:
        display.say(f"One process works: {error}.")
        return False
    return True


def supervise(run: StudyRun, opened: OpenStudy, local: LocalWorkers, storage: str, display: Display) -> Summary:
    """Run a session whose work is done by worker processes; this process watches them."""
    from relaxbench.cli.forked import ForkedWorker, can_fork
    from relaxbench.cli.watch import Watch
    from relaxbench.study.coordination.manifest import read_manifest
    from relaxbench.study.coordination.supervisor import Supervisor, worker_environment
    from relaxbench.study.coordination.worker_process import start_process

    watch, options = Watch(run, opened, display), run.options
    name = opened.spec.name
    places = local.places(options.checkpoints, read_manifest(run.database, opened.id)["key"])

    def command(place: WorkerPlace) -> tuple[list[str], dict[str, str]]:
        line = [sys.executable, "-m", "relaxbench", "worker", "--quiet", "--device", local.place.type]
        line += ["--checkpoints", str(options.checkpoints), "--retries", str(options.retries)]
        line += ["--population", str(options.population)] if options.population else []
        line += ["--optuna", options.optuna] if options.optuna else []
        # The study may have more problems and methods than this command requests.
        line += [f"--problem={problem.name}" for problem in opened.problems]
        line += [f"--method={label}" for label in opened.spec.methods]
        line += ["--", name]
        # The storage's address may contain a password, and every user of a machine can read command lines.
        share = {"OMP_NUM_THREADS": str(local.threads)} if local.threads else {}
        return line, {**worker_environment(place, len(places)), **share, **objects, "RELAXBENCH_STORAGE": storage}

    def work() -> None:
        display.say(f"Study {name}: {counted(len(places), 'worker')} on {_where(places)}.")
        start = ForkedWorker if can_fork([place.device for place in places]) else start_process
        told = set(opened.notes)
        Supervisor(watch.claims, places, command, options.stopping, watch.tick, display.say, start, told).run()

    with given.for_workers() as objects:
        return watch.over(work)


def _where(places: list[WorkerPlace]) -> str:
    counts = {place.device: sum(other.device == place.device for other in places) for place in places}
    return ", ".join(device if count == 1 else f"{device} ({count})" for device, count in counts.items())
