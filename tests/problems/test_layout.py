"""Where the channels of images lie in memory: last, unless a model's code does not allow it; results are the same."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from relaxbench.problems import Dropout
from relaxbench.problems.adapted import AdaptedModel

LAST: list[bool] = []
"""Of every batch with values that has passed `Seen`: whether its channels were last."""


class Seen(nn.Identity):
    """Looks where the channels are."""

    def forward(self, x: Tensor) -> Tensor:
        if x.device.type != "meta":
            LAST.append(x.is_contiguous(memory_format=torch.channels_last))
        return x


def network(channels: int = 3, ending: Callable[[], nn.Module] = nn.Flatten) -> nn.Sequential:
    first = [nn.Conv2d(channels, 4, 3), nn.ReLU(), nn.MaxPool2d(2), nn.BatchNorm2d(4)]
    return nn.Sequential(*first, nn.Conv2d(4, 5, 3, padding=1), Seen(), ending(), nn.Linear(180, 3))


class Viewed(nn.Module):
    """Images as rows by `view`, which needs channels first."""

    def __init__(self, mode: bool | None = None) -> None:
        super().__init__()
        self.mode = mode

    def forward(self, x: Tensor) -> Tensor:
        return x.view(len(x), -1) if self.mode in (None, self.training) else x.flatten(1)


def called(model: AdaptedModel, x: Tensor) -> tuple[Tensor, Tensor, bool]:
    """Outputs, the gradient of their squares, and whether the last images had their channels last."""
    params = {name: p.detach().requires_grad_() for name, p in model.module.named_parameters()}
    result = torch.as_tensor(model(params, x))
    found = torch.autograd.grad(result.square().sum(), [*params.values()])
    return result, torch.cat([part.flatten() for part in found]), LAST[-1]


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_channels_are_last_and_the_numbers_those_of_plain_pytorch(channels: int, dtype: torch.dtype) -> None:
    x = torch.randn(16, channels, 14, 14, generator=torch.Generator().manual_seed(0)).to(dtype)
    adapted = AdaptedModel(lambda: network(channels).to(dtype))
    adapted({name: p.detach() for name, p in adapted.module.named_parameters()}, x[:1])  # decides, by one example
    result, gradient, last = called(adapted, x)
    assert last
    with adapted.channels_first():
        assert not called(adapted, x)[2]
    assert called(adapted, x)[2]
    plain = adapted.original(0)
    expected = plain(x)
    expected.square().sum().backward()
    torch.testing.assert_close(result, expected, rtol=1e-4, atol=1e-5)
    whole = torch.cat([p.grad.flatten() for p in plain.parameters() if p.grad is not None])
    torch.testing.assert_close(gradient, whole, rtol=1e-3, atol=1e-4)


def test_images_that_are_given_as_rows_have_them_last_too() -> None:
    x = torch.randn(6, 3 * 14 * 14, generator=torch.Generator().manual_seed(0))
    adapted = AdaptedModel(lambda: nn.Sequential(nn.Unflatten(1, (3, 14, 14)), *network()))
    assert called(adapted, x)[2]


@pytest.mark.parametrize("mode", [None, True, False])
@pytest.mark.parametrize("training", [True, False])
def test_a_model_that_needs_channels_first_has_them_first_in_every_mode(mode: bool | None, training: bool) -> None:
    x = torch.randn(6, 3, 14, 14, generator=torch.Generator().manual_seed(0))
    adapted = AdaptedModel(lambda: network(ending=lambda: Viewed(mode)))
    adapted.train(training)
    _, _, last = called(adapted, x)
    assert not last and adapted.module.training == training
    adapted.train(not training)
    assert not called(adapted, x)[2]


def test_the_decision_draws_nothing() -> None:
    x = torch.randn(6, 3, 14, 14, generator=torch.Generator().manual_seed(0))
    model = network()
    model.insert(6, Dropout(0.5))
    model.insert(7, nn.Flatten())
    adapted = AdaptedModel(lambda: model)
    values = {name: p.detach() for name, p in adapted.module.named_parameters()}
    before = torch.get_rng_state()
    adapted.train(False)
    adapted(values, x)
    assert torch.equal(torch.get_rng_state(), before)


class Keeping(nn.Module):
    """Makes a grid at its first call and keeps it, and counts its calls."""

    grid: Tensor | None = None
    calls = 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        self.grid = torch.ones_like(x[:1]) if self.grid is None else self.grid
        return (x * self.grid).flatten(1)


def test_the_decision_leaves_no_trace_in_the_model_and_calls_no_hook() -> None:
    x = torch.randn(6, 3, 14, 14, generator=torch.Generator().manual_seed(0))
    adapted = AdaptedModel(lambda: network(ending=Keeping))
    seen: list[torch.device] = []
    adapted.module.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0].device))
    adapted.module.register_forward_hook(lambda module, inputs, outputs: seen.append(outputs.device))
    assert called(adapted, x)[2]
    keeping = next(part for part in adapted.module.modules() if isinstance(part, Keeping))
    assert (
        seen == [x.device] * 2 and keeping.calls == 1 and keeping.grid is not None and keeping.grid.device == x.device
    )


def test_parts_that_are_always_in_evaluation_mode_are_so_in_the_trial() -> None:
    model = network(ending=lambda: Viewed(mode=True))
    model[6].eval()
    x = torch.randn(6, 3, 14, 14, generator=torch.Generator().manual_seed(0))
    adapted = AdaptedModel(lambda: model)
    assert called(adapted, x)[2]
