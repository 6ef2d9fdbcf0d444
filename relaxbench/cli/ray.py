"""`study --engine ray`: the requested cluster, and a session whose workers are tasks on it."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from relaxbench.cli import checks
from relaxbench.errors import UserError
from relaxbench.util.text import counted

if TYPE_CHECKING:
    from relaxbench.cli.progress import Display
    from relaxbench.study.coordination.ray_cluster import Cluster
    from relaxbench.study.definition.opening import OpenStudy
    from relaxbench.study.execution.run import StudyRun, Summary


def requested_cluster(
    engine: str,
    address: str | None,
    workers: int | None,
    gpus: float | None,
    cpus: int | None,
    local: Mapping[str, object],
) -> Cluster | None:
    """Return the requested cluster; None if the work stays on this machine.

    Args:
        engine: of ``--engine``.
        address: of ``--address``.
        workers: of ``--workers``.
        gpus: of ``--gpus-per-worker``.
        cpus: of ``--cpus-per-worker``.
        local: options for work on this machine only, with their values (None if not given).

    Raises:
        UserError: naming the option that does not fit.
    """
    if engine not in ("local", "ray"):
        raise UserError(f"--engine {engine!r}: expected local or ray")
    if engine == "local":
        for option, given in (("--address", address), ("--gpus-per-worker", gpus), ("--cpus-per-worker", cpus)):
            if given is not None:
                raise UserError(f"{option} {given}: only with --engine ray")
        return None
    for option, value in local.items():
        if value is not None:
            raise UserError(f"{option} {value}: not with --engine ray, whose workers get --gpus-per-worker")
    if address is not None and address != "auto":
        checks.check_address("--address", address, "auto or HOST:PORT")
    if workers is None:
        raise UserError("--engine ray needs a number of workers: add --workers N")
    from relaxbench.study.coordination.ray_cluster import Cluster

    return Cluster(address or "auto", workers, gpus or 0.0, 1 if cpus is None else cpus)


@contextmanager
def connected_cluster(cluster: Cluster | None, storage: str) -> Iterator[list[str]]:
    """Connect to the cluster, if one is requested; give lines to print."""
    if cluster is None:
        yield []
        return
    from relaxbench.study.coordination.ray_cluster import connected

    with connected(cluster, storage) as notes:
        yield notes


def distribute(run: StudyRun, opened: OpenStudy, cluster: Cluster, storage: str, display: Display) -> Summary:
    """Run a session whose work is done by tasks of the cluster; see `connected_cluster`."""
    from relaxbench.cli.watch import Watch
    from relaxbench.store.urls import parse_url
    from relaxbench.study.execution.ray_worker import Order, RayWorkers

    watch, options = Watch(run, opened, display), run.options
    url = parse_url(storage)
    if url.get_backend_name() == "sqlite":
        url = url.set(database=str(Path(str(url.database)).absolute()))  # Ray chooses a task's working folder
    order = Order(
        storage=url.render_as_string(hide_password=False),
        study=opened.spec.name,
        problems=[problem.name for problem in opened.problems],
        methods=opened.spec.methods,
        device=cluster.device,
        threads=cluster.cpus,
        population=options.population,
        checkpoints=str(options.checkpoints.absolute()),
        retries=options.retries,
        data=os.environ.get("RELAXBENCH_DATA"),
        optuna=options.optuna,
    )

    def work() -> None:
        size = counted(cluster.workers, "worker")
        display.say(f"Study {order.study}: {size} on the Ray cluster, on {cluster.device}.")
        RayWorkers(cluster, order, watch.claims, options.stopping, watch.tick, display.say).run()

    return watch.over(work)
