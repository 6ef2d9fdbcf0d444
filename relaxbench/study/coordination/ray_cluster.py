"""A Ray cluster: the request for workers, the connection, and whether the cluster can hold them."""

from __future__ import annotations

import importlib
import logging
import math
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from relaxbench.errors import UserError
from relaxbench.store.urls import parse_url, show_url
from relaxbench.util.text import counted

ANSWER_SECONDS = 10.0
"""How long to wait for a cluster's answer."""


@dataclass(frozen=True)
class Cluster:
    """A request for workers on a cluster.

    Attributes:
        address: ``"auto"`` (the cluster of this machine) or ``"HOST:PORT"``.
        workers: number of workers.
        gpus: GPUs per worker, a fraction; 0 for the CPU.
        cpus: cores per worker.
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
        """The device of a task: the one GPU that Ray shows it, or the CPU."""
        return "cuda" if self.gpus else "cpu"

    def fit(self, resources: dict[str, float]) -> int:
        """Count the workers that fit on a node with these resources."""
        by_cores = int(resources.get("CPU", 0.0) // self.cpus)
        # 1/3 of a GPU is a little less than a third in binary, 0.1 a little more than a tenth.
        by_gpus = int(resources.get("GPU", 0.0)) * math.floor(1 / self.gpus + 1e-6) if self.gpus else by_cores
        return min(by_cores, by_gpus)


@contextmanager
def connected(cluster: Cluster, storage: str) -> Iterator[list[str]]:
    """Connect to a cluster; yields lines for people.

    Args:
        cluster: the request.
        storage: URL of the database, which all nodes must reach.

    Raises:
        UserError: if Ray is not installed, or the cluster does not answer, has no room for one worker, or cannot reach
            the storage.
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
        # Ray's messages go to its own logs; the terminal shows the study.
        ray.init(address=cluster.address, log_to_driver=False, logging_level=logging.CRITICAL)
        ray._private.worker._worker_logs_enabled = False  # log_to_driver=False leaves some messages on
    except Exception as error:
        message = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise UserError(
            f"no Ray cluster can be joined at {cluster.address!r} ({message}): begin one with ray start --head, and "
            "run this on one of its nodes",
            "address",
        ) from None
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, handler)  # Ray has replaced it
    try:
        nodes = [node for node in ray.nodes() if node["Alive"]]
        check_storage(storage, {node["NodeManagerAddress"] for node in nodes}, ray.util.get_node_ip_address())
        yield _check_room(cluster, [node["Resources"] for node in nodes])
    finally:
        ray.shutdown()


def check_storage(storage: str, hosts: set[str], here: str) -> None:
    """Check that all nodes can reach a storage.

    Args:
        storage: the database's URL.
        hosts: addresses of all nodes.
        here: this machine's address.

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
        nodes_text = "; ".join(f"{node.get('CPU', 0):g} CPUs, {node.get('GPU', 0):g} GPUs" for node in nodes)
        raise UserError(
            f"no node of the cluster holds a worker of {counted(cluster.cpus, 'CPU')} and {cluster.gpus:g} GPUs "
            f"(there: {nodes_text}): request less, or start Ray with --num-cpus and --num-gpus",
            "cpus_per_worker",
            "gpus_per_worker",
        )
    if room < cluster.workers:
        return [f"The cluster has room for {room} of {counted(cluster.workers, 'worker')}: the others wait for room."]
    return []
