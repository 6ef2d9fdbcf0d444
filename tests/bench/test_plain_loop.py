"""The plain loop and its data: standard PyTorch code, and the same images as in our problems."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import TensorDataset

from relaxbench.bench.plain_loop import PlainLoop, in_memory, loaded, resident
from relaxbench.bench.workloads import SHAPES, WORKLOADS, synthetic
from relaxbench.problems import networks

CPU = torch.device("cpu")
NUMBERS, LABELS = torch.arange(10.0)[:, None], torch.arange(10) % 3


@pytest.mark.parametrize("kind", ["in memory", "loaded"])
def test_an_epoch_gives_every_example_at_most_once_and_the_next_one_another_order(kind: str) -> None:
    torch.manual_seed(0)
    loader = loaded(TensorDataset(NUMBERS, LABELS), 3, 0, CPU)
    batches = resident(NUMBERS, LABELS, 3) if kind == "in memory" else loader
    first, second = (list(islice(batches, 3)) for _ in range(2))
    seen = [torch.cat([x for x, _ in epoch]).flatten().tolist() for epoch in (first, second)]
    assert all(len(x) == 3 for x, _ in first + second)
    assert len(set(seen[0])) == len(set(seen[1])) == 9 and seen[0] != seen[1]
    assert all(torch.equal(y, LABELS[x.flatten().long()]) for x, y in first + second)


def test_a_step_is_that_of_nesterov_momentum() -> None:
    """Against PyTorch's documented formulas, written out."""
    x, y = torch.randn(8, 4), torch.randint(0, 3, (8,))

    def forever() -> Iterator[tuple[Tensor, Tensor]]:
        while True:
            yield x, y

    torch.manual_seed(1)
    model = nn.Linear(4, 3).double()
    x = x.double()
    weight, velocity = model.weight.detach().clone(), torch.zeros(3, 4, dtype=torch.float64)
    bias, drift = model.bias.detach().clone(), torch.zeros(3, dtype=torch.float64)
    loop = PlainLoop(model, forever(), CPU)
    for _ in range(3):
        assert loop.step() == 1
        slope = (x @ weight.T + bias).softmax(1)
        slope[torch.arange(8), y] -= 1
        for value, momentum, gradient in ((weight, velocity, slope.T @ x / 8), (bias, drift, slope.mean(0))):
            gradient = gradient + 1e-4 * value
            momentum.mul_(0.9).add_(gradient)
            value -= 0.1 * (gradient + 0.9 * momentum)
    assert torch.allclose(model.weight, weight, rtol=1e-10) and torch.allclose(model.bias, bias, rtol=1e-10)


@pytest.mark.parametrize("name", WORKLOADS)
def test_the_loop_trains_the_network_of_the_problem_on_its_data(name: str) -> None:
    loop, problem = in_memory(WORKLOADS[name], CPU), WORKLOADS[name].problem()
    assert networks.parameters(loop.network) == problem.size
    assert [tuple(p.shape) for p in loop.network.parameters()] == [tuple(shape) for _, shape in problem.layout()]
    assert loop.network.training and loop.optimizer.defaults["foreach"]
    x, y = next(loop.batches)
    assert len(x) == len(y) == problem.batch_size
    assert loop.rate(0.0) > 0


@pytest.mark.parametrize("name", WORKLOADS)
def test_single_examples_are_the_same_as_those_in_memory(name: str) -> None:
    workload = WORKLOADS[name]
    x, y = workload.problem().tensors["train"]
    data, held = workload.dataset(x, y), workload.normalized(x)
    assert len(data) == len(x)  # type: ignore[arg-type]
    for index in (0, 7, len(x) - 1):
        image, label = data[index]
        assert int(label) == int(y[index])
        assert image.shape == held[index].shape and torch.allclose(image, held[index], atol=1e-6)


def test_mnist_is_normalized_as_in_pytorch_s_example_and_for_our_problem_by_its_own_images() -> None:
    workload = WORKLOADS["lenet"]
    x, _ = workload.problem().tensors["train"]
    held = workload.normalized(x[:100])
    problem, given = workload.problem(), list[Tensor]()
    hook = problem.model.register_forward_pre_hook(lambda module, inputs: given.append(inputs[0]))
    problem.outputs(problem.unflatten(problem.init(0)), {"x": x[:100], "y": x}, False)
    hook.remove()
    pixels, whole = x[:100] / 255, x.double() / 255
    assert torch.allclose(held, (pixels - 0.1307) / 0.3081, atol=1e-6)
    assert torch.allclose(given[0], (pixels - whole.mean()) / whole.std(correction=0), atol=1e-5)


@pytest.mark.parametrize("network", SHAPES)
def test_noise_has_the_shape_that_a_network_takes(network: str) -> None:
    problem = synthetic(network, 4)
    x, y = problem.tensors["train"]
    assert x.shape[1:] == SHAPES[network] and len(y) == len(x) >= 128
    assert getattr(networks, network)()(x[:4]).shape == (4, 10)
    assert problem.batch_size == 4 and torch.equal(synthetic(network, 4).tensors["train"][0], x)
