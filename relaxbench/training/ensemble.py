"""Advance members without trials, rounds or measurements, for expectations and for counting iterations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from relaxbench.optim import hyper as declared
from relaxbench.optim.rule import Rule
from relaxbench.space import Value
from relaxbench.training.oracle import Oracle


class Ensemble:
    """K members of one rule on one problem, all with the same settings, which no schedule changes.

    Args:
        oracle: the problem, with the path of its gradients. The ensemble sets its sampler.
        rule: the mathematics of the method.
        start: parameters ``[K, P]``; their dtype and device are the ensemble's.
        seeds: K of them.
        steps: the largest number of calls of `step`.
        hyper: a value for every hyperparameter of the rule.
    """

    def __init__(
        self,
        oracle: Oracle,
        rule: Rule,
        start: Tensor,
        seeds: Sequence[int],
        steps: int,
        hyper: Mapping[str, Value],
    ) -> None:
        self.rule, self.oracle, self.size = rule, oracle, len(start)
        last = rule.last_batch(steps) + rule.replicas
        self.oracle.sampler = oracle.problem.sampler(seeds, [0] * len(start), last, start.device)
        rule.bind([shape for _, shape in oracle.problem.layout()])
        values = declared.stack([dict(hyper)], start.device, rule.hyper_dtype or start.dtype)
        # [K, 1] each: a rule may take the rows of some members.
        fixed = {name: value.expand(len(start), 1) for name, value in values.items()}
        self.hyper = rule.at(fixed, torch.zeros(len(start), 1, dtype=start.dtype, device=start.device))
        self.state = rule.init(start, torch.tensor(list(seeds), device=start.device)[:, None])
        self.queries = 0

    @property
    def gradients(self) -> float:
        """Gradient equivalents used so far, by all members."""
        return self.queries * self.rule.price * self.rule.replicas * self.size

    def step(self) -> Tensor:
        """Take one query of every member; return the losses ``[K, 1]`` (or ``[K, n]``) that were seen on the way."""
        self.state, losses = self.rule.step(self.state, self.oracle, self.hyper)
        self.queries += 1
        return losses
