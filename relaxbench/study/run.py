"""A study from beginning to end: explore, confirm, exploit, recommend. Stopped anywhere, it goes on from there."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sqlalchemy import Engine as Database
from sqlalchemy import delete

from relaxbench.errors import UserError
from relaxbench.problems import Problem, problem
from relaxbench.store.claims import Claims, Result
from relaxbench.store.schema import Trial, Weights
from relaxbench.study import record
from relaxbench.study.flatness import FlatnessMeter
from relaxbench.study.mirror import MIRRORED, mirror, optuna_storage
from relaxbench.study.spec import StudySpec
from relaxbench.study.trials import GENERATION, PHASES, Plan
from relaxbench.study.tuning import propose
from relaxbench.training import engine as engines
from relaxbench.training.population import Job, Outcome, Population
from relaxbench.words import counted

CHECKPOINT_SECONDS = 60.0
RENEW_SECONDS = 20.0
CALIBRATION_PASSES = 3


@dataclass
class Progress:
    """How far one method on one problem is.

    Attributes:
        problem, method: which.
        done, total: trials.
        best: smallest validation loss found so far.
        phase: what is running now, or "".
        gradients: spent in this session.
    """

    problem: str
    method: str
    done: int
    total: int
    best: float = math.inf
    phase: str = ""
    gradients: float = 0.0


@dataclass
class Summary:
    """What a session did.

    Attributes:
        study: id.
        new: the study did not exist before.
        ran: trials finished in this session.
        total: trials that the study has when it is complete.
        missing: trials that are not done.
        seconds: of the session.
    """

    study: int
    new: bool
    ran: int
    total: int
    missing: int
    seconds: float


def prepare(spec: StudySpec, device: str, download: bool = False) -> list[Problem]:
    """The problems of a study, their data at hand. What cannot run is refused here, before anything is written.

    Args:
        spec: the study.
        device: as for `StudyRun`.
        download: fetch data that are missing.

    Raises:
        UserError: for a problem, data, device or budget that does not do.
    """
    engines.torch_device(device)
    problems = [problem(name) for name in spec.problems]
    spec.check_on(problems)
    names = [each.name for each in problems]
    for each in problems:
        if names.count(each.name) > 1:
            raise UserError(f"two problems are called {each.name!r}: give each a name of its own")
        if download and each.missing():
            each.download()
        each.fingerprint()
        engines.try_out(each)
    return problems


@dataclass
class StudyRun:
    """One session of work on a study.

    Args:
        database: from `store.database.open_database`.
        spec: what is asked.
        source: the text of the study file.
        device: ``"auto"``, ``"cpu"``, ``"cuda:0"``, …
        population: K, or None for the fastest.
        checkpoints: folder for unfinished trials.
        observe: called with the progress of all methods, often.
        stopping: asked at the end of every round; True ends the session.
        announce: receives lines for people: what is done, and by which engine.
        problems: from `prepare`, which is called otherwise.
    """

    database: Database
    spec: StudySpec
    source: str
    device: str = "auto"
    population: int | None = None
    checkpoints: Path = Path("checkpoints")
    observe: Callable[[list[Progress]], None] = lambda progress: None
    stopping: Callable[[], bool] = lambda: False
    announce: Callable[[str], None] = lambda line: None
    problems: list[Problem] | None = None
    progress: dict[tuple[str, str], Progress] = field(default_factory=dict)
    ran: int = 0

    def run(self) -> Summary:
        """Do everything that is not done yet."""
        start = time.monotonic()
        problems = self.problems or prepare(self.spec, self.device)
        study, self.spec, new = record.open_study(self.database, self.spec, self.source, problems, self.device)
        tried = f"{counted(len(self.spec.methods), 'method')} on {', '.join(p.name for p in problems)}"
        blocks = counted(self.spec.blocks * self.spec.repetitions, "block")
        blocks = f"{blocks} of {counted(self.spec.trials, 'trial')}"
        self.announce(f"Study {self.spec.name}: {tried}; {blocks}.")
        self.claims, self.meter = Claims(self.database, study), FlatnessMeter(self.announce)
        self.claims.reap()
        plans = [Plan(self.database, study, self.spec, p, label) for p in problems for label in self.spec.methods]
        for plan in plans:
            plan.explore()
        self._count(plans)
        if any(p.done < p.total for p in self.progress.values()):
            self.manifest = record.begin_session(
                self.database, study, self.spec, problems, self.device, self.population
            )
            for name, engine in self.manifest["engines"].items():
                why = f" ({engine['note']})" if engine["note"] else ""
                where = f"{engine['precision']} on {engine['device']}"
                self.announce(f"{name}: {engine['path']} path, K = {engine['population']}, {where}{why}")
            self._work(plans)
            record.end_session(self.database, study, time.monotonic() - start, self.ran)
            self._count(plans)
        if not self.stopping():
            self._mirror(plans)
        total, done = (sum(getattr(p, name) for p in self.progress.values()) for name in ("total", "done"))
        return Summary(study, new, self.ran, total, total - done, time.monotonic() - start)

    def _work(self, plans: list[Plan]) -> None:
        self._calibrate(plans)
        for phase in PHASES:
            for plan in plans:
                self._phase(plan, phase)
                if self.stopping():
                    return

    def _mirror(self, plans: list[Plan]) -> None:
        """What Optuna does not have yet, be it from a session that was killed. One worker at a time."""
        waiting = (Trial.status == "done", Trial.mirrored.is_(False), Trial.phase.in_(MIRRORED))
        mine = (Trial.problem.in_({p.problem.name for p in plans}), Trial.method.in_({p.method for p in plans}))
        while self.claims.count(*waiting, *mine) and not self.stopping():
            with record.turn(self.database, self.claims.study, "mirror", self.claims.worker) as granted:
                if granted:
                    storage = optuna_storage(self.database)
                    for plan in plans:
                        for phase in MIRRORED:
                            mirror(plan, storage, phase)
            if not granted:
                time.sleep(0.5)

    def _phase(self, plan: Plan, phase: str) -> None:
        if phase == "exploit":
            for generation in range(math.ceil(self.spec.exploit / GENERATION)):
                plan.generation(generation, propose(plan, generation))
                self._trials(plan, phase)
                if self.stopping():
                    return
            return
        if phase == "confirm":
            plan.confirm()
        elif phase == "recommend":
            plan.recommend()
        self._trials(plan, phase)
        if phase == "recommend" and not self.stopping():
            self._keep_best_weights(plan)

    def _trials(self, plan: Plan, phase: str) -> None:
        """Run the waiting trials of a phase, then wait for those that other workers have claimed."""
        progress = self.progress[plan.problem.name, plan.method]
        open_ = (*plan.here(), Trial.phase == phase, Trial.status != "done")
        while self.claims.count(*open_) and not self.stopping():
            progress.phase = phase
            self._advance(plan, phase, progress)
            if self.claims.count(*open_) and not self.stopping():
                time.sleep(1.0)
                self.claims.reap()
        progress.phase = ""

    def _advance(self, plan: Plan, phase: str, progress: Progress) -> None:
        engine = self.manifest["engines"][plan.problem.name]
        rule, budget = plan.spec.make_rule(plan.method), plan.spec.budget_of(plan.problem)
        precision = engine["precision"]
        population = Population(plan.problem, rule, budget, engine["path"], engine["device"], precision=precision)
        saved = renewed = time.monotonic()

        def renew() -> None:
            nonlocal renewed
            if time.monotonic() - renewed > RENEW_SECONDS:
                self.claims.renew()
                renewed = time.monotonic()

        def feed(free: int) -> list[Job]:
            taken = self.claims.take(plan.problem.name, plan.method, (phase,), free)
            return [self._job(trial) for trial in taken]

        def report(outcomes: Sequence[Outcome]) -> None:
            results = []
            for outcome in outcomes:
                more = self.meter.measure(plan.problem, outcome, engine["device"]) if self.spec.flatness else {}
                results.append(self._result(outcome, more, keep=phase == "recommend"))
                renew()  # seconds each, for a large network
            if results:
                self.claims.finish(results)
            for outcome in outcomes:
                self._file(outcome.job.id).unlink(missing_ok=True)
                self.ran += 1
                progress.done += 1
                progress.gradients += outcome.ledger.total
                progress.best = min(progress.best, outcome.value)
            self.observe(list(self.progress.values()))

        def after_round(population: Population) -> bool:
            nonlocal saved
            now, stop = time.monotonic(), self.stopping()
            if stop or now - saved > CHECKPOINT_SECONDS:
                self._save(population)
                saved = now
            renew()
            self.observe(list(self.progress.values()))
            return not stop

        try:
            population.run(feed, report, engine["population"], after_round)
        except (RuntimeError, MemoryError) as error:
            if not engines.out_of_memory(error):
                raise
            self._halve(plan.problem.name)  # the trials in flight go on from their checkpoints
        finally:
            self.claims.release()

    def _halve(self, problem: str) -> None:
        """Memory did not suffice: half the slots from now on, for this study."""
        half = engines.halved(self.manifest["engines"][problem], problem)

        def edit(stored: dict[str, Any]) -> None:
            stored["engines"][problem] = half

        self.manifest = record.edit_manifest(self.database, self.claims.study, edit)
        self.announce(f"{problem}: {half['note']}; going on with K = {half['population']}")

    def _job(self, trial: Trial) -> Job:
        file, resume = self._file(trial.id), None
        if file.exists():
            try:
                resume = torch.load(file, weights_only=True)
            except Exception:
                file.unlink(missing_ok=True)  # cut off while it was written: from the start, then
        return Job(trial.id, trial.seed, trial.params, trial.phase in ("confirm", "recommend"), resume)

    def _save(self, population: Population) -> None:
        """Checkpoints of the trials in flight, each file complete or not there."""
        for trial, state in population.checkpoints().items():
            file = self._file(trial)
            file.parent.mkdir(parents=True, exist_ok=True)
            part = file.with_suffix(f".{os.getpid()}.part")
            torch.save(state, part)
            part.replace(file)

    def _file(self, trial: int) -> Path:
        return self.checkpoints / f"{self.manifest['key']}-{trial}.pt"

    def _result(self, outcome: Outcome, more: dict[str, Any], keep: bool) -> Result:
        measures = {name: value if math.isfinite(value) else None for name, value in outcome.measures.items()}
        bits = None if outcome.correct is None else np.packbits(outcome.correct).tobytes()
        return Result(
            trial=outcome.job.id,
            token=self.claims.tokens[outcome.job.id],
            value=outcome.value,
            diverged=outcome.diverged,
            measures={**measures, **more},
            ledger=outcome.ledger.as_dict(),
            curve=outcome.curve.tobytes(),
            correct=bits,
            weights=outcome.weights.float().numpy().tobytes() if keep else None,
        )

    def _calibrate(self, plans: list[Plan]) -> None:
        """What a gradient of each method costs alone, once per method and problem.

        In several passes over all methods, the fastest of which counts: a busy moment of the machine then falls on all.
        """
        methods = self.manifest["methods"]
        pending = [plan for plan in plans if plan.problem.name not in methods[plan.method]["calibration"]]
        costs: dict[tuple[str, str], dict[str, float]] = {}
        for plan in pending * CALIBRATION_PASSES:
            if self.stopping():
                return
            progress = self.progress[plan.problem.name, plan.method]
            progress.phase = "calibrate"
            self.observe(list(self.progress.values()))
            place = torch.device(self.manifest["engines"][plan.problem.name]["device"])
            cost = engines.calibrate(plan.problem, plan.spec.make_rule(plan.method), place, self.spec.precision)
            key = (plan.method, plan.problem.name)
            costs[key] = min(cost, costs.get(key, cost), key=lambda c: c["seconds_per_gradient"])
            progress.phase = ""

        def edit(stored: dict[str, Any]) -> None:
            for (label, name), cost in costs.items():
                stored["methods"][label]["calibration"].setdefault(name, cost)

        self.manifest = record.edit_manifest(self.database, self.claims.study, edit)

    def _keep_best_weights(self, plan: Plan) -> None:
        """Of the recommended runs, keep the weights of the one with the smallest validation loss."""
        best = plan.best()
        runs = plan.finished("recommend")
        current = [run for run in runs if best is not None and run.parent == best.id]
        if current:
            kept = min(current, key=lambda t: (t.value, t.number))
            others = [run.id for run in runs if run.id != kept.id]
            with self.database.begin() as connection:
                connection.execute(delete(Weights).where(Weights.trial_id.in_(others)))

    def _count(self, plans: list[Plan]) -> None:
        """Progress from what the database holds."""
        for plan in plans:
            total = sum(plan.total(phase) for phase in PHASES)
            done = sum(plan.done(phase) for phase in PHASES)
            best = min((t.value for phase in PHASES for t in plan.finished(phase)), default=math.inf)
            self.progress[plan.problem.name, plan.method] = Progress(plan.problem.name, plan.method, done, total, best)
