"""Every rule against the published algorithm in plain loops; the form of its state; members that never mix."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from relaxbench.optim.hyper import defaults, stack
from relaxbench.optim.rule import State
from relaxbench.optim.rules.entropy_sgd import EntropySGD
from relaxbench.optim.rules.parle import Parle
from tests import splitmix
from tests.optim.loops import LOOPS, Vector, batches_of, parle_variant, queries_of, released
from tests.optim.populations import CPU, RULES, made, members, scheduled, schedules, trace


def test_every_rule_has_its_loop() -> None:
    assert set(LOOPS) == set(RULES)


def close(found: Tensor, expected: Vector, scale: float) -> bool:
    return bool(np.abs(found.numpy() - expected).max() <= 1e-10 * scale)


@pytest.mark.parametrize("name", RULES)
@settings(max_examples=12)
@given(st.integers(0, 10**6), st.integers(1, 4), st.integers(1, 5), st.booleans())
def test_a_rule_is_its_algorithm_in_plain_loops(name: str, seed: int, K: int, P: int, groups: bool) -> None:
    """Every query and every iterate in float64, members with inner loops of different lengths under schedules.

    With `groups`, step sizes, momenta and weight decay differ from parameter to parameter, as in parameter groups.
    """
    steps = 31
    population = members(name, K, P, steps, seed, columns=P if groups else 1)
    queries, iterates, _ = trace(name, population, steps)
    table = schedules(name, population, steps)
    for k in range(K):
        L = int(population.hyper["inner_steps"][k]) if "inner_steps" in population.hyper else 1
        samples = int(population.hyper["samples"][k]) if "samples" in population.hyper else 0
        period = queries_of(name, L, samples)

        expanded = {key: value[..., k, :].expand(*value.shape[:-2], P).numpy() for key, value in table.items()}

        def at(outer: int, table: dict[str, Vector] = expanded, period: int = period) -> dict[str, Vector]:
            return {key: value[outer * period] if value.ndim == 2 else value for key, value in table.items()}

        def noise(t: int, k: int = k) -> Vector:
            return splitmix.noise(int(population.seeds[k]), t, P)

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


@pytest.mark.parametrize("name", [name for name in RULES if {"inner_steps", "samples"} & set(RULES[name].wide)])
def test_the_iterate_moves_at_the_end_of_an_outer_step_only(name: str) -> None:
    population = members(name, 3, 4, 30, seed=5)
    _, iterates, _ = trace(name, population, 30)
    period = RULES[name]().period(population.hyper)
    for t, k in itertools.product(range(1, 30), range(3)):
        moved = not torch.equal(iterates[t][k], iterates[t - 1][k])
        assert moved == (t % int(period[k]) == 0)


@settings(max_examples=12)
@given(st.integers(0, 10**6), st.booleans(), st.booleans(), st.booleans())
def test_the_options_of_entropy_sgd_are_variants_of_its_loop(
    seed: int, restart: bool, outside: bool, uniform: bool
) -> None:
    population = members("entropy-sgd", 2, 3, 31, seed)
    rule = EntropySGD(restart, outside, uniform)
    queries, iterates, _ = trace("entropy-sgd", population, 31, rule)
    table = schedules("entropy-sgd", population, 31)
    for k in range(2):
        L = int(population.hyper["inner_steps"][k])

        def at(outer: int, k: int = k, L: int = L) -> dict[str, Vector]:
            now = scheduled(table, outer * L)
            return {key: value[k].expand(3).numpy() for key, value in now.items()}

        def noise(t: int, k: int = k) -> Vector:
            return splitmix.noise(int(population.seeds[k]), t, 3)

        machine = released(population.x[k].numpy(), at, L, noise, restart, outside, uniform)
        point, deployed = next(machine)
        largest = 1.0
        for t in range(31):
            largest = max(largest, np.abs(point).max(), np.abs(deployed).max())
            assert close(queries[t][k], point, largest) and close(iterates[t][k], deployed, largest)
            point, deployed = machine.send(population.A[k].numpy() @ point + population.noise[t, k].numpy())


@settings(max_examples=12)
@given(st.integers(0, 10**6), st.booleans(), st.booleans())
def test_the_options_of_parle_are_variants_of_its_loop(seed: int, restart: bool, mpi: bool) -> None:
    population = members("parle", 2, 3, 31, seed)
    queries, iterates, _ = trace("parle", population, 31, Parle(restart_average=restart, mpi_code=mpi))
    table = schedules("parle", population, 31)
    for k in range(2):
        L = int(population.hyper["inner_steps"][k])

        def at(outer: int, k: int = k, L: int = L) -> dict[str, Vector]:
            now = scheduled(table, outer * L)
            return {key: value[k].expand(3).numpy() for key, value in now.items()}

        machine = parle_variant(population.x[k].numpy(), at, L, restart, mpi)
        point, deployed = next(machine)
        largest = 1.0
        for t in range(31):
            largest = max(largest, np.abs(point).max(), np.abs(deployed).max())
            assert close(queries[t][k], point, largest) and close(iterates[t][k], deployed, largest)
            grads = [
                population.A[k].numpy() @ p + population.noise[b, k].numpy()
                for p, b in zip(point, batches_of("parle", t), strict=True)
            ]
            point, deployed = machine.send(np.stack(grads))


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
        assert value.shape in ((3, 5), (3, rule.replicas, 5), (3, 1), (3, getattr(rule, "checkpoints", 1), 5))
        assert bool(torch.isfinite(value).all())
        assert value.dtype == (torch.int64 if key in ("t", "seed") else dtype)
    assert end["t"].tolist() == [[20]] * 3 and torch.equal(end["seed"], seeds)
    assert rule.iterate(end).shape == (3, 5) and torch.equal(rule.iterate(start), x)
    assert torch.equal(population.x, x) and torch.equal(population.seeds, seeds)  # the caller's own stay as they are
    places = [value.data_ptr() for value in start.values()] + [population.x.data_ptr(), population.seeds.data_ptr()]
    assert len(set(places)) == len(places)  # no two share memory: update writes in place
    held = sum(value.numel() for value in start.values() if value.shape[-1] == 5) / 15
    assert rule.copies == rule.replicas + held  # a gradient for every replica as well


@pytest.mark.parametrize("name", RULES)
def test_a_query_changes_nothing_and_update_leaves_its_arguments_alone(name: str) -> None:
    population, rule = members(name, 3, 5, 12, seed=4), made(name, 5)
    state, table = rule.init(population.x, population.seeds), schedules(name, population, 12)
    for t in range(12):
        now = scheduled(table, t)
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
@settings(max_examples=6)
@given(st.integers(0, 10**6), st.permutations(range(5)))
def test_permuted_members_give_permuted_results(name: str, seed: int, order: list[int]) -> None:
    population = members(name, 5, 7, 20, seed, torch.float32)
    queries, iterates, state = trace(name, population, 20)
    others, other_iterates, other_state = trace(name, population.rows(order), 20)
    for t in range(20):
        assert torch.equal(queries[t][order], others[t]) and torch.equal(iterates[t + 1][order], other_iterates[t + 1])
    assert all(torch.equal(value[order], other_state[key]) for key, value in state.items())


@pytest.mark.parametrize("name", RULES)
@settings(max_examples=6)
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
    others, table = [k for k in range(K) if k != sick], schedules(name, population, steps)

    def run(when: int, where: str) -> tuple[list[Tensor], list[Tensor], State]:
        x = population.x.clone()
        if where == "start":
            x[sick, 1] = poison
        state = rule.init(x, population.seeds)
        queries, iterates = [], []
        for t in range(steps):
            if t == when and where in state:
                state[where][sick, ..., 0] = poison
            now = scheduled(table, t)
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


# The whole.


@pytest.mark.parametrize("name", RULES)
def test_every_rule_at_its_defaults_descends(name: str) -> None:
    """A bowl with noisy gradients, 400 of them: the deployed iterate ends near the minimum."""
    rule = RULES[name]()
    rng = torch.Generator().manual_seed(0)
    hyper = stack([defaults(rule.wide)] * 3, CPU, torch.float64)
    x = torch.randn(3, 10, generator=rng, dtype=torch.float64)
    state = rule.init(x, torch.arange(3)[:, None])
    period = int(rule.period(hyper)[0])
    steps = 400 // period * period
    table = rule.at(hyper, (torch.arange(steps)[:, None, None] // period).double() / (400 // period))
    for t in range(steps):
        now = scheduled(table, t)
        points = rule.query(state, now).points
        grad = points + 0.1 * torch.randn(3, 10, generator=rng, dtype=torch.float64)
        state = rule.update(state, grad, torch.zeros(3, 1), now)
    assert float(rule.iterate(state).norm()) < 0.3 * float(x.norm())
