"""The toy problems of the CurveBall paper, measured again.

Henriques, Ehrhardt, Albanie & Vedaldi, arXiv 1805.08095, section 4: iterations until the observed loss is below 1e-4.
SGD, Adam and CurveBall are our rules, with all runs in one ensemble; Levenberg–Marquardt and BFGS are scipy's.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from scipy import optimize

from relaxbench.optim.rule import Rule
from relaxbench.optim.rules.adamw import AdamW
from relaxbench.optim.rules.curveball import CurveBall
from relaxbench.optim.rules.sgd import SGD
from relaxbench.problems import Problem
from relaxbench.problems.landscapes.landscape import Rosenbrock
from relaxbench.problems.landscapes.linear_net import LinearNet
from relaxbench.reproduce.least_squares import TOLERANCE, Array, LeastSquares
from relaxbench.training.ensemble import Ensemble
from relaxbench.training.oracle import Oracle

CAP = 5000
"""Iterations after which a run has not arrived."""
ATTEMPTS = 200
"""Restarts of BFGS after a line search that noise has stopped."""
COLUMNS = ("deterministic", "ε ~ U[0, 1]", "ε ~ U[0, 3]", "linear net")
ROWS = ("SGD + momentum", "Adam", "Levenberg–Marquardt", "BFGS", "CurveBall")

PUBLISHED: dict[str, tuple[tuple[float, float], ...]] = {
    "SGD + momentum": ((370, 40), (846, 217), (4069, 565), (95, 2)),
    "Adam": ((799, 160), (1290, 476), (2750, 257), (95, 5)),
    "Levenberg–Marquardt": ((16, 4), (14, 3), (17, 4), (9, 4)),
    "BFGS": ((19, 4), (44, 21), (63, 29), (43, 21)),
    "CurveBall": ((13, 0.5), (12, 1), (13, 1), (35, 11)),
}
"""Mean and spread of iterations, by row and column."""


@dataclass(frozen=True)
class Cell:
    """One number of the table.

    Attributes:
        row, column: its place in the table.
        published: mean and spread in the paper.
        counts: iterations of the runs that arrived.
        runs: number of all runs.
        settings: of the measurement.
        remark: a caveat, or "".
    """

    row: str
    column: str
    published: tuple[float, float]
    counts: Array = field(repr=False)
    runs: int
    settings: str
    remark: str

    @property
    def mean(self) -> float:
        """Mean over the runs that arrived."""
        return float(self.counts.mean()) if len(self.counts) else float("nan")

    @property
    def spread(self) -> float:
        """Standard deviation over the runs that arrived."""
        return float(self.counts.std(ddof=1)) if len(self.counts) > 1 else float("nan")

    @property
    def holds(self) -> bool:
        """Whether our mean lies within the published spread of the published mean."""
        return abs(self.mean - self.published[0]) <= self.published[1]

    @property
    def comparison(self) -> str:
        """Compare our mean with the published one, in words."""
        if not len(self.counts):
            return "no run arrived"
        apart = self.mean - self.published[0]
        where = "within" if self.holds else "outside of"
        side = "above" if apart > 0 else "below"
        text = f"{abs(apart):.3g} {side} the published mean, {where} its ± {self.published[1]:g}"
        if self.holds and self.spread > 1.9 * self.published[1]:
            text += f"; our spread is {self.spread / self.published[1]:.1f} times the published one"
        return text


def curveball_toys(runs: int = 100) -> Iterator[Cell]:
    """Yield all cells, row by row, as they are measured."""
    for row in ROWS:
        for column, published in zip(COLUMNS, PUBLISHED[row], strict=True):
            counts, settings, remark = MEASURE[row](column, runs)
            yield Cell(row, column, published, counts, runs, settings, remark)


Measured = tuple[Array, str, str]
SGD_SETTINGS = {COLUMNS[0]: (1e-3, 0.95), COLUMNS[1]: (1e-3, 0.9), COLUMNS[2]: (1e-4, 0.95), COLUMNS[3]: (0.05, 0.9)}
ADAM_SETTINGS = {COLUMNS[0]: 0.05, COLUMNS[1]: 0.02, COLUMNS[2]: 0.05, COLUMNS[3]: 0.1}
CURVEBALL_SETTINGS = dict.fromkeys(COLUMNS[:3], (0.5, 0.1)) | {COLUMNS[3]: (1.0, 1.0)}


def _problem(column: str) -> Problem:
    high = {"deterministic": 1.0, "ε ~ U[0, 1]": 1.0, "ε ~ U[0, 3]": 3.0}
    if column not in high:
        return LinearNet()
    return Rosenbrock("rosenbrock", 1.0 if column == "deterministic" else 0.0, high[column])


def _sgd(column: str, runs: int) -> Measured:
    lr, momentum = SGD_SETTINGS[column]
    hyper = {"lr": lr, "momentum": momentum, "weight_decay": 0.0, "schedule": "constant"}
    counts = iterations(_problem(column), SGD(nesterov=False), hyper, runs)
    return counts, f"lr {lr:g}, momentum {momentum:g}, heavy ball", ""


def _adam(column: str, runs: int) -> Measured:
    lr = ADAM_SETTINGS[column]
    hyper = {"adam_lr": lr, "beta1": 0.9, "beta2": 0.999, "decoupled_decay": 0.0, "schedule": "constant"}
    counts = iterations(_problem(column), AdamW(), hyper, runs)
    tried = "of the step sizes tried, 0.02, 0.05 and 0.1, none meets both the published mean and its spread"
    return counts, f"lr {lr:g}, β 0.9 and 0.999", tried if column in (COLUMNS[0], COLUMNS[2]) else ""


def _curveball(column: str, runs: int) -> Measured:
    alpha, damping = CURVEBALL_SETTINGS[column]
    hyper = {"newton_lr": alpha, "damping": damping, "damping_factor": 1.0, "weight_decay": 0.0, "schedule": "constant"}
    counts = iterations(_problem(column), CurveBall(auto_damping=False), hyper, runs)
    return counts, f"α {alpha:g}, λ {damping:g} fixed, ρ and β automatic", ""


def iterations(problem: Problem, rule: Rule, hyper: dict[str, Any], runs: int, cap: int = CAP) -> Array:
    """Return, for the runs that arrive, the first iteration (from 1) whose observed loss is below 1e-4; in float64.

    Args:
        problem: started with the seeds 0, 1, …
        rule: with one query per iteration.
        hyper: its hyperparameters, constant in time.
        runs: number of runs.
        cap: iterations after which a run has not arrived.
    """
    start = torch.stack([problem.init(seed) for seed in range(runs)]).double()
    ensemble = Ensemble(Oracle(problem), rule, start, range(runs), cap, hyper)
    arrival = torch.zeros(runs)
    for iteration in range(1, cap + 1):
        loss = ensemble.step()[:, 0]
        arrival[(loss < TOLERANCE) & (arrival == 0)] = iteration
        if bool(((arrival > 0) | ~torch.isfinite(loss)).all()):
            break
    return arrival[arrival > 0].double().numpy()


def _levenberg_marquardt(column: str, runs: int) -> Measured:
    counts = []
    for seed in range(runs):
        task = LeastSquares.of(_problem(column), seed)
        optimize.least_squares(
            task.residual, task.start, task.jacobian, method="lm", max_nfev=CAP, xtol=1e-15, ftol=1e-15, gtol=1e-15
        )
        counts += task.arrived[:1]
    lost = runs - len(counts)  # the paper also averages over the runs that arrive
    remark = f"{lost} of {runs} runs stop early: a new ε makes a good step look bad" if lost else ""
    return np.array(counts, dtype=float), "scipy's MINPACK, exact Jacobian; every trial step counts", remark


def _bfgs(column: str, runs: int) -> Measured:
    tasks = [LeastSquares.of(_problem(column), seed) for seed in range(runs)]
    results = [_bfgs_run(task) for task in tasks]
    begun = sum(times for _, times in results) / runs
    evaluations = np.mean([task.arrived[:1] or [CAP] for task in tasks])
    remark = f"an iteration is a whole line search: {evaluations:.0f} evaluations per run"
    if begun > 1:
        remark += f", begun {begun:.1f} times, because a new ε makes the search fail"
    counts = np.array([count for count, _ in results if count], dtype=float)
    return counts, "scipy's; iterations, not evaluations, count", remark


def _bfgs_run(task: LeastSquares) -> tuple[int, int]:
    """Return the iteration that arrived (0 if none did), and the number of starts: noise may stop a line search."""
    iterations = arrived = begun = 0

    def look(intermediate_result: Any) -> None:
        nonlocal iterations, arrived
        iterations += 1
        if intermediate_result.fun < TOLERANCE:
            arrived = iterations
            raise StopIteration

    point, options = task.start, {"gtol": 1e-12, "maxiter": CAP}
    while not arrived and begun < ATTEMPTS and not (begun and task.exact):
        begun += 1
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # from a line search on noise
            result = optimize.minimize(task.value, point, jac=True, method="BFGS", callback=look, options=options)
        point = result.x
    return arrived, begun


MEASURE: dict[str, Callable[[str, int], Measured]] = {
    "SGD + momentum": _sgd,
    "Adam": _adam,
    "Levenberg–Marquardt": _levenberg_marquardt,
    "BFGS": _bfgs,
    "CurveBall": _curveball,
}
