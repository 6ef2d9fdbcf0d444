"""Every rule against the published algorithm in plain loops, and against closed forms on quadratics.

The loops of this file are written from the papers, one member at a time in numpy; they share nothing with the rules
but the numbers of their noise.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Generator
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from scipy import linalg
from torch import Tensor

from relaxbench import random
from relaxbench.optim.entropy_sgd import EntropySGD
from relaxbench.optim.hyper import Choice, Float, Hyperparameter, defaults, stack
from relaxbench.optim.registry import RULES as ALL_RULES
from relaxbench.optim.rule import Query, Rule, State

CPU = torch.device("cpu")
RULES = {name: rule for name, rule in ALL_RULES.items() if not rule.curvature}  # for CurveBall see test_curveball.py
Vector = np.ndarray
Hypers = Callable[[int], dict[str, Vector]]  # the hyperparameters of outer step k, each [P]
Noise = Callable[[int], Vector]  # ξ of gradient t
Machine = Generator[tuple[Vector, Vector], Vector, None]  # gives (query, deployed iterate), is sent a gradient

# The algorithms, in plain loops (specification, section 3).


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
        share = [1 / np.minimum(i, h["ema_steps"]) for i in range(1, len(history) + 1)]
        average = 0 * x
        for i, past in enumerate(history):
            average = average + past * share[i] * np.prod([1 - later for later in share[i + 1 :]], axis=0)


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


LOOPS = {
    "sgd": sgd,
    "sgd-ema": sgd_ema,
    "lookahead": lookahead,
    "adamw": adamw,
    "sam": sam,
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
    others = {"sgd": 1, "sgd-ema": 1, "adamw": 1, "elastic-sgd": 1, "sam": 2, "lpf-sgd": samples, "hj-implicit": L + 1}
    return others.get(name, L)


def batches_of(name: str, t: int) -> list[int]:
    """Numbers of the mini-batches of query t."""
    return {"sam": [t // 2], "elastic-sgd": [3 * t, 3 * t + 1, 3 * t + 2], "parle": [3 * t, 3 * t + 1, 3 * t + 2]}.get(
        name, [t]
    )


def shapes(P: int) -> list[torch.Size]:
    """P parameters as a matrix of two rows, if there are enough, and a vector."""
    return [torch.Size([2, P // 3]), torch.Size([P - 2 * (P // 3)])] if P > 2 else [torch.Size([P])]


def made(name: str, P: int) -> Rule:
    rule = RULES[name]()
    rule.bind(shapes(P))
    return rule


def test_every_rule_has_its_loop() -> None:
    assert set(LOOPS) == set(RULES)


# Populations of random settings.


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
        points = query.points if query.points.dim() == 3 else query.points[:, None]
        total = self.noise[query.batch, torch.arange(len(points))[:, None]].clone()
        for j in range(points.shape[2]):
            total += self.A[:, None, :, j] * points[:, :, j : j + 1]
        return total.view_as(query.points)

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
    high = {"lr": 0.2, "inner_lr": 0.2, "ema_steps": 12.0, "rho_end": 1.0}.get(name, high)
    if name == "temperature":
        low, high = 1e-3, 1.0  # noise of the size of everything else
    return float(low * (high / low) ** rng.random() if declared.log else rng.uniform(low, high))


def members(
    name: str, K: int, P: int, steps: int, seed: int, dtype: torch.dtype = torch.float64, columns: int = 1
) -> Members:
    rng = np.random.default_rng(seed)
    hyper = {}
    for key, declared in RULES[name].space.items():
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


def scheduled(name: str, population: Members, t: int, steps: int) -> dict[str, Tensor]:
    """What the engine gives a rule at gradient t: constant within an outer step."""
    period = RULES[name]().period(population.hyper)
    progress = (t // period).double() / (steps // period).clamp(min=1).double()
    return RULES[name]().at(population.hyper, progress.clamp(max=1).to(population.x.dtype))


def trace(
    name: str, population: Members, steps: int, rule: Rule | None = None
) -> tuple[list[Tensor], list[Tensor], State]:
    """All queries and all deployed iterates of a population, and its last state."""
    rule = rule or made(name, population.x.shape[1])
    state = rule.init(population.x, population.seeds)
    queries, iterates = [], []
    for t in range(steps):
        now = scheduled(name, population, t, steps)
        query = rule.query(state, now)
        assert query.batch.dtype == torch.int64 and query.batch.tolist() == [batches_of(name, t)] * len(population.x)
        assert rule.first_batch(t) == batches_of(name, t)[0] and rule.replicas == len(batches_of(name, t))
        queries.append(query.points.clone())
        iterates.append(rule.iterate(state).clone())
        grad = population.gradient(query)
        state = rule.update(state, grad, torch.zeros(query.batch.shape, dtype=grad.dtype), now)
    iterates.append(rule.iterate(state).clone())
    return queries, iterates, state


def close(found: Tensor, expected: Vector, scale: float) -> bool:
    return bool(np.abs(found.numpy() - expected).max() <= 1e-10 * scale)


@pytest.mark.parametrize("name", RULES)
@settings(max_examples=25)
@given(st.integers(0, 10**6), st.integers(1, 4), st.integers(1, 5), st.booleans())
def test_a_rule_is_its_algorithm_in_plain_loops(name: str, seed: int, K: int, P: int, groups: bool) -> None:
    """Every query and every iterate in float64, members with inner loops of different lengths under schedules.

    With `groups`, step sizes, momenta and weight decay differ from parameter to parameter, as in parameter groups.
    """
    steps = 31
    population = members(name, K, P, steps, seed, columns=P if groups else 1)
    queries, iterates, _ = trace(name, population, steps)
    for k in range(K):
        L = int(population.hyper["inner_steps"][k]) if "inner_steps" in population.hyper else 1
        samples = int(population.hyper["samples"][k]) if "samples" in population.hyper else 0
        period = queries_of(name, L, samples)

        def at(outer: int, k: int = k, period: int = period) -> dict[str, Vector]:
            now = scheduled(name, population, outer * period, steps)
            return {key: value[k].expand(P).numpy() for key, value in now.items()}

        def noise(t: int, k: int = k) -> Vector:
            key = random.key(population.seeds[k], random.NOISE, torch.tensor([t]))
            return random.normal(key, P, torch.float64).numpy()

        machine = LOOPS[name](population.x[k].numpy(), at, L, noise)
        point, deployed = next(machine)
        largest = 1.0
        for t in range(steps):
            largest = max(largest, np.abs(point).max(), np.abs(deployed).max())
            assert close(queries[t][k], point, largest) and close(iterates[t][k], deployed, largest)
            grads = [
                population.A[k].numpy() @ p + population.noise[b, k].numpy()
                for p, b in zip(np.atleast_2d(point), batches_of(name, t), strict=True)
            ]
            point, deployed = machine.send(np.stack(grads).reshape(point.shape))
        assert close(iterates[steps][k], deployed, max(largest, np.abs(deployed).max()))


@pytest.mark.parametrize("name", [name for name in RULES if {"inner_steps", "samples"} & set(RULES[name].space)])
def test_the_iterate_moves_at_the_end_of_an_outer_step_only(name: str) -> None:
    population = members(name, 3, 4, 30, seed=5)
    _, iterates, _ = trace(name, population, 30)
    period = RULES[name]().period(population.hyper)
    for t, k in itertools.product(range(1, 30), range(3)):
        moved = not torch.equal(iterates[t][k], iterates[t - 1][k])
        assert moved == (t % int(period[k]) == 0)


def released(x: Vector, at: Hypers, L: int, noise: Noise, restart: bool, outside: bool) -> Machine:
    """Entropy-SGD with the options of its released code."""
    v, v_x, t = 0 * x, 0 * x, 0
    for k in itertools.count():
        h = at(k)
        y, z = x.copy(), x.copy()
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
            t += 1
        d = x - z
        v_x = h["outer_momentum"] * v_x + d
        x = x - h["outer_lr"] * (d + h["outer_momentum"] * v_x)


@settings(max_examples=25)
@given(st.integers(0, 10**6), st.booleans(), st.booleans())
def test_the_options_of_entropy_sgd_are_those_of_its_released_code(seed: int, restart: bool, outside: bool) -> None:
    population = members("entropy-sgd", 2, 3, 31, seed)
    rule = EntropySGD(restart_momentum=restart, coupling_outside_momentum=outside)
    queries, iterates, _ = trace("entropy-sgd", population, 31, rule)
    for k in range(2):
        L = int(population.hyper["inner_steps"][k])

        def at(outer: int, k: int = k, L: int = L) -> dict[str, Vector]:
            now = scheduled("entropy-sgd", population, outer * L, 31)
            return {key: value[k].expand(3).numpy() for key, value in now.items()}

        def noise(t: int, k: int = k) -> Vector:
            key = random.key(population.seeds[k], random.NOISE, torch.tensor([t]))
            return random.normal(key, 3, torch.float64).numpy()

        machine = released(population.x[k].numpy(), at, L, noise, restart, outside)
        point, deployed = next(machine)
        largest = 1.0
        for t in range(31):
            largest = max(largest, np.abs(point).max(), np.abs(deployed).max())
            assert close(queries[t][k], point, largest) and close(iterates[t][k], deployed, largest)
            point, deployed = machine.send(population.A[k].numpy() @ point + population.noise[t, k].numpy())


@given(st.integers(0, 10**6), st.floats(1e-3, 0.1), st.floats(0, 0.99), st.floats(0.9, 0.9999), st.floats(0, 0.5))
@settings(max_examples=25)
def test_adamw_is_torch_optim_adamw(seed: int, lr: float, beta1: float, beta2: float, decay: float) -> None:
    population = members("adamw", 1, 4, 25, seed)
    now = tensors({"adam_lr": lr, "beta1": beta1, "beta2": beta2, "decoupled_decay": decay})
    parameter = torch.nn.Parameter(population.x[0].clone())
    optimizer = torch.optim.AdamW([parameter], lr=lr, betas=(beta1, beta2), weight_decay=decay)
    rule = RULES["adamw"]()
    state = rule.init(population.x, population.seeds)
    for t in range(25):
        point = rule.query(state, now).points
        assert torch.allclose(point[0], parameter.detach(), rtol=1e-9, atol=1e-9)
        parameter.grad = population.gradient(Query(parameter.detach()[None], torch.tensor([[t]])))[0]
        optimizer.step()
        state = rule.update(state, population.gradient(Query(point, torch.tensor([[t]]))), torch.zeros(1, 1), now)
    assert torch.allclose(rule.iterate(state)[0], parameter.detach(), rtol=1e-9, atol=1e-9)


# The form of a state, and members that never mix.


@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
def test_the_form_of_a_state(name: str, dtype: torch.dtype) -> None:
    population, rule = members(name, 3, 5, 20, seed=2, dtype=dtype), made(name, 5)
    x, seeds = population.x.clone(), population.seeds.clone()
    start = rule.init(population.x, population.seeds)
    _, _, end = trace(name, population, 20)
    assert {key: value.shape for key, value in start.items()} == {key: value.shape for key, value in end.items()}
    for key, value in end.items():
        assert value.shape in ((3, 5), (3, rule.replicas, 5), (3, 1)) and bool(torch.isfinite(value).all())
        assert value.dtype == (torch.int64 if key in ("t", "seed") else dtype)
    assert end["t"].tolist() == [[20]] * 3 and torch.equal(end["seed"], seeds)
    assert rule.iterate(end).shape == (3, 5) and torch.equal(rule.iterate(start), x)
    assert torch.equal(population.x, x) and torch.equal(population.seeds, seeds)  # the caller's own stay as they are
    places = [value.data_ptr() for value in start.values()] + [population.x.data_ptr(), population.seeds.data_ptr()]
    assert len(set(places)) == len(places)  # no two share memory: update writes in place
    held = sum(value.numel() for value in start.values() if value.shape[-1] == 5) / 15
    assert rule.copies >= rule.replicas + held  # the gradient as well


@pytest.mark.parametrize("name", RULES)
def test_a_query_changes_nothing_and_update_leaves_its_arguments_alone(name: str) -> None:
    population, rule = members(name, 3, 5, 12, seed=4), made(name, 5)
    state = rule.init(population.x, population.seeds)
    for t in range(12):
        now = scheduled(name, population, t, 12)
        before = {key: value.clone() for key, value in state.items()}
        query = rule.query(state, now)
        assert torch.equal(rule.query(state, now).points, query.points)
        assert all(torch.equal(state[key], value) for key, value in before.items())
        grad, loss = population.gradient(query), torch.full(query.batch.shape, 0.5, dtype=torch.float64)
        kept = {key: value.clone() for key, value in now.items()}
        kept_grad = grad.clone()
        state = rule.update(state, grad, loss, now)
        assert torch.equal(grad, kept_grad) and bool((loss == 0.5).all())
        assert all(torch.equal(now[key], value) for key, value in kept.items()) and set(now) == set(kept)


@pytest.mark.parametrize("name", RULES)
@settings(max_examples=10)
@given(st.integers(0, 10**6), st.permutations(range(5)))
def test_permuted_members_give_permuted_results(name: str, seed: int, order: list[int]) -> None:
    population = members(name, 5, 7, 20, seed, torch.float32)
    queries, iterates, state = trace(name, population, 20)
    others, other_iterates, other_state = trace(name, population.rows(order), 20)
    for t in range(20):
        assert torch.equal(queries[t][order], others[t]) and torch.equal(iterates[t + 1][order], other_iterates[t + 1])
    assert all(torch.equal(value[order], other_state[key]) for key, value in state.items())


@pytest.mark.parametrize("name", RULES)
@settings(max_examples=10)
@given(st.integers(0, 10**6), st.integers(1, 4))
def test_a_member_alone_is_what_it_is_among_others(name: str, seed: int, K: int) -> None:
    population = members(name, K, 7, 20, seed, torch.float32)
    _, iterates, state = trace(name, population, 20)
    for k in range(K):
        _, alone, alone_state = trace(name, population.rows([k]), 20)
        assert all(torch.equal(a[k], b[0]) for a, b in zip(iterates, alone, strict=True))
        assert all(torch.equal(value[k], alone_state[key][0]) for key, value in state.items())


@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize("poison", [math.nan, -math.inf])
def test_one_members_nan_stays_with_it(name: str, poison: float) -> None:
    """In its gradient, its start or any tensor of its state, at every phase of the inner loop."""
    K, sick, steps = 4, 2, 18
    population, rule = members(name, K, 6, steps, seed=8, dtype=torch.float32), made(name, 6)
    others = [k for k in range(K) if k != sick]

    def run(when: int, where: str) -> tuple[list[Tensor], list[Tensor], State]:
        x = population.x.clone()
        if where == "start":
            x[sick, 1] = poison
        state = rule.init(x, population.seeds)
        queries, iterates = [], []
        for t in range(steps):
            if t == when and where in state:
                state[where][sick, ..., 0] = poison
            now = scheduled(name, population, t, steps)
            query = rule.query(state, now)
            queries.append(query.points.clone())
            iterates.append(rule.iterate(state).clone())
            grad, loss = population.gradient(query), torch.zeros(query.batch.shape)
            if t == when and where == "gradient":
                grad[sick], loss[sick] = poison, poison
            state = rule.update(state, grad, loss, now)
        iterates.append(rule.iterate(state).clone())
        return queries, iterates, state

    healthy = trace(name, population, steps)
    floats = [key for key, value in healthy[2].items() if value.is_floating_point()]
    for where in ["start", "gradient", *floats]:
        for when in (0,) if where == "start" else (0, 3, 6, 11):
            queries, iterates, state = run(when, where)
            for a, b in ((queries, healthy[0]), (iterates, healthy[1])):
                assert all(torch.equal(p[others], q[others]) for p, q in zip(a, b, strict=True))
            assert all(torch.equal(value[others], healthy[2][key][others]) for key, value in state.items())
            if where == "gradient":
                assert not bool(torch.isfinite(iterates[-1][sick]).all())  # it is not hidden either


def test_a_neighbours_temperature_leaves_a_cold_member_cold_and_a_hot_one_hot() -> None:
    population = members("entropy-sgd", 2, 6, 20, seed=3, dtype=torch.float32)
    population.hyper["temperature"] = torch.tensor([[0.0], [0.5]])
    together, _, _ = trace("entropy-sgd", population, 20)
    for k in range(2):
        alone, _, _ = trace("entropy-sgd", population.rows([k]), 20)
        assert all(torch.equal(a[k], b[0]) for a, b in zip(together, alone, strict=True))


# SGD against PyTorch, and its average against a recomputation.


@pytest.mark.parametrize("nesterov", [True, False])
@settings(max_examples=20)
@given(st.integers(0, 10**6), st.floats(1e-3, 0.3), st.floats(0.01, 0.99), st.floats(0, 0.1))
def test_sgd_is_torch_optim_sgd(nesterov: bool, seed: int, lr: float, momentum: float, weight_decay: float) -> None:
    population = members("sgd", 1, 4, 25, seed)
    rule = RULES["sgd"](nesterov=nesterov)  # type: ignore[call-arg]
    now = tensors({"lr": lr, "momentum": momentum, "weight_decay": weight_decay})
    parameter = torch.nn.Parameter(population.x[0].clone())
    optimizer = torch.optim.SGD([parameter], lr=lr, momentum=momentum, weight_decay=weight_decay, nesterov=nesterov)
    state = rule.init(population.x, population.seeds)
    for t in range(25):
        point = rule.query(state, now).points
        assert torch.allclose(point[0], parameter.detach(), rtol=1e-12, atol=1e-12)
        parameter.grad = population.gradient(Query(parameter.detach()[None], torch.tensor([[t]])))[0]
        optimizer.step()
        state = rule.update(state, population.gradient(Query(point, torch.tensor([[t]]))), torch.zeros(1, 1), now)
    assert torch.allclose(rule.iterate(state)[0], parameter.detach(), rtol=1e-12, atol=1e-12)


@given(st.integers(0, 10**6), st.integers(5, 500))
@settings(max_examples=10)
def test_a_young_average_is_the_plain_mean(seed: int, ema_steps: int) -> None:
    population = members("sgd-ema", 2, 3, 40, seed)
    population.hyper["ema_steps"] = torch.full((2, 1), float(ema_steps), dtype=torch.float64)
    queries, iterates, _ = trace("sgd-ema", population, 40)
    for t in range(1, min(40, ema_steps + 1)):
        assert torch.allclose(iterates[t], torch.stack(queries[1 : t + 1]).mean(dim=0), rtol=1e-10, atol=1e-12)
    for t in range(ema_steps + 1, 40):  # then exponential, with the time that its name promises
        expected = iterates[t - 1] + (queries[t] - iterates[t - 1]) / ema_steps
        assert torch.allclose(iterates[t], expected, rtol=1e-10, atol=1e-12)


# T11: identities on a quadratic.


def tensors(values: dict[str, float], dtype: torch.dtype = torch.float64) -> dict[str, Tensor]:
    """Hyperparameters [1, 1], not scheduled."""
    return {key: torch.tensor([[value]], dtype=dtype) for key, value in values.items()}


PLAIN = {"momentum": 0.0, "outer_momentum": 0.0, "weight_decay": 0.0, "temperature": 0.0}


def quadratic(seed: int, P: int = 3, low: float = 0.1, high: float = 3.0) -> tuple[Vector, Vector]:
    """A random symmetric matrix with eigenvalues in [low, high], and a point."""
    rng = np.random.default_rng(seed)
    basis = np.linalg.qr(rng.normal(size=(P, P)))[0]
    return basis @ np.diag(rng.uniform(low, high, size=P)) @ basis.T, rng.normal(size=P)


def descend(
    rule: Rule, x: Vector, gradient: Callable[[int, Vector], Vector], hyper: dict[str, Tensor], steps: int
) -> tuple[list[Vector], State]:
    """One member; the points that it asked for and its last state."""
    state = rule.init(torch.tensor(x)[None], torch.zeros(1, 1, dtype=torch.int64))
    points = []
    for t in range(steps):
        points.append(rule.query(state, hyper).points[0].numpy().copy())
        state = rule.update(state, torch.tensor(gradient(t, points[-1]))[None], torch.zeros(1, 1), hyper)
    return points, state


RATES = st.floats(0.01, 0.3)
GAMMAS = st.floats(0.2, 100)


@settings(max_examples=40)
@given(st.integers(0, 10**6), RATES, GAMMAS, st.floats(0, 0.95), st.integers(1, 30), st.floats(0.05, 1))
@example(seed=0, rate=0.1, gamma=1.0, a=0.75, L=20, outer_lr=1.0)
def test_t11_the_inner_loop_in_closed_form(
    seed: int, rate: float, gamma: float, a: float, L: int, outer_lr: float
) -> None:
    """y_i = y* + B^i (x − y*) at every query, and x moves by η_x toward the z_L of the formula."""
    A, x = quadratic(seed)
    identity = np.eye(3)
    B = identity - rate * (A + identity / gamma)
    assume(np.abs(np.linalg.eigvalsh(B) - a).min() > 1e-3)  # the formula divides by a − B
    star = np.linalg.solve(identity + gamma * A, x)
    hyper = tensors({**PLAIN, "inner_lr": rate, "gamma": gamma, "averaging": a, "inner_steps": L, "outer_lr": outer_lr})
    points, state = descend(RULES["entropy-sgd"](), x, lambda t, y: A @ y, hyper, L)
    for i, point in enumerate(points):
        assert np.allclose(point, star + np.linalg.matrix_power(B, i) @ (x - star), rtol=1e-10, atol=1e-10)
    power = np.linalg.matrix_power(B, L)
    geometric = B @ (a**L * identity - power) @ np.linalg.inv(a * identity - B)
    z = star + a**L * (x - star) + (1 - a) * geometric @ (x - star)
    moved = RULES["entropy-sgd"]().iterate(state)[0].numpy()
    assert np.allclose(moved, x - outer_lr * (x - z), rtol=1e-9, atol=1e-10)
    # HJ takes the last inner iterate instead: y_L of the formula.
    del hyper["averaging"], hyper["temperature"]
    _, state = descend(RULES["hj"](), x, lambda t, y: A @ y, hyper, L)
    y = star + power @ (x - star)
    assert np.allclose(state["x"][0].numpy(), x - outer_lr * (x - y), rtol=1e-10, atol=1e-10)


@settings(max_examples=20)
@given(st.integers(0, 10**6), RATES, st.floats(1e-2, 1e6), st.floats(0, 0.95), st.floats(0.05, 1), st.floats(0, 0.01))
def test_t11_one_inner_step_is_sgd_whatever_gamma(
    seed: int, rate: float, gamma: float, a: float, outer_lr: float, weight_decay: float
) -> None:
    """With step size η_x (1 − a) η_y, for all of 30 stochastic gradients."""
    A, x = quadratic(seed)
    noise = np.random.default_rng(seed).normal(size=(30, 3))
    hyper = {**PLAIN, "weight_decay": weight_decay}
    relaxed = tensors(
        {**hyper, "inner_lr": rate, "gamma": gamma, "averaging": a, "inner_steps": 1, "outer_lr": outer_lr}
    )
    plain = tensors({"lr": outer_lr * (1 - a) * rate, "momentum": 0.0, "weight_decay": weight_decay})
    points, _ = descend(RULES["entropy-sgd"](), x, lambda t, y: A @ y + noise[t], relaxed, 30)
    expected, _ = descend(RULES["sgd"](), x, lambda t, y: A @ y + noise[t], plain, 30)
    assert np.allclose(points, expected, rtol=1e-10, atol=1e-11)


@pytest.mark.parametrize("name", ["entropy-sgd", "hj"])
@settings(max_examples=10)
@given(st.integers(0, 10**6), st.floats(0.2, 20))
def test_t11_a_long_inner_loop_is_the_prox_step(name: str, seed: int, gamma: float) -> None:
    """x ← (I + γA)^{-1}(x − γc), twice in a row, for f = ½ xᵀA x + cᵀx."""
    A, x = quadratic(seed, low=0.3)
    c, L = np.array([0.3, -1.0, 0.5]), 1200
    rate = 1 / (3 + 1 / gamma)
    hyper = tensors({**PLAIN, "inner_lr": rate, "gamma": gamma, "averaging": 0.0, "inner_steps": L, "outer_lr": 1.0})
    _, state = descend(RULES[name](), x, lambda t, y: A @ y + c, hyper, 2 * L)
    for _ in range(2):
        x = np.linalg.solve(np.eye(3) + gamma * A, x - gamma * c)
    assert np.allclose(state["x"][0].numpy(), x, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("name", ["entropy-sgd", "hj"])
@settings(max_examples=15)
@given(st.integers(0, 10**6), RATES, st.floats(0, 0.95), st.floats(0.05, 1), st.integers(1, 6), st.floats(0, 0.01))
def test_t11_without_coupling_it_is_lookahead_bit_for_bit(
    name: str, seed: int, rate: float, momentum: float, outer_lr: float, L: int, weight_decay: float
) -> None:
    A, x = quadratic(seed)
    noise = np.random.default_rng(seed).normal(size=(30, 3))
    shared = {"inner_lr": rate, "momentum": momentum, "weight_decay": weight_decay, "inner_steps": L}
    fast = tensors({**shared, "outer_lr": outer_lr})
    free = {**fast, **tensors({"gamma": math.inf, "averaging": 0.0, "outer_momentum": 0.0, "temperature": 0.0})}
    points, state = descend(RULES[name](), x, lambda t, y: A @ y + noise[t], free, 30)
    expected, expected_state = descend(RULES["lookahead"](), x, lambda t, y: A @ y + noise[t], fast, 30)
    assert np.array_equal(points, expected)
    assert torch.equal(state["x"], expected_state["x"]) and torch.equal(state["y"], expected_state["y"])


@settings(max_examples=15)
@given(st.integers(0, 10**6))
def test_hj_is_entropy_sgd_at_temperature_zero_without_averaging(seed: int) -> None:
    """Bit for bit, with momentum in both loops and a scheduled γ."""
    population = members("hj", 3, 4, 30, seed)
    queries, iterates, _ = trace("hj", population, 30)
    zero = torch.zeros(3, 1, dtype=torch.float64)
    relaxed = Members(
        {**population.hyper, "averaging": zero, "temperature": zero},
        population.seeds,
        population.x,
        population.A,
        population.noise,
    )
    others, other_iterates, _ = trace("entropy-sgd", relaxed, 30)
    assert all(torch.equal(a, b) for a, b in zip(queries + iterates, others + other_iterates, strict=True))


# HJ implicit.


@settings(max_examples=20)
@given(st.integers(0, 10**6), st.floats(0.05, 1.5), st.floats(0.5, 0.9), st.floats(0, 0.1))
def test_the_fixed_point_of_hj_implicit(seed: int, gamma: float, b: float, weight_decay: float) -> None:
    """p = (I + γA)^{-1}(Ax + c), the gradient of the Moreau envelope, with A + wd I for A."""
    A, x = quadratic(seed, high=1.0)
    assume(gamma * (1 + weight_decay) < 0.8 * (1 + b) / (1 - b))
    c, L = np.array([0.2, 0.4, -0.1]), 800
    hyper = tensors(
        {"lr": 0.3, "inner_steps": L, "momentum": 0, "averaging": b, "gamma": gamma, "weight_decay": weight_decay}
    )
    _, state = descend(RULES["hj-implicit"](), x, lambda t, y: A @ y + c, hyper, L + 1)
    decayed = A + weight_decay * np.eye(3)
    p = np.linalg.solve(np.eye(3) + gamma * decayed, decayed @ x + c)
    assert np.allclose(state["p"][0].numpy(), p, rtol=1e-10, atol=1e-11)
    assert np.allclose(state["x"][0].numpy(), x - 0.3 * p, rtol=1e-10, atol=1e-11)
    # It is the backward Euler step: p = ∇f(x − γp) + wd (x − γp).
    assert np.allclose(p, decayed @ (x - gamma * p) + c, rtol=1e-10, atol=1e-11)


@settings(max_examples=30)
@given(st.floats(0, 0.95), st.floats(0.02, 1.5), st.floats(0.1, 10), st.integers(1, 40))
def test_the_rate_of_hj_implicit(b: float, share: float, curvature: float, L: int) -> None:
    """Its error is multiplied by b − (1 − b) γλ a gradient: exactly, whether that contracts or not."""
    gamma = share * (1 + b) / (1 - b) / curvature
    hyper = tensors({"lr": 1, "inner_steps": L, "momentum": 0, "averaging": b, "gamma": gamma, "weight_decay": 0})
    _, state = descend(RULES["hj-implicit"](), np.ones(1), lambda t, y: curvature * y, hyper, L + 1)
    fixed = curvature / (1 + gamma * curvature)
    error = (curvature - fixed) * (b - (1 - b) * gamma * curvature) ** L
    scale = max(1.0, curvature) * max(1.0, abs(b - (1 - b) * gamma * curvature) ** L)
    assert float(state["p"]) - fixed == pytest.approx(error, rel=1e-6, abs=1e-10 * scale)


@pytest.mark.parametrize("b", [0.0, 0.5, 0.75, 0.9])
def test_hj_implicit_contracts_just_below_its_limit_and_not_just_above(b: float) -> None:
    limit = (1 + b) / (1 - b)
    errors = {}
    for share in (0.98, 1.02):
        for L in (200, 800):
            hyper = {"lr": 1.0, "inner_steps": L, "momentum": 0, "averaging": b, "weight_decay": 0}
            now = tensors({**hyper, "gamma": share * limit / 2.0})
            _, state = descend(RULES["hj-implicit"](), np.ones(1), lambda t, y: 2.0 * y, now, L + 1)
            errors[share, L] = abs(float(state["p"]) - 2 / (1 + share * limit))
    assert errors[0.98, 800] < 1e-2 * errors[0.98, 200]
    assert errors[1.02, 800] > 1e2 * errors[1.02, 200]


def test_hj_implicit_at_its_defaults_contracts_where_its_docstring_says() -> None:
    """γ = 1, b = 0.75: curvatures below 7."""
    values = defaults(RULES["hj-implicit"].space)
    b, gamma = float(values["averaging"]), float(values["gamma_start"])
    assert (1 + b) / (1 - b) / gamma == pytest.approx(7.0)


# HEAT.


@settings(max_examples=20)
@given(st.integers(0, 10**6), st.floats(0, 10), st.sampled_from([2, 6, 20]), st.floats(0, 0.9))
def test_heat_on_a_quadratic_is_sgd(seed: int, sigma: float, L: int, momentum: float) -> None:
    """Antithetic pairs cancel what is linear: the smoothed gradient is the gradient, however wide the Gaussian."""
    A, x = quadratic(seed)
    shared = {"lr": 0.1, "momentum": momentum, "weight_decay": 0.01}
    points, state = descend(
        RULES["heat"](), x, lambda t, y: A @ y + 0.5, tensors({**shared, "sigma": sigma, "inner_steps": L}), 5 * L
    )
    _, plain = descend(RULES["sgd"](), x, lambda t, y: A @ y + 0.5, tensors(shared), 5)
    assert np.allclose(state["x"].numpy(), plain["x"].numpy(), rtol=1e-11, atol=1e-12 * (1 + sigma))
    # The pairs are about x, and every pair has noise of its own.
    middle = (np.array(points[0:L:2]) + np.array(points[1:L:2])) / 2
    assert np.allclose(middle, x, rtol=1e-12, atol=1e-13 * (1 + sigma))
    if sigma > 1e-3:
        assert len({point[0] for point in points[:L]}) == L


def test_a_pair_of_heat_never_straddles_two_outer_steps() -> None:
    """An odd L, which a drop-in optimizer accepts, leaves its last query unpaired; the next step starts a new pair."""
    hyper = tensors({"lr": 0.0, "momentum": 0.0, "weight_decay": 0.0, "sigma": 0.5, "inner_steps": 3})
    points, _ = descend(RULES["heat"](), np.zeros(4), lambda t, y: y, hyper, 6)
    for first in (0, 3):
        assert np.array_equal(points[first], -points[first + 1])
    assert len({abs(point[0]) for point in points}) == 4  # two pairs and two without a partner


@pytest.mark.parametrize(("k", "sigma"), [(1.0, 0.7), (2.0, 0.5), (5.0, 0.1), (3.0, 0.8)])
def test_heat_damps_a_cosine_by_its_gaussian_factor(k: float, sigma: float) -> None:
    """T9: f = cos(kx) becomes exp(−k²σ²/2) cos(kx); the mean over 20,000 draws, within standard errors."""
    K, x0, rule = 4000, 0.4, RULES["heat"]()
    x = torch.full((K, 5), x0, dtype=torch.float64)
    hyper = tensors({"lr": 1.0, "momentum": 0.0, "weight_decay": 0.0, "sigma": sigma, "inner_steps": 4})
    hyper = {key: value.expand(K, 1) for key, value in hyper.items()}
    state = rule.init(x, torch.arange(K)[:, None])
    for _ in range(4):
        points = rule.query(state, hyper).points
        state = rule.update(state, -k * torch.sin(k * points), torch.zeros(K, 1), hyper)
    gradients = (x - state["x"]).numpy()
    expected = -k * math.exp(-(k**2) * sigma**2 / 2) * math.sin(k * x0)
    error = gradients.std() / gradients.size**0.5
    assert abs(gradients.mean() - expected) < 4 * error
    assert error < 0.02 * k  # sharp enough to tell the factor from 1


# The Langevin chain inside Entropy-SGD, at fixed x.


def langevin(
    curvature: float, gamma: float, rate: float, momentum: float, temperature: float, x: float, steps: int, K: int
) -> Vector:
    """The inner iterates y of K × 40 independent chains after some steps."""
    rule = RULES["entropy-sgd"]()
    values = {**PLAIN, "inner_lr": rate, "gamma": gamma, "momentum": momentum, "temperature": temperature}
    hyper = tensors({**values, "averaging": 0.75, "inner_steps": 10**9, "outer_lr": 1.0})
    hyper = {key: value.expand(K, 1) for key, value in hyper.items()}
    state = rule.init(torch.full((K, 40), x, dtype=torch.float64), torch.arange(K)[:, None])
    for _ in range(steps):
        state = rule.update(state, curvature * rule.query(state, hyper).points, torch.zeros(K, 1), hyper)
    assert bool((rule.iterate(state) == x).all())
    return state["y"].numpy().ravel()


def chain_variance(M: float, rate: float, momentum: float, noise: float, steps: int | None = None) -> float:
    """Var(y) of y' = y − η(M y + m v'), v' = m v + M y, with noise of that variance added to y.

    After some steps from a point, or, without a number of them, in the limit: the discrete Lyapunov equation.
    """
    m = momentum
    step, kick = np.array([[1 - rate * M * (1 + m), -rate * m * m], [M, m]]), np.diag([noise, 0.0])
    if steps is None:
        return float(linalg.solve_discrete_lyapunov(step, kick)[0, 0])
    covariance = 0 * kick
    for _ in range(steps):
        covariance = step @ covariance @ step.T + kick
    return float(covariance[0, 0])


@pytest.mark.parametrize(
    ("curvature", "gamma", "rate", "temperature"), [(1.0, 1.0, 0.2, 0.5), (3.0, 0.5, 0.3, 2.0), (-0.5, 1.0, 0.5, 1.0)]
)
def test_the_chain_without_momentum_has_exactly_its_discrete_variance(
    curvature: float, gamma: float, rate: float, temperature: float
) -> None:
    """y ← y − ηM(y − y*) + √(2ηT) ξ has variance T/(M(1 − ηM/2)), which the first n steps approach from 0."""
    M, n, x = curvature + 1 / gamma, 25, 0.7
    ratio = 1 - rate * M
    y = langevin(curvature, gamma, rate, 0.0, temperature, x, n, 800)
    star = x / (1 + gamma * curvature)
    variance = temperature / (M * (1 - rate * M / 2)) * (1 - ratio ** (2 * n))
    assert abs(y.mean() - star - ratio**n * (x - star)) < 4 * (variance / y.size) ** 0.5
    assert abs(y.var() / variance - 1) < 4 * (2 / y.size) ** 0.5
    kurtosis = ((y - y.mean()) ** 4).mean() / y.var() ** 2
    assert abs(kurtosis - 3) < 4 * (24 / y.size) ** 0.5  # Gaussian, as the target is


@pytest.mark.parametrize(("scaled", "steps", "hotter"), [(2.5e-3, 200, 1.211), (1e-2, 100, 1.795), (1e-1, 60, 5.924)])
def test_the_chain_with_momentum_has_the_variance_of_its_lyapunov_equation(
    scaled: float, steps: int, hotter: float
) -> None:
    """m = 0.9 at ηM = `scaled`: `hotter` times T/M in the limit of many steps, which is T/M for ηM ≪ (1 − m)² only."""
    curvature, gamma, T, m = 1.0, 1.0, 0.5, 0.9
    M = curvature + 1 / gamma
    rate = scaled / M
    noise = 2 * rate * T / (1 - m)
    variance = chain_variance(M, rate, m, noise, steps)
    y = langevin(curvature, gamma, rate, m, T, 0.0, steps, 200)
    assert abs(y.mean()) < 4 * (variance / y.size) ** 0.5
    assert abs(y.var() / variance - 1) < 4 * (2 / y.size) ** 0.5
    limit = chain_variance(M, rate, m, noise)
    assert variance == pytest.approx(limit, rel=0.01)
    assert limit == pytest.approx(hotter * T / M, rel=1e-3)


@pytest.mark.parametrize("m", [0.0, 0.5, 0.9, 0.95])
def test_the_temperature_is_the_effective_one_in_the_limit_of_small_steps(m: float) -> None:
    """With noise √(2ηT/(1 − m)) the variance tends to T/M, at first order in η; without the 1/(1 − m), to (1 − m) T/M.

    About the formula of the rule's docstring: the test above ties the rule itself to it.
    """
    M, T = 2.0, 0.5
    errors = [chain_variance(M, eta, m, 2 * eta * T / (1 - m)) * M / T - 1 for eta in (1e-5, 1e-6)]
    assert abs(errors[1]) < 1e-3 and errors[0] / errors[1] == pytest.approx(10, rel=0.05)
    assert chain_variance(M, 1e-6, m, 2e-6 * T) * M / T == pytest.approx(1 - m, rel=1e-3)


def test_noise_differs_between_members_steps_and_parameters() -> None:
    population = members("entropy-sgd", 3, 50, 2, seed=1)
    population.hyper["inner_steps"] = torch.full((3, 1), 10.0, dtype=torch.float64)
    rows = [0, 0, 0]
    same = population.rows(rows)
    same.seeds[:] = torch.tensor([[1], [2], [1]])
    queries, _, _ = trace("entropy-sgd", same, 2)
    assert torch.equal(queries[1][0], queries[1][2])  # the seed is all that a member's noise depends on
    assert not bool((queries[1][0] == queries[1][1]).any())
    assert queries[1][0].unique().numel() == 50


# The whole.


@pytest.mark.parametrize("name", RULES)
def test_every_rule_at_its_defaults_descends(name: str) -> None:
    """A bowl with noisy gradients, 400 of them: the deployed iterate ends near the minimum."""
    rule = RULES[name]()
    rng = torch.Generator().manual_seed(0)
    hyper = stack([defaults(rule.space)] * 3, CPU, torch.float64)
    x = torch.randn(3, 10, generator=rng, dtype=torch.float64)
    state = rule.init(x, torch.arange(3)[:, None])
    period = int(rule.period(hyper)[0])
    for t in range(400 // period * period):
        progress = torch.full((3, 1), t // period / (400 // period), dtype=torch.float64)
        now = rule.at(hyper, progress)
        points = rule.query(state, now).points
        grad = points + 0.1 * torch.randn(3, 10, generator=rng, dtype=torch.float64)
        state = rule.update(state, grad, torch.zeros(3, 1), now)
    assert float(rule.iterate(state).norm()) < 0.3 * float(x.norm())
