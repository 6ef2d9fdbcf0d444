"""The drop-in optimizers: the very rules of the population, in a plain training loop."""

from __future__ import annotations

import io

import pytest
import torch
from torch import Tensor, nn

from relaxbench import optim
from relaxbench.optim.drop_in.base import RuleOptimizer
from relaxbench.optim.drop_in.classes import DROP_INS, SAM, EntropySGD, Parle
from relaxbench.optim.hyper import defaults
from relaxbench.optim.registry import RULES
from relaxbench.problems.digits import digits_mlp
from relaxbench.space import Value
from relaxbench.training.oracle import Oracle
from relaxbench.training.population import Population
from relaxbench.training.trial import Job, Outcome

STEPS = 45
TASK = digits_mlp()


def plain_loop(model: nn.Module, optimizer: torch.optim.Optimizer, first: int, last: int) -> None:
    """One step a mini-batch, from number `first` to before `last`."""
    sampler = TASK.sampler([3], [first], last - first, torch.device("cpu"))
    for step in range(first, last):
        batch = sampler.batch(torch.tensor([[step]]))

        def closure(batch: dict[str, Tensor] = batch) -> float:
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(model(batch["x"][0]), batch["y"][0])
            loss.backward()
            return loss.item()

        if isinstance(optimizer, SAM):
            optimizer.step(closure)
        else:
            closure()
            optimizer.step()


def fresh(name: str, **changes: Value) -> tuple[nn.Module, RuleOptimizer]:
    model = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))
    nn.utils.vector_to_parameters(TASK.init(3), model.parameters())
    steps = STEPS // 2 if name == "sam" else STEPS  # calls of step(), two gradients each
    return model, DROP_INS[name](model.parameters(), total_steps=steps, seed=3, **changes)


def settings(name: str) -> dict[str, Value]:
    values = defaults(DROP_INS[name].rule_class.space)
    return {**values, **({"inner_steps": 6} if "inner_steps" in values else {})}


@pytest.mark.parametrize("name", [name for name in DROP_INS if name != "curveball"])
def test_drop_in_follows_the_population_at_k_1(name: str) -> None:
    params, outcomes = settings(name), list[Outcome]()
    queue = [Job(0, 3, params)]
    population = Population(Oracle(TASK, "direct"), DROP_INS[name].rule_class(), STEPS)
    population.run(lambda free: [queue.pop() for _ in queue[:free]], outcomes.extend, 1)
    model, optimizer = fresh(name, **params)
    plain_loop(model, optimizer, 0, outcomes[0].ledger.gradients // (optimizer.closures or 1))
    optimizer.eval()
    found = nn.utils.parameters_to_vector(model.parameters())
    assert torch.allclose(found, outcomes[0].weights, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", [name for name in DROP_INS if name != "curveball"])
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


def test_every_rule_has_a_drop_in_class_that_is_exported() -> None:
    assert set(DROP_INS) == set(RULES)
    assert {cls.__name__ for cls in DROP_INS.values()} == set(optim.__all__) - {"drop_in", "reestimate_batch_norm"}
    assert all(getattr(optim, cls.__name__) is cls for cls in DROP_INS.values())


def test_sam_without_a_closure_is_told_what_to_do() -> None:
    model = nn.Linear(2, 2)
    optimizer = SAM(model.parameters(), total_steps=10)
    model(torch.ones(1, 2)).sum().backward()
    with pytest.raises(TypeError, match=r"2 gradients of one mini-batch a step: call step\(closure\)"):
        optimizer.step()


def test_replicas_move_when_all_have_been_asked() -> None:
    """Three steps, each on a mini-batch of its own, are one update; the options of a rule are arguments too."""
    model, optimizer = fresh("parle", **settings("parle"))
    start = nn.utils.parameters_to_vector(model.parameters()).clone()
    for steps in (1, 2):
        plain_loop(model, optimizer, steps - 1, steps)
        assert torch.equal(nn.utils.parameters_to_vector(model.parameters()), start)  # where replicas 2 and 3 start
    plain_loop(model, optimizer, 2, 3)
    assert not torch.equal(nn.utils.parameters_to_vector(model.parameters()), start)
    assert optimizer.rule.replicas == 3
    assert Parle(nn.Linear(2, 2).parameters(), total_steps=200, replicas=5).rule.replicas == 5
    with pytest.raises(ValueError, match="replicas = 0: expected an integer of at least 1"):
        Parle(nn.Linear(2, 2).parameters(), total_steps=200, replicas=0)


@pytest.mark.parametrize("name", [name for name in DROP_INS if name != "curveball"])
def test_a_scheduler_of_pytorch_scales_the_step_size(name: str) -> None:
    """Annealed to zero from outside, a method stands still (an inner loop excepted: its outer step is zero)."""
    values = {**settings(name), **({"schedule": "constant"}), **({"anneal": "outer"} if name != "adamw" else {})}
    values = {key: value for key, value in values.items() if key in DROP_INS[name].rule_class.space}
    model, optimizer = fresh(name, **values)
    torch.optim.lr_scheduler.LambdaLR(optimizer, lambda epoch: 0.0)
    plain_loop(model, optimizer, 0, 20)
    optimizer.eval()
    assert torch.equal(nn.utils.parameters_to_vector(model.parameters()), TASK.init(3))


def test_a_state_of_another_method_is_refused_and_changes_nothing() -> None:
    _, sgd = fresh("sgd")
    model, optimizer = fresh("entropy-sgd", **settings("entropy-sgd"))
    before = nn.utils.parameters_to_vector(model.parameters()).clone()
    for state in (sgd.state_dict(), torch.optim.SGD(model.parameters(), lr=0.1).state_dict()):
        with pytest.raises(ValueError, match="is not one of EntropySGD with these parameters"):
            optimizer.load_state_dict(state)
    assert torch.equal(nn.utils.parameters_to_vector(model.parameters()), before)


def test_frozen_and_unused_parameters() -> None:
    frozen, unused, used = nn.Linear(2, 2).requires_grad_(False), nn.Linear(2, 2), nn.Linear(2, 2)
    model = nn.ModuleList([frozen, unused, used])
    before = [p.detach().clone() for p in model.parameters()]
    optimizer = EntropySGD(model.parameters(), total_steps=20, inner_steps=5, temperature=0.0, weight_decay=0.0)
    for _ in range(10):
        optimizer.zero_grad()
        used(torch.ones(1, 2)).square().sum().backward()
        optimizer.step()
    optimizer.eval()
    moved = [not torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True)]
    assert moved == [False] * 4 + [True] * 2


def test_complex_parameters_and_sparse_gradients_are_refused() -> None:
    with pytest.raises(TypeError, match=r"a parameter of shape \(2,\) is complex \(torch.complex64\)"):
        EntropySGD([nn.Parameter(torch.zeros(2, dtype=torch.complex64))], total_steps=10)
    table = nn.Embedding(4, 2, sparse=True)
    optimizer = EntropySGD(table.parameters(), total_steps=20)
    table(torch.tensor([1])).sum().backward()
    with pytest.raises(TypeError, match=r"of shape \(4, 2\) is sparse"):
        optimizer.step()


def test_a_scaler_that_skips_a_step_skips_it_for_the_machine() -> None:
    model = nn.Linear(2, 1)
    optimizer = EntropySGD(model.parameters(), total_steps=20, inner_steps=5, temperature=0.0)
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    plain = nn.Linear(2, 1)
    plain.load_state_dict(model.state_dict())
    twin = EntropySGD(plain.parameters(), total_steps=20, inner_steps=5, temperature=0.0)
    for step in range(8):
        x = torch.full((1, 2), float("inf") if step == 3 else 1.0)
        optimizer.zero_grad()
        scaler.scale(model(x).square().sum()).backward()
        scaler.step(optimizer)
        scaler.update()
        if step != 3:
            twin.zero_grad()
            plain(x).square().sum().backward()
            twin.step()
    for a, b in zip(model.parameters(), plain.parameters(), strict=True):
        assert torch.allclose(a, b, rtol=1e-6)


def test_structure_may_not_differ_between_groups() -> None:
    layer = nn.Linear(2, 2)
    groups = [{"params": [layer.weight], "inner_steps": 4}, {"params": [layer.bias], "inner_steps": 8}]
    with pytest.raises(ValueError, match="inner_steps differs between parameter groups"):
        EntropySGD(groups, total_steps=10)
