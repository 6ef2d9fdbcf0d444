"""torch.distributed.checkpoint, which FSDP, torchtitan and Accelerate save with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from relaxbench.optim.drop_in.classes import DROP_INS
from tests.optim.drop_in.models import X, loop, new, vector

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore:.*TypedStorage", "ignore:.*torch.distributed")

dcp: Any
tools: Any


@pytest.fixture(scope="module", autouse=True)
def _imported() -> None:
    """Here, since every process that collects tests imports the module: it takes a second."""
    global dcp, tools
    import torch.distributed.checkpoint as dcp
    import torch.distributed.checkpoint.state_dict as tools


def trained(name: str, first: int, last: int, pair: Any) -> Any:
    model, optimizer = pair
    for k in range(first, last):
        loop(model, optimizer, 1, X + 0.1 * k)
    return model, optimizer


@pytest.mark.parametrize("name", DROP_INS)
def test_saving_takes_no_step_and_the_state_loads_in_mid_sweep(name: str) -> None:
    """Saved after 8 steps, within a sweep of three replicas and within an inner loop; loaded by names of parameters."""
    model, optimizer = trained(name, 0, 8, new(name))
    before = vector(model)
    optimizer.zero_grad()
    saved = tools.get_optimizer_state_dict(model, optimizer)
    assert torch.equal(vector(model), before) and set(saved["state"]) == {"0.weight", "0.bias", "2.weight", "2.bias"}
    other, resumed = new(name)
    other.load_state_dict(model.state_dict())
    tools.set_optimizer_state_dict(other, resumed, saved)
    trained(name, 8, 20, (model, optimizer))
    trained(name, 8, 20, (other, resumed))
    assert torch.equal(vector(model), vector(other))
    for each in (optimizer, resumed):
        each.eval()
    assert torch.equal(vector(model), vector(other))


def test_a_flattened_state_is_refused_with_what_to_do() -> None:
    model, optimizer = trained("adamw", 0, 3, new("adamw"))
    flat = tools.StateDictOptions(flatten_optimizer_state_dict=True)
    saved = tools.get_optimizer_state_dict(model, optimizer, options=flat)
    other, resumed = new("adamw")
    with pytest.raises(ValueError, match=r"loses it with flatten_optimizer_state_dict=True: give .* without that"):
        tools.set_optimizer_state_dict(other, resumed, saved, options=flat)


def test_files_written_within_a_sweep_load_into_a_new_optimizer(tmp_path: Path) -> None:
    made = {name: new(name) for name in ("adamw", "elastic-sgd", "parle")}
    for name, pair in made.items():
        trained(name, 0, 8, pair)
    dcp.save({name: pair[1].state_dict() for name, pair in made.items()}, checkpoint_id=tmp_path, no_dist=True)
    fresh = {name: new(name) for name in made}
    states = {name: pair[1].state_dict() for name, pair in fresh.items()}
    dcp.load(states, checkpoint_id=tmp_path, no_dist=True)
    for name, (model, optimizer) in fresh.items():
        optimizer.load_state_dict(states[name])
        trained(name, 8, 14, (model, optimizer))
        trained(name, 8, 14, made[name])
        assert torch.equal(vector(model), vector(made[name][0])), name


@pytest.mark.parametrize("name", ["adamw", "parle", "curveball"])
def test_a_state_saved_after_unfreezing_loads(name: str) -> None:
    def half(thawed: bool) -> Any:
        torch.manual_seed(0)
        model = torch.nn.Sequential(torch.nn.Linear(3, 5), torch.nn.Tanh(), torch.nn.Linear(5, 2))
        model[0].requires_grad_(False)
        given: Any = model if name == "curveball" else model.parameters()
        optimizer = DROP_INS[name](given, total_steps=200)
        model[0].requires_grad_(thawed)
        return model, optimizer

    model, optimizer = trained(name, 0, 5, half(False))
    model[0].requires_grad_(True)
    trained(name, 5, 11, (model, optimizer))
    other, resumed = half(True)
    other.load_state_dict(model.state_dict())
    resumed.load_state_dict(optimizer.state_dict())
    trained(name, 11, 16, (model, optimizer))
    trained(name, 11, 16, (other, resumed))
    assert torch.equal(vector(model), vector(other))
    with pytest.raises(ValueError, match=r"parameter 0 has .* \(expected no state\)"):
        half(False)[1].load_state_dict(optimizer.state_dict())
