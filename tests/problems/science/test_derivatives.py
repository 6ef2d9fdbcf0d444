"""Derivatives that are carried forward, against nested automatic differentiation."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from relaxbench.errors import UserError
from relaxbench.problems.science.derivatives import BELL, QUARTER, QUARTER_SQUARE, RELU, SINE, TANH, Activation, Jet
from relaxbench.problems.science.networks import Dense
from tests.problems.science.nested import derivatives

DIRECTIONS = [[1.0, 0.0], [0.3, -2.0], [1.0, 1.0]]
POINTS = torch.rand(7, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(1)) * 2 - 1


def params_of(network: Dense) -> dict[str, Tensor]:
    flat = network.init(3) + 0.1 * torch.sin(torch.arange(len(network.init(3)), dtype=torch.float64))
    parts = flat.split_with_sizes([shape.numel() for _, shape in network.layout()])
    return {name: part.view(shape) for (name, shape), part in zip(network.layout(), parts, strict=True)}


@pytest.mark.parametrize("sizes", [(2, 1), (2, 5, 1), (2, 6, 4, 5, 1)])
@pytest.mark.parametrize("activation", [TANH, SINE, QUARTER_SQUARE, BELL, QUARTER], ids=lambda a: a.name)
def test_first_and_second_derivatives_are_those_of_nested_differentiation(
    activation: Activation, sizes: tuple[int, ...]
) -> None:
    network = Dense(sizes, activation)
    params, along = params_of(network), torch.tensor(DIRECTIONS, dtype=torch.float64)
    jet = network(params, Jet.at(POINTS, DIRECTIONS))
    value, slope, bend = derivatives(lambda x: network(params, Jet(x)).value, POINTS)
    first, second = torch.einsum("ni,di->dn", slope, along), torch.einsum("nij,di,dj->dn", bend, along, along)
    assert jet.first is not None
    zero = torch.zeros(3, 7, 1, dtype=torch.float64)
    carried = zero if jet.second is None else jet.second
    for own, exact in ((jet.value[None], value[None]), (jet.first.expand(3, 7, 1), first), (carried, second)):
        assert torch.allclose(own[..., 0], exact, rtol=1e-12, atol=1e-12 * float(1 + exact.abs().max()))
    weights = (0.5, -4.0, 2.0)
    total = network(params, Jet.at(POINTS, DIRECTIONS, total=weights))
    expected = torch.einsum("d,dn->n", torch.tensor(weights, dtype=torch.float64), second)
    collapsed = torch.zeros(1, 7, 1, dtype=torch.float64) if total.second is None else total.second
    assert torch.allclose(collapsed[0, :, 0], expected, rtol=1e-12, atol=1e-12 * float(1 + expected.abs().max()))
    only = network(params, Jet.at(POINTS, DIRECTIONS, order=1))
    assert only.second is None and only.first is not None
    assert torch.allclose(only.first, jet.first, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("total", [None, (1.0, 2.0, -1.0)])
def test_sums_products_and_columns_have_the_rules_of_calculus(total: tuple[float, ...] | None) -> None:
    first, second = Dense((2, 4, 3)), Dense((2, 3, 3), SINE)
    one, other = params_of(first), params_of(second)

    def combined(at: Jet) -> Jet:
        a, b = first(one, at), second(other, at)
        square = a.columns(0, 2) * b.columns(1, 3)
        wide = Jet.beside([square, a.columns(2, 3)]) + b
        return (wide + a.columns(0, 1).padded(2)) * at.columns(0, 1)

    jet = combined(Jet.at(POINTS, DIRECTIONS, total=total))
    along = torch.tensor(DIRECTIONS, dtype=torch.float64)
    for column in range(3):
        value, slope, bend = derivatives(lambda x, c=column: combined(Jet(x)).value[:, c], POINTS)  # type: ignore[misc]
        each = torch.einsum("nij,di,dj->dn", bend, along, along)
        exact = each if total is None else torch.einsum("d,dn->n", torch.tensor(total, dtype=torch.float64), each)[None]
        assert jet.first is not None and jet.second is not None
        assert torch.allclose(jet.value[:, column], value, rtol=1e-12)
        assert torch.allclose(jet.first[..., column], torch.einsum("ni,di->dn", slope, along), rtol=1e-11, atol=1e-12)
        assert torch.allclose(jet.second[..., column], exact, rtol=1e-11, atol=1e-12)


def test_a_network_of_rectifiers_is_refused_where_second_derivatives_are_needed() -> None:
    network = Dense((2, 4, 1), RELU)
    params = params_of(network)
    with pytest.raises(UserError, match=r"'relu' has the second derivative 0.*take tanh, sin"):
        network(params, Jet.at(POINTS, DIRECTIONS))
    slope = network(params, Jet.at(POINTS, DIRECTIONS, order=1)).first
    _, exact, _ = derivatives(lambda x: network(params, Jet(x)).value, POINTS)
    assert slope is not None and torch.allclose(slope[0, :, 0], exact[:, 0], rtol=1e-12)
