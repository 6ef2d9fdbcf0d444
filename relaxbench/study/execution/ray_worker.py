"""Workers as tasks of a Ray cluster: placed, watched, placed again when they fail, and ended together.

Ray repeats a task whose node is lost, and the database knows what is to be done: what the lost task was running goes on
from the shared folder of checkpoints. Torch is not imported here: a task says first how many threads it may have.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from relaxbench.errors import UserError
from relaxbench.store.claims import Claims
from relaxbench.study.coordination.ray_cluster import Cluster
from relaxbench.study.coordination.supervisor import BREAKER, LONGEST_PAUSE, TICK

RETRIES = 3
"""How often Ray itself repeats a task whose node or process is lost, at once and elsewhere."""
HEALTHY_SECONDS = 600.0
"""A task that has lasted this long was no false start: the count of its failures begins again."""
KILL_SECONDS = 5.0
"""How long killed tasks are waited for."""


@dataclass(frozen=True)
class Order:
    """What a task is told. It travels to other machines, and is never printed: the storage may hold a password.

    Attributes:
        storage: the database's URL.
        study: name of the study.
        problems: those of it that are to be worked on.
        methods: likewise.
        device: see `Cluster.device`.
        threads: of the processor.
        population: K, or None for the fastest.
        checkpoints: folder for unfinished trials, the same on all nodes.
        retries: of a trial.
        data: folder of the data sets, or None for what the node itself says.
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
    """A task: what ``python -m relaxbench worker`` does, in a process that Ray has made; returns a person's mistake."""
    told = threading.Event()
    signal.signal(signal.SIGINT, lambda number, frame: told.set())  # so Ray says that a task is cancelled
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[name] = str(order.threads)
    if order.data:
        os.environ["RELAXBENCH_DATA"] = order.data
    from pathlib import Path

    from relaxbench.store.database import open_database
    from relaxbench.study.execution.join import join
    from relaxbench.study.execution.run import StudyRun
    from relaxbench.util.malloc import keep_freed_memory

    keep_freed_memory()
    try:
        database = open_database(order.storage, create=False)
        opened = join(database, order.study, order.device, order.problems, order.methods)
        run = StudyRun(
            database, opened.spec, "", order.device, order.population, Path(order.checkpoints), order.retries
        )
        run.stopping, run.optuna = told.is_set, order.optuna
        run.work(opened)
        database.dispose()
    except UserError as error:
        return str(error)
    return ""


@dataclass
class Place:
    """A place for one worker.

    Attributes:
        task: the current one.
        began: when that was handed over.
        due: when the next one is to be.
        failures: in a row.
        over: it is done, or given up.
    """

    task: Any = None
    began: float = 0.0
    due: float = 0.0
    failures: int = 0
    over: bool = False


@dataclass
class RayEngine:
    """Workers on a connected cluster.

    Args:
        cluster: what is asked of it.
        order: of every worker.
        claims: of the study, to free what dead workers of this machine held.
        stopping: True ends all workers at the end of their rounds.
        tick: called several times a second.
        announce: receives lines for people.
    """

    cluster: Cluster
    order: Order
    claims: Claims
    stopping: Callable[[], bool]
    tick: Callable[[], None]
    announce: Callable[[str], None]
    _over: bool = False
    _said: str = ""

    def run(self) -> None:
        """Until every worker is done, given up or stopped.

        Raises:
            UserError: if a worker refuses what was asked for, or all have been given up.
        """
        import ray

        task = ray.remote(
            num_cpus=self.cluster.cpus,
            num_gpus=self.cluster.gpus,
            max_calls=1,  # a process of its own, whose end frees all that it held
            max_retries=RETRIES,
            scheduling_strategy="SPREAD",
        )(work)
        places = [Place() for _ in range(self.cluster.workers)]
        told = False
        try:
            while not all(place.over for place in places):
                if (self.stopping() or self._over) and not told:
                    told = True
                    if not self._over:
                        self.announce("Stopping at the end of a round; once more, and the workers are ended at once.")
                    self._cancel(places)
                for place in places:
                    self._attend(place, task, told)
                self.tick()
                time.sleep(TICK)
        finally:
            self._end(places)
        if all(place.failures >= BREAKER for place in places):
            raise UserError(
                f"every worker on the cluster failed {BREAKER} times in a row ({self._said}): mend the cause (Ray's "
                "logs say more) and run it again"
            )

    def _attend(self, place: Place, task: Any, told: bool) -> None:
        """See what became of a worker; place one where there is none."""
        import ray

        if place.over:
            return
        if place.task is None:
            if told:
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
            if not told:
                self._failed(place, getattr(error, "cause", None) or error)
            return
        place.task, place.over = None, True
        if mistake:
            raise UserError(mistake)
        self._over = True  # nothing is left to do: those that wait for a place need not wait

    def _failed(self, place: Place, error: BaseException) -> None:
        """Decide whether another worker takes the place of one that has failed (and that Ray has not replaced)."""
        self.claims.reap()
        self._said = f"{type(error).__name__}: {next(iter(str(error).strip().splitlines()), '')}"[:300]
        healthy = time.monotonic() - place.began > HEALTHY_SECONDS
        place.failures = 1 if healthy else place.failures + 1
        if place.failures >= BREAKER:
            place.over = True
            self.announce(f"a worker's place is given up after {BREAKER} failures in a row: {self._said}")
            return
        place.due = time.monotonic() + min(LONGEST_PAUSE, 0.25 * 2 ** (place.failures - 1))
        self.announce(f"a worker failed ({self._said}): started again")

    def _cancel(self, places: list[Place], force: bool = False) -> list[Any]:
        """Have all tasks end: at the end of a round, or now; those that wait for a place do not begin."""
        import ray

        tasks = [place.task for place in places if place.task is not None]
        for task in tasks:
            ray.cancel(task, force=force)
        return tasks

    def _end(self, places: list[Place]) -> None:
        """Leave no task behind: after a mistake, a second Ctrl-C, or an error of our own."""
        import ray

        tasks = self._cancel(places, force=True)
        if tasks:
            ray.wait(tasks, num_returns=len(tasks), timeout=KILL_SECONDS)
        self.claims.reap()
