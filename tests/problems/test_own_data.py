"""Data, labels, losses and metrics of other kinds: arrays, Datasets, labels per token or pixel, losses of one's own."""

from __future__ import annotations

import random as python
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from relaxbench.errors import UserError
from relaxbench.optim.hyper import defaults
from relaxbench.optim.registry import RULES
from relaxbench.problems import SupervisedProblem
from relaxbench.training.compatibility import try_out, why_not_vectorized
from relaxbench.training.oracle import Oracle, Path
from relaxbench.training.population import Population
from relaxbench.training.trial import Job, Outcome

CPU = torch.device("cpu")


def numbers(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


def of(model: Callable[[], nn.Module], x: Any, y: Any, **options: Any) -> SupervisedProblem:
    data = dict.fromkeys(("train", "validation", "test"), (x, y))
    return SupervisedProblem("own", model, lambda: data, batch_size=8, budget=20, rounds=2, **options)


def train(task: SupervisedProblem, path: Path = "direct") -> Outcome:
    got: list[Outcome] = []
    jobs = [Job(0, 7, defaults(RULES["sgd"].wide), test=True)]
    Population(Oracle(task, path), RULES["sgd"](), 20).run(lambda free: [jobs.pop()] if jobs else [], got.extend, 1)
    return got[0]


def classifier() -> nn.Module:
    return nn.Linear(4, 3)


@pytest.mark.parametrize("kind", ["numpy", "bfloat16", "requires grad", "list"])
def test_data_of_other_types_give_the_same_result_as_tensors(kind: str) -> None:
    x, y = numbers(40, 4).bfloat16().float(), numbers(40, 3).argmax(1)  # numbers that bfloat16 has, too
    given: Any = {
        "numpy": (x.double().numpy(), y.int().numpy()),
        "bfloat16": (x.bfloat16(), y),
        "requires grad": (x.clone().requires_grad_(), y),
        "list": (x.tolist(), y.tolist()),
    }[kind]
    task, plain = of(classifier, *given), of(classifier, x, y)
    try_out(task)
    assert len(task.fingerprint()) == 16
    assert train(task).value == train(plain).value


def test_data_that_are_no_pair_are_refused() -> None:
    with pytest.raises(UserError, match=r"train is str: expected \(inputs, labels\)"):
        SupervisedProblem("own", classifier, lambda: dict.fromkeys(("train", "validation", "test"), "x")).fingerprint()


class Examples(Dataset[tuple[Tensor, int]]):
    """Examples of which reading may be random in three ways."""

    def __init__(self, noise: str = "") -> None:
        self.x, self.noise = numbers(40, 4), noise

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, row: int) -> tuple[Tensor, int]:
        noise = {"": 0.0, "torch": float(torch.rand(())), "python": python.random(), "numpy": np.random.rand()}
        return self.x[row] + noise[self.noise], int(self.x[row, :3].argmax())


def of_dataset(noise: str) -> SupervisedProblem:
    return SupervisedProblem(
        "own", classifier, lambda: dict.fromkeys(("train", "validation", "test"), Examples(noise)), batch_size=8
    )


def test_a_dataset_without_random_numbers_is_its_tensors() -> None:
    x = numbers(40, 4)
    assert train(of_dataset("")).value == train(of(classifier, x, x[:, :3].argmax(1))).value


@pytest.mark.parametrize("noise", ["torch", "python", "numpy"])
def test_augmentation_is_a_function_of_seed_and_step_and_differs_between_them(noise: str) -> None:
    def batch(seeds: list[int], number: int, first: int = 0) -> Tensor:
        task = of_dataset(noise)
        numbers = torch.full((len(seeds), 1), number)
        return task.sampler(seeds, [first] * len(seeds), 12, CPU).batch(numbers)["x"]

    torch.manual_seed(1)
    together, alone = batch([3, 4], 6), batch([4], 6, first=5)
    assert torch.equal(together[1], alone[0]) and together.shape == (2, 8, 4)
    x = Examples().x
    shifts = [{round(float((row - x).abs().amin(0).mean()), 4) for row in batch([4], n)[0]} for n in (0, 1)]
    assert shifts[0] != shifts[1]  # a step of another number draws anew
    before = torch.get_rng_state(), python.getstate()
    batch([3], 0)
    assert torch.equal(before[0], torch.get_rng_state()) and before[1] == python.getstate()
    try_out(of_dataset(noise))


class Tokens(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.words, self.head = nn.Embedding(5, 6), nn.Linear(6, 5)

    def forward(self, x: Tensor) -> Tensor:
        return torch.as_tensor(self.head(self.words(x)))


def images() -> tuple[Tensor, Tensor]:
    x = numbers(24, 1, 2, 2)
    return x, (x[:, 0] > 0.3).long()


@pytest.mark.parametrize("path", ["direct", "vectorized"])
@pytest.mark.parametrize("kind", ["tokens", "pixels", "as many classes as pixels"])
def test_an_example_may_have_several_labels(kind: str, path: Path) -> None:
    x, y = images()
    if kind == "tokens":
        x = torch.randint(0, 5, (24, 6), generator=torch.Generator().manual_seed(0))
        task = of(Tokens, x, (x + 1) % 5)
    else:  # with two classes of 2 × 2 pixels, [B, C, H, W] fits the labels either way
        task = of(lambda: nn.Conv2d(1, 3 if kind == "pixels" else 2, 1), x, y)
    try_out(task)
    outcome = train(task, path)
    logits = task._build()
    logits.load_state_dict(task.state_dict(task.unflatten(outcome.weights)))
    out = logits(task.tensors["test"][0])
    out = out.movedim(-1, 1) if kind == "tokens" else out  # PyTorch has the classes behind the examples
    labels = task.tensors["test"][1]
    assert outcome.measures["test_loss"] == pytest.approx(nn.functional.cross_entropy(out, labels).item(), rel=1e-5)
    error = (out.argmax(1) != labels).float().mean().item()
    assert outcome.measures["test_metric"] == pytest.approx(error, abs=1e-6)
    assert outcome.correct is None and task.test_examples is None


def test_outputs_that_do_not_fit_the_labels_are_refused_in_words() -> None:
    x, y = images()
    with pytest.raises(UserError, match=r"expected logits \(1, …, classes\) or \(1, classes, …\)"):
        try_out(of(lambda: nn.Conv2d(1, 3, 2), x, y))


def binary() -> nn.Module:
    return nn.Sequential(nn.Linear(4, 1), nn.Flatten(0))


def brier(outputs: Tensor, labels: Tensor) -> Tensor:
    return (outputs.sigmoid() - labels).square().mean()


@pytest.mark.parametrize("path", ["direct", "vectorized"])
def test_a_loss_and_a_metric_of_one_s_own(path: Path) -> None:
    x = numbers(40, 4)
    y = (x[:, 0] > 1).float()
    own = nn.BCEWithLogitsLoss(pos_weight=torch.tensor(9.0))
    task = of(binary, x, y, loss=own, metric=("Brier score", brier))
    try_out(task)
    assert why_not_vectorized(task) is None
    outcome = train(task, path)
    w, b = outcome.weights[:4], outcome.weights[4]
    expected = nn.functional.binary_cross_entropy_with_logits(x @ w + b, y, pos_weight=torch.tensor(9.0))
    assert outcome.measures["test_loss"] == pytest.approx(expected.item(), rel=1e-5)
    assert outcome.measures["test_metric"] == pytest.approx(brier(x @ w + b, y).item(), rel=1e-5)
    assert (task.loss.name, task.metric, task.unit, task.metric_scale) == ("BCEWithLogitsLoss", "Brier score", "", 1.0)
    with pytest.raises(UserError, match="no curvature: leave CurveBall out, as --skip-unfit does"):
        task.convex_loss()


def test_a_loss_of_one_s_own_without_a_metric_is_compared_by_the_loss() -> None:
    x = numbers(40, 4)
    task = of(binary, x, (x[:, 0] > 1).float(), loss=brier, worst=2.0)
    outcome = train(task)
    assert (task.loss.name, task.metric, task.worst_metric) == ("brier", "test loss", 2.0)
    assert outcome.measures["test_metric"] == outcome.measures["test_loss"]
    assert of(binary, x, x, loss="none").metric == "test loss"


def test_class_weights_label_smoothing_and_ignored_labels() -> None:
    x = numbers(40, 4)
    y = x[:, :3].argmax(1)
    y[::4] = -1
    own = nn.CrossEntropyLoss(weight=torch.tensor([1.0, 2.0, 3.0]), label_smoothing=0.1, ignore_index=-1)
    task = of(classifier, x, y, loss=own)
    try_out(task)
    outcome = train(task)
    out = x @ outcome.weights[:12].view(3, 4).T + outcome.weights[12:]
    assert outcome.measures["test_loss"] == pytest.approx(own(out, y).item(), rel=1e-5)
    known = y != -1
    assert outcome.measures["test_metric"] == pytest.approx((out.argmax(1) != y)[known].float().mean().item(), abs=1e-6)
    assert (task.metric, task.unit, task.test_examples) == ("test error", "%", None)
    with pytest.raises(UserError, match="labels go from -1 to 2"):
        try_out(of(classifier, x, y))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"loss": 3}, "loss = 3: expected cross-entropy"),
        ({"loss": nn.BCEWithLogitsLoss}, r"loss is the class BCEWithLogitsLoss: give an instance of it"),
        ({"loss": nn.BCEWithLogitsLoss(reduction="none")}, "expected a scalar tensor, the mean over the examples"),
        ({"loss": brier, "metric": ("m", lambda outputs, labels: "high")}, "metric 'm' gives str: expected one number"),
        (
            {"loss": brier, "metric": ("m", lambda outputs, labels: outputs)},
            "problem 'own': metric 'm' gives Tensor of shape .* expected one number",
        ),
        ({"loss": brier, "metric": ("m", lambda outputs, labels: float("nan"))}, "'m' is nan on the validation data"),
        ({"loss": lambda outputs, labels: labels.mean()}, "make the loss depend on the parameters of the model"),
        ({"loss": lambda outputs, labels: 0 * outputs.mean()}, "is exactly zero at the initial weights: make the loss"),
    ],
)
def test_losses_and_metrics_that_cannot_be_used_are_refused(options: dict[str, Any], message: str) -> None:
    x = numbers(40, 4)
    with pytest.raises(UserError, match=message):
        try_out(of(binary, x, (x[:, 0] > 1).float(), **options))
