"""Choose each problem's engine and time one gradient per method, once for a study.

One worker chooses the engines, and trials begin. The worker that has first run all trials of a method that were waiting
measures the costs of all methods, before which no two could be compared. On the CPU with one thread the others go on
meanwhile, because the time of the measuring process counts alone. With more threads, or on a GPU, costs are measured
before any trial, so that nothing of the study runs at the same time, unless there is one worker alone.
"""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

import torch

from relaxbench.optim.rule import Rule
from relaxbench.problems import Problem
from relaxbench.store.facts import CompiledFacts, CostFacts, EngineFacts, Manifest
from relaxbench.store.identity_facts import IdentityFacts
from relaxbench.store.workers import Presence, at_work, workers
from relaxbench.study.coordination.manifest import edit_manifest, read_manifest, turn
from relaxbench.study.coordination.plan import Plan
from relaxbench.study.coordination.progress import tally
from relaxbench.study.definition.circumstances import circumstances
from relaxbench.study.definition.opening import OpenStudy
from relaxbench.study.definition.script_problem import LoopProblem
from relaxbench.study.execution.engine_request import EngineRequest
from relaxbench.study.execution.processes import most_workers
from relaxbench.study.execution.script_cost import script_costs, script_engine
from relaxbench.study.execution.steps import describe_step, lacking, refuse_size
from relaxbench.training import costs
from relaxbench.training import engine as engines
from relaxbench.training.repayment import Work, repaid
from relaxbench.util.pause import sleep

MEASURING = "measuring the machine"
REPORT_SECONDS = 1.0
"""Time between two reports of what is measured."""


@dataclass
class Calibration:
    """Measures what is missing in a study's manifest.

    Args:
        study: whose engines and costs are measured.
        place: the device.
        worker: name of this process.
        presence: its row in the database.
        stopping: True ends the wait.
        measuring: receives the plan whose step is compiled or whose cost is measured next, and the phase.
        announce: receives lines for people.
    """

    study: OpenStudy
    place: torch.device
    worker: str
    presence: Presence
    stopping: Callable[[], bool]
    measuring: Callable[[Plan, str], None]
    announce: Callable[[str], None]

    def __post_init__(self) -> None:
        self.spec, self.plans = self.study.spec, self.study.plans
        self.problems = {problem.name: problem for problem in self.study.problems}

    def prepare(self, population: int | None) -> Manifest:
        """Choose engines and compile steps, or wait until another worker has.

        Costs are measured as well where they cannot wait until trials have run, see `measure`.

        Args:
            population: K for all problems from now on; None for the stored one, or for the fastest.

        Returns:
            The manifest: complete but for costs, or incomplete at a stop.
        """
        database, study = self.plans[0].database, self.plans[0].study
        while True:
            manifest = read_manifest(database, study)
            for name, engine in manifest.get("engines", {}).items():
                refuse_size(engine, name, population)
            if self.stopping():
                return manifest
            if self._ready(manifest) and not self._other(manifest, population):
                break
            with turn(database, study, "measure", self.worker) as granted:
                if granted:
                    self.presence.doing = MEASURING
                    self.presence.seen()
                    self._choose(population)
                    self._compile()
            if not granted:
                sleep(random.uniform(0.2, 0.6))
        own_time = self.place.type == "cpu" and torch.get_num_threads() == 1
        if not own_time and not self._alone():
            self.measure(wait=True)
        return read_manifest(database, study)

    def measure(self, wait: bool = False) -> None:
        """Measure the costs that are missing, unless another worker does so now.

        Args:
            wait: whether to wait for that worker.
        """
        database, study = self.plans[0].database, self.plans[0].study
        while not self._timed(read_manifest(database, study)) and not self.stopping():
            with turn(database, study, "measure", self.worker) as granted:
                if granted:
                    self.presence.doing = MEASURING
                    self.presence.seen()
                    self._calibrate()
            if not granted and not wait:
                return
            if not granted:
                sleep(random.uniform(0.2, 0.6))

    def _alone(self) -> bool:
        """Whether no other worker is at work on the study."""
        return sum(at_work(row) for row in workers(self.plans[0].database, self.plans[0].study)) <= 1

    def _ready(self, manifest: Manifest) -> bool:
        """Whether every problem has an engine, and on the compiled path a step or a reason."""
        engines = manifest.get("engines", {})
        return all(name in engines and not lacking(engines[name], self._methods(name)) for name in self.problems)

    def _timed(self, manifest: Manifest) -> bool:
        """Whether every plan has a cost."""
        return all(plan.problem in manifest["methods"][plan.method]["calibration"] for plan in self.plans)

    def _methods(self, problem: str) -> list[str]:
        return [plan.method for plan in self.plans if plan.problem == problem]

    def _other(self, manifest: Manifest, population: int | None) -> bool:
        """Whether the requested population differs from the stored one."""
        return population is not None and any(
            manifest["engines"][name]["population"] != population
            for name, problem in self.problems.items()
            if not isinstance(problem, LoopProblem)
        )

    def _choose(self, population: int | None) -> None:
        """Store an engine for every problem that has none, and the circumstances of the study."""
        database, study = self.plans[0].database, self.plans[0].study
        manifest = read_manifest(database, study)
        chosen = dict(manifest.get("engines", {}))
        wish: engines.Wish = manifest.get("path", "auto")
        for name, problem in self.problems.items():
            if isinstance(problem, LoopProblem):
                chosen.setdefault(name, script_engine(self.place))
            elif name not in chosen:
                rules = [self.spec.make_rule(label, problem) for label in self.spec.methods]
                ready = max(plan.size.ready for plan in self.plans if plan.problem == name)
                known = manifest.get("identity", IdentityFacts(problems={}, methods={}))["problems"].get(name)
                request = EngineRequest(problem, self.place, population, self.spec.precision, rules, wish, ready)
                engine = request.choose() if known is None else request.choose_once(known)
                if wish == "auto":
                    engine = self._repaid(problem, engine, population)
                chosen[name] = cast(EngineFacts, engine.as_dict())
            elif population:
                chosen[name] = {**chosen[name], "population": population}

        def edit(stored: Manifest) -> None:
            began: dict[str, object] = {
                **circumstances(self.spec.precision, self.problems.values()),
                "device": self.place.type,
                **stored,
            }  # stored facts stay
            stored.update(cast(Manifest, began))
            known = stored.get("engines", {})  # another worker's choice, whose turn was thought to be over, stays
            stored["engines"] = {**known, **chosen} if population else {**chosen, **known}

        edit_manifest(database, study, edit)

    def _seconds(self, problem: Problem, engine: EngineFacts) -> float:
        """About how long one worker would train all trials of a problem that are certain; infinite if not measured."""
        trials = sum(progress.total for progress in tally([p for p in self.plans if p.problem == problem.name]))
        rate = engine.get("rate", 0.0)
        return trials * self.spec.budget_of(problem) / rate if rate else math.inf

    def _repaid(self, problem: Problem, engine: engines.Engine, population: int | None) -> engines.Engine:
        """Choose the compiled path where the study is long enough to repay it."""
        plans = [plan for plan in self.plans if plan.problem == problem.name]
        plans.sort(key=lambda plan: plan.method != self.spec.baseline)
        rules = [self.spec.make_rule(plan.method, problem) for plan in plans]
        recordable = [plan for plan, rule in zip(plans, rules, strict=True) if rule.capturable]
        trials = sum(progress.total - progress.done for progress in tally(recordable)) if recordable else 0
        shared = plans[0].database.dialect.name != "sqlite"
        ready = max(plan.size.ready for plan in plans)
        work = Work(trials * self.spec.budget_of(problem), most_workers(engine.threads), shared, ready)
        return repaid(problem, engine, rules, work, population, lambda: self._announce_compiling(plans[0]))

    def _announce_compiling(self, plan: Plan) -> None:
        """Show here and to others that a step is compiled, for tens of seconds without a trial."""
        self.presence.doing = f"compiling {plan.method} on {plan.problem}"
        self.presence.seen()
        self.measuring(plan, "compile")

    def _compile(self) -> None:
        """Compile the steps of the methods of problems on the compiled path."""
        database, study = self.plans[0].database, self.plans[0].study
        usual = torch.get_num_threads()
        for name, problem in self.problems.items():
            engine = read_manifest(database, study)["engines"][name]
            for plan in [plan for plan in self.plans if plan.problem == name]:
                if not lacking(engine, [plan.method]) or self.stopping():
                    continue
                self._announce_compiling(plan)
                torch.set_num_threads(engine["threads"])
                facts, note = describe_step(self.spec, problem, plan.method, engine)
                if note:
                    self.announce(f"{name}, {plan.method}: {note}")

                engine = self._keep_step(name, plan.method, facts)
        torch.set_num_threads(usual)

    def _keep_step(self, problem: str, method: str, facts: CompiledFacts) -> EngineFacts:
        """Store what is known of a compiled step, unless another worker has; return the engine."""

        def edit(stored: Manifest) -> None:
            engine = stored["engines"][problem]
            engine["compiled"] = {method: facts, **engine.get("compiled", {})}

        return edit_manifest(self.plans[0].database, self.plans[0].study, edit)["engines"][problem]

    def _calibrate(self) -> None:
        """Time one gradient of each method alone, once per method and problem, all methods of a problem in turn.

        Methods that were added later are timed in turn with one that has a cost already, and scaled to it.
        """
        database, study = self.plans[0].database, self.plans[0].study
        methods = read_manifest(database, study)["methods"]
        measured: dict[tuple[str, str], CostFacts] = {}
        for problem in self.problems:
            plans = [plan for plan in self.plans if plan.problem == problem]
            pending = [plan for plan in plans if problem not in methods[plan.method]["calibration"]]
            known = [plan for plan in plans if plan not in pending][:1]
            found = self._measure(known + pending) if pending else []
            if pending and not found:
                return
            for plan, cost in zip(pending, found[len(known) :], strict=True):
                if known:
                    stored = methods[known[0].method]["calibration"][problem]["seconds_per_gradient"]
                    cost["seconds_per_gradient"] *= stored / found[0]["seconds_per_gradient"]
                measured[plan.method, problem] = cost

        def edit(stored: Manifest) -> None:
            for (label, name), cost in measured.items():
                stored["methods"][label]["calibration"].setdefault(name, cost)

        edit_manifest(database, study, edit)

    def _measure(self, plans: list[Plan]) -> list[CostFacts]:
        """Measure the costs of some plans on one problem; none if the worker is to stop.

        Methods that are one rule with the same options cost the same: they are measured once.
        """
        problem, due = self.problems[plans[0].problem], 0.0
        kinds: dict[tuple[type[Rule], str], list[Plan]] = {}
        for plan in plans:
            options = self.spec.options_of(plan.method, problem)
            kinds.setdefault((self.spec.rule_of(plan.method), repr(sorted(options.items()))), []).append(plan)
        first = [same[0] for same in kinds.values()]

        def begin(index: int) -> bool:
            nonlocal due
            if time.monotonic() >= due:  # a report reads the database
                self.measuring(first[index], "calibrate")
                due = time.monotonic() + REPORT_SECONDS
            return not self.stopping()

        chosen = read_manifest(plans[0].database, plans[0].study)["engines"][problem.name]
        if isinstance(problem, LoopProblem):
            return script_costs(problem, self.spec, [plan.method for plan in first], chosen, begin)
        rules = [self.spec.make_rule(plan.method, problem) for plan in first]
        path = engines.oracle_path(cast(engines.EnginePath, chosen["path"]))
        allowed = costs.SHARE * self._seconds(problem, chosen)
        found = costs.calibrate(problem, rules, self.place, self.spec.precision, begin, allowed, path)
        measured = cast(list[CostFacts], found)
        if not measured:
            return []
        cost = {plan: one for same, one in zip(kinds.values(), measured, strict=True) for plan in same}
        return [cast(CostFacts, {**cost[plan]}) for plan in plans]
