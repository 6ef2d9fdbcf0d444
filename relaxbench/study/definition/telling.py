"""Choose the data on which a problem is probed: the first mini-batch alone would miss what is rare."""

from __future__ import annotations

import torch
from torch import Tensor

from relaxbench.problems import Batch, Problem, SupervisedProblem

SEED = 20_000_003
EXAMPLES = 8
"""Examples of the mini-batch: enough for any layer, and few enough for a large network on one core."""
HELD_OUT = 256
"""Validation examples on which loss and metric are tried."""
RARE = 128
"""Training examples at most that have a rare label, and as many with a rare input."""
SEARCHED = 5_000_000
"""Numbers at most among which rare ones are looked for."""
READ = 1024
"""Training examples that are looked at where examples are read one by one."""
NUMBERS = (0, 1, 5)
"""Of mini-batches that are compared."""


def few(task: Problem) -> Batch:
    """Return the first examples of the first mini-batch."""
    batch, count = whole(task), task.batch_size
    return {name: value[:EXAMPLES] if value.dim() and len(value) == count else value for name, value in batch.items()}


def whole(task: Problem) -> Batch:
    """Return the first mini-batch."""
    sampler = task.sampler([SEED], [0], 1, torch.device("cpu"))
    return {name: value[0] for name, value in sampler.batch(torch.zeros(1, 1, dtype=torch.int64)).items()}


def held_out(task: Problem) -> Batch:
    """Return the first validation examples."""
    return task.part("validation", slice(0, HELD_OUT), torch.device("cpu"))


def rare(task: Problem) -> Batch:
    """Return training examples that together have every label and every input that is a whole number, or extremes."""
    cpu = torch.device("cpu")
    batch = task.split("train", cpu) if task.in_memory else task.part("train", slice(0, READ), cpu)
    count = next(len(value) for value in batch.values() if value.dim())
    rows = torch.cat([_first_of_each(value) for value in batch.values() if value.dim() and len(value) == count])
    return {name: value[rows] if value.dim() and len(value) == count else value for name, value in batch.items()}


def sums_of_batches(task: Problem) -> list[Tensor]:
    """Return a number for every tensor of some mini-batches of two seeds: another order or augmentation changes it."""
    sums = []
    for seed in (SEED, SEED + 1):
        sampler = task.sampler([seed], [0], NUMBERS[-1] + 1, torch.device("cpu"))
        for number in NUMBERS:
            batch = sampler.batch(torch.tensor([[number]]))
            sums += [weighted(batch[name]) for name in sorted(batch) if name not in ("seed", "step")]
    return sums


def sums_of_splits(task: Problem) -> list[Tensor]:
    """Return a number for every tensor of a problem's splits; none for data that have a fingerprint."""
    if isinstance(task, SupervisedProblem):
        return []
    splits = [task.split(name, torch.device("cpu")) for name in ("validation", "test")]
    return [
        number for batch in splits for name in sorted(batch) for number in (weighted(batch[name]), _size(batch[name]))
    ]


def _first_of_each(values: Tensor) -> Tensor:
    """Return the rows where each whole number stands first; of real numbers, those of the smallest and the largest."""
    rows = values.reshape(len(values), -1)
    rows = rows[: max(1, SEARCHED // max(1, rows.shape[1]))]
    flat = rows.reshape(-1)
    if not flat.numel():
        return torch.zeros(1, dtype=torch.int64)
    if values.is_floating_point() or values.dtype == torch.uint8:
        return torch.stack([flat.argmin(), flat.argmax()]) // rows.shape[1]
    known, place = torch.unique(flat, return_inverse=True)
    first = torch.full((len(known),), len(flat)).scatter_reduce(0, place, torch.arange(len(flat)), "amin")
    each = torch.unique(first // rows.shape[1])
    chosen: Tensor = each[torch.linspace(0, len(each) - 1, min(RARE, len(each))).long()]
    return chosen


def weighted(values: Tensor) -> Tensor:
    """Return a sum in which every place has its own weight."""
    flat = values.detach().reshape(-1).to(torch.float64)
    return (flat * torch.sin(0.7 + 1.3 * torch.arange(len(flat), dtype=torch.float64))).sum()


def _size(values: Tensor) -> Tensor:
    return torch.tensor(float(values.numel()), dtype=torch.float64)
