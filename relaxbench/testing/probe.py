"""Short runs of a rule on a small classifier, for the conformance suite."""

from __future__ import annotations

import copy
import functools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from relaxbench.optim.hyper import defaults, stack
from relaxbench.optim.rule import Rule
from relaxbench.problems import Batch, Problem, Sampler
from relaxbench.problems.digits import digits_mlp
from relaxbench.space import Int, Value
from relaxbench.testing.metered_oracle import Metered
from relaxbench.training.ensemble import Ensemble
from relaxbench.training.oracle import Oracle, Path

CPU = torch.device("cpu")
TASK = digits_mlp()
MEMBERS = 5
SHORT = 4
"""Length of inner loops in the checks."""


class _FirstBatch:
    """The first mini-batch of a sampler, whatever the number."""

    def __init__(self, sampler: Sampler) -> None:
        self.sampler = sampler

    def batch(self, number: Tensor) -> Batch:
        return self.sampler.batch(torch.zeros_like(number))


STEADY = copy.copy(TASK)
STEADY.sampler = lambda seeds, *_: _FirstBatch(TASK.sampler(seeds, [0] * len(seeds), 1, CPU))  # type: ignore[method-assign]
"""The classifier with one mini-batch per member, for rules that compare losses."""


@functools.cache
def start_of(seed: int) -> Tensor:
    """Return the initial parameters of a seed, which nobody may change."""
    return TASK.init(seed)


class Probe:
    """Ensembles of a rule, and their iterates.

    Args:
        rule: the class of the rule.
        options: arguments of its constructor.
        settings: hyperparameters that replace the defaults.
    """

    def __init__(self, rule: type[Rule], options: Mapping[str, Any], settings: Mapping[str, Value]) -> None:
        self.rule, self.options, self.settings = rule, options, settings

    def make(self) -> Rule:
        """Make the rule and bind it to the shapes of the classifier."""
        rule = self.rule(**self.options)
        rule.bind([shape for _, shape in TASK.layout()])
        return rule

    @property
    def task(self) -> Problem:
        """The classifier, with mini-batches that a rule can use."""
        return STEADY if self.rule.compares_losses else TASK

    def values(self, inner_steps: int | None = SHORT) -> dict[str, Value]:
        """Return a value for every hyperparameter, with short inner loops unless `inner_steps` is None."""
        values = defaults(self.rule.wide)
        if inner_steps is not None:
            values |= {name: SHORT for name, d in self.rule.wide.items() if isinstance(d, Int) and d.default > SHORT}
        return {**values, **self.settings}

    def period(self) -> int:
        """Return the number of queries of an outer step."""
        return int(self.make().period(stack([self.values()], CPU, torch.float32)))

    def ensemble(
        self,
        seeds: Sequence[int] = range(MEMBERS),
        dtype: torch.dtype = torch.float32,
        start: Tensor | None = None,
        members: int = MEMBERS,
        inner_steps: int | None = SHORT,
        path: Path = "direct",
    ) -> Ensemble:
        """Make an ensemble.

        Args:
            seeds: at least `members` seeds.
            dtype: of the parameters.
            start: initial parameters ``[K, P]``, or None for those of the seeds.
            members: K, at most.
            inner_steps: None for the default length of inner loops.
            path: of the gradients. On the direct path the gradient of a member does not depend on K bit for bit,
                whatever the machine; the vectorized path is faster.
        """
        seeds = list(seeds)[:members]
        if start is None:
            start = torch.stack([start_of(seed) for seed in seeds]).to(dtype)
        return Ensemble(Oracle(self.task, path), self.make(), start, seeds, 400, self.values(inner_steps))

    def trace(self, seeds: list[int], steps: int, factor: float = 1.0) -> list[Tensor]:
        """Return all iterates of members, ``[steps, P]`` each, with gradients and losses multiplied by a factor."""
        ensemble, iterates = self.ensemble(seeds), []
        if factor != 1:
            meter(ensemble, None, factor)
        for _ in range(steps):
            ensemble.step()
            iterates.append(ensemble.rule.iterate(ensemble.state).clone())
        return list(torch.stack(iterates, dim=1))

    def matters(self, name: str, others: Sequence[Value], values: dict[str, Value]) -> bool:
        """Return whether another value of a hyperparameter changes the iterates."""
        # Side by side: most hyperparameters change one of the first iterates, and no more are then computed.
        return any(
            not all(map(identical, self._early(values), self._early({**values, name: other})))
            for other in others
            if other != values[name]
        )

    def _early(self, values: dict[str, Value]) -> Iterator[Tensor]:
        """Yield the iterates of 64 queries with the schedules as after a tenth of a run."""
        ensemble = self.ensemble(members=2, path="vectorized")
        ensemble.hyper = ensemble.rule.at(stack([values] * 2, CPU, torch.float32), torch.full((2, 1), 0.1))
        for _ in range(64):
            ensemble.step()
            yield ensemble.rule.iterate(ensemble.state).clone()

    def mixed(self, settings: list[dict[str, Value]], seeds: list[int], steps: int) -> Tensor:
        """Return the last iterates ``[K, P]`` of members that differ in their settings."""
        ensemble = self.ensemble(seeds)
        ensemble.hyper = ensemble.rule.at(stack(settings, CPU, torch.float32), torch.zeros(len(seeds), 1))
        for _ in range(steps):
            ensemble.step()
        return ensemble.rule.iterate(ensemble.state).clone()


def identical(a: Tensor, b: Tensor) -> bool:
    """Return whether tensors are equal bit for bit; NaN equals NaN."""
    return a.shape == b.shape and torch.allclose(a, b, rtol=0, atol=0, equal_nan=True)


def meter(ensemble: Ensemble, spoil: int | None = None, factor: float = 1.0) -> Metered:
    """Count the requests of an ensemble from now on, see `Metered`."""
    metered = Metered(ensemble.oracle, spoil, factor)
    ensemble.oracle = metered  # type: ignore[assignment]
    return metered
