"""Outputs of other forms than a tensor: dicts, tuples, dataclasses, scalars, and losses within `forward`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from relaxbench.errors import UserError
from relaxbench.problems import SupervisedProblem
from relaxbench.problems.structure import Structure
from relaxbench.training.compatibility import try_out
from relaxbench.training.oracle import Oracle, Path
from tests.problems.test_own_data import numbers, of, train

X, Y = numbers(40, 4), numbers(40, 4)[:, :1] * 2
functional = nn.functional


@dataclass
class Named:
    mean: Tensor
    deviation: Tensor
    note: str = "kept"


class Pair(NamedTuple):
    mean: Tensor
    deviation: Tensor


FORMS: dict[str, tuple[Callable[[Tensor, Tensor], Any], Callable[[Any], tuple[Tensor, Tensor]]]] = {
    "dict": (lambda m, s: {"mean": m, "deviation": s, "hidden": None}, lambda o: (o["mean"], o["deviation"])),
    "tuple": (lambda m, s: (m, [s]), lambda o: (o[0], o[1][0])),
    "named tuple": (lambda m, s: Pair(m, s), lambda o: (o.mean, o.deviation)),
    "dataclass": (lambda m, s: Named(m, s), lambda o: (o.mean, o.deviation)),
}


class Gaussian(nn.Module):
    """Predict mean and deviation of a quantity."""

    def __init__(self, form: str = "") -> None:
        super().__init__()
        self.mean, self.deviation, self.form = nn.Linear(4, 1), nn.Linear(4, 1), form

    def forward(self, x: Tensor) -> Any:
        mean, deviation = self.mean(x), functional.softplus(self.deviation(x)) + 0.1
        return FORMS[self.form][0](mean, deviation) if self.form else torch.cat([mean, deviation], 1)


def likelihood(mean: Tensor, deviation: Tensor, y: Tensor) -> Tensor:
    return (0.5 * ((y - mean) / deviation) ** 2 + deviation.log()).mean()


@pytest.mark.parametrize("path", ["vectorized", "direct"])
@pytest.mark.parametrize("form", FORMS)
def test_a_trial_is_that_of_the_same_numbers_in_one_tensor(form: str, path: Path) -> None:
    def loss(outputs: Any, y: Tensor) -> Tensor:
        return likelihood(*FORMS[form][1](outputs), y)

    def metric(outputs: Any, y: Tensor) -> Tensor:
        return (FORMS[form][1](outputs)[0] - y).abs().mean()

    own = of(lambda: Gaussian(form), X, Y, loss=loss, metric=("mean absolute error", metric), worst_metric=9)
    plain = of(
        Gaussian,
        X,
        Y,
        loss=lambda o, y: likelihood(o[:, :1], o[:, 1:], y),
        metric=("mean absolute error", lambda o, y: (o[:, :1] - y).abs().mean()),
        worst_metric=9,
    )
    try_out(own)
    one, other = train(own, path), train(plain, path)
    assert one.value == other.value and one.measures == other.measures and torch.equal(one.weights, other.weights)


class WithLoss(nn.Module):
    """Compute the loss from inputs and labels, as models of Hugging Face do."""

    def __init__(self, form: str) -> None:
        super().__init__()
        self.linear, self.form = nn.Linear(4, 1), form

    def forward(self, x: Tensor, y: Tensor) -> Any:
        logits = self.linear(x)
        errors = (logits - y).square()
        scalar = errors.mean()
        return {"dict": {"loss": scalar, "logits": logits}, "scalar": scalar, "each": errors[:, 0]}[self.form]


@pytest.mark.parametrize("form", ["dict", "scalar", "each"])
def test_a_loss_within_forward_is_the_loss(form: str) -> None:
    x, y = numbers(1500, 4), numbers(1500, 4)[:, :1] * 2  # two pieces of different sizes
    options: dict[str, Any] = {"loss": (lambda o, _: o["loss"])} if form == "dict" else {"loss": "none"}
    own = of(lambda: WithLoss(form), x, y, **options)
    plain = of(lambda: nn.Linear(4, 1), x, y, loss="least-squares")
    start = own.init(3)
    assert torch.equal(start, plain.init(3))
    got = Oracle(own).measure(start[None], "validation").loss.item()
    assert got == pytest.approx(Oracle(plain).measure(start[None], "validation").loss.item(), rel=1e-5)
    assert train(own, "vectorized").value == pytest.approx(train(plain).value, rel=1e-5)


class Two(nn.Module):
    """Two networks that are trained together: an encoder and a decoder."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder, self.decoder = nn.Linear(4, 2), nn.Linear(2, 4)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        code = self.encoder(x)
        return {"code": code, "again": self.decoder(code)}


def test_two_networks_with_a_common_loss_train_both() -> None:
    task = of(Two, X, Y, loss=lambda o, _: (o["again"] - X.mean()).square().mean() + 0.1 * o["code"].square().mean())
    start, end = task.init(7), train(task).weights
    assert {name for name, _ in task.layout()} == {
        f"{n}.{p}" for n in ("encoder", "decoder") for p in ("weight", "bias")
    }
    moved, place = end != start, 0
    for _, shape in task.layout():
        assert moved[place : place + shape.numel()].any()
        place += shape.numel()


class Odd(nn.Module):
    def __init__(self, give: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.linear, self.give = nn.Linear(4, 3), give

    def forward(self, x: Tensor) -> Any:
        return self.give(self.linear(x))


@pytest.mark.parametrize(
    ("give", "said"),
    [
        (lambda o: {"a": o, "best": o.argmax(1)}, r"dict with a tensor of shape \(\d+,\) \(int64\)"),
        (lambda o: {"a": o[:2]}, r"with a tensor of shape \(2, 3\) \(float32\) for \d+ examples: expected"),
        (lambda o: {"a": None}, "dict without a tensor"),
        (lambda o: "text", "str without a tensor"),
    ],
)
def test_outputs_that_cannot_be_packed_are_refused(give: Callable[[Tensor], Any], said: str) -> None:
    with pytest.raises(UserError, match=said):
        try_out(of(lambda: Odd(give), X, Y, loss=lambda o, y: o["a"].mean()))


def test_a_model_that_changes_its_form_is_refused() -> None:
    forms: Iterator[str] = iter(("a", "b"))
    structure = Structure()
    structure.pack({next(forms): X}, 40)
    with pytest.raises(UserError, match="dict of two different forms"):
        structure.pack({next(forms): X}, 40)


def test_a_dict_with_a_named_loss_names_the_way_out() -> None:
    with pytest.raises(
        UserError, match=r"returned dict; expected a tensor, or loss = a function of \(outputs, labels\)"
    ):
        try_out(of(Two, X, numbers(40, 4).argmax(1)))
    assert isinstance(of(Two, X, Y, loss=lambda o, y: o["code"].mean()), SupervisedProblem)


@given(st.lists(st.lists(st.integers(1, 3), max_size=3), min_size=1, max_size=4), st.booleans())
def test_packing_and_unpacking_is_the_identity(shapes: list[list[int]], scalar: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    outputs: dict[str, Any] = {str(i): torch.randn(5, *shape, generator=generator) for i, shape in enumerate(shapes)}
    if scalar:
        outputs["loss"] = torch.tensor(0.5)
    structure = Structure()
    packed = structure.pack(outputs, 5)
    again = structure.unpack(packed)
    assert packed.dim() == 2 and again.keys() == outputs.keys()
    assert all(torch.equal(again[key], value) for key, value in outputs.items())
