"""Running statistics against those of the whole data, and left-over modes."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from relaxbench.optim import EntropySGD, reestimate_batch_norm


def net(dropout: float = 0.0) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 6), nn.Dropout(dropout), nn.BatchNorm1d(6), nn.ReLU(), nn.Linear(6, 2))


def test_statistics_are_the_means_over_the_batches() -> None:
    model, batches = net(dropout=0.9), [torch.randn(50, 3) for _ in range(7)]
    model[2].running_mean.fill_(99.0)  # type: ignore[operator,union-attr]
    with torch.no_grad():
        hidden = [model[0](x) for x in batches]  # no dropout
    assert reestimate_batch_norm(model, batches) == 7
    assert torch.allclose(model[2].running_mean, torch.stack([h.mean(0) for h in hidden]).mean(0), atol=1e-6)  # type: ignore[arg-type]
    assert torch.allclose(model[2].running_var, torch.stack([h.var(0) for h in hidden]).mean(0), atol=1e-6)  # type: ignore[arg-type]


def test_modes_momentum_weights_and_gradients_are_left_as_they_were() -> None:
    model = net(0.5)
    model[1].eval()  # a frozen dropout in a model that trains
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    modes = [module.training for module in model.modules()]
    state = torch.get_rng_state()
    reestimate_batch_norm(model, [torch.randn(8, 3, generator=torch.Generator().manual_seed(1))])
    assert [module.training for module in model.modules()] == modes and model[2].momentum == 0.1
    assert torch.equal(state, torch.get_rng_state())  # no mask was drawn
    for name, p in model.named_parameters():
        assert torch.equal(p, before[name]) and p.grad is None
    with pytest.raises(RuntimeError):  # also where a batch fails
        reestimate_batch_norm(model, [torch.randn(8, 4)])
    assert [module.training for module in model.modules()] == modes and model[2].momentum == 0.1


def test_batches_may_be_pairs_or_whatever_the_model_is_called_with() -> None:
    model, x = net(), torch.randn(20, 3)
    reestimate_batch_norm(model, [(x, torch.zeros(20))])
    first = model[2].running_mean.clone()  # type: ignore[operator,union-attr]
    reestimate_batch_norm(model, [{"input": x}], forward=lambda batch: model(batch["input"]))
    assert torch.equal(model[2].running_mean, first)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="batches is empty"):
        reestimate_batch_norm(model, [])
    assert reestimate_batch_norm(nn.Linear(2, 2), []) == 0


def test_after_training_the_deployed_weights_get_their_own_statistics() -> None:
    """At the deployed weights the model in evaluation mode gives what it gives in training mode on one batch."""
    model, x, y = net(), torch.randn(200, 3), torch.arange(200) % 2
    optimizer = EntropySGD(
        model.parameters(), total_steps=40, inner_steps=8, inner_lr=0.5, outer_lr=1.0, gamma_end=10.0
    )

    def loss() -> Tensor:
        return nn.functional.cross_entropy(model(x), y)

    for _ in range(12):  # in the middle of an inner loop
        optimizer.zero_grad()
        torch.autograd.backward(loss())
        optimizer.step()
    with optimizer.deployed(), torch.no_grad():
        wanted = loss()
        model.eval()
        stale = loss()
        reestimate_batch_norm(model, [x])
        fresh = loss()
        model.train()
    assert abs(fresh - wanted) < 0.1 * abs(stale - wanted)
