"""What is decided once for a study, by measuring: its engines, and what a gradient of each method costs alone.

One worker measures and the others wait, so that nothing of the study runs beside it.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import cast

import torch

from relaxbench.problems import Problem
from relaxbench.store.facts import CostFacts, EngineFacts, Manifest
from relaxbench.store.workers import Presence
from relaxbench.study.coordination.manifest import edit_manifest, read_manifest, turn
from relaxbench.study.coordination.plan import Plan
from relaxbench.study.definition.opening import circumstances
from relaxbench.study.definition.spec import StudySpec
from relaxbench.training import engine as engines

CALIBRATION_PASSES = 3


@dataclass
class Settlement:
    """Measures what is missing in a study's manifest.

    Args:
        spec: the study.
        plans: what will be run.
        problems: by name.
        place: the device.
        worker: the name of this process.
        presence: its row.
        stopping: True ends the wait.
        tell: receives the plan whose cost is being measured.
    """

    spec: StudySpec
    plans: Sequence[Plan]
    problems: Mapping[str, Problem]
    place: torch.device
    worker: str
    presence: Presence
    stopping: Callable[[], bool]
    tell: Callable[[Plan], None]

    def settle(self, population: int | None) -> Manifest:
        """The complete manifest; incomplete if told to stop.

        Args:
            population: K for all problems from now on, or None for the fastest, or the one that was stored.
        """
        database, study = self.plans[0].database, self.plans[0].study
        while True:
            manifest = read_manifest(database, study)
            if (self._measured(manifest) and not self._other(manifest, population)) or self.stopping():
                return manifest
            with turn(database, study, "measure", self.worker) as granted:
                if granted:
                    self.presence.doing = "measuring the machine"
                    self.presence.seen()
                    self._choose(population)
                    self._calibrate()
            if not granted:
                time.sleep(random.uniform(0.2, 0.6))

    def _measured(self, manifest: Manifest) -> bool:
        costs = (plan.problem in manifest["methods"][plan.method]["calibration"] for plan in self.plans)
        return all(name in manifest.get("engines", {}) for name in self.problems) and all(costs)

    def _other(self, manifest: Manifest, population: int | None) -> bool:
        """Whether another population is asked for than the one that is stored."""
        return population is not None and any(
            manifest["engines"][name]["population"] != population for name in self.problems
        )

    def _choose(self, population: int | None) -> None:
        database, study = self.plans[0].database, self.plans[0].study
        chosen = dict(read_manifest(database, study).get("engines", {}))
        for name, problem in self.problems.items():
            if name not in chosen:
                engine = engines.choose(problem, self.place, population, self.spec.precision)
                chosen[name] = cast(EngineFacts, engine.as_dict())
            elif population:
                chosen[name] = {**chosen[name], "population": population}

        def edit(stored: Manifest) -> None:
            began: dict[str, object] = {**circumstances(), "device": self.place.type, **stored}  # stored facts stay
            stored.update(cast(Manifest, began))
            known = stored.get("engines", {})  # another worker's choice, whose turn was thought to be over, stays
            stored["engines"] = {**known, **chosen} if population else {**chosen, **known}

        edit_manifest(database, study, edit)

    def _calibrate(self) -> None:
        """What a gradient of each method costs alone, once per method and problem.

        In several passes over all methods, the fastest of which counts: a busy moment of the machine then falls on all.
        """
        database, study = self.plans[0].database, self.plans[0].study
        methods = read_manifest(database, study)["methods"]
        pending = [plan for plan in self.plans if plan.problem not in methods[plan.method]["calibration"]]
        costs: dict[tuple[str, str], CostFacts] = {}
        for plan in pending * CALIBRATION_PASSES:
            if self.stopping():
                return
            self.tell(plan)
            rule = self.spec.make_rule(plan.method)
            measured = engines.calibrate(self.problems[plan.problem], rule, self.place, self.spec.precision)
            cost = cast(CostFacts, measured)
            key = (plan.method, plan.problem)
            costs[key] = min(cost, costs.get(key, cost), key=lambda c: c["seconds_per_gradient"])

        def edit(stored: Manifest) -> None:
            for (label, name), cost in costs.items():
                stored["methods"][label]["calibration"].setdefault(name, cost)

        edit_manifest(database, study, edit)
