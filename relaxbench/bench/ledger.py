"""Compare the ledger's gradient equivalents with PyTorch's counts of FLOPs."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

from relaxbench.bench.workloads import SYNTHETIC, synthetic
from relaxbench.optim.hyper import defaults
from relaxbench.optim.registry import RULES
from relaxbench.optim.rule import Rule
from relaxbench.optim.rules.curveball import EVERY, CurveBall
from relaxbench.problems import Batch, SupervisedProblem, networks
from relaxbench.problems.splits import SPLITS
from relaxbench.training.oracle import Oracle
from relaxbench.training.population import Population
from relaxbench.training.trial import Job

WITHIN = 0.05
"""Target: the count differs from the ledger by at most this share."""
PRODUCTS = {"aten::mm", "aten::addmm", "aten::bmm", "aten::baddbmm"}
"""Operations of fully connected layers that the profiler counts; elementwise arithmetic and noise are left out."""
INNER_STEPS = 2
"""L, the smallest value that every rule accepts; the cost per gradient does not depend on it."""
WIDTH, DEPTH = 64, 20


def deep_network() -> nn.Sequential:
    """Return many equal layers, so that the first, which needs no gradient of its inputs, weighs little."""
    layers = [part for _ in range(DEPTH - 1) for part in (nn.Linear(WIDTH, WIDTH), nn.Tanh())]
    return nn.Sequential(*layers, nn.Linear(WIDTH, 10))


def deep() -> SupervisedProblem:
    """Return the deep network on noise, as a problem."""

    def data() -> dict[str, tuple[Tensor, Tensor]]:
        generator = torch.Generator().manual_seed(0)
        part = torch.randn(SYNTHETIC, WIDTH, generator=generator), torch.randint(0, 10, (SYNTHETIC,))
        return dict.fromkeys(SPLITS, part)

    return SupervisedProblem("deep network on noise", deep_network, data, batch_size=64)


def measure(tell: Callable[[str], object]) -> dict[str, Any]:
    """Measure, for every rule, the ledger's cost of one outer step, and its cost by two counts of FLOPs, in gradients.

    For CurveBall this is the mean of five steps, one of which evaluates the loss. Matrix products of a rule's own, as
    Muon has, are no gradients and not billed: ``"own"`` is their share, which both counts leave out.
    It runs on the CPU, as the products are the same on any device. ``"profiler"`` is `torch.profiler` on a deep network
    of full layers (it does not count the backward pass of convolutions); ``"flop_counter"`` is
    `torch.utils.flop_counter` on LeNet.
    """
    network, lenet, threads = deep(), synthetic("lenet", 16), torch.get_num_threads()
    torch.set_num_threads(1)  # nothing is timed
    one = {
        "profiler": profiled(_gradient(deep_network(), network)),
        "flop_counter": counted(_gradient(networks.lenet(), lenet)),
    }
    costs: dict[str, Any] = {}
    for name, rule in RULES.items():
        tell(f"the ledger against FLOPs: {name}")
        times = EVERY if issubclass(rule, CurveBall) else 1
        step, bill = outer_steps(network, rule(), times)
        by_profiler = profiled(step) / one["profiler"] / times
        billed = bill() / times
        step, _ = outer_steps(lenet, rule(), times)
        by_counter = counted(step) / one["flop_counter"] / times
        own = dict.fromkeys(one, 0.0)
        if not rule.curvature:
            own["profiler"] = profiled(outer_steps(network, rule(), times, given=True)[0]) / one["profiler"] / times
            own["flop_counter"] = (
                counted(outer_steps(lenet, rule(), times, given=True)[0]) / one["flop_counter"] / times
            )
        costs[name] = {
            "billed": billed,
            "profiler": by_profiler - own["profiler"],
            "flop_counter": by_counter - own["flop_counter"],
            "own": own,
        }
    torch.set_num_threads(threads)
    return {"within": WITHIN, "flops_of_a_gradient": one, "rules": costs}


def outer_steps(
    problem: SupervisedProblem, rule: Rule, times: int = 1, given: bool = False
) -> tuple[Callable[[], object], Callable[[], float]]:
    """Return a function that makes outer steps of one member on the direct path, and one that reads their cost.

    Args:
        problem: what is trained.
        rule: the mathematics of the method.
        times: the number of outer steps.
        given: take gradients of one instead of computing them, so that what is left is the rule's own arithmetic.
    """
    population = Population(Oracle(problem, "direct"), rule, budget=10**6)
    small = {"inner_steps": INNER_STEPS} if "inner_steps" in rule.wide else {}
    population.admit([Job(0, 0, defaults(rule.wide) | small)])
    (slot,) = population.slots
    population.advance(times * slot.period)  # warm up PyTorch and the sampler
    if given:
        population.oracle = _Given(problem, "direct")
    before = slot.ledger.total
    return lambda: population.advance(times * slot.period), lambda: slot.ledger.total - before


class _Given(Oracle):
    """An oracle whose gradients cost nothing."""

    def gradient_on(self, points: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return gradients and losses of one."""
        return torch.ones_like(points), points.new_ones(len(points), 1)

    def gradient_parts_on(self, points: Tensor, batch: Batch) -> tuple[list[Tensor], Tensor]:
        """Return the same, in one part."""
        grads, losses = self.gradient_on(points, batch)
        return [grads], losses


def counted(work: Callable[[], object]) -> float:
    """Count FLOPs of products and convolutions with `torch.utils.flop_counter`."""
    with FlopCounterMode(display=False) as counter:
        work()
    return float(counter.get_total_flops())


def profiled(work: Callable[[], object]) -> float:
    """Count FLOPs of matrix products with `torch.profiler`."""
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # silence its library
    with profile(activities=[ProfilerActivity.CPU], with_flops=True) as profiler:
        work()
    return float(sum(event.flops for event in profiler.key_averages() if event.key in PRODUCTS))


def _gradient(model: nn.Module, problem: SupervisedProblem) -> Callable[[], object]:
    """Return a function that computes one gradient of a plain network on a mini-batch."""
    x, y = (part[: problem.batch_size] for part in problem.tensors["train"])
    return lambda: torch.autograd.backward(nn.functional.cross_entropy(model(x), y))
