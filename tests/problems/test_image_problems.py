"""Networks on images: what they are given, what they learn, and what is said where the data are not."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torchvision.transforms import v2

from relaxbench.optim.hyper import defaults
from relaxbench.optim.registry import RULES
from relaxbench.problems import problem
from relaxbench.problems.image_problems import MNIST, ImageProblem, lenet, mnist_tanh, mnistfc
from relaxbench.training.engine import invariance_of, why_not_vectorized
from relaxbench.training.population import Job, Outcome, Population

CPU = torch.device("cpu")


def test_images_are_whole_bytes_until_they_are_normalized_as_everybody_does() -> None:
    task = mnist_tanh(small=True)
    batch = task.sampler([1], [0], 1, CPU).batch(torch.zeros(1, 1, dtype=torch.int64))
    assert batch["x"].dtype == torch.uint8 and batch["x"].shape == (1, 128, 1, 28, 28)
    x = task.init(0)
    found = task.outputs(task.unflatten(x), {name: value[0] for name, value in batch.items()}, False)
    expected = v2.Compose([v2.ToDtype(torch.float32, scale=True), v2.Normalize(*MNIST)])(batch["x"][0])
    model = task.model
    torch.nn.utils.vector_to_parameters(x, model.parameters())
    assert torch.allclose(found, model.eval()(expected), atol=1e-5)


@pytest.mark.parametrize(("make", "size"), [(mnistfc, 1_867_786), (lenet, 131_220), (mnist_tanh, 111_146)])
def test_budgets_are_epochs_and_small_ones_say_so(make: type[ImageProblem], size: int) -> None:
    full, small = make(), make(small=True)  # type: ignore[call-arg]
    assert full.size == small.size == size and full.batch_size == small.batch_size == 128
    assert (full.budget, small.budget) == (39_000, 1_170) and small.name == f"{full.name}-small"
    assert small.caution and not full.caution
    assert full.tensors["train"][0] is small.tensors["train"][0]  # held once


@pytest.mark.parametrize("make", [lenet, mnistfc, mnist_tanh])
def test_they_vectorize_and_a_member_does_not_depend_on_its_neighbours(make: type[ImageProblem]) -> None:
    task = make()  # type: ignore[call-arg]
    assert why_not_vectorized(task) is None
    if make is not mnist_tanh:  # vectorized tanh treats the ends of a tensor by other code: see docs/architecture.md
        assert invariance_of(task, 5, CPU) == "bit for bit"


def test_lenet_learns() -> None:
    task, rule, ended = lenet(small=True), RULES["sgd"](), list[Outcome]()
    population = Population(task, rule, 60, "direct")
    population.admit([Job(0, 1, {**defaults(rule.space), "lr": 0.05}, test=True)])
    population.run(lambda free: [], ended.extend, 1)
    curve = ended[0].curve
    assert not ended[0].diverged and curve[1, -1] < 0.8 * curve[1, 0]  # the training loss
    assert ended[0].correct is not None and len(ended[0].correct) == task.test_examples


def test_where_the_data_are_not_here_it_is_said_when_they_are_needed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RELAXBENCH_DATA", str(tmp_path))
    task = problem("lenet")
    assert task.size == 131_220 and "MNIST, not here: set RELAXBENCH_DATA" in task.data
    assert task.missing().startswith(f"MNIST is not in {str(tmp_path)!r}")
