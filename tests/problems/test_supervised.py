"""A model on data: its outputs, its splits and their checks."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from relaxbench.errors import UserError
from relaxbench.problems import SupervisedProblem
from relaxbench.problems.losses import LOSSES, loss
from relaxbench.problems.supervised import Data
from relaxbench.problems.together import together
from relaxbench.training.compatibility import try_out
from tests.study import tiny

CPU = torch.device("cpu")


def toy(count: int = 23, batch: int = 5, **options: Any) -> SupervisedProblem:
    """A problem whose inputs are the numbers of the examples, so that a batch shows its examples."""
    x = torch.arange(count, dtype=torch.float32)[:, None].repeat(1, 3)
    y = torch.arange(count) % 4
    data: Data = {"train": (x, y), "validation": (x[:7], y[:7]), "test": (x[:9], y[:9])}
    return SupervisedProblem("toy", lambda: nn.Linear(3, 4), lambda: data, batch_size=batch, **options)


def test_outputs_are_those_of_the_model_itself() -> None:
    task = toy()
    model, batch = nn.Linear(3, 4), task.split("test", CPU)
    x = torch.cat([model.weight.detach().flatten(), model.bias.detach()])
    assert torch.allclose(task.outputs(task.unflatten(x), batch, False), model(batch["x"]))
    both = task.unflatten(torch.stack([x, 2 * x]))
    assert both["weight"].shape == (2, 4, 3) and torch.equal(both["weight"][1], 2 * model.weight)


def test_init_is_the_model_s_own_and_differs_between_seeds() -> None:
    task = toy()
    torch.manual_seed(5)
    model = nn.Linear(3, 4)
    expected = torch.cat([model.weight.flatten(), model.bias]).detach()
    assert torch.equal(task.init(5), expected)
    assert not torch.equal(task.init(5), task.init(5 + 2**40))


def test_correct_counts_right_answers_of_a_classifier_only() -> None:
    outputs = torch.tensor([[0.0, 1.0], [2.0, 1.0], [0.0, 3.0]])
    batch = {"y": torch.tensor([1, 1, 1])}
    assert toy().correct(outputs, batch).tolist() == [True, False, True]  # type: ignore[union-attr]
    assert toy(loss="least-squares").correct(outputs, batch) is None


def test_least_squares_has_a_mean_square_for_a_metric() -> None:
    task = toy(loss="least-squares", worst=7.0)
    assert (task.metric, task.unit, task.metric_scale, task.worst_metric) == ("test mean square", "", 1.0, 7.0)
    assert (toy().metric, toy().unit, toy().metric_scale) == ("test error", "%", 100.0)


def test_named_losses_are_torch_s() -> None:
    outputs, y = torch.randn(6, 4, generator=torch.Generator().manual_seed(1)), torch.tensor([0, 1, 2, 3, 0, 1])
    assert torch.equal(loss("cross-entropy").value(outputs, {"y": y}), nn.functional.cross_entropy(outputs, y))
    target = torch.ones(6, 4)
    squares = loss("least-squares").value(outputs, {"y": target})
    assert squares.item() == pytest.approx(4 * nn.functional.mse_loss(outputs, target).item(), rel=1e-6)
    assert loss("none").value(outputs, {}).item() == pytest.approx(outputs.mean().item())
    assert all(name == known.name for name, known in LOSSES.items())
    with pytest.raises(UserError, match="unknown loss 'crossentropy': did you mean 'cross-entropy'"):
        loss("crossentropy")


@pytest.mark.parametrize("places", [(), (5,)])
@pytest.mark.parametrize(("classes", "ulps"), [(16, 0), (7, 2)])
def test_cross_entropy_of_several_members_is_that_of_torch(places: tuple[int, ...], classes: int, ulps: int) -> None:
    """Bit for bit, but for few classes, whose sums run in another order."""
    generator = torch.Generator().manual_seed(2)
    outputs = (3 * torch.randn(4, 6, *places, classes, generator=generator)).requires_grad_()
    y = torch.randint(0, classes, (4, 6, *places), generator=generator)

    def value(out: Tensor, labels: Tensor) -> Tensor:
        return loss("cross-entropy").value(out, {"y": labels})

    apart = torch.vmap(value)(outputs, y)
    with together():
        ours = torch.vmap(value)(outputs, y)
    eps = torch.finfo(torch.float32).eps
    torch.testing.assert_close(ours, apart, rtol=ulps * eps, atol=0)
    slopes = [torch.autograd.grad(values.sum(), outputs)[0] for values in (ours, apart)]
    torch.testing.assert_close(*slopes, rtol=0, atol=ulps * eps * float(slopes[1].abs().max()))
    assert bool(slopes[0].any())


def test_the_fingerprint_depends_on_every_number_its_place_and_its_split() -> None:
    x, y = torch.rand(8, 2), torch.arange(8) % 2

    def digest(train: tuple[Tensor, Tensor], test: tuple[Tensor, Tensor]) -> str:
        data: Data = {"train": train, "validation": (x, y), "test": test}
        return SupervisedProblem("p", lambda: nn.Linear(2, 2), lambda: data, batch_size=2).fingerprint()

    changed = x.clone()
    changed[3, 1] += 1e-6
    seen = [
        digest((x, y), (x, 1 - y)),
        digest((x, 1 - y), (x, y)),
        digest((changed, y), (x, 1 - y)),
        digest((x.flip(0), y.flip(0)), (x, 1 - y)),
        digest((x.double(), y), (x, 1 - y)),
    ]
    assert len(set(seen)) == len(seen)
    assert digest((x, y), (x, 1 - y)) == seen[0]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"test": None}, "gives no 'test' split"),
        ({"train": (torch.rand(3, 2), torch.zeros(2))}, "train has 3 inputs and 2 labels"),
        ({"validation": (torch.rand(0, 2), torch.zeros(0))}, "validation has 0 inputs and 0 labels"),
        ({"train": (torch.rand(3, 2), torch.zeros(3))}, "batch_size 5 is larger than the training split"),
    ],
)
def test_unusable_data_is_refused(change: dict[str, Any], message: str) -> None:
    good = (torch.rand(8, 2), torch.zeros(8))
    data = dict.fromkeys(("train", "validation", "test"), good) | change
    data = {name: value for name, value in data.items() if value is not None}
    task = SupervisedProblem("p", lambda: nn.Linear(2, 2), lambda: data, batch_size=5)
    with pytest.raises(UserError, match=message):
        task.split("train", CPU)


def test_one_output_is_not_one_per_class() -> None:
    data = dict.fromkeys(("train", "validation", "test"), (torch.rand(5, 2), torch.arange(5) % 2))
    with pytest.raises(UserError, match=r"the model has 1 output: cross-entropy needs one output per class; .*BCE"):
        try_out(SupervisedProblem("p", lambda: nn.Linear(2, 1), lambda: data, batch_size=5))


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (torch.tensor([0, 1, 2, 3, 1]), "test labels go from 0 to 3, and the model has 3 outputs: expected 0 to 2"),
        (torch.tensor([0, 1, 2, -1, 1]), "test labels go from -1 to 2"),
        (torch.tensor([0.0, 1, 2, 1, 1]), "test labels are float32; cross-entropy expects int64"),
    ],
)
def test_labels_without_an_output_are_refused_in_every_split(labels: Tensor, message: str) -> None:
    good = (torch.rand(5, 2), torch.arange(5) % 3)
    data = {"train": good, "validation": good, "test": (good[0], labels)}
    task = SupervisedProblem("p", lambda: nn.Linear(2, 3), lambda: data, batch_size=5)
    with pytest.raises(UserError, match=message):
        try_out(task)
    assert (
        try_out(SupervisedProblem("p", lambda: nn.Linear(2, 3), lambda: dict.fromkeys(data, good), batch_size=5))
        is None
    )


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("margin", -1),
        ("margin", math.nan),
        ("margin", True),
        ("budget", 0),
        ("batch_size", True),
        ("worst", math.inf),
        ("rounds", 0),
    ],
)
def test_invalid_numbers_are_refused_when_a_problem_is_made(key: str, value: Any) -> None:
    with pytest.raises(UserError, match=f"problem 'p': {key} = .*: expected a positive number"):
        SupervisedProblem("p", lambda: nn.Linear(2, 3), dict, **{key: value})


@pytest.mark.parametrize("margin", ["x", "150 %", "100 %", "0 %", "-5 %", "inf %", ""])
def test_a_margin_that_is_no_ratio_is_refused_as_that_of_a_study_file(margin: str) -> None:
    with pytest.raises(UserError, match=r"problem 'p': margin = '.*': .* a ratio above 0 and below 100 %"):
        SupervisedProblem("p", lambda: nn.Linear(2, 3), dict, margin=margin)
    with pytest.raises(UserError, match="a ratio above 0 and below 100 %"):
        tiny.spec(margin=margin)


def test_a_ratio_may_be_the_margin_of_a_problem() -> None:
    for margin in ("10 %", "2.5%", " .5 % "):
        assert SupervisedProblem("p", lambda: nn.Linear(2, 3), dict, margin=margin).margin == margin
        assert tiny.spec(margin=margin).margin == margin


class Pair(nn.Module):
    """A model that returns a pair."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(3, 4)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.linear(x), x


def test_a_model_that_gives_no_tensor_is_refused() -> None:
    task = toy()
    task._build = Pair
    with pytest.raises(UserError, match="the model returned tuple; expected a tensor"):
        task.outputs(task.unflatten(task.init(0)), task.split("test", CPU), False)


class Shifted(nn.Module):
    """A model with a constant of its own."""

    shift: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(3, 4)
        self.register_buffer("shift", torch.tensor([1.0, 2.0, 3.0]))

    def forward(self, x: Tensor) -> Tensor:
        return torch.as_tensor(self.linear(x + self.shift))


def test_constants_of_a_model_are_no_parameters() -> None:
    task = toy()
    task._build = Shifted
    assert [name for name, _ in task.layout()] == ["linear.weight", "linear.bias"]
    batch = task.split("test", CPU)
    params = task.unflatten(task.init(0))
    expected = nn.functional.linear(batch["x"] + torch.tensor([1.0, 2.0, 3.0]), *params.values())
    assert torch.allclose(task.outputs(params, batch, False), expected)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_one_problem_serves_two_devices_in_turn() -> None:
    task = toy()
    task._build = Shifted
    for device in (CPU, torch.device("cuda:0"), CPU, torch.device("cuda:0")):
        numbers = torch.zeros(2, 1, dtype=torch.int64, device=device)
        batch = task.sampler([0, 1], [0, 0], 3, device).batch(numbers)
        one = {name: value[0] for name, value in batch.items()}
        outputs = task.outputs(task.unflatten(task.init(0).to(device)), one, True)
        assert outputs.device == device
