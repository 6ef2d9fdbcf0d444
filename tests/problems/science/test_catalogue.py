"""All scientific problems: their variants, and what populations make of them."""

from __future__ import annotations

import pytest
import torch

from relaxbench.errors import UserError
from relaxbench.optim.hyper import defaults
from relaxbench.optim.registry import RULES
from relaxbench.problems import problem
from relaxbench.problems.science.catalogue import SCIENCE
from relaxbench.problems.science.identification import Helmholtz
from relaxbench.training.compatibility import try_out
from relaxbench.training.devices import torch_device
from relaxbench.training.ensemble import Ensemble
from relaxbench.training.oracle import Oracle, Path
from relaxbench.training.population import Population
from relaxbench.training.trial import Job, Outcome


def test_every_problem_has_a_name_a_small_variant_and_float64() -> None:
    for name, make in SCIENCE.items():
        task = make()
        assert task.name == name and task.dtype == task.init(0).dtype == torch.float64
        assert name.endswith("-small") or SCIENCE[f"{name}-small"]().budget < task.budget
        assert len(task.init(0)) == task.size
    assert problem("pinn-poisson2d").size == 257 and problem("multigrid-prolongation").size == 2660
    assert problem("pinn-wave-small").size == 921


def trained(name: str, rule: str, seeds: list[int], size: int, path: Path, steps: int) -> dict[int, Outcome]:
    population, ended = Population(Oracle(problem(name), path), RULES[rule](), steps), list[Outcome]()
    jobs = [Job(seed, seed, {**defaults(RULES[rule].wide), "lr": 0.02, "inner_steps": 3}) for seed in seeds]
    population.run(lambda free: [jobs.pop(0) for _ in range(min(free, len(jobs)))], ended.extend, size)
    return {outcome.job.id: outcome for outcome in ended}


def test_a_trial_does_not_depend_on_its_slot_nor_on_the_number_of_members() -> None:
    name, rule = "pinn-poisson2d-small", "heat"
    together = trained(name, rule, [5, 2**62 + 1, 7, 8], 3, "direct", 12)
    for seed in (2**62 + 1, 8):
        alone = trained(name, rule, [seed], 1, "direct", 12)[seed]
        assert torch.equal(alone.weights, together[seed].weights) and alone.value == together[seed].value
        vectorized = trained(name, rule, [7, seed, 5], 3, "vectorized", 12)[seed]
        assert torch.allclose(vectorized.weights, alone.weights, rtol=1e-9, atol=1e-12)
    assert not torch.allclose(together[5].weights, together[7].weights)


@pytest.mark.parametrize(("name", "steps"), [("pinn-poisson2d-small", 12), ("multigrid-prolongation-small", 4)])
def test_a_few_steps_of_curveball_lower_the_loss_on_both_paths(name: str, steps: int) -> None:
    task, ends = problem(name), []
    start = torch.stack([task.init(seed) for seed in (1, 2)])
    paths: tuple[Path, ...] = ("direct", "vectorized")
    for path in paths:
        rule = RULES["curveball"]()
        members = Ensemble(Oracle(task, path), rule, start, [1, 2], steps, defaults(rule.wide))
        for _ in range(steps):
            members.step()
        ends.append(rule.iterate(members.state))
    before, after = (Oracle(task, "direct").measure(x, "validation").loss for x in (start, ends[0]))
    assert (after < before).all()
    assert torch.allclose(ends[0], ends[1], rtol=1e-6, atol=1e-8)


class Repeated(Helmholtz):
    terms_of_law = ("u_xx", "u_yy", "u", "u_xx")
    law = (1, 1, 1, 0)


class Lawless(Helmholtz):
    terms_of_law = ("u_x", "u_y", "u", "u·u")
    law = (1, 0, 0, 0)


class Wrong(Helmholtz):
    law = (1, 1, 0, 0, 0, 2, 0, 0, 0)


class Misspelled(Helmholtz):
    terms_of_law = ("u_yy", "u_xy", "u")
    law = (1, 1, 0)


class Short(Helmholtz):
    law = (1, 1)


@pytest.mark.parametrize(
    ("make", "message"), [(Misspelled, "the term 'u_xy' of its law is unknown"), (Short, "expected 9 numbers")]
)
def test_a_misspelled_law_is_refused_at_once(make: type[Helmholtz], message: str) -> None:
    with pytest.raises(UserError, match=message):
        make("spelled")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (Repeated, "terms u_xx, u_yy, u, u_xx are dependent on its solution beyond its law"),
        (Lawless, "no law of u_x, u_y, u, u·u holds for its solution"),
        (Wrong, "the stated law is not the one that holds"),
    ],
)
def test_a_dictionary_without_exactly_one_law_is_refused(make: type[Helmholtz], message: str) -> None:
    with pytest.raises(UserError, match=message):
        try_out(make("laws", small=True))


def test_a_device_without_float64_is_refused() -> None:
    with pytest.raises(UserError, match="device 'mps' is not supported"):
        torch_device("mps")
