"""A Ray cluster: what is asked of it, the connection to it, and whether it can do that."""

from __future__ import annotations

import importlib
import logging
import math
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from relaxbench.errors import UserError
from relaxbench.store.urls import parse_url, show_url
from relaxbench.util.text import counted

ANSWER_SECONDS = 10.0
"""How long a cluster may take to answer."""


@dataclass(frozen=True)
class Cluster:
    """Workers on a cluster, as they are asked for.

    Attributes:
        address: ``"auto"`` (the one that this machine belongs to) or ``"HOST:PORT"``.
        workers: how many.
        gpus: of each, as a fraction; 0 for the CPU.
        cpus: cores of each.
    """

    address: str
    workers: int
    gpus: float
    cpus: int

    def __post_init__(self) -> None:
        if not 1 <= self.workers <= 4096:
            raise UserError(f"{self.workers} workers: expected 1 to 4096", "workers")
        if not 0 <= self.gpus <= 1:
            raise UserError(
                f"{self.gpus:g} GPUs per worker: expected 0 (the CPU) to 1, e.g. 0.25 for four workers per GPU",
                "gpus_per_worker",
            )
        if not 1 <= self.cpus <= 1024:
            raise UserError(f"{self.cpus} CPUs per worker: expected 1 to 1024", "cpus_per_worker")

    @property
    def device(self) -> str:
        """Where a task computes: on the one GPU that Ray shows it, or on none."""
        return "cuda" if self.gpus else "cpu"

    def fit(self, resources: dict[str, float]) -> int:
        """How many workers a node with these resources holds."""
        by_cores = int(resources.get("CPU", 0.0) // self.cpus)
        # 1/3 of a GPU is a little less than a third in binary, 0.1 a little more than a tenth.
        by_gpus = int(resources.get("GPU", 0.0)) * math.floor(1 / self.gpus + 1e-6) if self.gpus else by_cores
        return min(by_cores, by_gpus)


@contextmanager
def connected(cluster: Cluster, storage: str) -> Iterator[list[str]]:
    """The connection to a cluster; gives lines for people.

    Args:
        cluster: what is asked of it.
        storage: that all of its nodes have to reach.

    Raises:
        UserError: if Ray or the cluster is not there, has no room for a single worker, or cannot reach the storage.
    """
    try:
        ray: Any = importlib.import_module("ray")
    except ImportError:
        raise UserError(
            "a Ray cluster needs Ray, which is not installed: pip install 'relaxbench[ray]'", "engine"
        ) from None
    handler = signal.getsignal(signal.SIGTERM)
    try:
        if cluster.address != "auto":
            host, _, port = cluster.address.rpartition(":")
            socket.create_connection((host, int(port)), timeout=ANSWER_SECONDS).close()  # Ray tries for minutes
        # Its messages go to its own logs: the terminal shows the study.
        ray.init(address=cluster.address, log_to_driver=False, logging_level=logging.CRITICAL)
        ray._private.worker._worker_logs_enabled = False  # log_to_driver leaves some on
    except Exception as error:
        said = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise UserError(
            f"no Ray cluster can be joined at {cluster.address!r} ({said}): begin one with ray start --head, and run "
            "this on one of its nodes",
            "address",
        ) from None
    finally:
        signal.signal(signal.SIGTERM, handler)  # Ray has put its own there
    try:
        nodes = [node for node in ray.nodes() if node["Alive"]]
        check_storage(storage, {node["NodeManagerAddress"] for node in nodes}, ray.util.get_node_ip_address())
        yield _check_room(cluster, [node["Resources"] for node in nodes])
    finally:
        ray.shutdown()


def check_storage(storage: str, hosts: set[str], here: str) -> None:
    """Refuse a storage that not all nodes can reach.

    Args:
        storage: the database's URL.
        hosts: addresses of all nodes.
        here: address of this machine.

    Raises:
        UserError: if it is a file and there are other machines.
    """
    url = parse_url(storage)
    if url.get_backend_name() == "sqlite" and hosts != {here}:
        raise UserError(
            f"storage {show_url(url)!r} is a file, which the cluster's other machines cannot share: use PostgreSQL "
            "(postgresql+psycopg://user@host/name)",
            "storage",
        )


def _check_room(cluster: Cluster, nodes: list[dict[str, float]]) -> list[str]:
    room = sum(cluster.fit(resources) for resources in nodes)
    if not room:
        there = "; ".join(f"{node.get('CPU', 0):g} CPUs, {node.get('GPU', 0):g} GPUs" for node in nodes)
        raise UserError(
            f"no node of the cluster holds a worker of {counted(cluster.cpus, 'CPU')} and {cluster.gpus:g} GPUs "
            f"(there: {there}): request less, or start Ray with --num-cpus and --num-gpus",
            "cpus_per_worker",
            "gpus_per_worker",
        )
    if room < cluster.workers:
        return [f"The cluster has room for {room} of {counted(cluster.workers, 'worker')}: the others wait for theirs."]
    return []
