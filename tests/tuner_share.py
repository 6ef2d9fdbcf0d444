"""How full a population's slots are while a tuner searches, and what the tuner itself takes of the CPU.

``python -m tests.tuner_share tpe none`` runs a study of seven methods on digits, 10 blocks of 12 trials of 600
gradients, by two workers. A third argument is the size of a generation, a fourth the number of methods.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Callable
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from relaxbench.store.database import open_database
from relaxbench.study.coordination.judge import Judge
from relaxbench.study.coordination.learned_search import LearnedSearch
from relaxbench.study.coordination.manifest import read_manifest
from relaxbench.study.coordination.pruned_search import PrunedSearch
from relaxbench.study.definition.opening import open_study
from relaxbench.study.definition.prepare import prepare
from relaxbench.study.definition.search import GENERATION
from relaxbench.study.definition.spec import StudySpec
from relaxbench.study.definition.validation import restore
from relaxbench.study.execution.options import RunOptions, parse_device
from relaxbench.study.execution.run import StudyRun
from relaxbench.training.population import Population

METHODS = ["sgd", "lookahead", "sgd-ema", "entropy-sgd", "hj", "hj-implicit", "heat"]
WORKERS = 2


def spec_of(sampler: str, pruner: str, generation: int, methods: int) -> StudySpec:
    """The study; CMA-ES cannot choose the schedule."""
    values: dict[str, Any] = {
        **{"name": "tuner", "problems": ["digits-mlp"], "methods": METHODS[:methods], "baseline": "sgd"},
        **{"looks": [10], "trials": 12, "exploit": 0, "recommend": 0, "budget": 600, "flatness": False},
        "search": {"sampler": sampler, "pruner": pruner, "generation": generation},
    }
    if sampler == "cmaes":
        values["method"] = {label: {"fixed": {"schedule": "cosine"}} for label in values["methods"]}
    return restore(values, "tuner.toml")


class Watch:
    """Counts slots in use, and the CPU seconds of the tuner, in this process."""

    def __init__(self) -> None:
        self.tuner = 0.0
        self.rounds: list[int] = []  # slots in use, round by round, until the last trial of a search has begun
        self._after: list[int] = []  # since then
        for kind, name in ((LearnedSearch, "following"), (PrunedSearch, "following"), (PrunedSearch, "judge")):
            self._time(kind, name)
        self._time(Judge, "__call__")
        admit, go = Population.admit, Population.round

        def admitted(population: Population, jobs: Any) -> None:
            if any(not job.test for job in jobs):  # trials of the search; confirmations are tested
                self.rounds += self._after
                self._after = []
            admit(population, jobs)

        def advanced(population: Population) -> Any:
            if any(not member.job.test for member in population.slots):
                self._after.append(len(population.slots))
            return go(population)

        Population.admit, Population.round = admitted, advanced  # type: ignore[method-assign]

    def _time(self, kind: Any, name: str) -> None:
        own: Callable[..., Any] = getattr(kind, name)

        def timed(*arguments: Any) -> Any:
            begin = time.thread_time()
            try:
                return own(*arguments)
            finally:
                self.tuner += time.thread_time() - begin

        setattr(kind, name, timed)


def work(file: str, spec: StudySpec, out: str) -> None:
    """Run a worker, and write what it has seen."""
    watch, begin = Watch(), time.process_time()
    database = open_database(file)
    place = parse_device("cpu")
    opened = open_study(database, spec, "", prepare(spec), place)
    StudyRun(database, RunOptions(device=place)).work(opened)
    size = read_manifest(database, opened.id)["engines"]["digits-mlp"]["population"]
    told = {"cpu": time.process_time() - begin, "tuner": watch.tuner, "rounds": watch.rounds, "slots": size}
    Path(out).write_text(json.dumps(told))
    database.dispose()


def main(sampler: str, pruner: str = "none", generation: int = GENERATION, methods: int = len(METHODS)) -> None:
    """Measure, and print a line."""
    spec, context = spec_of(sampler, pruner, generation, methods), get_context("spawn")
    with tempfile.TemporaryDirectory() as folder:
        outs = [f"{folder}/{n}.json" for n in range(WORKERS)]
        workers = [context.Process(target=work, args=(f"{folder}/study.db", spec, out)) for out in outs]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        told = [json.loads(Path(out).read_text()) for out in outs]
    cpu, tuner = sum(t["cpu"] for t in told), sum(t["tuner"] for t in told)
    used, size = sum(sum(t["rounds"]) for t in told), told[0]["slots"]
    rounds = sum(len(t["rounds"]) for t in told)
    print(
        f"{sampler}, {pruner}, generations of {generation}, {methods} methods: K = {size}, slots "
        f"{used / (size * rounds):.1%} full; the tuner took {tuner:.1f} of {cpu:.1f} CPU seconds ({tuner / cpu:.1%})"
    )


if __name__ == "__main__":
    name, *rest = sys.argv[1:]
    main(name, *rest[:1], *map(int, rest[1:]))
