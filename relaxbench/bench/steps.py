"""Cost of a step of the drop-in classes in a custom training loop: single steps, in turn with PyTorch's SGD."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import nn

from relaxbench.bench.population import noise_free
from relaxbench.errors import UserError
from relaxbench.optim.drop_in.base import RuleOptimizer
from relaxbench.optim.drop_in.classes import DROP_INS
from relaxbench.optim.drop_in.curveball import CurveBall
from relaxbench.optim.hyper import defaults
from relaxbench.problems.networks import lenet

BATCH = 128
PAIRS = 150
"""Steps of each side. A ratio then varies by about 1 % between runs on a quiet machine."""
LEAST = 20
"""Least number of steps at every place of an outer step."""
QUICK_PAIRS, QUICK_LEAST = 10, 3
INNER_STEPS = 5
"""L, the smallest published value, where outer steps weigh most."""
TARGETS = {"lookahead": 1.05, "entropy-sgd": 1.05, "hj": 1.05, "hj-implicit": 1.05, "elastic-sgd": 1.05, "parle": 1.05}
TARGETS |= {"curveball": 3.0, "curveball, compiled": 2.5}
NAMES = ("torch SGD", *DROP_INS, "entropy-sgd with noise")
COMPILED = ("torch SGD, compiled", "curveball, compiled")

Step = Callable[[], object]


def step_costs(
    device: torch.device, names: tuple[str, ...] = NAMES, pairs: int = PAIRS, least: int = LEAST
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the name and the figures of each method as soon as it is measured.

    Figures are ``ratio``, the cost in steps of `torch.optim.SGD`, ``low`` and ``high``, its 95 % interval (bootstrap
    over pairs), ``gradients``, the gradient equivalents of a step, and ``target``. Names that end in ``", compiled"``
    are compared with a compiled SGD, and ``"torch SGD"`` with itself, which shows the accuracy of the measurement.

    Args:
        device: the device to measure on.
        names: the methods, of `NAMES` and `COMPILED`.
        pairs: number of pairs of steps, at least.
        least: number of pairs at every place of an outer step, at least.
    """
    for name in names:
        method, compiled = name.removesuffix(", compiled"), name.endswith(", compiled")
        base, _, _ = _training(device, "torch SGD", compiled)
        step, period, gradients = _training(device, method, compiled)
        phases, ratios = _time_pairs(base, step, period, max(pairs, least * period), device)
        ratio, low, high = mean_of_medians(phases, ratios)
        figures = {"ratio": ratio, "low": low, "high": high, "gradients": gradients, "target": TARGETS.get(name)}
        yield name, figures


def measure(device: torch.device, quick: bool, compiled: bool, tell: Callable[[str], object]) -> dict[str, Any]:
    """Measure all methods, one after another."""
    figures: dict[str, Any] = {}
    pairs, least = (QUICK_PAIRS, QUICK_LEAST) if quick else (PAIRS, LEAST)
    for name in (*NAMES, *(COMPILED if compiled else ())):
        tell(f"training steps of LeNet: {name}")
        figures.update(step_costs(device, (name,), pairs, least))
    return figures


def check_compiler(device: torch.device) -> None:
    """Refuse a device for which nothing can be compiled.

    Raises:
        UserError: if the device is the CPU and there is no C++ compiler.
    """
    if device.type == "cpu" and not any(map(shutil.which, ("g++", "clang++"))):
        raise UserError(
            "there is no C++ compiler (g++ or clang++), which compiled steps on the CPU need: install one", "compile"
        )


def _training(device: torch.device, method: str, compiled: bool) -> tuple[Step, int, float]:
    """Return a training step with dropout and batch norm, steps per outer step, and gradients per step."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = lenet().to(device)
        x, y = torch.randn(BATCH, 1, 28, 28).to(device), torch.randint(0, 10, (BATCH,)).to(device)
    loss_of = nn.functional.cross_entropy
    if method == "torch SGD":
        network = torch.compile(model) if compiled else model
        sgd = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9, weight_decay=1e-4, nesterov=True, foreach=True)

        def plain() -> None:
            sgd.zero_grad()
            torch.autograd.backward(loss_of(network(x), y))
            sgd.step()

        return plain, 1, 1.0

    cls = DROP_INS[method.removesuffix(" with noise")]
    rule = cls.rule_class
    hyper: dict[str, Any] = defaults(rule.wide) if method.endswith(" with noise") else noise_free(rule)
    hyper |= {"inner_steps": INNER_STEPS} if "inner_steps" in hyper else {}
    if cls is CurveBall:
        curved = CurveBall(model, total_steps=10**6, compile=compiled, **hyper)
        return lambda: curved.step(lambda: model(x), lambda out: loss_of(out, y)), 1, curved.rule.price
    optimizer = cls(model.parameters(), total_steps=10**6, **hyper)

    def closure() -> float:
        optimizer.zero_grad()
        loss = loss_of(model(x), y)
        torch.autograd.backward(loss)
        return loss.detach()  # type: ignore[return-value]  # a tensor: do not wait for the device in every step

    def step() -> None:
        if optimizer.closures:
            optimizer.step(closure)
        else:
            closure()
            optimizer.step()

    return step, _period(optimizer, hyper), float(max(1, optimizer.closures))


def _period(optimizer: RuleOptimizer, hyper: dict[str, Any]) -> int:
    """Return the calls of `step()` per outer step."""
    numbers = {n: torch.tensor([[float(v)]]) for n, v in hyper.items() if isinstance(v, (int, float))}
    queries = int(optimizer.rule.period(numbers))
    return queries * optimizer.rule.replicas // max(1, optimizer.closures)


def _time_pairs(base: Step, step: Step, period: int, pairs: int, device: torch.device) -> tuple[list[int], list[float]]:
    """Return, per pair, the place of the step in its outer step, and the ratio of the two times."""
    for _ in range(2 * period + 3):
        base()
        step()
    phases, ratios = [], []
    for pair in range(-(-pairs // period) * period):  # whole outer steps
        first, second = (base, step) if pair % 2 else (step, base)
        times = {first: _time(first, device), second: _time(second, device)}
        phases.append(pair % period)
        ratios.append(times[step] / times[base])
    return phases, ratios


def _time(step: Step, device: torch.device) -> float:
    start = time.perf_counter()
    step()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - start


def mean_of_medians(phases: list[int], ratios: list[float], resamples: int = 1000) -> tuple[float, float, float]:
    """Return the mean cost of the steps of an outer step, and its 95 % interval (bootstrap over pairs).

    Medians ignore single steps that another program made many times longer. They are averaged over the places in an
    outer step, because the median of all steps would ignore an outer update that occurs every L steps.

    Args:
        phases: the place in the outer step, of every pair.
        ratios: the ratio of the two times, of every pair.
        resamples: of the bootstrap.
    """
    rng = np.random.default_rng(0)
    point, draws = 0.0, np.zeros(resamples)
    places = sorted(set(phases))
    for place in places:
        own = np.array([ratio for phase, ratio in zip(phases, ratios, strict=True) if phase == place])
        point += float(np.median(own)) / len(places)
        draws += np.median(rng.choice(own, (resamples, len(own))), axis=1) / len(places)
    low, high = np.quantile(draws, [0.025, 0.975])
    return point, float(low), float(high)
