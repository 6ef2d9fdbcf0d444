"""A model that would be another one than in plain PyTorch is refused; one that only looks odd is trained as it is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from relaxbench.errors import UserError
from relaxbench.problems import SupervisedProblem
from relaxbench.training.compatibility import try_out, why_not_vectorized
from relaxbench.training.oracle import Oracle, Path

Forward = Callable[[Any, Tensor], Tensor]


def make(layers: Callable[[], dict[str, Any]], forward: Forward) -> SupervisedProblem:
    """A problem whose model has these attributes and this forward pass, on inputs [B, 8] of three classes."""

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            for name, value in layers().items():
                setattr(self, name, value)

        def forward(self, x: Tensor) -> Tensor:
            return forward(self, x)

    def data() -> dict[str, tuple[Tensor, Tensor]]:
        x = torch.randn(90, 8, generator=torch.Generator().manual_seed(0))
        y = x[:, :3].argmax(1)
        return {s: (x[a:b], y[a:b]) for s, a, b in (("train", 0, 50), ("validation", 50, 70), ("test", 70, 90))}

    return SupervisedProblem("own", Model, data, batch_size=10)


def last(**layers: Any) -> dict[str, Any]:
    return {"last": nn.Linear(8, 3), **layers}


def norms_by_class(model: Any, x: Tensor) -> Tensor:
    for part in model.children():
        x = part(x) if isinstance(part, nn.BatchNorm1d) else x
    return model.last(x)  # type: ignore[no-any-return]


def dropout_by_class(model: Any, x: Tensor) -> Tensor:
    return model.last(x * (2 if any(isinstance(part, nn.Dropout) for part in model.children()) else 1))  # type: ignore[no-any-return]


def asleep(model: Any, x: Tensor) -> Tensor:
    model.norm.eval()
    return model.last(model.norm(x))  # type: ignore[no-any-return]


def hooked(model: Any, x: Tensor) -> Tensor:
    weight = model.inner.weight
    if weight.requires_grad:
        weight.register_hook(lambda gradient: 0.1 * gradient)
    return model.last(functional.linear(x, weight))  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("layers", "forward", "message"),
    [
        (lambda: last(norm=nn.BatchNorm1d(8)), norms_by_class, r"other outputs in .* replaces layers \(BatchNorm1d\)"),
        (lambda: last(drop=nn.Dropout()), dropout_by_class, r"other outputs in evaluation .* \(Dropout\)"),
        (lambda: last(norm=nn.BatchNorm1d(8)), asleep, r"layer 'norm' is trained without statistics .* in __init__"),
        (
            lambda: last(norm=nn.BatchNorm1d(8)),
            lambda m, x: m.last(m.norm(x)) * m.norm.running_var.mean(),
            "other outputs in training",
        ),
        (
            lambda: last(hidden=[nn.Linear(8, 8)]),
            lambda m, x: m.last(m.hidden[0](x)),
            "same state dict give other outputs",
        ),
        (lambda: last(mask=torch.randn(8)), lambda m, x: m.last(x * m.mask), "same state dict give other outputs"),
        (
            lambda: last(scale=[nn.Parameter(torch.ones(8))]),
            lambda m, x: m.last(x * m.scale[0]),
            r"tensor of shape \(8,\) that requires a gradient and is no parameter",
        ),
        (lambda: last(inner=nn.Linear(8, 8)), hooked, "another gradient than in plain PyTorch: .* set no hooks"),
    ],
)
def test_a_model_that_would_be_another_one_is_refused(
    layers: Callable[[], dict[str, Any]], forward: Forward, message: str
) -> None:
    with pytest.raises(UserError, match=message) as refused:
        try_out(make(layers, forward))
    assert "problem 'own'" in str(refused.value) and "\n" not in str(refused.value)


def tied() -> dict[str, Any]:
    inner = nn.Linear(8, 8)
    return last(inner=inner, again=inner)


def frozen() -> dict[str, Any]:
    norm = nn.BatchNorm1d(8).requires_grad_(False)
    norm.running_mean = torch.linspace(-1, 1, 8)
    return last(norm=norm)


@pytest.mark.parametrize(
    ("layers", "forward"),
    [
        (lambda: last(scale=nn.Parameter(torch.tensor(2.0))), lambda m, x: m.last(x) * m.scale),
        (
            lambda: last(scale=nn.Parameter(torch.tensor(2.0), requires_grad=False)),
            lambda m, x: m.last(x) * m.scale,
        ),
        (tied, lambda m, x: m.last(m.again(m.inner(x).tanh()))),
        (frozen, lambda m, x: m.last(m.norm(x))),
        (lambda: last(mask=torch.linspace(0, 1, 8)), lambda m, x: m.last(x * m.mask)),
        (lambda: last(drop=nn.Dropout(0.5)), lambda m, x: m.last(m.drop(x) * (1 - m.drop.p))),
        (
            lambda: last(inner=nn.Linear(8, 8)),
            lambda m, x: m.last(checkpoint(m.inner, x, use_reentrant=False)),  # type: ignore[no-untyped-call]
        ),
        (
            lambda: {
                "body": nn.Sequential(nn.Conv1d(1, 4, 3), nn.BatchNorm1d(4), nn.ReLU(), nn.Dropout(0.5)),
                "head": nn.Linear(24, 3),
            },
            lambda m, x: m.head(m.body(x[:, None]).flatten(1)),
        ),
    ],
)
def test_an_odd_model_has_the_gradient_of_plain_pytorch(layers: Callable[[], dict[str, Any]], forward: Forward) -> None:
    problem = make(layers, forward)
    try_out(problem)
    for part in problem.model.modules():
        if hasattr(part, "p"):
            part.p = 0.0
    points = problem.init(0)[None]
    batch = problem.sampler([0], [0], 1, torch.device("cpu")).batch(torch.zeros(1, 1, dtype=torch.int64))
    model = problem.adapted.original(0)
    for part in model.modules():
        if hasattr(part, "p"):
            part.p = 0.0
        if isinstance(part, nn.BatchNorm1d) and not part.weight.requires_grad:
            part.eval()
    functional.cross_entropy(model(batch["x"][0]), batch["y"][0]).backward()
    theirs = torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])
    paths: list[Path] = ["direct"] if why_not_vectorized(problem) else ["direct", "vectorized"]
    for path in paths:
        ours, _ = Oracle(problem, path).gradient_on(points, batch)
        assert torch.allclose(ours[0], theirs, rtol=1e-4, atol=1e-6)


class Rounded(nn.Module):
    """Many windows of its pooling have pixels that are equal but for the order of a sum; each layout has its own."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution, self.last = nn.Conv2d(1, 20, 5), nn.Linear(320, 3)
        with torch.no_grad():
            self.convolution.weight.copy_((torch.arange(500).view(20, 1, 5, 5) * 7 % 5 + 1) / 10)

    def forward(self, x: Tensor) -> Tensor:
        return torch.as_tensor(self.last(functional.max_pool2d(self.convolution(x), 2).flatten(1)))


def test_a_pixel_of_a_pooling_window_that_is_another_by_rounding_is_no_other_model() -> None:
    x = torch.randint(0, 3, (40, 1, 12, 12), generator=torch.Generator().manual_seed(0)).float()
    splits = {s: (x.clone(), x.flatten(1)[:, :3].argmax(1)) for s in ("train", "validation", "test")}
    try_out(SupervisedProblem("own", Rounded, lambda: splits, batch_size=40))


class Strided(nn.Module):
    """Reads its images as they lie in memory."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution, self.last = nn.Conv2d(1, 4, 3), nn.Linear(144, 3)

    def forward(self, x: Tensor) -> Tensor:
        return torch.as_tensor(self.last(self.convolution(x).as_strided((len(x), 144), (144, 1))))


def test_a_model_that_reads_images_as_they_lie_in_memory_is_refused() -> None:
    x = torch.randn(20, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    splits = {s: (x.clone(), x.flatten(1)[:, :3].argmax(1)) for s in ("train", "validation", "test")}
    with pytest.raises(UserError, match=r"other outputs in evaluation than in plain PyTorch: .* use no strides"):
        try_out(SupervisedProblem("own", Strided, lambda: splits, batch_size=10))


def test_a_model_of_constants_is_no_model_that_sets_its_seed() -> None:
    """As a logistic regression that begins at 0: it draws nothing."""

    def zeros() -> dict[str, Any]:
        layers = last()
        for parameter in layers["last"].parameters():
            nn.init.zeros_(parameter)
        return layers

    try_out(make(zeros, lambda m, x: m.last(x)))
    try_out(make(lambda: {"scale": nn.Parameter(torch.ones(8, 3))}, lambda m, x: x @ m.scale))
