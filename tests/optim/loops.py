"""Every rule as a plain loop, one member at a time in numpy, written from the papers (specification, section 3).

They share nothing with the rules but the numbers of their noise.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Generator

import numpy as np
import torch

Vector = np.ndarray
Hypers = Callable[[int], dict[str, Vector]]  # the hyperparameters of outer step k, each [P]
Noise = Callable[[int], Vector]  # ξ of gradient t
Machine = Generator[tuple[Vector, Vector], Vector, None]  # gives (query, deployed iterate), is sent a gradient


def sgd(x: Vector, at: Hypers, L: int, noise: Noise) -> Machine:
    v = 0 * x
    for k in itertools.count():
        h = at(k)
        g = yield x, x
        d = g + h["weight_decay"] * x
        v = h["momentum"] * v + d
        x = x - h["lr"] * (d + h["momentum"] * v)


def sgd_ema(x: Vector, at: Hypers, L: int, noise: Noise) -> Machine:
    """The average is a weighted sum of all iterates, its weights multiplied out anew at every step."""
    v, history, average = 0 * x, list[Vector](), x
    for k in itertools.count():
        h = at(k)
        g = yield x, average
        d = g + h["weight_decay"] * x
        v = h["momentum"] * v + d
        x = x - h["lr"] * (d + h["momentum"] * v)
        history.append(x)
        share = 1 / np.minimum(np.arange(1, len(history) + 1)[:, None], h["ema_steps"])
        average = 0 * x
        for i, past in enumerate(history):
            average = average + past * share[i] * np.prod(1 - share[i + 1 :], axis=0)


def lookahead(x: Vector, at: Hypers, L: int, noise: Noise) -> Machine:
    """Zhang et al., algorithm 1, with SGD inside."""
    v = 0 * x
    for k in itertools.count():
        h = at(k)
        fast = x.copy()
        for _ in range(L):
            g = yield fast, x
            d = g + h["weight_decay"] * fast
            v = h["momentum"] * v + d
            fast = fast - h["inner_lr"] * (d + h["momentum"] * v)
        x = x + h["outer_lr"] * (fast - x)


def entropy_sgd(x: Vector, at: Hypers, L: int, noise: Noise) -> Machine:
    v, v_x, t = 0 * x, 0 * x, 0
    for k in itertools.count():
        h = at(k)
        y, z = x.copy(), x.copy()
        m, a, rate = h["momentum"], h["averaging"], h["inner_lr"]
        for _ in range(L):
            g = yield y, x
            d = g + h["weight_decay"] * y + (y - x) / h["gamma"]
            v = m * v + d
            y = y - rate * (d + m * v) + np.sqrt(2 * rate * h["temperature"] / (1 - m)) * noise(t)
            z = a * z + (1 - a) * y
            t += 1
        d = x - z
        v_x = h["outer_momentum"] * v_x + d
        x = x - h["outer_lr"] * (d + h["outer_momentum"] * v_x)


def hj(x: Vector, at: Hypers, L: int, noise: Noise) -> Machine:
    v, v_x = 0 * x, 0 * x
    for k in itertools.count():
        h = at(k)
        y = x.copy()
        for _ in range(L):
            g = yield y, x
            d = g + h["weight_decay"] * y + (y - x) / h["gamma"]
            v = h["momentum"] * v + d
            y = y - h["inner_lr"] * (d + h["momentum"] * v)
        d = x - y
        v_x = h["outer_momentum"] * v_x + d
        x = x - h["outer_lr"] * (d + h["outer_momentum"] * v_x)


def hj_implicit(x: Vector, at: Hypers, L: int, noise: Noise) -> Machine:
    v = 0 * x
    for k in itertools.count():
        h = at(k)
        b = h["averaging"]
        g = yield x, x
        p = g + h["weight_decay"] * x
        for _ in range(L):
            point = x - h["gamma"] * p
            g = yield point, x
            p = b * p + (1 - b) * (g + h["weight_decay"] * point)
        v = h["momentum"] * v + p
        x = x - h["lr"] * (p + h["momentum"] * v)


def heat(x: Vector, at: Hypers, L: int, noise: Noise) -> Machine:
    v, t = 0 * x, 0
    for k in itertools.count():
        h = at(k)
        gradients = []
        for _ in range(L // 2):
            xi = noise(t)
            for sign in (1, -1):
                g = yield x + sign * h["sigma"] * xi, x
                gradients.append(g)
            t += 2
        d = np.mean(gradients, axis=0) + h["weight_decay"] * x
        v = h["momentum"] * v + d
        x = x - h["lr"] * (d + h["momentum"] * v)


def adamw(x: Vector, at: Hypers, L: int, noise: Noise) -> Machine:
    m, v, decayed1, decayed2 = 0 * x, 0 * x, 1.0 + 0 * x, 1.0 + 0 * x
    for k in itertools.count():
        h = at(k)
        g = yield x, x
        m = h["beta1"] * m + (1 - h["beta1"]) * g
        v = h["beta2"] * v + (1 - h["beta2"]) * g**2
        decayed1, decayed2 = decayed1 * h["beta1"], decayed2 * h["beta2"]
        step = (m / (1 - decayed1)) / (np.sqrt(v / (1 - decayed2)) + 1e-8)
        x = x - h["adam_lr"] * step - h["adam_lr"] * h["decoupled_decay"] * x


def adamw_ema(x: Vector, at: Hypers, L: int, noise: Noise) -> Machine:
    """AdamW's own points, and the weights of the average multiplied out anew at every step."""
    inner, history, average = adamw(x, at, L, noise), list[Vector](), x
    point, _ = next(inner)
    for k in itertools.count():
        g = yield point, average
        h = at(k)
        point, _ = inner.send(g)
        history.append(point)
        share = 1 / np.minimum(np.arange(1, len(history) + 1)[:, None], h["ema_steps"])
        average = 0 * x
        for i, past in enumerate(history):
            average = average + past * share[i] * np.prod(1 - share[i + 1 :], axis=0)


def adamw_lawa(x: Vector, at: Hypers, L: int, noise: Noise) -> Machine:
    """All points are kept; those at multiples of the interval are checkpoints, of which the last six count."""
    inner, history = adamw(x, at, L, noise), list[Vector]()
    point, _ = next(inner)
    for k in itertools.count():
        interval = max(1, int(at(k)["window_steps"][0]) // 6)
        checkpoints = history[interval - 1 :: interval][-6:]
        g = yield point, np.mean(checkpoints, axis=0) if checkpoints else point
        point, _ = inner.send(g)
        history.append(point)


def diloco(x: Vector, at: Hypers, L: int, noise: Noise) -> Machine:
    """Douillard et al., algorithm 1, with one worker: OuterOpt is Nesterov's, InnerOpt is AdamW."""
    m, v, u, decayed1, decayed2 = 0 * x, 0 * x, 0 * x, 1.0 + 0 * x, 1.0 + 0 * x
    for k in itertools.count():
        h, worker = at(k), x.copy()
        for _ in range(L):
            g = yield worker, x
            m = h["beta1"] * m + (1 - h["beta1"]) * g
            v = h["beta2"] * v + (1 - h["beta2"]) * g**2
            decayed1, decayed2 = decayed1 * h["beta1"], decayed2 * h["beta2"]
            step = (m / (1 - decayed1)) / (np.sqrt(v / (1 - decayed2)) + 1e-8)
            worker = worker - h["adam_lr"] * (step + h["decoupled_decay"] * worker)
        delta = x - worker
        u = h["outer_momentum"] * u + delta
        x = x - h["outer_lr"] * (delta + h["outer_momentum"] * u)


def gpa(x: Vector, at: Hypers, L: int, noise: Noise) -> Machine:
    z, m, v = x.copy(), 0 * x, 0 * x
    for k in itertools.count():
        h = at(k)
        y = h["interpolation"] * x + (1 - h["interpolation"]) * z
        g = yield y, x
        m = h["beta1"] * m + (1 - h["beta1"]) * g
        v = h["beta2"] * v + (1 - h["beta2"]) * g**2
        step = m / (1 - h["beta1"] ** (k + 1)) / (np.sqrt(v / (1 - h["beta2"] ** (k + 1))) + 1e-8)
        z = z - h["adam_lr"] * (step + h["decoupled_decay"] * y)
        keep = 1 - 1 / h["ema_steps"]
        x = keep * x + (1 - keep) * z


def sgld(x: Vector, at: Hypers, L: int, noise: Noise) -> Machine:
    """With the names of the paper: θ ← θ + ε/2 ∇log p + N(0, ε), where log p = −(f + wd |θ|²/2)/T and ε = 2 η T."""
    for t in itertools.count():
        h = at(t)
        g = yield x, x
        epsilon = 2 * h["lr"] * h["temperature"]
        slope = -(g + h["weight_decay"] * x) / h["temperature"]
        x = x + epsilon / 2 * slope + np.sqrt(epsilon) * noise(t)


def schedule_free_sgd(x: Vector, at: Hypers, L: int, noise: Noise) -> Machine:
    """x as the mean of all z, weighted by the squares of the step sizes, summed anew at every step."""
    z, past, weights = x.copy(), list[Vector](), list[float]()
    for k in itertools.count():
        h = at(k)
        y = (1 - h["momentum"]) * z + h["momentum"] * x
        g = yield y, x
        z = z - h["lr"] * (g + h["weight_decay"] * y)
        past.append(z)
        weights.append(max([h["lr"].max() ** 2, *weights]))
        x = np.average(past, axis=0, weights=weights)


def schedule_free_adamw(x: Vector, at: Hypers, L: int, noise: Noise) -> Machine:
    z, v, past, weights = x.copy(), 0 * x, list[Vector](), list[float]()
    for k in itertools.count():
        h = at(k)
        y = (1 - h["beta1"]) * z + h["beta1"] * x
        g = yield y, x
        v = h["beta2"] * v + (1 - h["beta2"]) * g**2
        unbiased = v / (1 - h["beta2"] ** (k + 1))
        z = z - h["adam_lr"] * (g / (np.sqrt(unbiased) + 1e-8) + h["decoupled_decay"] * y)
        past.append(z)
        weights.append(max([h["adam_lr"].max() ** 2, *weights]))
        x = np.average(past, axis=0, weights=weights)


def muon(x: Vector, at: Hypers, L: int, noise: Noise) -> Machine:
    """Parameter by parameter: the iteration on the singular values of a matrix, AdamW on a vector."""
    m, v = 0 * x, 0 * x
    for k in itertools.count():
        h = at(k)
        g = yield x, x
        x, begin = x.copy(), 0
        for shape in shapes(len(x)):
            part = slice(begin, begin := begin + shape.numel())
            p = {name: value[part] for name, value in h.items()}
            if len(shape) == 2:
                m[part] = p["momentum"] * m[part] + (1 - p["momentum"]) * g[part]
                ahead = p["momentum"] * m[part] + (1 - p["momentum"]) * g[part]
                left, singular, right = np.linalg.svd(ahead.reshape(shape), full_matrices=False)
                singular = singular / max(np.sqrt((singular**2).sum()), 1e-7)
                for _ in range(5):
                    singular = 3.4445 * singular - 4.7750 * singular**3 + 2.0315 * singular**5
                step = max(1, shape[0] / shape[1]) ** 0.5 * (left * singular @ right).ravel()
                rate = p["muon_lr"]
            else:
                m[part] = p["beta1"] * m[part] + (1 - p["beta1"]) * g[part]
                v[part] = p["beta2"] * v[part] + (1 - p["beta2"]) * g[part] ** 2
                unbiased = v[part] / (1 - p["beta2"] ** (k + 1))
                step = m[part] / (1 - p["beta1"] ** (k + 1)) / (np.sqrt(unbiased) + 1e-8)
                rate = p["adam_lr"]
            x[part] = (1 - rate * p["decoupled_decay"]) * x[part] - rate * step


def sam(x: Vector, at: Hypers, L: int, noise: Noise) -> Machine:
    v = 0 * x
    for k in itertools.count():
        h = at(k)
        g = yield x, x
        up = x + h["radius"] * g / (np.sqrt((g**2).sum()) + 1e-12)
        g = yield up, x
        d = g + h["weight_decay"] * x
        v = h["momentum"] * v + d
        x = x - h["lr"] * (d + h["momentum"] * v)


def asam(x: Vector, at: Hypers, L: int, noise: Noise) -> Machine:
    v = 0 * x
    for k in itertools.count():
        h = at(k)
        g = yield x, x
        T = np.diag(np.abs(x) + h["offset"])
        up = x + h["relative_radius"] * (T @ T @ g) / (np.linalg.norm(T @ g) + 1e-12)
        g = yield up, x
        d = g + h["weight_decay"] * x
        v = h["momentum"] * v + d
        x = x - h["lr"] * (d + h["momentum"] * v)


def lpf_sgd(x: Vector, at: Hypers, L: int, noise: Noise) -> Machine:
    v, t = 0 * x, 0
    for k in itertools.count():
        h = at(k)
        total = 0 * x
        for _ in range(int(h["samples"][0])):
            width, place = 0 * x, 0
            for shape in shapes(len(x)):
                filters, size = (shape[0], math.prod(shape[1:])) if len(shape) > 1 else (1, shape[0])
                for _ in range(filters):
                    part = slice(place, place + size)
                    width[part] = np.sqrt((x[part] ** 2).sum())
                    place += size
            g = yield x + h["relative_noise"] * width * noise(t), x
            total = total + g
            t += 1
        d = total / h["samples"] + h["weight_decay"] * x
        v = h["momentum"] * v + d
        x = x - h["lr"] * (d + h["momentum"] * v)


def elastic_sgd(x: Vector, at: Hypers, L: int, noise: Noise) -> Machine:
    y, v = [x.copy() for _ in range(3)], [0 * x for _ in range(3)]
    for k in itertools.count():
        h = at(k)
        g = yield np.stack(y), x
        for i in range(3):
            d = g[i] + h["weight_decay"] * y[i] + (y[i] - x) / h["gamma"]
            v[i] = h["momentum"] * v[i] + d
            y[i] = y[i] - h["lr"] * (d + h["momentum"] * v[i])
        x = (1 - h["moving_rate"]) * x + h["moving_rate"] * (y[0] + y[1] + y[2]) / 3


def parle(x: Vector, at: Hypers, L: int, noise: Noise) -> Machine:
    n = 3
    xs, z = [x.copy() for _ in range(n)], [x.copy() for _ in range(n)]
    u, v = [0 * x for _ in range(n)], [0 * x for _ in range(n)]
    for k in itertools.count():
        h = at(k)
        a, y = h["averaging"], [each.copy() for each in xs]
        for _ in range(L):
            g = yield np.stack(y), sum(xs) / n
            for i in range(n):
                d = g[i] + h["weight_decay"] * y[i] + (y[i] - xs[i]) / h["gamma"]
                u[i] = h["momentum"] * u[i] + d
                y[i] = y[i] - h["inner_lr"] * (d + h["momentum"] * u[i])
                z[i] = a * z[i] + (1 - a) * y[i]
        r = sum(z) / n
        for i in range(n):
            d = (xs[i] - z[i]) + h["rho"] * (xs[i] - r)
            v[i] = h["outer_momentum"] * v[i] + d
            xs[i] = xs[i] - h["outer_lr"] * (d + h["outer_momentum"] * v[i])


def parle_variant(x: Vector, at: Hypers, L: int, restart: bool, mpi: bool) -> Machine:
    """Parle with z restarted at every outer step, or with the steps of its MPI code (alone, or together)."""
    xs, z, u, v = ([start.copy() for _ in range(3)] for start in (x, x, 0 * x, 0 * x))
    for k in itertools.count():
        h = at(k)
        y = [each.copy() for each in xs]
        for _ in range(L):
            g = yield np.stack(y), np.mean(xs, axis=0)
            for i in range(3):
                d = g[i] + h["weight_decay"] * y[i] + (y[i] - xs[i]) / h["gamma"]
                u[i] = h["momentum"] * u[i] + d
                y[i] = y[i] - h["inner_lr"] * (d + (1 if mpi else h["momentum"]) * u[i])
                z[i] = h["averaging"] * z[i] + (1 - h["averaging"]) * y[i]
        r = np.mean(z, axis=0)
        for i in range(3):
            d = (xs[i] - z[i]) + h["rho"] * (xs[i] - r)
            v[i] = h["outer_momentum"] * v[i] + d
            start = y[i] if mpi else xs[i]
            xs[i] = start - h["outer_lr"] * (d + (1 if mpi else h["outer_momentum"]) * v[i])
        if restart:
            z = [each.copy() for each in xs]


LOOPS = {
    "sgd": sgd,
    "sgd-ema": sgd_ema,
    "lookahead": lookahead,
    "adamw": adamw,
    "adamw-ema": adamw_ema,
    "adamw-lawa": adamw_lawa,
    "schedule-free-sgd": schedule_free_sgd,
    "schedule-free-adamw": schedule_free_adamw,
    "muon": muon,
    "diloco": diloco,
    "gpa": gpa,
    "sgld": sgld,
    "sam": sam,
    "asam": asam,
    "lpf-sgd": lpf_sgd,
    "elastic-sgd": elastic_sgd,
    "parle": parle,
    "entropy-sgd": entropy_sgd,
    "hj": hj,
    "hj-implicit": hj_implicit,
    "heat": heat,
}


def queries_of(name: str, L: int, samples: int) -> int:
    """Queries an outer step."""
    return {"sam": 2, "asam": 2, "lpf-sgd": samples, "hj-implicit": L + 1}.get(name, L)


def batches_of(name: str, t: int) -> list[int]:
    """Numbers of the mini-batches of query t."""
    return {
        "sam": [t // 2],
        "asam": [t // 2],
        "elastic-sgd": [3 * t, 3 * t + 1, 3 * t + 2],
        "parle": [3 * t, 3 * t + 1, 3 * t + 2],
    }.get(name, [t])


def shapes(P: int) -> list[torch.Size]:
    """P parameters as a matrix of two rows, if there are enough, and a vector."""
    return [torch.Size([2, P // 3]), torch.Size([P - 2 * (P // 3)])] if P > 2 else [torch.Size([P])]


def released(
    x: Vector, at: Hypers, L: int, noise: Noise, restart: bool, outside: bool, uniform: bool = False
) -> Machine:
    """Entropy-SGD with the options of its released code, or with the mean of its inner iterates."""
    v, v_x, t = 0 * x, 0 * x, 0
    for k in itertools.count():
        h = at(k)
        y, z, seen = x.copy(), x.copy(), list[Vector]()
        m, a, rate = h["momentum"], h["averaging"], h["inner_lr"]
        if restart:
            v = 0 * x
        for _ in range(L):
            g = yield y, x
            coupling = h["weight_decay"] * y + (y - x) / h["gamma"]
            inside, after = (g, coupling) if outside else (g + coupling, 0 * x)
            v = m * v + inside
            y = y - rate * (inside + m * v) - rate * after + np.sqrt(2 * rate * h["temperature"] / (1 - m)) * noise(t)
            z = a * z + (1 - a) * y
            seen.append(y)
            t += 1
        d = x - (np.mean(seen, axis=0) if uniform else z)
        v_x = h["outer_momentum"] * v_x + d
        x = x - h["outer_lr"] * (d + h["outer_momentum"] * v_x)
