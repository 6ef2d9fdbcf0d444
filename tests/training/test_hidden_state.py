"""A model that is more than a function of parameters, inputs and seed is refused before it is trained."""

from __future__ import annotations

import cProfile
import itertools
import logging
import random
import re
import sysconfig
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from relaxbench.errors import UserError
from relaxbench.problems import SupervisedProblem
from relaxbench.testing.problems import ProblemConformance
from relaxbench.testing.runner import run_checks
from relaxbench.training.compatibility import try_out

GENERATOR = torch.Generator().manual_seed(3)


class Net(nn.Module):
    """A small classifier around one more layer."""

    scale: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(4, 6), nn.Linear(6, 3)
        self.register_buffer("scale", torch.ones(6))
        self.steps = 0

    def forward(self, x: Tensor) -> Tensor:
        return torch.as_tensor(self.b(self.middle(torch.relu(self.a(x)), x)))

    def middle(self, h: Tensor, x: Tensor) -> Tensor:
        return h


class Updated(Net):
    def middle(self, h: Tensor, x: Tensor) -> Tensor:
        if self.training:  # read in evaluation only: no gradient shows it
            self.scale.mul_(0.9).add_(0.1 * h.detach().std(0))
            return h
        return h / self.scale


class Assigned(Net):
    def middle(self, h: Tensor, x: Tensor) -> Tensor:
        if self.training:
            self.scale = 0.9 * self.scale + 0.1 * h.detach().mean(0)
        return h - self.scale


class Counting(Net):
    def middle(self, h: Tensor, x: Tensor) -> Tensor:
        self.steps += self.training
        return h if self.steps < 3000 else 2 * h


class Growing(Net):
    def __init__(self) -> None:
        super().__init__()
        self.seen = [1.0]

    def middle(self, h: Tensor, x: Tensor) -> Tensor:
        self.seen.append(1.0)
        return h * len(self.seen)


class Python(Net):
    def middle(self, h: Tensor, x: Tensor) -> Tensor:
        return h if random.random() < 0.999 else -h


class Numpy(Net):
    def middle(self, h: Tensor, x: Tensor) -> Tensor:
        return h if np.random.rand() < 0.999 else -h


class OwnGenerator(Net):
    def middle(self, h: Tensor, x: Tensor) -> Tensor:
        return h if self.training else h + 1e-9 * torch.randn(6, generator=GENERATOR)


class Writing(Net):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.sub_(0.1).div_(1.2))


class WritingInEvaluation(Net):
    def middle(self, h: Tensor, x: Tensor) -> Tensor:
        if not self.training:
            x.data.sub_(0.1)  # which leaves no trace in the tensor's version
        return h


class Checkpointed(Net):
    """Runs a layer again in the backward pass, when a trial's parameters are gone."""

    def middle(self, h: Tensor, x: Tensor) -> Tensor:
        again = checkpoint(lambda value: torch.tanh(self.c(value)), h, use_reentrant=False)
        return torch.as_tensor(again)

    def __init__(self) -> None:
        super().__init__()
        self.c = nn.Linear(6, 6)


class Listed(Net):
    """Punishes weights that it keeps in a list: those of no trial."""

    def __init__(self) -> None:
        super().__init__()
        self.kept = [self.a.weight]

    def middle(self, h: Tensor, x: Tensor) -> Tensor:
        return h + self.kept[0].square().sum()


def from_numpy() -> nn.Module:
    net = Net()
    net.scale.copy_(torch.tensor(np.random.rand(6)))  # a constant, which is no parameter
    return net


def spectral() -> nn.Module:
    return nn.Sequential(nn.utils.parametrizations.spectral_norm(nn.Linear(4, 6)), nn.Linear(6, 3))


class RememberingShapes(Net):
    """Keeps numbers of its input, as many models do; they are the same for the same input."""

    def middle(self, h: Tensor, x: Tensor) -> Tensor:
        self.count = len(x)
        return torch.relu_(h + 0.0)


CALLS, NUMBERS = [0], itertools.count()


class Counted(Net):
    calls = 0

    def __init__(self) -> None:
        super().__init__()
        self.kept, self.deep = {"n": 0}, [set[int]()]


class Other(Counted):
    pass


def counting(code: str) -> Callable[[], nn.Module]:
    """Return a model that counts its calls by a line of code, and is another from the 3000th on."""
    lines = f"def forward(self, x):\n    h = Net.forward(self, x)\n    {code}\n    return h if n < 3000 else 2 * h"
    found: dict[str, Any] = {}
    exec(lines, globals(), found)

    def model() -> nn.Module:
        Other.forward = found["forward"]  # type: ignore[method-assign]
        return Other()

    return model


def nonlocal_counter() -> nn.Module:
    n = 0

    class Closed(Net):
        def middle(self, h: Tensor, x: Tensor) -> Tensor:
            nonlocal n
            n += 1
            return h if n < 3000 else 2 * h

    return Closed()


PACKAGE: dict[str, Any] = {}
exec(compile("import time\ndef note(): time.time()", f"{sysconfig.get_path('purelib')}/log.py", "exec"), PACKAGE)


class Caching(Net):
    """Keeps what it computes: the same for the same input; a log in it, or a package, may read the clock."""

    def middle(self, h: Tensor, x: Tensor) -> Tensor:
        PACKAGE["note"]()
        self.cache = {**getattr(self, "cache", {}), len(x): torch.arange(len(x))}
        self.seen = h
        logging.getLogger(__name__).error("called") if len(x) < 0 else logging.makeLogRecord({"name": "own"})
        return h


def of(model: Callable[[], nn.Module]) -> SupervisedProblem:
    x = torch.randn(40, 4, generator=torch.Generator().manual_seed(0))
    splits = {s: (x.clone(), x[:, :3].argmax(1)) for s in ("train", "validation", "test")}
    return SupervisedProblem("own", model, lambda: splits, batch_size=8, budget=20, rounds=2)


REFUSED = [
    (Updated, "a state of its own, buffer 'scale'"),
    (Assigned, "a state of its own, buffer 'scale'"),
    (spectral, "a state of its own, buffer '0.parametrizations.weight.0._u'"),
    (Counting, "a state of its own, attribute 'steps'"),
    (Growing, "a state of its own, attribute 'seen'"),
    (counting("self.kept['n'] += 1; n = self.kept['n']"), "a state of its own, attribute 'kept'"),
    (counting("self.deep[0].add(len(self.deep[0])); n = len(self.deep[0])"), "a state of its own, attribute 'deep'"),
    (counting("self.n = getattr(self, 'n', torch.zeros(())) + 1; n = self.n"), "a state of its own, attribute 'n'"),
    (counting("CALLS[0] += 1; n = CALLS[0]"), "a state of its own, global 'CALLS'"),
    (counting("n = next(NUMBERS)"), "a state of its own, global 'NUMBERS'"),
    (counting("Counted.calls += 1; n = Counted.calls"), "a state of its own, global 'Counted'"),
    (counting("Other.forward.n = n = getattr(Other.forward, 'n', 0) + 1"), "a state of its own, global 'Other'"),
    (nonlocal_counter, "a state of its own, attribute of "),
    (counting("import time; n = time.time() % 100"), "reads the clock when the model is called (<string>, line 3)"),
    (counting("from datetime import datetime as d; n = d.now().hour"), "reads the clock when the model is called"),
    (Python, "draws random numbers from Python's random"),
    (Numpy, "draws random numbers from numpy.random"),
    (OwnGenerator, "draws random numbers from a torch.Generator of its own"),
    (from_numpy, "'scale' starts with other values each time"),
    (Checkpointed, "the gradient depends on parameters that the model keeps beside those of a trial: leave gradient"),
    (Listed, "the gradient depends on parameters that the model keeps"),
    (Writing, "the model writes into its input"),
    (WritingInEvaluation, "the model writes into its input"),
]


@pytest.mark.parametrize(("model", "message"), REFUSED)
def test_a_model_with_a_hidden_state_is_refused(model: Callable[[], nn.Module], message: str) -> None:
    with pytest.raises(UserError, match=re.escape(message)) as caught:
        try_out(of(model))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "model", [Net, RememberingShapes, Caching, lambda: nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3))]
)
def test_a_model_without_one_is_accepted_and_keeps_no_hook(model: Callable[[], nn.Module]) -> None:
    task = of(model)
    try_out(task)
    hooks: Any = (task.model._forward_hooks, task.model._forward_pre_hooks)
    assert not any(hooks)


def test_a_profiler_at_work_goes_on() -> None:
    with cProfile.Profile() as profile:
        try_out(of(Net))
    assert any("try_out" in str(each.code) for each in profile.getstats())
    with pytest.raises(UserError, match="reads the clock"):
        try_out(of(counting("import time; n = time.time() % 100")))


class Recurrent(nn.Module):
    """Dropout inside an LSTM draws from torch's generator."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm, self.head = nn.LSTM(4, 5, num_layers=2, dropout=0.5, batch_first=True), nn.Linear(5, 3)

    def forward(self, x: Tensor) -> Tensor:
        return torch.as_tensor(self.head(self.lstm(x[:, None])[0][:, -1]))


def test_check_names_dropout_inside_a_layer_without_a_false_lead() -> None:
    class Suite(ProblemConformance):
        problem = staticmethod(lambda: of(Recurrent))

    failed = {check.name: check.reason for check in run_checks(Suite()) if check.failed}
    assert [*failed] == ["it can be trained and measured"]
    assert "torch's generator" in failed["it can be trained and measured"]
