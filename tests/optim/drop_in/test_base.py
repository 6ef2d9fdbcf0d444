"""The drop-in optimizers: the very rules of the population, in a plain training loop."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
import torch
from torch import nn

from relaxbench import optim
from relaxbench.optim.drop_in.classes import DROP_INS, EntropySGD, Parle
from relaxbench.optim.registry import RULES
from relaxbench.training.oracle import Oracle
from relaxbench.training.population import Population
from relaxbench.training.trial import Job, Outcome
from tests.optim.drop_in import models
from tests.optim.drop_in.models import GRADIENT, STEPS, TASK, X, fresh, loop, new, plain_loop, settings, vector


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


def test_every_rule_with_a_schedule_has_a_drop_in_class_that_is_exported() -> None:
    assert set(DROP_INS) == {name for name, rule in RULES.items() if not rule.finds_steps}
    assert {cls.__name__ for cls in DROP_INS.values()} == set(optim.__all__) - {"drop_in", "reestimate_batch_norm"}
    assert all(getattr(optim, cls.__name__) is cls for cls in DROP_INS.values())


def test_a_rule_that_compares_losses_is_refused_in_one_line() -> None:
    with pytest.raises(TypeError, match=r"'lbfgs': L-BFGS compares losses.*use torch\.optim\.LBFGS"):
        optim.drop_in("lbfgs")


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
    values = {key: value for key, value in values.items() if key in DROP_INS[name].rule_class.wide}
    model, optimizer = fresh(name, **values)
    torch.optim.lr_scheduler.LambdaLR(optimizer, lambda epoch: 0.0)
    plain_loop(model, optimizer, 0, 20)
    optimizer.eval()
    assert torch.equal(nn.utils.parameters_to_vector(model.parameters()), TASK.init(3))


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


@pytest.mark.parametrize("name", DROP_INS)
def test_weights_loaded_before_the_first_step_are_where_it_begins(name: str) -> None:
    model, optimizer = new(name)
    other = {key: value + 1.0 for key, value in model.state_dict().items()}
    model.load_state_dict(other)
    loop(model, optimizer, 3)
    twin, fresh = new(name)
    twin.load_state_dict(other)
    fresh = type(optimizer)(twin if name == "curveball" else twin.parameters(), total_steps=200)  # type: ignore[arg-type]
    loop(twin, fresh, 3)
    assert torch.equal(vector(model), vector(twin))


@pytest.mark.parametrize("name", DROP_INS)
def test_total_steps_are_calls_of_step_and_more_of_them_are_told_once(name: str) -> None:
    """At the end a cosine schedule has come down to zero: the last calls change next to nothing, later ones nothing."""
    given = {"schedule": "cosine"} if "schedule" in DROP_INS[name].rule_class.wide else {}
    model, optimizer = new(name, total_steps=75, **given)  # the longest outer step: Parle's
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        loop(model, optimizer, 75)
    with pytest.warns(UserWarning, match="more often than total_steps = 75") as told:
        loop(model, optimizer, 3)
    assert len(told) == 1 and told[0].filename == models.__file__  # the line that called step()


@pytest.mark.parametrize("name", GRADIENT)
def test_clipped_gradients_are_those_that_are_used(name: str) -> None:
    """Clipping works as always: between backward and step."""
    moved = []
    for scale in (1.0, 1000.0):
        torch.manual_seed(0)
        model = nn.Linear(3, 2)
        optimizer = DROP_INS[name](model.parameters(), total_steps=200)

        def closure(model: nn.Module = model, optimizer: Any = optimizer, scale: float = scale) -> float:
            optimizer.zero_grad()
            loss = scale * model(X).square().mean()
            torch.autograd.backward(loss)
            nn.utils.clip_grad_norm_(model.parameters(), 1e-3)
            return loss.item()

        for _ in range(20):
            optimizer.step(closure)
        moved.append(vector(model))
    assert torch.allclose(moved[0], moved[1], atol=1e-6)
