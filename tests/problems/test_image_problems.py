"""Networks on images: their inputs, their training, and the error for missing data."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from relaxbench.errors import UserError
from relaxbench.optim.hyper import defaults
from relaxbench.optim.registry import RULES
from relaxbench.problems import problem, problem_names
from relaxbench.problems.data.augment import crop_and_flip
from relaxbench.problems.image_problems import RECIPES, ImageProblem, image_problem
from relaxbench.problems.networks import allcnn
from relaxbench.training.compatibility import invariance_of, try_out, why_not_vectorized
from relaxbench.training.oracle import Oracle
from relaxbench.training.population import Population
from relaxbench.training.trial import Job, Outcome

CPU = torch.device("cpu")
SIZES = {
    "mnistfc": 1_867_786,
    "lenet": 131_220,
    "mnist-mlp-tanh": 111_146,
    "allcnn-bn": 1_667_166,
    "cifar-basic": 145_578,
    "cifar-basic-bn": 145_578 + 2 * (32 + 32 + 64 + 64),
    "resnet18": 11_173_962,
    "resnet18-imagenet-stem": 11_181_642,
}
"""Parameters with ten classes: the specification's, and those of torchvision's ResNet-18 with ten classes."""


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of 32 × 32 images of three classes, which differ in their level of red."""
    folder = tmp_path_factory.mktemp("pictures")
    rng = np.random.default_rng(0)
    for split, count in (("train", 50), ("test", 10)):
        for label, level in (("cat", 0), ("cow", 90), ("dog", 180)):
            (folder / "data" / "pets" / split / label).mkdir(parents=True)
            for k in range(count):
                pixels = rng.integers(0, 75, (32, 32, 3)) + np.array([level, 0, 0])
                Image.fromarray(pixels.astype(np.uint8)).save(folder / "data/pets" / split / label / f"{k}.png")
    return folder


@pytest.fixture
def pets(pictures: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder, where data are looked for."""
    monkeypatch.setenv("RELAXBENCH_DATA", str(pictures / "data"))
    monkeypatch.setenv("RELAXBENCH_CACHE", str(pictures / "cache"))
    return pictures / "data" / "pets"


def test_images_are_bytes_until_they_are_normalized_as_usual() -> None:
    from torchvision.transforms import v2  # it takes a second, in every process that collects tests

    task = image_problem("mnist-mlp-tanh-small")
    batch = task.sampler([1], [0], 1, CPU).batch(torch.zeros(1, 1, dtype=torch.int64))
    assert batch["x"].dtype == torch.uint8 and batch["x"].shape == (1, 64, 1, 28, 28)
    x = task.init(0)
    found = task.outputs(task.unflatten(x), {name: value[0] for name, value in batch.items()}, False)
    pixels = task.tensors["train"][0].double() / 255
    scale = v2.Normalize([pixels.mean().item()], [pixels.std(correction=0).item()])
    expected = v2.Compose([v2.ToDtype(torch.float32, scale=True), scale])(batch["x"][0])
    model = task.model
    torch.nn.utils.vector_to_parameters(x, model.parameters())
    assert torch.allclose(found, model.eval()(expected), atol=1e-5)


@pytest.mark.parametrize(("name", "size"), SIZES.items())
def test_parameters_are_the_published_ones_whether_the_data_are_here_or_not(name: str, size: int) -> None:
    assert problem(name).size == problem(f"{name}-small").size == size


@pytest.mark.parametrize("name", RECIPES)
def test_every_network_has_a_full_and_a_small_budget(name: str) -> None:
    full, small = image_problem(name), image_problem(f"{name}-small")
    assert {name, f"{name}-small"} <= set(problem_names()) and small.name == f"{name}-small"
    assert small.caution and not full.caution
    assert small.budget * small.batch_size * 20 <= full.budget * full.batch_size


def test_full_budgets_are_the_epochs_of_the_papers() -> None:
    """50,000 and 45,000 images for training, incomplete batches dropped."""
    for name, epochs, images in (("lenet", 100, 50_000), ("mnist-mlp-tanh", 100, 50_000), ("allcnn-bn", 200, 45_000)):
        task = image_problem(name)
        assert task.budget == epochs * (images // task.batch_size)
    assert image_problem("lenet").tensors["train"][0] is image_problem("mnistfc").tensors["train"][0]  # held once


@pytest.mark.parametrize("name", ["lenet", "mnistfc", "mnist-mlp-tanh"])
def test_they_vectorize_and_a_member_does_not_depend_on_its_neighbours(name: str) -> None:
    task = image_problem(name)
    assert why_not_vectorized(task) is None
    if name != "mnist-mlp-tanh":  # vectorized tanh treats the ends of a tensor by other code: docs/architecture.md
        assert invariance_of(task, 5, CPU) == "bit for bit"


def test_lenet_learns() -> None:
    task, rule, ended = image_problem("lenet-small"), RULES["sgd"](), list[Outcome]()
    population = Population(Oracle(task, "direct"), rule, 60)
    population.admit([Job(0, 1, {**defaults(rule.wide), "lr": 0.05}, test=True)])
    population.run(lambda free: [], ended.extend, 1)
    curve = ended[0].curve
    assert not ended[0].diverged and curve[1, -1] < 0.8 * curve[1, 0]  # the training loss
    assert ended[0].correct is not None and len(ended[0].correct) == task.test_examples


@pytest.mark.parametrize("name", ["cifar-basic", "cifar-basic-bn", "allcnn-bn", "allcnn-bn-augmented", "resnet18"])
def test_networks_for_cifar_take_any_folder_of_such_images_and_are_named_after_it(name: str, pets: Path) -> None:
    task = image_problem(f"{name}-small:pets")
    assert task.name == f"{name}-small:pets" and task.missing() == "" and task.published == ""
    assert task.data == "ImageFolder pets, 135/15/30 for training/validation/test"
    assert task.statistics_examples == (135 if "bn" in name or "resnet" in name else 0)
    task.batch_size, task._statistics_limit = 4, 20
    try_out(task)
    assert task.outputs(task.unflatten(task.init(0)), {"x": task.tensors["test"][0][:4]}, False).shape == (4, 3)


def test_augmented_images_are_new_in_every_step_of_training_and_whole_in_measurements(pets: Path) -> None:
    plain, augmented = ImageProblem("plain", allcnn, str(pets)), ImageProblem("more", allcnn, str(pets), augment=True)
    params, x = plain.unflatten(plain.init(0)), plain.tensors["train"][0][:8]
    seed = torch.tensor(4)
    for step in (torch.tensor(0), torch.tensor(1)):
        batch = {"x": x, "seed": seed, "step": step}
        by_hand = {**batch, "x": crop_and_flip(x, seed, step)}
        assert torch.equal(augmented.outputs(params, batch, True), plain.outputs(params, by_hand, True))
        assert not torch.equal(augmented.outputs(params, batch, True), plain.outputs(params, batch, True))
        assert torch.equal(augmented.outputs(params, batch, False), plain.outputs(params, batch, False))


def test_whitened_images_are_used_as_they_are(pets: Path) -> None:
    assert RECIPES["allcnn-bn-zca"].whiten and not RECIPES["allcnn-bn"].whiten

    def network(classes: int) -> nn.Module:
        return nn.Sequential(nn.Flatten(), nn.Linear(192, classes))

    task = ImageProblem("small", network, str(pets), size=8, whiten=True)
    (x, _), (held_out, _) = task.tensors["train"], task.tensors["validation"]
    assert x.dtype == torch.float32 and x.shape == (135, 3, 8, 8) and held_out.shape == (15, 3, 8, 8)
    assert torch.allclose(x.mean(dim=0), torch.zeros(3, 8, 8), atol=1e-4)
    found = task.outputs(task.unflatten(task.init(0)), {"x": x[:4]}, False)
    model = task.model
    nn.utils.vector_to_parameters(task.init(0), model.parameters())
    assert torch.allclose(found, model(x[:4]), atol=1e-5)


def test_vggf_takes_images_of_any_size_and_asks_for_a_folder(pets: Path) -> None:
    task = problem("vggf")
    assert task.missing() == (
        "problem 'vggf' needs your own images: name a folder or an archive with train/CLASS/*.jpg and "
        "test/CLASS/*.jpg, or CLASS/*.jpg, as vggf:FOLDER"
    )
    assert task.size == sum(p.numel() for p in task.model.parameters()) and "not here" in task.data  # type: ignore[attr-defined]
    small = image_problem("vggf-small:pets")
    assert small.tensors["train"][0].shape[1:] == (3, 224, 224) and small.size < task.size


def test_a_folder_that_does_not_fit_the_network_is_refused(pets: Path) -> None:
    task = image_problem("lenet:pets")
    assert task.missing() == (
        "problem 'lenet:pets' takes images of 1 × 28 × 28 (channels × height × width), and those of ImageFolder pets "
        "are 3 × 32 × 32: choose other data, or convert them"
    )
    with pytest.raises(UserError, match="unknown data set 'cifr10': did you mean 'cifar10'"):
        problem("allcnn-bn:cifr10")
    with pytest.raises(UserError, match="unknown problem 'lenett:mnist'"):
        problem("lenett:mnist")


def test_missing_data_are_reported_when_they_are_needed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RELAXBENCH_DATA", str(tmp_path))
    task = problem("lenet")
    assert task.size == 131_220 and task.data == "MNIST (MNIST/raw), not here"
    assert task.missing().startswith(f"MNIST is not in {str(tmp_path)!r}")
