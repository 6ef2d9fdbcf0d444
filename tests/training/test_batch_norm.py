"""Batch normalization in a population: measured at the iterate, against PyTorch's own layers, and billed."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from relaxbench.optim import reestimate_batch_norm
from relaxbench.optim.hyper import defaults
from relaxbench.optim.registry import RULES
from relaxbench.problems import SupervisedProblem
from relaxbench.problems.measurements import FORWARD
from relaxbench.training import oracle as oracles
from relaxbench.training.compatibility import invariance_of, why_not_vectorized
from relaxbench.training.engine import choose_engine
from relaxbench.training.oracle import Oracle, Path
from relaxbench.training.population import Population
from relaxbench.training.trial import Job, Outcome

SHAPE = (1, 6, 6)


def network() -> nn.Module:
    """Convolutions and full layers, a layer used twice, and dropout, which is off while statistics are collected."""
    twice = nn.BatchNorm1d(7)
    return nn.Sequential(
        *(nn.Conv2d(1, 5, 3), nn.ReLU(), nn.BatchNorm2d(5), nn.Dropout(0.3), nn.Flatten()),
        *(nn.Linear(80, 7), twice, nn.ReLU(), nn.Linear(7, 7), twice, nn.Linear(7, 3)),
    )


def task(examples: int = 300, statistics_limit: int = 8192) -> SupervisedProblem:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(examples + 90, *SHAPE, generator=generator)
    y = (x[:, 0, 0, :3] + 0.3 * torch.randn(len(x), 3, generator=generator)).argmax(1)
    cuts = {
        "train": slice(0, examples),
        "validation": slice(examples, examples + 50),
        "test": slice(examples + 50, None),
    }
    data = {name: (x[rows], y[rows]) for name, rows in cuts.items()}
    return SupervisedProblem(
        "norms", network, lambda: data, batch_size=16, budget=60, statistics_limit=statistics_limit
    )


@pytest.mark.parametrize("path", ["vectorized", "direct"])
def test_a_measurement_is_that_of_pytorch_s_layers_with_statistics_collected_at_the_point(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(oracles, "PIECE", 64)
    problem = task(statistics_limit=192)
    points = torch.stack([problem.init(seed) for seed in (1, 2, 3)]) * 1.3
    measured = Oracle(problem, path).measure(points, "validation")
    batch = problem.split("statistics", torch.device("cpu"))
    assert problem.statistics_examples == len(batch["x"]) == 192
    held_out = problem.split("validation", torch.device("cpu"))
    for k in range(3):
        plain = network()
        nn.utils.vector_to_parameters(points[k], plain.parameters())
        reestimate_batch_norm(plain, torch.split(batch["x"], 64))
        expected = nn.functional.cross_entropy(plain.eval()(held_out["x"]), held_out["y"])
        assert measured.loss[k].item() == pytest.approx(expected.item(), rel=1e-5)


def test_statistics_use_training_examples_in_random_order() -> None:
    problem = task()
    chosen, train = problem.split("statistics", torch.device("cpu"))["x"], problem.tensors["train"][0]
    places = [int((train == x).flatten(1).all(1).nonzero()) for x in chosen[:40]]
    assert len(set(places)) == 40 and places != sorted(places)


def test_it_vectorizes_and_a_member_s_numbers_do_not_depend_on_the_others() -> None:
    problem = task()
    assert why_not_vectorized(problem) is None and choose_engine(problem, torch.device("cpu"), 8).path == "vectorized"
    assert invariance_of(problem, 9, torch.device("cpu")) == "bit for bit"
    points = torch.stack([problem.init(seed) for seed in range(9)])
    together = Oracle(problem, "vectorized").measure(points, "validation").loss
    for rows in ([0], [8], [3, 7], list(range(9))[::-1]):
        assert torch.equal(Oracle(problem, "vectorized").measure(points[rows], "validation").loss, together[rows])


@pytest.mark.parametrize("name", ["sgd", "entropy-sgd", "curveball"])
def test_it_trains_on_both_paths_alike_and_is_billed(name: str) -> None:
    problem, ended = task(statistics_limit=200), list[Outcome]()
    for path in ("vectorized", "direct"):
        rule = RULES[name]()
        params = {**defaults(rule.wide), **({"inner_steps": 5} if "inner_steps" in rule.wide else {})}
        population = Population(Oracle(problem, path), rule, 60, dtype=torch.float64)  # type: ignore[arg-type]
        population.admit([Job(0, 3, params, test=True)])
        population.run(lambda free: [], ended.extend, 1)
    first, second = ended
    assert torch.allclose(first.weights, second.weights, rtol=1e-8, atol=1e-10)
    rounds = first.curve.shape[1]
    examples = rounds * (50 + 200) + (40 + 200)
    assert first.ledger.measurement == pytest.approx(FORWARD * examples / 16)
    assert first.measures["validation_loss"] < 1.07  # 1.10 is the loss of uniform predictions


def test_without_such_layers_nothing_is_collected() -> None:
    data = {name: (torch.randn(40, 4), torch.randint(0, 2, (40,))) for name in ("train", "validation", "test")}
    problem = SupervisedProblem("plain", lambda: nn.Linear(4, 2), lambda: data, batch_size=8)
    assert problem.statistics_examples == 0
    assert Oracle(problem, "direct").statistics(problem.init(0)[None]) == {}
