"""A rule without one of its parts: the plain loop in which that part does not stand, and the rule that is left."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch

from relaxbench.optim.hyper import OPTIONS, encode
from relaxbench.optim.parts import Part
from relaxbench.optim.rule import Rule
from relaxbench.optim.rules.parle import Parle
from tests import splitmix
from tests.optim.loops import LOOPS, Machine, Vector, batches_of, shapes
from tests.optim.populations import RULES, Members, members, scheduled, schedules, trace

STEPS, K, P = 37, 3, 4
PARTS = [(name, part) for name, rule in RULES.items() for part in rule.parts]
SAME_RULE = [(name, part) for name, part in PARTS if not part.rule]


def part_of(name: str, part: str) -> Part:
    (found,) = (each for each in RULES[name].parts if each.name == part)
    return found


def left_out(name: str, part: str | Part, seed: int = 0) -> Members:
    """A population without a part, in everything else that of the whole rule."""
    part = part if isinstance(part, Part) else part_of(name, part)
    population = members(name, K, P, STEPS, seed)
    for key, value in part.fixed.items():
        population.hyper[key] = torch.full((K, 1), encode(key, value), dtype=torch.float64)
    if part.half:
        population.hyper[part.half] = population.hyper[part.half] // 2
    return population


def play(
    machine: Machine, population: Members, k: int, batches: Callable[[int], list[int]]
) -> tuple[list[Vector], list[Vector]]:
    """The queries and the deployed iterates of one member of a plain loop."""
    point, deployed = next(machine)
    queries, iterates = [], []
    for t in range(STEPS):
        queries.append(point)
        iterates.append(deployed)
        grads = [
            population.A[k].numpy() @ p + population.noise[b, k].numpy()
            for p, b in zip(np.atleast_2d(point), batches(t), strict=True)
        ]
        point, deployed = machine.send(np.stack(grads).reshape(point.shape))
    return queries, [*iterates, deployed]


def compare(
    name: str,
    part: str,
    loop: str,
    change: Callable[[dict[str, Vector]], dict[str, Vector]] = dict,
    noise: bool = True,
    rule: Rule | None = None,
    copies: bool = False,
    usual: dict[str, float] | None = None,
) -> None:
    """A rule without a part is a plain loop at hyperparameters that say nothing of it, member by member, to 1e-10.

    Args:
        name: of the rule.
        part: that is left out.
        loop: of `tests.optim.loops`.
        change: of the scheduled hyperparameters that the loop gets; it leaves out those of the part.
        noise: whether the loop has noise.
        rule: with other options than usual.
        copies: whether every replica is a loop of its own, and the mean of all is deployed.
        usual: values as a study keeps them by default.
    """
    population = left_out(name, part)
    for key, value in (usual or {}).items():
        population.hyper[key] = torch.full((K, 1), value, dtype=torch.float64)
    queries, iterates, _ = trace(name, population, STEPS, rule)
    table, replicas = schedules(name, population, STEPS), len(batches_of(name, 0))
    for k in range(K):
        L = int(population.hyper["inner_steps"][k]) if "inner_steps" in population.hyper else 1

        def at(outer: int, k: int = k, L: int = L) -> dict[str, Vector]:
            now = scheduled(table, outer * L)
            return change({key: value[k].expand(P).numpy() for key, value in now.items()})

        def draw(t: int, k: int = k) -> Vector:
            return splitmix.noise(int(population.seeds[k]), t, P) if noise else np.zeros(P)

        if copies:
            x = population.x[k].numpy()
            played = [
                play(LOOPS[loop](x, at, L, draw), population, k, lambda t, i=i: [batches_of(name, t)[i]])  # type: ignore[misc]
                for i in range(replicas)
            ]
            expected = [np.stack(each) for each in zip(*(one for one, _ in played), strict=True)]
            deployed = [np.mean(each, axis=0) for each in zip(*(two for _, two in played), strict=True)]
        else:
            machine = LOOPS[loop](population.x[k].numpy(), at, L, draw)
            expected, deployed = play(machine, population, k, lambda t: batches_of(name, t))
        largest = max(1.0, *(np.abs(each).max() for each in expected))
        assert largest < 1e6
        for found, wanted in zip([*queries, *iterates], [*expected, *deployed], strict=True):
            assert np.abs(found[k].numpy() - wanted).max() <= 1e-10 * largest


def without(*names: str) -> Callable[[dict[str, Vector]], dict[str, Vector]]:
    return lambda now: {key: value for key, value in now.items() if key not in names}


def test_entropy_sgd_without_noise_draws_none() -> None:
    compare("entropy-sgd", "noise", "entropy-sgd", lambda now: now | {"temperature": np.ones(P)}, noise=False)


def test_sgld_without_noise_is_sgd_without_momentum() -> None:
    compare("sgld", "noise", "sgd", lambda now: now | {"momentum": np.zeros(P)})


def test_hamilton_jacobi_without_coupling_is_lookahead() -> None:
    population = left_out("hj", "coupling")
    population.hyper["outer_momentum"] = torch.zeros(K, 1, dtype=torch.float64)
    queries, iterates, _ = trace("hj", population, STEPS)
    alone = {name: value for name, value in population.hyper.items() if name in RULES["lookahead"].wide}
    twin = Members(alone, population.seeds, population.x, population.A, population.noise)
    others, theirs, _ = trace("lookahead", twin, STEPS)
    assert torch.allclose(torch.stack(queries), torch.stack(others), rtol=1e-10, atol=1e-12)
    assert torch.allclose(torch.stack(iterates), torch.stack(theirs), rtol=1e-10, atol=1e-12)


def test_elastic_sgd_without_coupling_is_independent_copies_of_sgd() -> None:
    mean = {"moving_rate": 1.0}  # puts x at the mean of the replicas
    compare("elastic-sgd", "coupling", "sgd", without("gamma"), copies=True, usual=mean)


def test_parle_without_attraction_is_independent_copies_of_entropy_sgd() -> None:
    cold = without("rho", "temperature")
    rule = Parle(restart_average=True)  # Entropy-SGD begins its average at x
    compare(
        "parle",
        "attraction",
        "entropy-sgd",
        lambda now: cold(now) | {"temperature": np.zeros(P)},
        rule=rule,
        copies=True,
    )


@pytest.mark.parametrize("name", ["entropy-sgd", "hj", "hj-implicit", "elastic-sgd"])
def test_a_scope_that_does_not_change_is_the_geometric_mean_of_its_ends(name: str) -> None:
    whole, part = members(name, K, P, STEPS, 0), left_out(name, "scoping")
    gamma = schedules(name, part, STEPS)["gamma"]
    ends = [whole.hyper[f"gamma_{end}"].numpy() for end in ("start", "end")]
    assert np.allclose(gamma.numpy(), np.sqrt(ends[0] * ends[1]), rtol=1e-12)
    progress = torch.linspace(0, 1, 2001, dtype=torch.float64)[:, None, None]
    whole.hyper["scoping"] = torch.full((K, 1), encode("scoping", "geometric"), dtype=torch.float64)
    curve = RULES[name]().at(whole.hyper, progress)["gamma"].numpy()
    assert np.allclose(np.exp(np.log(curve).mean(axis=0)), gamma[0].numpy(), rtol=1e-9)  # that of the published curve


def test_the_scopes_of_heat_and_parle_do_not_change_either() -> None:
    heat, parle = (left_out(name, "scoping") for name in ("heat", "parle"))
    sigma = schedules("heat", heat, STEPS)["sigma"].numpy()
    assert np.allclose(sigma, np.sqrt(heat.hyper["sigma_start"].numpy() * heat.hyper["sigma_end"].numpy()), rtol=1e-12)
    rho = schedules("parle", parle, STEPS)["rho"].numpy()
    assert np.allclose(rho, np.sqrt(parle.hyper["rho_start"].numpy() * parle.hyper["rho_end"].numpy()), rtol=1e-12)


def test_what_is_left_of_smoothing_is_the_mean_of_gradients_at_one_point() -> None:
    """HEAT and LPF-SGD without noise, and the implicit step with γ = 0, ask at x alone."""
    for name, part in (("heat", "noise"), ("lpf-sgd", "noise"), ("hj-implicit", "implicitness")):
        population = left_out(name, part)
        queries, iterates, _ = trace(name, population, STEPS)
        for query, iterate in zip(queries, iterates, strict=False):
            assert torch.allclose(query, iterate, rtol=1e-12, atol=1e-12)


def test_an_average_that_is_left_out_leaves_the_steps_as_they_are() -> None:
    for name in ("sgd-ema", "adamw-ema", "adamw-lawa"):
        other = part_of(name, "averaging").rule
        population = members(name, K, P, STEPS, 0)
        queries, _, _ = trace(name, population, STEPS)
        alone = {key: value for key, value in population.hyper.items() if key in RULES[other].wide}
        twin = Members(alone, population.seeds, population.x, population.A, population.noise)
        assert all(map(torch.equal, queries, trace(other, twin, STEPS)[0]))


@pytest.mark.parametrize(("name", "part"), SAME_RULE, ids=lambda value: value if isinstance(value, str) else value.name)
def test_every_part_does_something_and_what_is_left_trains(name: str, part: Part) -> None:
    whole = members(name, K, P, STEPS, 1)
    if "outer_momentum" in whole.hyper:
        whole.hyper["outer_momentum"] = torch.full((K, 1), 0.5, dtype=torch.float64)
    if "scoping" in whole.hyper:
        whole.hyper["scoping"] = torch.zeros(K, 1, dtype=torch.float64)
    small = left_out(name, part, 1)
    hyper = whole.hyper | {key: small.hyper[key] for key in (*part.fixed, *filter(None, [part.half]))}
    rule = RULES[name](**part.options)
    rule.bind(shapes(P))
    changed = Members(hyper, whole.seeds, whole.x, whole.A, whole.noise)
    before, after = trace(name, whole, STEPS)[1], trace(name, changed, STEPS, rule)[1]
    assert all(bool(torch.isfinite(each).all()) for each in after)
    assert any(not torch.equal(one, other) for one, other in zip(before, after, strict=True))


def test_the_names_of_parts_are_those_of_one_rule_each() -> None:
    for name, rule in RULES.items():
        names = [part.name for part in rule.parts]
        assert len(set(names)) == len(names), name
        for part in rule.parts:
            assert not part.rule or part.rule in RULES
            assert set(part.fixed) <= set((RULES[part.rule] if part.rule else rule).wide)
            assert not part.half or part.half in rule.wide
            for key, value in part.fixed.items():
                assert isinstance(value, str) == (key in OPTIONS) and (isinstance(value, str) or math.isfinite(value))
    assert not RULES["sgd"].parts and not RULES["adamw"].parts
