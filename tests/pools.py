"""Pools of real trials, from which tests draw studies: coverage and power are then known in seconds.

A pool has many random trials of one method on one problem: the validation loss of each, and the test metric of the same
settings on a fresh seed. `python -m tests.pools` trains what `POOLS` names and the file does not have yet.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from relaxbench.problems import Problem, SupervisedProblem, problem
from relaxbench.study.coordination.random_search import sample
from relaxbench.study.definition.spec import StudySpec, Variant
from relaxbench.training.oracle import Oracle
from relaxbench.training.population import Population
from relaxbench.training.trial import Job, Outcome
from relaxbench.util.seeds import derive

FILE = Path(__file__).parent / "data" / "pools.npz"
MEMBERS = 64
Array = NDArray[np.float64]


@dataclass(frozen=True)
class Pool:
    """Random trials: `values` are validation losses, `metrics` test metrics on fresh seeds, ``[N]`` each."""

    values: Array
    metrics: Array


def diabetes() -> Problem:
    """A problem that is judged by a loss: a small regression on real data."""
    from sklearn.datasets import load_diabetes

    def splits() -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
        x, y = load_diabetes(return_X_y=True)
        order = np.random.default_rng(0).permutation(len(x))
        features = torch.tensor(x[order] / x.std(), dtype=torch.float32)
        target = torch.tensor((y[order] - y.mean()) / y.std(), dtype=torch.float32)[:, None]
        cuts = {"train": slice(0, 242), "validation": slice(242, 342), "test": slice(342, 442)}
        return {name: (features[cut], target[cut]) for name, cut in cuts.items()}

    def model() -> torch.nn.Module:
        return torch.nn.Sequential(torch.nn.Linear(10, 16), torch.nn.Tanh(), torch.nn.Linear(16, 1))

    return SupervisedProblem("diabetes-mlp", model, splits, loss="least-squares", batch_size=32, budget=400)


PROBLEMS: dict[str, Callable[[], Problem]] = {"diabetes-mlp": diabetes}
POOLS: dict[tuple[str, int, str], int] = {
    ("digits-mlp", 600, "sgd"): 960,
    ("diabetes-mlp", 400, "sgd"): 960,
    ("rosenbrock-noisy", 2000, "sgd"): 960,
    ("gaussian-wells", 400, "sgd"): 960,
    ("digits-mlp", 2000, "sgd"): 960,
    ("digits-mlp", 600, "entropy-sgd"): 480,
    ("digits-mlp", 600, "hj"): 480,
    ("digits-mlp", 600, "hj-implicit"): 480,
    ("digits-mlp", 600, "heat"): 480,
    ("digits-mlp", 600, "entropy-sgd-wide"): 480,
    ("digits-mlp", 600, "hj-implicit-wide"): 480,
    ("digits-mlp", 600, "heat-wide"): 480,
    ("digits-mlp", 2000, "entropy-sgd"): 480,
    ("digits-mlp", 2000, "hj-implicit"): 480,
}
"""Problem, budget and method → number of trials. A method NAME-wide is the rule NAME in its wide space."""


def pool(name: str, budget: int, method: str) -> Pool:
    """Load a pool."""
    with np.load(FILE) as file:
        values, metrics = (file[f"{name}@{budget}/{method}/{part}"].astype(float) for part in ("values", "metrics"))
    return Pool(values, metrics)


def train(name: str, budget: int, method: str, trials: int) -> Pool:
    """Run random trials of a method, and the settings of each again on a fresh seed."""
    task = PROBLEMS[name]() if name in PROBLEMS else problem(name)
    wide = Variant(rule=method.removesuffix("-wide"), space="wide")
    variants = {method: wide} if method.endswith("-wide") else {}
    spec = StudySpec(name="pool", problems=[name], methods=[method], baseline=method, method=variants)
    rule, space, fixed = spec.make_rule(method, task), spec.space_of(method, task), spec.fixed_of(method, task)
    jobs = []
    for number in range(trials):
        seed = derive(0, "pool", name, budget, method, number)
        params = {**sample(space, seed), **fixed}
        jobs += [Job(2 * number, seed, params), Job(2 * number + 1, derive(seed, "fresh"), params, test=True)]
    population, ended = Population(Oracle(task), rule, budget), dict[int, Outcome]()

    def feed(free: int) -> list[Job]:
        taken, jobs[:free] = jobs[:free], []
        return taken

    population.run(feed, lambda outcomes: ended.update({outcome.job.id: outcome for outcome in outcomes}), MEMBERS)
    values = [ended[2 * number].value for number in range(trials)]
    metrics = [ended[2 * number + 1].measures["test_metric"] for number in range(trials)]
    return Pool(np.array(values), np.array(metrics))


def main() -> None:
    """Train what is missing, and write the file after every pool."""
    torch.set_num_threads(1)
    FILE.parent.mkdir(exist_ok=True)
    for (name, budget, method), trials in POOLS.items():
        known = dict(np.load(FILE)) if FILE.exists() else {}
        key = f"{name}@{budget}/{method}"
        if f"{key}/values" in known or (len(sys.argv) > 1 and sys.argv[1] not in key):
            continue
        begun = time.monotonic()
        made = train(name, budget, method, trials)
        known |= {f"{key}/values": made.values.astype(np.float32), f"{key}/metrics": made.metrics.astype(np.float32)}
        np.savez_compressed(FILE, **known)
        best = made.metrics[np.argsort(made.values)[: trials // 12]]
        print(f"{key}: {trials} trials in {time.monotonic() - begun:.0f} s; median of the best {np.median(best):.4g}")


if __name__ == "__main__":
    main()
