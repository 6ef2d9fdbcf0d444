"""Chains of linear layers: the numbers of PyTorch's layers, in any layout, alone and together."""

from __future__ import annotations

import copy
from typing import cast

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap
from torch.nn import functional

from relaxbench.problems import Dropout
from relaxbench.problems.chain import ChainedLinear
from relaxbench.problems.layers import adapt
from relaxbench.problems.together import together

Values = dict[str, Tensor]


def inner(model: nn.Module) -> dict[str, bool]:
    """Chained layers, and whether what they give stays transposed."""
    return {name: part.inner for name, part in model.named_modules() if isinstance(part, ChainedLinear)}


def mlp() -> nn.Sequential:
    torch.manual_seed(0)
    layers = (nn.Linear(5, 7), nn.Tanh(), nn.Linear(7, 20), nn.GELU(), nn.Linear(20, 3, bias=False))
    return nn.Sequential(*layers).double()


def members(model: nn.Module, count: int = 4) -> Values:
    generator = torch.Generator().manual_seed(1)
    shapes = {name: p.shape for name, p in model.named_parameters()}
    return {name: torch.randn(count, *s, generator=generator, dtype=torch.float64) for name, s in shapes.items()}


def test_values_and_two_derivatives_are_those_of_the_plain_layers() -> None:
    ours = adapt(mlp())
    assert inner(ours) == {"0": True, "2": True, "4": False}
    params, x = members(ours), torch.randn(4, 6, 5, dtype=torch.float64)

    def derivatives(model: nn.Module) -> list[Values]:
        def value(p: Values, part: Tensor) -> Tensor:
            return cast(Tensor, functional_call(model, p, (part,))).square().sum()

        def slope(p: Values, part: Tensor) -> Tensor:
            return torch.stack([(p[name] * each).sum() for name, each in grad(value)(p, part).items()]).sum()

        return [{"value": vmap(value)(params, x)}, vmap(grad(value))(params, x), vmap(grad(slope))(params, x)]

    wanted = derivatives(mlp())
    with together():
        torch.testing.assert_close(derivatives(ours), wanted, rtol=1e-11, atol=1e-11)


def test_alone_it_is_pytorch_s_sequence_bit_for_bit() -> None:
    plain, ours = mlp(), adapt(mlp())
    x = torch.randn(6, 5, dtype=torch.float64)
    assert torch.equal(plain(x), ours(x))
    with together():
        assert torch.equal(ours(x[None]), plain(x[None]))  # more axes than [B, I]: as PyTorch does


def agree(model: nn.Module, original: nn.Module) -> None:
    """Whether members give what the model gives alone."""
    params, x = members(model), torch.randn(4, 6, 5, dtype=torch.float64)

    def outputs(of: nn.Module) -> Tensor:
        return vmap(lambda p, part: functional_call(of, p, (part,)), randomness="same")(params, x)

    wanted = outputs(original)
    with together():
        torch.testing.assert_close(outputs(model), wanted)


class Own(nn.Module):
    """Layers by name and functions, as most people write."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.second, self.third = nn.Linear(5, 7), nn.Linear(7, 7), nn.Linear(7, 3)
        self.norm = nn.LayerNorm(7)
        self.double()


class Functions(Own):
    def forward(self, x: Tensor) -> Tensor:
        x = functional.relu(self.first(x.view(x.size(0), -1)))
        return self.third((2 * self.second(x) - 1).tanh().sin() ** 2)  # type: ignore[no-any-return]


class Residual(Own):
    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        return self.third(self.norm(x + self.second(torch.sigmoid(x))))  # type: ignore[no-any-return]


class Twice(Own):
    def forward(self, x: Tensor) -> Tensor:
        x = self.second(self.second(self.first(x)).relu())
        return self.third(x.view(-1).view_as(x))  # type: ignore[no-any-return]


class Gated(Own):
    def forward(self, x: Tensor) -> Tensor:
        return self.third(self.second(torch.relu(h := self.first(x))) * torch.sigmoid(h))  # type: ignore[no-any-return]


class Several(Own):
    def forward(self, x: Tensor) -> Tensor:
        h = self.first(x)
        return {"heads": [self.third(h), self.second(h)], "h": h}["heads"][0].view(-1)  # type: ignore[return-value]


class Branching(Own):
    def forward(self, x: Tensor) -> Tensor:
        x = x if x.shape[0] > 1 else x.repeat(2, 1)
        return self.third(self.second(self.first(x)))  # type: ignore[no-any-return]


class Parts(Own):
    def __init__(self) -> None:
        super().__init__()
        self.net = mlp()

    def forward(self, x: Tensor) -> Tensor:
        assert x.shape[0] > 1  # nothing that is watched has a shape
        return self.net(x)  # type: ignore[no-any-return]


class Views(Parts):
    def forward(self, x: Tensor) -> Tensor:
        whole = self.net(x).view(-1)
        for layer in self.net:
            x = layer(x)
            assert x.view(-1) is not None
        return torch.stack([whole, x.view(-1)])


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        (Functions, {"first": True, "second": True, "third": False}),
        (Residual, {}),  # the sum asks for the first one's layout, too
        (Twice, {"first": True, "second": False}),  # once, a view is taken
        (Gated, {}),
        (Several, {"first": True, "second": False, "third": False}),
        (Branching, {}),
        (Parts, {"net.0": True, "net.2": True, "net.4": False}),
        (Views, {}),
    ],
)
def test_layers_are_chained_where_nothing_but_linear_ones_takes_what_they_give(
    kind: type[Own], expected: dict[str, bool]
) -> None:
    model = adapt(kind())
    assert inner(model) == expected
    agree(model, kind())


def hooked(layer: nn.Module) -> nn.Module:
    layer.register_forward_hook(lambda *_: None)
    return layer


@pytest.mark.parametrize(
    ("layers", "expected"),
    [
        ([nn.Identity()], {}),
        ([nn.Linear(2, 2)], {}),
        ([nn.Linear(2, 2), nn.Linear(2, 2)], {"0": True, "1": False}),
        ([nn.ReLU(), nn.Linear(2, 2), nn.ReLU(), nn.Tanh(), nn.Linear(2, 2), nn.ReLU()], {"1": True, "4": False}),
        ([nn.Linear(2, 2), nn.LayerNorm(2), nn.Linear(2, 2)], {}),
        ([nn.Linear(2, 2), Dropout(0.5), nn.Linear(2, 2)], {"0": True, "2": False}),
        (
            [nn.Linear(2, 2), nn.Linear(2, 2), nn.Softmax(1), nn.Linear(2, 2), nn.Linear(2, 2)],
            {"0": True, "1": False, "3": True, "4": False},
        ),
        ([nn.Linear(2, 2), hooked(nn.ReLU()), nn.Linear(2, 2)], {}),
        ([hooked(nn.Linear(2, 2)), nn.Linear(2, 2)], {}),
        ([torch.nn.utils.parametrizations.weight_norm(nn.Linear(2, 2)), nn.Linear(2, 2)], {}),
    ],
)
def test_only_plain_linear_and_elementwise_layers_follow_each_other(
    layers: list[nn.Module], expected: dict[str, bool]
) -> None:
    assert inner(adapt(nn.Sequential(*layers))) == expected


ELEMENTWISE = (
    *(nn.ReLU(), nn.ReLU(inplace=True), nn.ReLU6(), nn.LeakyReLU(), nn.ELU(), nn.SELU(), nn.CELU(), nn.GELU()),
    *(nn.SiLU(), nn.Mish(), nn.Hardtanh(), nn.Hardswish(), nn.Tanh(), nn.Sigmoid(), nn.Softplus(), nn.Softsign()),
    *(nn.Tanhshrink(), nn.Identity(), nn.Dropout(0.0)),
)


@pytest.mark.parametrize("layer", ELEMENTWISE, ids=str)
def test_pytorch_s_activations_keep_the_layout(layer: nn.Module) -> None:
    torch.manual_seed(0)
    model = adapt(nn.Sequential(nn.Linear(5, 7), layer, nn.Linear(7, 3)).double())
    seen: list[tuple[int, ...]] = []
    with together():
        model[1].register_forward_hook(lambda *given: seen.append(given[2].stride()))  # type: ignore[index]
        model(torch.randn(6, 5, dtype=torch.float64))
    assert seen == [(1, 6)]


def test_a_slice_and_a_copy_do_what_they_say() -> None:
    model = adapt(mlp())
    x = torch.randn(6, 5, dtype=torch.float64)
    with together():
        torch.testing.assert_close(model[:3](x), mlp()[:3](x))  # type: ignore[index]
        torch.testing.assert_close(copy.deepcopy(model)(x), mlp()(x))
