"""Hooks, and what else reaches a layer from outside: the numbers are those of plain PyTorch, or it is refused."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import prune, weight_norm

from relaxbench.errors import UserError
from relaxbench.problems import SupervisedProblem
from relaxbench.training.compatibility import why_not_vectorized
from relaxbench.training.oracle import Oracle

X = torch.arange(384.0).mul(1.3).sin().view(6, 1, 8, 8)
Y = torch.arange(6) % 3


def of(change: Callable[[nn.Sequential], None]) -> SupervisedProblem:
    """A small network after a change to its layers."""

    def model() -> nn.Module:
        flat = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(0.0), nn.Linear(4, 3)]
        net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), *flat)
        change(net)
        return net

    splits = dict.fromkeys(("train", "validation", "test"), (X, Y))
    return SupervisedProblem("own", model, lambda: splits, batch_size=6, budget=20, rounds=2)


def scaled(module: nn.Module, inputs: object, output: Tensor) -> Tensor:
    return 3 * output


def stopped(module: nn.Module, inputs: tuple[Tensor, ...], outputs: object) -> tuple[Tensor, ...]:
    return tuple(0.5 * value for value in inputs)


CHANGES: list[Callable[[nn.Sequential], object]] = [
    lambda net: net[0].register_forward_hook(scaled),
    lambda net: net[1].register_forward_hook(scaled),
    lambda net: net[5].register_forward_hook(scaled),
    lambda net: net[1].register_forward_pre_hook(lambda module, inputs: (2 * inputs[0],)),
    lambda net: net[5].register_full_backward_hook(stopped),
    lambda net: net.__setitem__(0, weight_norm(net[0])),
    lambda net: prune.l1_unstructured(net[0], "weight", amount=0.3),  # type: ignore[no-untyped-call]
]


@pytest.mark.filterwarnings("ignore:.*weight_norm.*", "ignore:There is a performance drop")
@pytest.mark.parametrize("change", CHANGES)
def test_gradients_are_those_of_plain_pytorch(change: Callable[[nn.Sequential], None]) -> None:
    task = of(change)
    net = task.adapted.original(0).train()
    loss = nn.functional.cross_entropy(net(X), Y)
    loss.backward()  # type: ignore[no-untyped-call]
    points = torch.cat([p.detach().flatten() for p in net.parameters()])[None]
    right = torch.cat([torch.as_tensor(p.grad).flatten() for p in net.parameters()])
    batch = task.sampler([0], [0], 1, torch.device("cpu")).batch(torch.zeros(1, 1, dtype=torch.int64))
    batch = {**batch, "x": X[None], "y": Y[None]}
    paths = ["direct"] if why_not_vectorized(task) else ["direct", "vectorized"]
    for path in paths:
        gradient, value = Oracle(task, path).gradient_on(points, batch)  # type: ignore[arg-type]
        torch.testing.assert_close(gradient[0], right, rtol=1e-4, atol=1e-6)
        torch.testing.assert_close(value.squeeze(), loss.detach(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda net: net[6].weight.register_hook(lambda grad: 0 * grad), "parameter '6.weight' has a hook"),
        (
            lambda net: net[6].bias.register_post_accumulate_grad_hook(lambda p: p.grad.zero_()),
            "parameter '6.bias' has a hook",
        ),
        (lambda net: setattr(net[0], "forward", lambda x: x), r"layer '0' \(Conv2d\) has a forward of its own"),
    ],
)
def test_what_a_study_would_not_call_is_refused(change: Callable[[nn.Sequential], None], message: str) -> None:
    with pytest.raises(UserError, match=message):
        of(change).layout()
