"""What a watched forward pass tells of its activations, and what it leaves alone."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from relaxbench.problems.watched import activations_of


class Two(nn.Module):
    """Two layers, and what a forward pass may change."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(5, 7), nn.Linear(7, 3)
        self.calls, self.seen = 0, list[object]()
        self.register_buffer("total", torch.zeros(()))

    def forward(self, x: Tensor, scale: float = 2.0) -> Tensor:
        self.calls += 1
        self.seen.append(x)
        self.total += torch.rand(())
        return self.second(torch.relu(scale * self.first(x)))  # type: ignore[no-any-return]


def test_an_activation_is_followed_from_the_layer_that_gives_it_to_those_that_take_it() -> None:
    model = Two()
    given, hidden, output, _ = activations_of(model)
    assert given.weight is None and given.into == [model.first.weight] and given.only_linear
    assert hidden.weight is model.first.weight and hidden.into == [model.second.weight] and hidden.only_linear
    assert output.weight is model.second.weight and output.into == [] and not output.only_linear


def test_the_model_and_the_generator_are_left_as_they_are() -> None:
    model, before = Two(), torch.get_rng_state()
    activations_of(model)
    assert (model.calls, model.seen, float(model.total)) == (0, [], 0.0)  # type: ignore[arg-type]
    assert torch.equal(torch.get_rng_state(), before)


class Numbers(Two):
    def forward(self, x: Tensor, scale: float = 2.0) -> Tensor:
        return self.second(self.first(x)) if x.sum() > 0 else x


class Shapes(Two):
    def forward(self, x: Tensor, scale: float = 2.0) -> Tensor:
        rows, _ = x.shape
        return self.second(self.first(x)) / rows  # type: ignore[no-any-return]


class Text(Two):
    def forward(self, x: Tensor, scale: float = 2.0) -> Tensor:
        return torch.zeros(len(str(self.first(x))))


@pytest.mark.parametrize("kind", [Numbers, Shapes, Text])
def test_a_forward_pass_that_needs_numbers_or_hides_its_result_cannot_be_watched(kind: type[Two]) -> None:
    with pytest.raises((TypeError, ValueError)):
        activations_of(kind())
