"""Chains of linear layers: the numbers of PyTorch's layers, in any layout, alone and together."""

from __future__ import annotations

import copy
from typing import cast

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap

from relaxbench.problems import Dropout
from relaxbench.problems.chain import Chain, chained
from relaxbench.problems.layers import adapt
from relaxbench.problems.together import together

Values = dict[str, Tensor]


def mlp() -> nn.Sequential:
    torch.manual_seed(0)
    layers = (nn.Linear(5, 7), nn.Tanh(), nn.Linear(7, 20), nn.GELU(), nn.Linear(20, 3, bias=False))
    return nn.Sequential(*layers).double()


def members(model: nn.Module, count: int = 4) -> Values:
    generator = torch.Generator().manual_seed(1)
    shapes = {name: p.shape for name, p in model.named_parameters()}
    return {name: torch.randn(count, *s, generator=generator, dtype=torch.float64) for name, s in shapes.items()}


def test_values_and_two_derivatives_are_those_of_the_plain_layers() -> None:
    ours = adapt(nn.Sequential(mlp()))[0]  # type: ignore[index]
    assert type(ours) is Chain
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
    plain, ours = mlp(), adapt(nn.Sequential(mlp()))[0]  # type: ignore[index]
    x = torch.randn(6, 5, dtype=torch.float64)
    assert torch.equal(plain(x), ours(x))
    with together():
        assert torch.equal(ours(x[None]), plain(x[None]))  # more axes than [B, I]: as PyTorch does


def test_a_view_may_be_taken_of_what_leaves_a_chain_and_of_each_layer_by_itself() -> None:
    class Own(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = mlp()

        def forward(self, x: Tensor) -> Tensor:
            whole = self.net(x).view(-1)
            for layer in self.net:
                x = layer(x)
                assert x.view(-1).shape == (x.numel(),)
            return torch.stack([whole, x.view(-1)])

    own = adapt(Own())
    assert type(own.net) is Chain
    params, x = members(own), torch.randn(4, 6, 5, dtype=torch.float64)
    with together():
        whole, by_layer = vmap(lambda p, part: functional_call(own, p, (part,)))(params, x).unbind(1)
    torch.testing.assert_close(whole, by_layer)


def hooked(layer: nn.Module) -> nn.Module:
    layer.register_forward_hook(lambda *_: None)
    return layer


@pytest.mark.parametrize(
    ("layers", "runs"),
    [
        ([], ()),
        ([nn.Linear(2, 2)], ()),
        ([nn.Linear(2, 2), nn.Linear(2, 2)], ((0, 1),)),
        ([nn.ReLU(), nn.Linear(2, 2), nn.ReLU(), nn.Tanh(), nn.Linear(2, 2), nn.ReLU()], ((1, 4),)),
        ([nn.Linear(2, 2), nn.LayerNorm(2), nn.Linear(2, 2)], ()),
        ([nn.Linear(2, 2), Dropout(0.5), nn.Linear(2, 2), nn.ELU(), nn.Linear(2, 2)], ((2, 4),)),
        ([nn.Linear(2, 2), nn.Linear(2, 2), nn.Softmax(1), nn.Linear(2, 2), nn.Linear(2, 2)], ((0, 1), (3, 4))),
        ([nn.Linear(2, 2), hooked(nn.ReLU()), nn.Linear(2, 2)], ()),
        ([hooked(nn.Linear(2, 2)), nn.Linear(2, 2)], ()),
        ([torch.nn.utils.parametrizations.weight_norm(nn.Linear(2, 2)), nn.Linear(2, 2)], ()),
    ],
)
def test_a_run_has_plain_linear_and_elementwise_layers_alone(
    layers: list[nn.Module], runs: tuple[tuple[int, int], ...]
) -> None:
    assert chained(nn.Sequential(*layers)) == runs
    part = adapt(nn.Sequential(nn.Sequential(*layers)))[0]  # type: ignore[index]
    assert (type(part) is Chain) == bool(runs) and isinstance(part, nn.Sequential)


def test_a_class_of_one_s_own_a_slice_and_a_copy_do_what_they_say() -> None:
    class Mine(nn.Sequential):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x) + 1  # type: ignore[no-any-return, no-untyped-call]

    mine = adapt(nn.Sequential(Mine(*mlp())))[0]  # type: ignore[index]
    assert type(mine) is Mine
    chain = adapt(nn.Sequential(mlp()))[0]  # type: ignore[index]
    x = torch.randn(6, 5, dtype=torch.float64)
    with together():
        torch.testing.assert_close(chain[:3](x), mlp()[:3](x))
        torch.testing.assert_close(copy.deepcopy(chain)(x), mlp()(x))
