"""The algorithms of the papers once more, as nested loops over plain numbers: what the rules are compared with."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

Vector = np.ndarray
Gradient = Callable[[Vector, int], Vector]
"""(point, number of the mini-batch) → gradient."""
Noise = Callable[[int], Vector]
"""number of the gradient → standard normal numbers."""


def step_size_factor(schedule: str, progress: float) -> float:
    if schedule == "constant":
        return 1.0
    if schedule == "step":
        return 0.2 ** ((progress >= 0.3) + (progress >= 0.6) + (progress >= 0.9))
    if schedule == "cosine":
        return math.cos(math.pi * progress / 2) ** 2
    assert schedule == "warmup"
    if progress < 0.05:
        return (progress + 0.005) / 0.055
    return math.cos(math.pi * (progress - 0.05) / 0.95 / 2) ** 2


def scoped(scoping: str, start: float, end: float, progress: float) -> float:
    if scoping == "constant":
        return start
    if scoping == "geometric":
        return start ** (1 - progress) * end**progress
    if scoping == "linear":
        return start * (1 - progress) + end * progress
    assert scoping == "cosine"
    share = math.cos(math.pi * progress / 2) ** 2
    return start * share + end * (1 - share)


class Nesterov:
    """v ← m v + d; the step is d + m v."""

    def __init__(self, size: int) -> None:
        self.v = np.zeros(size)

    def __call__(self, momentum: float, d: Vector) -> Vector:
        self.v = momentum * self.v + d
        return d + momentum * self.v


def rates(h: dict[str, Any], progress: float) -> tuple[float, float]:
    """Outer and inner step size: the schedule anneals one of them."""
    factor = step_size_factor(h["schedule"], progress)
    outer, inner = h["outer_lr"], h["inner_lr"]
    return (outer * factor, inner) if h["anneal"] == "outer" else (outer, inner * factor)


def sgd(x: Vector, g: Gradient, h: dict[str, Any], steps: int, noise: Noise) -> Vector:
    n = Nesterov(len(x))
    for t in range(steps):
        d = g(x, t) + h["weight_decay"] * x
        x = x - h["lr"] * step_size_factor(h["schedule"], t / steps) * n(h["momentum"], d)
    return x


def sgd_ema(x: Vector, g: Gradient, h: dict[str, Any], steps: int, noise: Noise) -> Vector:
    n, visited, average = Nesterov(len(x)), [], x
    for t in range(steps):
        d = g(x, t) + h["weight_decay"] * x
        x = x - h["lr"] * step_size_factor(h["schedule"], t / steps) * n(h["momentum"], d)
        visited.append(x)
        if t + 1 <= h["ema_steps"]:
            average = np.mean(visited, axis=0)
        else:
            average = average * (1 - 1 / h["ema_steps"]) + x / h["ema_steps"]
    return average


def lookahead(x: Vector, g: Gradient, h: dict[str, Any], steps: int, noise: Noise) -> Vector:
    n, t, outer_steps = Nesterov(len(x)), 0, steps // h["inner_steps"]
    for k in range(outer_steps):
        outer, inner = rates(h, k / outer_steps)
        y = x
        for _ in range(h["inner_steps"]):
            y = y - inner * n(h["momentum"], g(y, t) + h["weight_decay"] * y)
            t += 1
        x = x + outer * (y - x)
    return x


def entropy_sgd(x: Vector, g: Gradient, h: dict[str, Any], steps: int, noise: Noise) -> Vector:
    inner_n, outer_n = Nesterov(len(x)), Nesterov(len(x))
    t, outer_steps = 0, steps // h["inner_steps"]
    for k in range(outer_steps):
        outer, inner = rates(h, k / outer_steps)
        gamma = scoped(h["scoping"], h["gamma_start"], h["gamma_end"], k / outer_steps)
        y, z = x, x
        for _ in range(h["inner_steps"]):
            d = g(y, t) + h["weight_decay"] * y + (y - x) / gamma
            spread = math.sqrt(2 * inner * h["temperature"] / (1 - h["momentum"]))
            y = y - inner * inner_n(h["momentum"], d) + spread * noise(t)
            z = h["averaging"] * z + (1 - h["averaging"]) * y
            t += 1
        x = x - outer * outer_n(h["outer_momentum"], x - z)
    return x


def hj(x: Vector, g: Gradient, h: dict[str, Any], steps: int, noise: Noise) -> Vector:
    return entropy_sgd(x, g, {**h, "temperature": 0.0, "averaging": 0.0}, steps, noise)


def hj_implicit(x: Vector, g: Gradient, h: dict[str, Any], steps: int, noise: Noise) -> Vector:
    n, t, outer_steps, wd, b = Nesterov(len(x)), 0, steps // (h["inner_steps"] + 1), h["weight_decay"], h["averaging"]
    for k in range(outer_steps):
        gamma = scoped(h["scoping"], h["gamma_start"], h["gamma_end"], k / outer_steps)
        p = g(x, t) + wd * x
        t += 1
        for _ in range(h["inner_steps"]):
            at = x - gamma * p
            p = b * p + (1 - b) * (g(at, t) + wd * at)
            t += 1
        x = x - h["lr"] * step_size_factor(h["schedule"], k / outer_steps) * n(h["momentum"], p)
    return x


def heat(x: Vector, g: Gradient, h: dict[str, Any], steps: int, noise: Noise) -> Vector:
    n, t, length = Nesterov(len(x)), 0, h["inner_steps"]
    outer_steps = steps // length
    for k in range(outer_steps):
        variance = scoped(h["scoping"], h["sigma_start"] ** 2, h["sigma_end"] ** 2, k / outer_steps)
        total = np.zeros(len(x))
        for _ in range(length // 2):
            shift = math.sqrt(variance) * noise(t)
            total = total + g(x + shift, t) + g(x - shift, t + 1)
            t += 2
        d = total / length + h["weight_decay"] * x
        x = x - h["lr"] * step_size_factor(h["schedule"], k / outer_steps) * n(h["momentum"], d)
    return x


REFERENCES = {
    "sgd": sgd,
    "sgd-ema": sgd_ema,
    "lookahead": lookahead,
    "entropy-sgd": entropy_sgd,
    "hj": hj,
    "hj-implicit": hj_implicit,
    "heat": heat,
}
