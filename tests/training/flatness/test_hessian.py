"""Products with the Hessian: against differences of gradients and curvlinops; their cost; and layers that have none."""

from __future__ import annotations

import itertools
import warnings
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from relaxbench.problems import SupervisedProblem
from relaxbench.problems.losses import Batch
from relaxbench.training.flatness.hessian import Hessian
from relaxbench.training.flatness.measure import FlatnessError, flatness, passes
from tests.training.flatness.networks import images, network, supervised


class Attentive(nn.Module):
    """A layer of attention, which PyTorch computes with a fused kernel."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.projection = nn.Embedding(7, 8), nn.Linear(8, 24)
        self.head = nn.Linear(8, 7)

    def forward(self, tokens: Tensor) -> Tensor:
        parts = self.projection(self.embedding(tokens)).unflatten(-1, (3, 2, 4)).permute(2, 0, 3, 1, 4)
        mixed = nn.functional.scaled_dot_product_attention(*parts, is_causal=True)
        return self.head(mixed.transpose(1, 2).flatten(2)[:, -1])


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.lstm, self.head = nn.Embedding(7, 5), nn.LSTM(5, 6, batch_first=True), nn.Linear(6, 7)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.head(self.lstm(self.embedding(tokens))[0][:, -1])


def sequences() -> dict[str, tuple[Tensor, Tensor]]:
    tokens = torch.randint(7, (90, 9), generator=torch.Generator().manual_seed(3))
    parts = {"train": slice(0, 40), "validation": slice(40, 60), "test": slice(60, 90)}
    return {name: (tokens[rows, :8], tokens[rows, 8]) for name, rows in parts.items()}


@pytest.mark.parametrize("model", [Attentive, Recurrent])
def test_kernels_without_a_second_derivative_are_avoided(model: type[nn.Module]) -> None:
    """Against differences of gradients in float64."""
    task = SupervisedProblem("sequences", model, sequences, batch_size=8)
    x = task.init(1)
    direction = torch.randn(task.size, generator=torch.Generator().manual_seed(4))
    plain, (tokens, labels) = model().double().eval(), task.tensors["train"]

    def gradient(point: Tensor) -> Tensor:
        nn.utils.vector_to_parameters(point, plain.parameters())
        loss = nn.functional.cross_entropy(plain(tokens), labels)
        return nn.utils.parameters_to_vector(torch.autograd.grad(loss, list(plain.parameters())))

    step = 1e-4 * direction.double()
    expected = (gradient(x.double() + step) - gradient(x.double() - step)) / 2e-4
    product = (Hessian(task, x) @ direction[:, None])[:, 0]
    assert torch.allclose(product.double(), expected, rtol=1e-3, atol=1e-4 * float(expected.abs().max()))


class Cube(torch.autograd.Function):
    """x³, whose backward pass can be differentiated."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x**3

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return grads[0] * 3 * x**2


class Detached(Cube):
    """The same with a backward pass whose derivative is silently incomplete, though symmetric."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.x = x.detach()
        return x**3

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        return grads[0] * 3 * ctx.x**2


class Without(Cube):
    """The same with a backward pass that records nothing."""

    @staticmethod
    @torch.no_grad()
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        return Cube.backward(ctx, *grads)


class Cubic(nn.Module):
    def __init__(self, function: type[torch.autograd.Function]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function.apply(x)


def cubic(hidden: int, function: type[torch.autograd.Function] | None) -> SupervisedProblem:
    """A network with a cube of its own, or with that of PyTorch."""

    def network() -> nn.Module:
        cube = Power() if function is None else Cubic(function)
        return nn.Sequential(nn.Flatten(), nn.Linear(36, hidden), nn.Tanh(), cube, nn.Linear(hidden, 3))

    return SupervisedProblem("cubic", network, lambda: images(40), batch_size=8)


class Power(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x**3


@pytest.mark.parametrize("hidden", [4, 30])
def test_functions_of_ones_own_are_differentiated_twice_or_refused(hidden: int) -> None:
    plain, own = cubic(hidden, None), cubic(hidden, Cube)
    x = plain.init(3) * 2
    expected = flatness(plain, x, 1)
    found = flatness(own, x, 1)
    assert found.top == pytest.approx(expected.top, rel=1e-4)
    assert found.passes == expected.passes + 40 * (2 * 3 + 6)  # two gradients and a product, which are compared
    for wrong in (Detached, Without):
        with pytest.raises(FlatnessError, match=f"the backward pass of {wrong.__name__} has a wrong derivative"):
            flatness(cubic(hidden, wrong), x, 1)


@pytest.mark.parametrize("hidden", [4, 60])
def test_a_wrong_second_derivative_of_pytorch_is_refused(hidden: int) -> None:
    """Its fused kernel of weight_norm has one."""

    def network() -> nn.Module:
        first = nn.utils.parametrizations.weight_norm(nn.Linear(36, hidden))
        return nn.Sequential(nn.Flatten(), first, nn.Tanh(), nn.Linear(hidden, 3))

    task = SupervisedProblem("normed", network, lambda: images(40), batch_size=8)
    with pytest.raises(FlatnessError, match="the Hessian is not symmetric"):
        flatness(task, task.init(0), 1)


def test_products_are_those_of_curvlinops() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from curvlinops import HessianLinearOperator

        task = supervised(False, hidden=20)
        x, (inputs, labels) = task.init(2), task.tensors["train"]
        plain = network(False, 20).eval()
        nn.utils.vector_to_parameters(x, plain.parameters())
        operator = HessianLinearOperator(plain, nn.CrossEntropyLoss(), list(plain.parameters()), [(inputs, labels)])
        vectors = torch.randn(task.size, 3, generator=torch.Generator().manual_seed(5))
        expected = operator @ vectors
    assert torch.allclose(Hessian(task, x) @ vectors, expected, rtol=1e-4, atol=1e-6)


def test_examples_in_pieces_give_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """Large networks go through their examples in pieces, the last of which is smaller."""
    task = supervised(True, hidden=20)
    x = task.init(0)
    whole = flatness(task, x, 1)
    monkeypatch.setattr("relaxbench.training.flatness.hessian.LARGE", 10)
    monkeypatch.setattr("relaxbench.training.flatness.hessian.PIECE", 64)
    parts = flatness(task, x, 1)
    assert parts.top == pytest.approx(whole.top, rel=1e-4) and parts.trace == pytest.approx(whole.trace, rel=1e-4)
    assert parts.passes == whole.passes + 250 * 3 * 13  # for every product the gradient is computed again


def rare(y: Tensor) -> Tensor:
    """Labels in the order of their classes, so that pieces have different ones, and a whole piece without any."""
    return torch.where(torch.arange(len(y)) < 70, -1, y.sort().values)


@pytest.mark.parametrize("options", [{}, {"label_smoothing": 0.2}, {"weight": [9.0, 1.0, 0.1]}])
def test_the_loss_of_weighted_labels_is_that_of_all_examples(
    options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """PyTorch's mean divides by the weights of the labels that count, which differ between pieces."""
    options = {name: torch.tensor(value) if name == "weight" else value for name, value in options.items()}
    loss = nn.CrossEntropyLoss(ignore_index=-1, **options)
    data = {split: (x, rare(y) if split == "train" else y) for split, (x, y) in images(250).items()}
    task = SupervisedProblem("rare", lambda: network(False, 20), lambda: data, batch_size=16, loss=loss)
    x = task.init(0)
    monkeypatch.setattr("relaxbench.training.flatness.hessian.LARGE", 10)
    model = network(False, 20).eval()
    nn.utils.vector_to_parameters(x, model.parameters())
    value = loss(model(data["train"][0]), data["train"][1])
    gradients = torch.autograd.grad(value, list(model.parameters()), create_graph=True)
    vector = torch.randn(task.size, generator=torch.Generator().manual_seed(4))
    products = torch.autograd.grad(nn.utils.parameters_to_vector(gradients) @ vector, list(model.parameters()))
    hessian = Hessian(task, x)
    assert hessian.loss == pytest.approx(float(value.detach()), rel=1e-5)
    assert torch.allclose(hessian.gradient, nn.utils.parameters_to_vector(gradients).detach(), atol=1e-5)
    assert torch.allclose((hessian @ vector[:, None])[:, 0], nn.utils.parameters_to_vector(products), atol=1e-4)


def contrast(outputs: Tensor, labels: Tensor) -> Tensor:
    """A loss that compares examples with each other."""
    return nn.functional.cross_entropy(outputs @ outputs.T, torch.arange(len(outputs)))


def test_a_loss_that_is_no_mean_over_pieces_is_not_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    task = SupervisedProblem("c", lambda: network(False), lambda: images(250), batch_size=16, loss=contrast)
    assert flatness(task, task.init(0), 0, examples=60).top
    monkeypatch.setattr("relaxbench.training.flatness.hessian.LARGE", 10)
    with pytest.raises(FlatnessError, match=r"loss 'contrast' of 250 examples is .* over pieces of 64"):
        flatness(task, task.init(0), 0)


class Counting(SupervisedProblem):
    """Keeps the numbers of examples of its forward passes."""

    def outputs(self, params: dict[str, Tensor], batch: Batch, training: bool) -> Tensor:
        self.seen = [*getattr(self, "seen", []), len(batch["x"])]
        return super().outputs(params, batch, training)


def test_the_cost_equals_the_computed_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Counted at the model: a pass for the gradient and, in a large network, for every product; statistics cost one."""
    task = Counting("small", lambda: network(True, 60), lambda: images(250), batch_size=16)
    found = flatness(task, task.init(0), 0)
    vectors = 10 * 4 + 3 * 6
    assert task.seen == [250] and found.passes == 250 + 250 * (3 + 6 * vectors) == passes(task, 250)
    monkeypatch.setattr("relaxbench.training.flatness.hessian.LARGE", 10)
    task.seen = []
    found = flatness(task, task.init(0), 0)
    assert task.seen == [64, 64, 64, 58] * (1 + 10 + 3)
    assert found.passes == 250 + 250 * (3 + 3 * 13 + 6 * vectors) == passes(task, 250)


@pytest.mark.parametrize("large", [False, True])
def test_operations_are_at_most_what_is_billed(large: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Counted by PyTorch: inputs need no gradient in the first layer, so that it costs less than the bill."""
    if large:
        monkeypatch.setattr("relaxbench.training.flatness.hessian.LARGE", 10)
    widths = [8, 30, 30, 30, 30, 3]
    layers = [layer for shape in itertools.pairwise(widths) for layer in (nn.Linear(*shape), nn.Tanh())]
    x = torch.randn(120, 8, generator=torch.Generator().manual_seed(0))
    parts = {"train": slice(0, 60), "validation": slice(60, 90), "test": slice(90, 120)}
    data = {name: (x[rows], x[rows, :3].argmax(1)) for name, rows in parts.items()}
    task = SupervisedProblem("deep", lambda: nn.Sequential(*layers), lambda: data, batch_size=20)
    with FlopCounterMode(display=False) as counter:
        hessian = Hessian(task, task.init(0))
        for count in (4, 1):
            hessian @ torch.randn(task.size, count)
    forward = 2 * sum(a * b for a, b in itertools.pairwise(widths))
    assert 0.85 < counter.get_total_flops() / forward / hessian.passes <= 1
