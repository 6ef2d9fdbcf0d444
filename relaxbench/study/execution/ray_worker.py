"""Workers as tasks of a Ray cluster: start them, watch them, restart them when they fail, and end them together.

Ray repeats a task whose node is lost. The database knows which trials are left, and the trials of the lost task
continue from the shared folder of checkpoints. This module does not import torch: a task must first set its number of
threads.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from relaxbench.errors import UserError, exited
from relaxbench.store.claims import Claims
from relaxbench.study.coordination.ray_cluster import Cluster
from relaxbench.study.coordination.supervisor import BREAKER, LONGEST_PAUSE, TICK
from relaxbench.util.pause import sleep

RETRIES = 3
"""How often Ray itself repeats a task whose node or process is lost, immediately and on another node."""
HEALTHY_SECONDS = 600.0
"""The failure of a task that ran at least this long is counted as the first in a row."""
KILL_SECONDS = 5.0
"""Longest wait for killed tasks to end."""


@dataclass(frozen=True)
class Order:
    """The instructions for a task, which are sent to other machines. It holds plain values alone: see `RunOptions`.

    Attributes:
        storage: the database's URL; never printed, because it may hold a password.
        study: name of the study.
        problems: names of its problems to work on.
        methods: its methods to work on.
        device: see `Cluster.device`.
        threads: number of CPU threads.
        population: K, or None for the fastest.
        checkpoints: folder of unfinished trials, the same on all nodes.
        retries: how often a trial is tried again.
        data: folder of the data sets, or None for the node's own setting.
        optuna: address of Optuna's gRPC storage proxy, or None.
    """

    storage: str = field(repr=False)
    study: str
    problems: list[str]
    methods: list[str]
    device: str
    threads: int
    population: int | None
    checkpoints: str
    retries: int
    data: str | None = None
    optuna: str | None = None


def work(order: Order) -> str:
    """Do what ``python -m relaxbench worker`` does, in a process that Ray has started.

    Returns:
        The message of a user's mistake, or "".
    """
    cancelled = threading.Event()
    signal.signal(signal.SIGINT, lambda number, frame: cancelled.set())  # Ray's signal that a task is cancelled
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[name] = str(order.threads)
    if order.data:
        os.environ["RELAXBENCH_DATA"] = order.data
    from relaxbench.util.malloc import keep_freed_memory

    keep_freed_memory()
    from pathlib import Path

    from relaxbench.store.database import open_database
    from relaxbench.store.transactions import OUTAGE_SECONDS
    from relaxbench.study.execution.join import Part, join
    from relaxbench.study.execution.options import RunOptions, parse_device
    from relaxbench.study.execution.run import StudyRun

    try:
        database = open_database(order.storage, create=False, patience=OUTAGE_SECONDS)
        options = RunOptions(
            device=parse_device(order.device),
            population=order.population,
            checkpoints=Path(order.checkpoints),
            retries=order.retries,
            optuna=order.optuna,
            stopping=cancelled.is_set,
        )
        StudyRun(database, options).work(
            join(database, order.study, options.device, Part(order.problems, order.methods))
        )
        database.dispose()
    except UserError as error:
        return str(error)
    except SystemExit as error:  # Ray would take it for the end of its worker
        return str(exited(error) or error)
    return ""


@dataclass
class TaskPlace:
    """A place for one worker.

    Attributes:
        task: the current Ray task, or None.
        began: when that was submitted.
        due: when the next one is to be submitted.
        failures: in a row.
        over: whether the place is finished or given up.
    """

    task: Any = None
    began: float = 0.0
    due: float = 0.0
    failures: int = 0
    over: bool = False


@dataclass
class RayWorkers:
    """Workers on a connected cluster.

    Args:
        cluster: number and resources of the workers.
        order: the instructions for every worker.
        claims: of the study, to free the trials of dead workers on this machine.
        stopping: True ends all workers at the end of their rounds.
        tick: called several times per second.
        announce: receives lines for people.
    """

    cluster: Cluster
    order: Order
    claims: Claims
    stopping: Callable[[], bool]
    tick: Callable[[], None]
    announce: Callable[[str], None]
    _over: bool = False
    _failure: str = ""

    def run(self) -> None:
        """Run the workers until every one is done, given up or stopped.

        Raises:
            UserError: if a worker reports a user's mistake, or if all have been given up.
        """
        import ray

        task = ray.remote(
            num_cpus=self.cluster.cpus,
            num_gpus=self.cluster.gpus,
            max_calls=1,  # a new process per task, whose end frees all its memory
            max_retries=RETRIES,
            scheduling_strategy="SPREAD",
        )(work)
        places = [TaskPlace() for _ in range(self.cluster.workers)]
        stopped = False
        try:
            while not all(place.over for place in places):
                if (self.stopping() or self._over) and not stopped:
                    stopped = True
                    if not self._over:
                        self.announce("Stopping at the end of a round; once more, and the workers are ended at once.")
                    self._cancel(places)
                for place in places:
                    self._attend(place, task, stopped)
                self.tick()
                sleep(TICK)
        finally:
            self._end(places)
        if all(place.failures >= BREAKER for place in places):
            raise UserError(
                f"every worker on the cluster failed {BREAKER} times in a row ({self._failure}): fix the cause (see "
                "Ray's logs) and run it again"
            )

    def _attend(self, place: TaskPlace, task: Any, stopped: bool) -> None:
        """Look after the worker of a place: submit its task, or see how it ended."""
        import ray

        if place.over:
            return
        if place.task is None:
            if stopped:
                place.over = True
            elif time.monotonic() >= place.due:
                place.task, place.began = task.remote(self.order), time.monotonic()
            return
        done, _ = ray.wait([place.task], timeout=0)
        if not done:
            return
        try:
            mistake = ray.get(place.task)
        except ray.exceptions.RayError as error:
            place.task = None
            if not stopped:
                self._failed(place, getattr(error, "cause", None) or error)
            return
        place.task, place.over = None, True
        if mistake:
            raise UserError(mistake)
        self._over = True  # nothing is left to do: tasks that wait for resources need not start

    def _failed(self, place: TaskPlace, error: BaseException) -> None:
        """Decide whether to replace a worker that has failed and that Ray has not restarted."""
        self.claims.reap()
        self._failure = f"{type(error).__name__}: {next(iter(str(error).strip().splitlines()), '')}"[:300]
        healthy = time.monotonic() - place.began > HEALTHY_SECONDS
        place.failures = 1 if healthy else place.failures + 1
        if place.failures >= BREAKER:
            place.over = True
            self.announce(f"a worker's place is given up after {BREAKER} failures in a row: {self._failure}")
            return
        place.due = time.monotonic() + min(LONGEST_PAUSE, 0.25 * 2 ** (place.failures - 1))
        self.announce(f"a worker failed ({self._failure}): started again")

    def _cancel(self, places: list[TaskPlace], force: bool = False) -> list[Any]:
        """Cancel all tasks: at the end of a round, or now with `force`. Tasks that wait for resources do not start."""
        import ray

        tasks = [place.task for place in places if place.task is not None]
        for task in tasks:
            ray.cancel(task, force=force)
        return tasks

    def _end(self, places: list[TaskPlace]) -> None:
        """End all tasks: after the last one, a user's mistake, a second Ctrl-C, or an internal error."""
        import ray

        tasks = self._cancel(places, force=True)
        if tasks:
            ray.wait(tasks, num_returns=len(tasks), timeout=KILL_SECONDS)
        self.claims.reap()
