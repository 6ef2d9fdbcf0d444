"""Run claimed trials in the slots of a population, save their checkpoints and store their results."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np
import torch

from relaxbench.problems import Problem
from relaxbench.store.claims import Result
from relaxbench.store.facts import EngineFacts, Manifest
from relaxbench.store.schema import TESTED, Trial
from relaxbench.store.solutions import pack_solution
from relaxbench.study.coordination.checkpoints import Checkpoints
from relaxbench.study.coordination.manifest import edit_manifest, read_manifest
from relaxbench.study.coordination.plan import Plan
from relaxbench.study.coordination.session import Shift
from relaxbench.study.definition.opening import OpenStudy
from relaxbench.study.execution.flatness import FlatnessMeter
from relaxbench.study.execution.saved import UnusableCheckpointError, pack, stamp_of, unpack
from relaxbench.study.execution.steps import step_of
from relaxbench.training.engine import oracle_path
from relaxbench.training.memory import half_the_slots, out_of_memory
from relaxbench.training.oracle import Oracle
from relaxbench.training.population import Population
from relaxbench.training.trial import Job, Outcome

CHECKPOINT_SECONDS = 60.0
"""Longest time between two checkpoints of a trial, in seconds; the duration of a round comes on top."""


@dataclass
class Trainer:
    """Runs the trials of a shift.

    Args:
        study: that the trials belong to.
        device: where they run.
        checkpoints: of unfinished trials.
        meter: of flatness.
        announce: receives lines for people.
        compiling: the context in which the step of a plan is compiled, so that people see it.
    """

    study: OpenStudy
    device: torch.device
    checkpoints: Checkpoints
    meter: FlatnessMeter
    announce: Callable[[str], None]
    compiling: Callable[[Plan], AbstractContextManager[None]]
    _said: bool = field(default=False, repr=False)
    _notes: set[str] = field(default_factory=set, repr=False)
    _made: set[tuple[str, str]] = field(default_factory=set, repr=False)

    def train(self, shift: Shift) -> None:
        """Run trials until the shift has no more, is stopped, or memory does not suffice."""
        plan, spec = shift.plan, self.study.spec
        (problem,) = (problem for problem in self.study.problems if problem.name == plan.problem)
        manifest = read_manifest(plan.database, plan.study)
        engine = manifest["engines"][problem.name]
        assert engine["path"] != "script"
        rule, budget = spec.make_rule(plan.method, problem), spec.budget_of(problem)
        torch.set_num_threads(engine["threads"])  # as it was measured: sums in another order have other last digits
        oracle = Oracle(problem, oracle_path(engine["path"]), engine["precision"])
        first = engine["path"] == "compiled" and (plan.problem, plan.method) not in self._made
        with self.compiling(plan) if first else nullcontext():
            step = step_of(spec, problem, plan.method, engine)
        self._made.add((plan.problem, plan.method))
        if step is not None and step.note and step.note not in self._notes:
            self._notes.add(step.note)
            self.announce(f"{problem.name}, {plan.method}: {step.note}")
        population = Population(oracle, rule, budget, self.device, compiled=step)
        claimed: dict[int, Trial] = {}
        saved = time.monotonic()

        def feed(free: int) -> list[Job]:
            trials = shift.feed(free)
            claimed.update({trial.id: trial for trial in trials})
            return [self._job(trial, manifest, plan) for trial in trials]

        def report(outcomes: list[Outcome]) -> None:
            if not outcomes:
                return
            results = []
            for outcome in outcomes:
                trial = claimed.pop(outcome.job.id)
                flatness = self.meter.measure(plan, trial, problem, outcome, self.device) if spec.flatness else {}
                results.append(_result(outcome, trial, flatness | _solution(problem, outcome, trial)))
            shift.report(results)
            for result in results:
                self.checkpoints.remove(result.trial)

        def after_round(population: Population) -> bool:
            nonlocal saved
            for trial in population.misfits:
                self._say_unused(trial, "does not fit the problem and method")
            population.misfits.clear()
            population.drop(shift.lost())
            going_on = shift.go_on()
            if not going_on or time.monotonic() - saved > CHECKPOINT_SECONDS:
                for trial, state in population.checkpoints().items():
                    one = claimed[trial]
                    self.checkpoints.save(trial, pack(state, stamp_of(one, manifest), one.token))
                saved = time.monotonic()
            return going_on

        try:
            population.run(feed, report, engine["population"], after_round)
        except (RuntimeError, MemoryError) as error:
            if not out_of_memory(error):
                raise
            self._halve(plan, engine)  # the trials in flight go on from their checkpoints

    def _halve(self, plan: Plan, engine: EngineFacts) -> None:
        """Store half the slots for this study, because memory did not suffice."""
        half = cast(EngineFacts, half_the_slots({**engine}, plan.problem))

        def edit(stored: Manifest) -> None:
            if half["population"] < stored["engines"][plan.problem]["population"]:  # unless another has gone lower
                stored["engines"] = {**stored["engines"], plan.problem: half}

        edit_manifest(plan.database, plan.study, edit)
        self.announce(f"{plan.problem}: {half['note']}; going on with K = {half['population']}")

    def _job(self, trial: Trial, manifest: Manifest, plan: Plan) -> Job:
        data, resume = self.checkpoints.load(trial.id), None
        if data is not None:
            try:
                resume = unpack(data, stamp_of(trial, manifest), trial.token)
            except UnusableCheckpointError as error:
                self.checkpoints.remove(trial.id)
                self._say_unused(trial.id, str(error))
        return Job(trial.id, trial.seed, trial.params, trial.phase in TESTED, resume, plan.judge(trial))

    def _say_unused(self, trial: int, why: str) -> None:
        """Say once per session that a checkpoint is not used: the trial is none the worse for it, only later."""
        if not self._said:
            self._said = True
            self.announce(
                f"the checkpoint of trial {trial} {why}: it is not used, and the trial begins anew (others like it are "
                "not named)"
            )


def _result(outcome: Outcome, trial: Trial, further: dict[str, Any]) -> Result:
    measures = {name: value if math.isfinite(value) else None for name, value in outcome.measures.items()}
    keep = trial.phase == "recommend"
    return Result(
        trial=trial.id,
        token=trial.token,
        value=outcome.value,
        diverged=outcome.diverged,
        measures={**measures, **further},
        ledger=outcome.ledger.as_dict(),
        curve=outcome.curve.tobytes(),
        correct=None if outcome.correct is None else np.packbits(outcome.correct).tobytes(),
        weights=outcome.weights.numpy().tobytes() if keep else None,
        pruned=outcome.ending == "pruned",
    )


@torch.no_grad()
def _solution(problem: Problem, outcome: Outcome, trial: Trial) -> dict[str, Any]:
    """Return the measure ``solution`` of a recommended run; empty where there is nothing to show."""
    if trial.phase != "recommend" or outcome.diverged:
        return {}
    shown = problem.solution(problem.unflatten(outcome.weights))
    if shown is None:
        return {}
    exact, error = shown.exact.double().numpy(), shown.error.double().numpy()
    packed = pack_solution(shown.quantity, shown.coordinates, shown.low, shown.high, exact, error)
    return {"solution": packed} if packed else {}
