"""Populations of random settings on random quadratics."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from relaxbench.optim.registry import RULES as ALL_RULES
from relaxbench.optim.rule import Query, Rule, State
from relaxbench.space import Choice, Float, Hyperparameter
from tests.optim.loops import batches_of, shapes

CPU = torch.device("cpu")
RULES = {name: rule for name, rule in ALL_RULES.items() if not rule.curvature and not rule.compares_losses}
"""The rules that need gradients alone; those that need more have test files of their own."""
PLAIN = {"momentum": 0.0, "outer_momentum": 0.0, "weight_decay": 0.0, "temperature": 0.0}


def made(name: str, P: int) -> Rule:
    rule = RULES[name]()
    rule.bind(shapes(P))
    return rule


@dataclass
class Members:
    """K members of P parameters: settings, quadratics ½ yᵀA y + cᵀy and, in `noise`, what a mini-batch adds to c."""

    hyper: dict[str, Tensor]
    seeds: Tensor
    x: Tensor
    A: Tensor
    noise: Tensor  # [batches, K, P]

    def gradient(self, query: Query) -> Tensor:
        """Column by column, so that a member's rounding does not depend on how many there are."""
        points = query.points.numpy()
        points = points if points.ndim == 3 else points[:, None]
        total = self.noise.numpy()[query.batch.numpy(), np.arange(len(points))[:, None]]
        A = self.A.numpy()
        with np.errstate(all="ignore"):  # some tests have members that overflow
            for j in range(points.shape[2]):  # numpy's operations are not fused, and begin sooner than torch's
                total += A[:, None, :, j] * points[:, :, j : j + 1]
        return torch.from_numpy(total).view_as(query.points)

    def rows(self, order: list[int]) -> Members:
        hyper = {name: value[order] for name, value in self.hyper.items()}
        return Members(hyper, self.seeds[order], self.x[order], self.A[order], self.noise[:, order])


def pick(rng: np.random.Generator, name: str, declared: Hyperparameter) -> float:
    """A value inside the declared range, kept from step sizes that blow up at once."""
    if isinstance(declared, Choice):
        return float(rng.integers(len(declared.options)))
    if not isinstance(declared, Float):
        return float(rng.choice([2, 4, 6]))  # shorter than a study searches, so that a test sees many outer steps
    low, high = max(declared.low, 1e-3 if declared.log else 0.0), declared.high
    high = {"lr": 0.2, "inner_lr": 0.2, "ema_steps": 12.0, "window_steps": 24.0, "rho_end": 1.0}.get(name, high)
    if name == "temperature":
        low, high = 1e-3, 1.0  # noise of the size of everything else
    return float(low * (high / low) ** rng.random() if declared.log else rng.uniform(low, high))


def members(
    name: str, K: int, P: int, steps: int, seed: int, dtype: torch.dtype = torch.float64, columns: int = 1
) -> Members:
    rng = np.random.default_rng(seed)
    hyper = {}
    for key, declared in RULES[name].wide.items():
        width = columns if key in ("lr", "inner_lr", "outer_lr", "momentum", "outer_momentum", "weight_decay") else 1
        hyper[key] = torch.tensor([[pick(rng, key, declared) for _ in range(width)] for _ in range(K)], dtype=dtype)
    basis = np.linalg.qr(rng.normal(size=(K, P, P)))[0]
    A = np.einsum("kij,kj,klj->kil", basis, rng.uniform(-0.2, 3, size=(K, P)), basis)
    return Members(
        hyper,
        torch.tensor([[int(rng.integers(2**63 - 1))] for _ in range(K)]),
        torch.tensor(rng.normal(size=(K, P)), dtype=dtype),
        torch.tensor(A, dtype=dtype),
        torch.tensor(0.3 * rng.normal(size=(batches_of(name, steps)[-1] + 1, K, P)), dtype=dtype),
    )


def schedules(name: str, population: Members, steps: int) -> dict[str, Tensor]:
    """What the engine gives a rule in `steps` gradients and the next: ``[steps + 1, K, ...]`` where it is scheduled."""
    period = RULES[name]().period(population.hyper)
    progress = (torch.arange(steps + 1)[:, None, None] // period).double() / (steps // period).clamp(min=1).double()
    return RULES[name]().at(population.hyper, progress.clamp(max=1).to(population.x.dtype))


def scheduled(table: dict[str, Tensor], t: int) -> dict[str, Tensor]:
    """The hyperparameters at gradient t: constant within an outer step."""
    return {key: value[t] if value.dim() == 3 else value for key, value in table.items()}


def trace(
    name: str, population: Members, steps: int, rule: Rule | None = None
) -> tuple[list[Tensor], list[Tensor], State]:
    """All queries and all deployed iterates of a population, and its last state."""
    rule = rule or made(name, population.x.shape[1])
    state = rule.init(population.x, population.seeds)
    table, queries, iterates = schedules(name, population, steps), [], []
    for t in range(steps):
        now = scheduled(table, t)
        query = rule.query(state, now)
        assert query.batch.dtype == torch.int64 and query.batch.tolist() == [batches_of(name, t)] * len(population.x)
        assert rule.first_batch(t) == batches_of(name, t)[0] and rule.replicas == len(batches_of(name, t))
        queries.append(query.points.clone())
        iterates.append(rule.iterate(state).clone())
        grad = population.gradient(query)
        state = rule.update(state, grad, torch.zeros(query.batch.shape, dtype=grad.dtype), now)
    iterates.append(rule.iterate(state).clone())
    return queries, iterates, state


def tensors(values: dict[str, float], dtype: torch.dtype = torch.float64) -> dict[str, Tensor]:
    """Hyperparameters [1, 1], not scheduled."""
    return {key: torch.tensor([[value]], dtype=dtype) for key, value in values.items()}
