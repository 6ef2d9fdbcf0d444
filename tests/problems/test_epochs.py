"""Mini-batches without replacement: a function of the seed and the epoch, however a run is divided into rounds."""

from __future__ import annotations

import functools
import itertools
import operator

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from relaxbench import random
from relaxbench.problems import SupervisedProblem
from tests.problems.test_supervised import toy

CPU = torch.device("cpu")


def examples(task: SupervisedProblem, seed: int, first: int, last: int) -> list[list[int]]:
    """The numbers of the examples of mini-batches first … last − 1, in one round."""
    sampler = task.sampler([seed], [first], last - first, CPU)
    return [sampler.batch(torch.tensor([[n]]))["x"][0, :, 0].long().tolist() for n in range(first, last)]


def recomputed(seed: int, number: int, count: int, batch: int) -> list[int]:
    epoch, place = divmod(number, count // batch)
    order = random.permutation(random.key(torch.tensor([seed]), random.ORDER, torch.tensor([epoch])), count)
    return order[place * batch : (place + 1) * batch].tolist()


@given(st.integers(3, 40), st.data(), st.integers(0, 2**63 - 1), st.lists(st.integers(1, 12), min_size=1, max_size=8))
@settings(max_examples=60)
def test_any_split_into_rounds_gives_the_same_batches(
    count: int, data: st.DataObject, seed: int, rounds: list[int]
) -> None:
    batch = data.draw(st.integers(1, count))
    task, first, got = toy(count, batch), data.draw(st.integers(0, 30)), []
    ends = list(itertools.accumulate(rounds, initial=first))
    for begin, end in itertools.pairwise(ends):
        got += examples(task, seed, begin, end)
    assert got == [recomputed(seed, n, count, batch) for n in range(first, ends[-1])]
    assert got == examples(toy(count, batch), seed, first, ends[-1])


def test_an_epoch_visits_no_example_twice_and_every_epoch_has_its_own_order() -> None:
    task = toy(23, 5)  # 4 batches per epoch, 3 examples left out
    batches = examples(task, 1, 0, 40)
    epochs = [functools.reduce(operator.iadd, batches[4 * e : 4 * e + 4], []) for e in range(10)]
    assert all(len(set(epoch)) == 20 for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 10
    left_out = [set(range(23)) - set(epoch) for epoch in epochs]
    assert len(set().union(*left_out)) > 12  # not always the same
    assert examples(task, 2, 0, 40) != batches


def test_members_at_different_batches_get_the_same_as_alone() -> None:
    task, seeds, first = toy(23, 5), [4, 2**62 + 1, 4], [0, 7, 3]
    sampler = task.sampler(seeds, first, 9, CPU)
    for step in range(9):
        batch = sampler.batch(torch.tensor([[f + step] for f in first]))
        assert batch["x"].shape == (3, 5, 3) and batch["seed"].tolist() == seeds
        assert batch["step"].tolist() == [f + step for f in first]
        for k in range(3):
            assert batch["x"][k, :, 0].long().tolist() == recomputed(seeds[k], first[k] + step, 23, 5)
            assert torch.equal(batch["y"][k], batch["x"][k, :, 0].long() % 4)


def test_orders_of_past_epochs_and_departed_members_are_forgotten() -> None:
    task = toy(23, 5)
    for start in range(0, 400, 4):
        task.sampler([start, start + 1], [start, start], 4, CPU)
    assert sum(len(orders) for orders in task._orders.values()) <= 4
