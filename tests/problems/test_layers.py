"""Dropout that can be drawn again, and the layers that a population cannot train."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from relaxbench.errors import UserError
from relaxbench.problems.layers import Conv2d, Dropout, adapt, drawing, initial
from relaxbench.problems.together import together


def mask(layer: Dropout, seed: int, step: int, shape: tuple[int, ...] = (64, 32)) -> Tensor:
    with drawing(torch.tensor(seed), torch.tensor(step)):
        return torch.as_tensor(layer(torch.ones(shape)) != 0)


def correlation(a: Tensor, b: Tensor) -> float:
    return float(torch.corrcoef(torch.stack([a.flatten().double(), b.flatten().double()]))[0, 1])


@given(st.floats(0.05, 0.95), st.integers(0, 2**63 - 1), st.integers(0, 10**9))
@settings(max_examples=25)
def test_a_share_p_is_dropped_and_the_rest_scaled(p: float, seed: int, step: int) -> None:
    x = torch.rand(100, 100) + 0.5
    with drawing(torch.tensor(seed), torch.tensor(step)):
        y = Dropout(p)(x)
    kept = y != 0
    assert torch.allclose(y[kept], (x / (1 - p))[kept])
    share = 1 - kept.double().mean().item()
    assert abs(share - p) < 5 * math.sqrt(p * (1 - p) / x.numel())


def test_a_mask_is_a_function_of_seed_step_and_layer() -> None:
    first, second = Dropout(0.5), Dropout(0.5)
    second.layer = 1
    base = mask(first, 1, 2)
    assert torch.equal(base, mask(first, 1, 2))
    for other in (mask(first, 2, 2), mask(first, 1, 3), mask(second, 1, 2), mask(first, 1 + 2**40, 2)):
        assert abs(correlation(base, other)) < 5 / math.sqrt(base.numel())


def test_a_layer_that_is_called_twice_in_a_forward_pass_draws_two_masks_and_replays_both() -> None:
    layer = Dropout(0.5)

    def both() -> tuple[Tensor, Tensor]:
        with drawing(torch.tensor(1), torch.tensor(2)):
            return layer(torch.ones(64, 64)) != 0, layer(torch.ones(64, 64)) != 0

    a, b = both()
    assert abs(correlation(a, b)) < 5 / 64
    assert all(torch.equal(x, y) for x, y in zip((a, b), both(), strict=True))


def test_under_vmap_every_member_draws_its_own_mask() -> None:
    layer, seeds, steps = Dropout(0.4), torch.tensor([5, 6, 2**62]), torch.tensor([1, 1, 9])

    def forward(x: Tensor, seed: Tensor, step: Tensor) -> Tensor:
        with drawing(seed, step):
            return torch.as_tensor(layer(x))

    x = torch.ones(3, 50, 40)
    together = torch.vmap(forward)(x, seeds, steps)
    for k in range(3):
        assert torch.equal(together[k], forward(x[k], seeds[k], steps[k]))
    assert abs(correlation(together[0], together[1])) < 5 / math.sqrt(2000)


def test_the_gradient_passes_where_the_mask_does() -> None:
    layer, x = Dropout(0.3), torch.rand(20, 20, requires_grad=True)
    with drawing(torch.tensor(1), torch.tensor(1)):
        y = layer(x)
    (grad,) = torch.autograd.grad(y.sum(), x)
    assert torch.equal(grad, torch.where(y != 0, torch.tensor(1 / 0.7), torch.tensor(0.0)))


def test_nan_passes_through_as_in_torch_s_dropout() -> None:
    x = torch.full((10, 10), math.nan)
    with drawing(torch.tensor(1), torch.tensor(1)):
        assert Dropout(0.5)(x).isnan().all() and nn.Dropout(0.5)(x).isnan().all()


def test_outside_a_run_and_in_evaluation_dropout_is_torch_s() -> None:
    layer, x = Dropout(0.5), torch.ones(1000)
    torch.manual_seed(0)
    ours = layer(x)
    torch.manual_seed(0)
    assert torch.equal(ours, nn.functional.dropout(x, 0.5))
    assert torch.equal(layer.eval()(x), x)
    assert torch.equal(Dropout(0.0)(x), x)
    assert "p=0.5" in repr(layer)


@pytest.mark.parametrize("p", [-0.1, 1.0, 1.5])
def test_impossible_probabilities_are_refused(p: float) -> None:
    with pytest.raises(ValueError, match="must lie in"):
        Dropout(p)


def test_adapt_replaces_dropout_everywhere_and_numbers_it() -> None:
    model = nn.Sequential(
        nn.Dropout(0.1), nn.Sequential(nn.Linear(4, 4), nn.Dropout(0.2)), nn.ModuleDict({"a": nn.Dropout(0.3)})
    )
    layers = [m for m in adapt(model).modules() if isinstance(m, Dropout)]
    assert [(layer.p, layer.layer) for layer in layers] == [(0.1, 0), (0.2, 1), (0.3, 2)]
    assert not any(isinstance(m, nn.Dropout) for m in model.modules())


def test_one_dropout_object_at_two_places_becomes_two_layers() -> None:
    shared = nn.Dropout(0.5)
    model = adapt(nn.Sequential(nn.Linear(4, 4), shared, nn.Linear(4, 4), shared))
    assert type(model[1]) is type(model[3]) is Dropout  # type: ignore[index]
    assert sorted(m.layer for m in model.modules() if isinstance(m, Dropout)) == [0, 1]


@pytest.mark.parametrize("layer", [nn.Dropout1d(0.2), nn.Dropout2d(0.2), nn.AlphaDropout(0.2)])
def test_other_dropout_is_refused_by_name(layer: nn.Module) -> None:
    with pytest.raises(UserError, match=rf"layer '1.0' \({type(layer).__name__}\).*relaxbench.problems.Dropout"):
        adapt(nn.Sequential(nn.Linear(2, 2), nn.Sequential(layer)))
    assert adapt(nn.Sequential(nn.Dropout2d(0.0)))  # which draws nothing


@pytest.mark.parametrize("layer", [nn.SyncBatchNorm(4), nn.InstanceNorm1d(4, track_running_stats=True)])
def test_running_statistics_are_refused_by_name(layer: nn.Module) -> None:
    with pytest.raises(UserError, match=rf"layer '1' \({type(layer).__name__}\) keeps running statistics"):
        adapt(nn.Sequential(nn.Linear(4, 4), layer))


@pytest.mark.parametrize(
    "options", [{}, {"stride": 2, "padding": 1}, {"dilation": 2, "padding": (2, 0), "bias": False}, {"stride": (1, 3)}]
)
def test_convolutions_of_several_members_are_those_of_each(options: dict[str, Any]) -> None:
    torch.manual_seed(0)
    plain = nn.Conv2d(3, 4, (3, 2), **options).double()
    x = torch.randn(5, 2, 3, 9, 8, dtype=torch.float64, requires_grad=True)
    expected = torch.stack([plain(part) for part in x])
    (slope,) = torch.autograd.grad(expected.sin().sum(), x)
    ours = adapt(nn.Sequential(plain))
    assert isinstance(ours[0], Conv2d)  # type: ignore[index]
    assert torch.equal(ours(x[0]), expected[0])
    with together():
        found = torch.vmap(ours)(x)
    assert torch.allclose(found, expected, atol=1e-12)
    assert torch.allclose(torch.autograd.grad(found.sin().sum(), x)[0], slope, atol=1e-12)


def test_convolutions_of_other_kinds_are_left_alone() -> None:
    kinds = (
        nn.Conv2d(4, 4, 3, groups=2),
        nn.Conv2d(4, 4, 3, padding="same"),
        nn.Conv2d(4, 4, 3, padding_mode="circular", padding=1),
    )
    assert all(type(layer) is nn.Conv2d for layer in adapt(nn.Sequential(*kinds)))


@pytest.mark.parametrize("affine", [True, False])
def test_batch_norm_is_that_of_pytorch_in_training(affine: bool) -> None:
    torch.manual_seed(0)
    plain = nn.Sequential(
        nn.Conv2d(2, 3, 2), nn.BatchNorm2d(3, affine=affine), nn.Flatten(), nn.BatchNorm1d(27)
    ).double()
    x = torch.randn(6, 2, 4, 4, dtype=torch.float64, requires_grad=True)
    expected = plain(x)
    (slope,) = torch.autograd.grad(expected.sin().sum(), x)
    names = [name for name, _ in plain.named_parameters()]
    ours = adapt(plain)
    assert [name for name, _ in ours.named_parameters()] == names
    found = ours(x)
    assert torch.allclose(found, expected, atol=1e-12)
    assert torch.allclose(torch.autograd.grad(found.sin().sum(), x)[0], slope, atol=1e-12)


def test_batch_norm_without_running_statistics_and_other_norms_are_accepted() -> None:
    """They stay the layers that they are, because they need no statistics of other mini-batches."""
    norms = [nn.BatchNorm1d(4, track_running_stats=False), nn.LayerNorm(4), nn.GroupNorm(2, 4)]
    model = nn.Sequential(*norms)
    assert adapt(model) is model
    assert all(ours is plain for ours, plain in zip(model, norms, strict=True))


def test_initial_weights_are_those_of_the_model_s_own_code() -> None:
    torch.manual_seed(11)
    expected = nn.Linear(5, 3)
    state = torch.get_rng_state()
    ours = initial(lambda: nn.Linear(5, 3), 11)
    assert isinstance(ours, nn.Linear) and torch.equal(ours.weight, expected.weight)
    assert torch.equal(torch.get_rng_state(), state)  # the caller's generator is left alone


@given(st.integers(0, 2**63 - 1), st.integers(0, 62))
@settings(max_examples=25)
def test_every_bit_of_the_seed_moves_the_initial_weights(seed: int, bit: int) -> None:
    a, b = (initial(lambda: nn.Linear(5, 3), s) for s in (seed, seed ^ 1 << bit))
    assert isinstance(a, nn.Linear) and isinstance(b, nn.Linear) and not torch.equal(a.weight, b.weight)


def test_a_model_function_must_give_a_module() -> None:
    with pytest.raises(UserError, match=r"returned int; expected a torch.nn.Module"):
        initial(lambda: 3, 0)
