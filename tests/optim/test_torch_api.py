"""The drop-in optimizers: the very rules of the population, in a plain training loop."""

from __future__ import annotations

import io

import pytest
import torch
from torch import nn

from relaxbench.optim.hyper import Value, defaults
from relaxbench.optim.torch_api import DROP_INS, EntropySGD, RuleOptimizer
from relaxbench.problems.digits import digits_mlp
from relaxbench.training.population import Job, Outcome, Population

STEPS = 45
TASK = digits_mlp()


def plain_loop(model: nn.Module, optimizer: torch.optim.Optimizer, first: int, last: int) -> None:
    sampler = TASK.sampler([3], [first], last - first, torch.device("cpu"))
    for step in range(first, last):
        batch = sampler.batch(torch.tensor([[step]]))
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(batch["x"][0]), batch["y"][0]).backward()
        optimizer.step()


def fresh(name: str, **changes: Value) -> tuple[nn.Module, RuleOptimizer]:
    model = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))
    nn.utils.vector_to_parameters(TASK.init(3), model.parameters())
    return model, DROP_INS[name](model.parameters(), total_steps=STEPS, seed=3, **changes)


def settings(name: str) -> dict[str, Value]:
    values = defaults(DROP_INS[name].rule_class.space)
    return {**values, **({"inner_steps": 6} if "inner_steps" in values else {})}


@pytest.mark.parametrize("name", DROP_INS)
def test_drop_in_follows_the_population_at_k_1(name: str) -> None:
    params, outcomes = settings(name), list[Outcome]()
    queue = [Job(0, 3, params)]
    population = Population(TASK, DROP_INS[name].rule_class(), STEPS, "direct")
    population.run(lambda free: [queue.pop() for _ in queue[:free]], outcomes.extend, 1)
    model, optimizer = fresh(name, **params)
    plain_loop(model, optimizer, 0, outcomes[0].ledger.gradients)
    optimizer.eval()
    found = nn.utils.parameters_to_vector(model.parameters())
    assert torch.allclose(found, outcomes[0].weights, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", DROP_INS)
def test_state_dict_round_trip_in_mid_inner_loop(name: str) -> None:
    whole, steady = fresh(name, **settings(name))
    plain_loop(whole, steady, 0, 20)
    first, interrupted = fresh(name, **settings(name))
    plain_loop(first, interrupted, 0, 9)
    file = io.BytesIO()
    torch.save((first.state_dict(), interrupted.state_dict()), file)
    file.seek(0)
    weights, state = torch.load(file, weights_only=True)
    second, resumed = fresh(name, **settings(name))
    second.load_state_dict(weights)
    resumed.load_state_dict(state)
    plain_loop(second, resumed, 9, 20)
    for a, b in zip(whole.parameters(), second.parameters(), strict=True):
        assert torch.equal(a, b)


def test_eval_swaps_the_deployed_iterate_in_and_train_swaps_it_out() -> None:
    model, optimizer = fresh("entropy-sgd", **settings("entropy-sgd"))
    start = nn.utils.parameters_to_vector(model.parameters()).clone()
    plain_loop(model, optimizer, 0, 4)  # inside the first inner loop: x has not moved yet
    inner = nn.utils.parameters_to_vector(model.parameters()).clone()
    optimizer.eval()
    assert torch.equal(nn.utils.parameters_to_vector(model.parameters()), start)
    with pytest.raises(RuntimeError, match="evaluation mode"):
        optimizer.step()
    optimizer.train()
    assert torch.equal(nn.utils.parameters_to_vector(model.parameters()), inner)


def test_parameter_groups_have_their_own_step_sizes() -> None:
    model = nn.Linear(3, 2)
    groups = [{"params": [model.weight], "inner_lr": 0.0}, {"params": [model.bias]}]
    optimizer = EntropySGD(groups, total_steps=10, inner_steps=2, temperature=0.0, schedule="constant")
    before = model.weight.detach().clone(), model.bias.detach().clone()
    for _ in range(2):
        model(torch.ones(1, 3)).sum().backward()
        optimizer.step()
    assert torch.equal(model.weight, before[0]) and not torch.equal(model.bias, before[1])


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"inner_step": 5}, TypeError, "did you mean 'inner_steps'"),
        ({"momentum": -0.1}, ValueError, "momentum = -0.1"),
        ({"scoping": "quadratic"}, ValueError, "expected one of geometric, linear, cosine, constant"),
        ({"inner_steps": 2.5}, ValueError, "integer of at least 1"),
        ({"inner_steps": True}, ValueError, "integer of at least 1"),
        ({"momentum": 1.0}, ValueError, "momentum = 1.0: expected a number that is not negative, below 1"),
        ({"averaging": 1}, ValueError, "below 1"),
        ({"gamma_start": 0.0}, ValueError, "gamma_start = 0.0: expected a positive number"),
        ({"gamma_end": float("inf")}, ValueError, "finite"),
        ({"inner_lr": float("nan")}, ValueError, "inner_lr = nan"),
        ({"inner_lr": "0.1"}, ValueError, "inner_lr = '0.1'"),
    ],
)
def test_mistakes_are_named(arguments: dict[str, Value], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        EntropySGD(nn.Linear(2, 2).parameters(), total_steps=10, **arguments)


def test_structure_may_not_differ_between_groups() -> None:
    layer = nn.Linear(2, 2)
    groups = [{"params": [layer.weight], "inner_steps": 4}, {"params": [layer.bias], "inner_steps": 8}]
    with pytest.raises(ValueError, match="inner_steps differs between parameter groups"):
        EntropySGD(groups, total_steps=10)
