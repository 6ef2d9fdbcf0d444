"""A user's own model: frozen parts stay frozen, pretrained weights are taken, its own state dict comes back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from relaxbench.errors import UserError
from relaxbench.optim.hyper import defaults
from relaxbench.optim.registry import RULES
from relaxbench.problems import SupervisedProblem
from relaxbench.training.flatness.hessian import Hessian
from relaxbench.training.oracle import Oracle, Path
from relaxbench.training.population import Population
from relaxbench.training.trial import Job, Outcome

CPU = torch.device("cpu")


def data() -> dict[str, tuple[Tensor, Tensor]]:
    x = torch.randn(40, 4, generator=torch.Generator().manual_seed(0))
    return dict.fromkeys(("train", "validation", "test"), (x, x[:, :3].argmax(1)))


def of(model: Callable[[], nn.Module], **options: Any) -> SupervisedProblem:
    return SupervisedProblem("own", model, data, batch_size=8, budget=40, rounds=2, **options)


def train(task: SupervisedProblem, rule: str = "sgd", path: Path = "direct", seed: int = 7) -> Outcome:
    got: list[Outcome] = []
    params = defaults(RULES[rule].wide)
    jobs = [Job(0, seed, params | ({"inner_steps": 4} if "inner_steps" in params else {}))]
    Population(Oracle(task, path), RULES[rule](), 40).run(lambda free: [jobs.pop()] if jobs else [], got.extend, 1)
    return got[0]


def body() -> nn.Sequential:
    return nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 3))


def fine_tuned() -> nn.Module:
    net = body()
    net[0].requires_grad_(False)
    return net


@pytest.mark.parametrize("path", ["direct", "vectorized"])
@pytest.mark.parametrize("rule", ["sgd", "adamw", "parle", "curveball", "lpf-sgd"])
def test_frozen_parameters_are_neither_counted_nor_moved(rule: str, path: Path) -> None:
    task = of(fine_tuned)
    assert task.size == 5 * 3 + 3 and [name for name, _ in task.layout()] == ["2.weight", "2.bias"]
    outcome = train(task, rule, path)
    assert outcome.weights.shape == (18,) and not torch.equal(outcome.weights, task.init(7))
    torch.manual_seed(0)
    expected = body()
    state = task.state_dict(task.unflatten(outcome.weights))
    for name, value in expected[:1].state_dict().items():
        assert torch.equal(state[name], value)
    assert torch.equal(state["2.weight"].flatten(), outcome.weights[:15])


def test_gradients_and_flatness_are_those_of_the_head_on_the_frozen_features() -> None:
    task = of(fine_tuned)
    x, (inputs, labels) = task.init(3), data()["train"]
    torch.manual_seed(0)
    frozen = body()[0]
    features = torch.relu(frozen(inputs)).detach()

    def loss(head: Tensor) -> Tensor:
        return nn.functional.cross_entropy(features @ head[:15].view(3, 5).T + head[15:], labels)

    hessian = Hessian(task, x)
    assert hessian.gradient == pytest.approx(torch.func.grad(loss)(x), abs=1e-6)
    assert hessian @ torch.eye(18) == pytest.approx(torch.func.hessian(loss)(x), abs=1e-5)


def normed() -> nn.Sequential:
    return nn.Sequential(nn.Linear(4, 5), nn.BatchNorm1d(5), nn.Dropout(0.5), nn.Linear(5, 3))


def with_statistics(change: Callable[[nn.Sequential], object]) -> Callable[[], nn.Module]:
    def build() -> nn.Module:
        net = normed()
        net[1].running_mean.fill_(0.7)  # type: ignore[operator]
        net[1].running_var.fill_(2.5)  # type: ignore[operator]
        change(net)
        return net

    return build


class Sleepy(nn.Sequential):
    """The usual idiom of fine-tuning: ``train`` keeps batch normalization in evaluation mode."""

    def train(self, mode: bool = True) -> Sleepy:
        super().train(mode)
        self[1].eval()
        return self


def sleepy() -> nn.Module:
    return Sleepy(*with_statistics(lambda net: None)().children())


@pytest.mark.parametrize(
    "build",
    [with_statistics(lambda net: net[1].eval()), with_statistics(lambda net: net[1].requires_grad_(False)), sleepy],
)
def test_frozen_batch_normalization_keeps_its_running_statistics(build: Callable[[], nn.Module]) -> None:
    task = of(build)
    assert task.statistics_examples == 0  # nothing is collected
    model, x = build().train(False), task.init(5)
    model.load_state_dict(task.state_dict(task.unflatten(x)))
    assert model[1].running_mean.tolist() == [pytest.approx(0.7)] * 5  # type: ignore[index]
    batch = task.split("test", CPU)
    assert torch.allclose(task.outputs(task.unflatten(x), batch, False), model(batch["x"]), atol=1e-6)
    keep: Any = task.model[2]  # type: ignore[index]
    keep.p = 0.0
    seeded = {**batch, "seed": torch.tensor(0), "step": torch.tensor(0)}
    assert torch.allclose(task.outputs(task.unflatten(x), seeded, True), model(batch["x"]), atol=1e-6)
    assert task.model.training and keep.training


class Block(nn.Sequential):
    """A layer of a network of blocks."""


def test_frozen_batch_normalization_within_a_block_keeps_its_statistics() -> None:
    def build() -> nn.Module:
        net = with_statistics(lambda net: net[1].eval())()
        return nn.Sequential(Block(*net.children()))  # type: ignore[arg-type]

    task = of(build)
    assert task.statistics_examples == 0
    assert task.model[0][1].running_mean.tolist() == [pytest.approx(0.7)] * 5  # type: ignore[index]


def test_a_part_in_evaluation_mode_draws_no_masks_and_a_whole_model_in_evaluation_mode_is_trained() -> None:
    part, whole = of(with_statistics(lambda net: net[2].eval())), of(with_statistics(lambda net: net.eval()))
    part.adapted.train(True)
    whole.adapted.train(True)
    assert [m.training for m in part.model.children()] == [True, True, False, True]
    assert all(m.training for m in whole.model.children())
    assert whole.statistics_examples == 40


def test_a_mode_that_other_code_changes_is_set_again() -> None:
    task = of(sleepy)
    for training in (True, True, False, False, True):
        task.adapted.train(training)
        assert [m.training for m in task.model.modules()] == [training, training, False, training, training]
        list(task.model.children())[-1].train(not training)
    task.model.eval()
    task.adapted.train(True)
    assert task.model.training


@pytest.mark.parametrize("wrap", [lambda weights: weights, lambda weights: lambda: weights])
def test_pretrained_weights_replace_the_model_s_own_and_missing_names_keep_theirs(wrap: Any) -> None:
    weights = {"0.weight": torch.full((5, 4), 0.25), "0.bias": torch.ones(5)}
    task = of(body, pretrained=wrap(weights))
    first, second = task.unflatten(task.init(1)), task.unflatten(task.init(2))
    for start in (first, second):
        assert torch.equal(start["0.weight"], weights["0.weight"]) and torch.equal(start["0.bias"], weights["0.bias"])
    assert not torch.equal(first["2.weight"], second["2.weight"])


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ({"3.weight": torch.ones(1)}, r"has not|pretrained weights have '3.weight'"),
        ({"0.bias": torch.ones(6)}, r"'0.bias' of shape \(6,\), and in the model \(5,\)"),
        ([1, 2], "pretrained is list: expected a state dict"),
    ],
)
def test_pretrained_weights_that_do_not_fit_are_refused(weights: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        of(body, pretrained=weights).init(0)


def test_a_model_without_a_trainable_parameter_is_refused() -> None:
    with pytest.raises(UserError, match="no parameter of the model can be trained"):
        of(lambda: body().requires_grad_(False)).layout()


class Tied(nn.Module):
    """Two names of one weight, and a buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.head = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 3)
        self.b.weight = self.a.weight
        self.register_buffer("scale", torch.tensor(3.0))

    def forward(self, x: Tensor) -> Tensor:
        return torch.as_tensor(self.head(self.b(torch.relu(self.a(x))) * self.scale))


@pytest.mark.parametrize("build", [Tied, normed, fine_tuned])
def test_the_state_dict_loads_into_the_user_s_own_model_and_repeats_the_validation_loss(
    build: Callable[[], nn.Module],
) -> None:
    task = of(build)
    outcome = train(task)
    statistics = {name: value[0] for name, value in Oracle(task, "direct").statistics(outcome.weights[None]).items()}
    model = build()
    model.load_state_dict(task.state_dict({**task.unflatten(outcome.weights), **statistics}))
    x, y = data()["validation"]
    loss = nn.functional.cross_entropy(model.eval()(x), y).item()
    assert loss == pytest.approx(outcome.measures["validation_loss"], rel=1e-4)


class Shared(nn.Module):
    """A layer under two names, as in models that use one block several times."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(4, 4)
        self.again = self.first
        self.last = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return torch.as_tensor(self.last(self.again(self.first(x).relu()).relu()))


class Tied(nn.Module):
    """Weights under two names, which can fail."""

    def __init__(self) -> None:
        super().__init__()
        self.inputs, self.outputs = nn.Linear(4, 4), nn.Linear(4, 4, bias=False)
        self.outputs.weight = self.inputs.weight
        self.register_buffer("scale", torch.tensor(2.0))
        self.fails = False

    def forward(self, x: Tensor) -> Tensor:
        self.scale = self.scale * 1.0
        if self.fails:
            raise RuntimeError("on purpose")
        return torch.as_tensor(self.outputs(self.inputs(x).relu()) * self.scale)


def test_given_parameters_are_used_wherever_they_are_tied_and_the_model_s_own_stay_in_place() -> None:
    task = of(Tied)
    model = task.model
    own = [(tensors, {**tensors}) for part in model.modules() for tensors in (part._parameters, part._buffers)]
    params, batch = task.unflatten(task.init(3) + 1), task.split("validation", CPU)
    assert task.layout() == [("inputs.weight", torch.Size([4, 4])), ("inputs.bias", torch.Size([4]))]
    expected = torch.func.functional_call(Tied(), params, (batch["x"],))
    assert torch.equal(task.outputs(params, batch, False), expected)
    model.fails = True  # type: ignore[assignment]
    with pytest.raises(RuntimeError, match="on purpose"):
        task.outputs(params, batch, False)
    assert all(tensors[key] is value for tensors, before in own for key, value in before.items())


def test_a_layer_with_two_names_is_trained_in_every_precision() -> None:
    """PyTorch's functional_call leaves its arguments in such a layer: after one call it looked frozen elsewhere."""
    task = of(Shared)
    start = task.init(0)
    task.outputs(task.unflatten(start), task.split("validation", CPU), False)
    assert all(p.requires_grad for p in task.model.parameters())
    point = start.double() + 1
    params = task.unflatten(point)
    assert torch.equal(torch.cat([params[name].flatten() for name, _ in task.layout()]), point)
