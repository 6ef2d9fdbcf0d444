"""A user's splits as tensors: pairs of tensors or arrays, or a `torch.utils.data.Dataset` with random augmentation."""

from __future__ import annotations

import contextlib
import random as python
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from relaxbench.errors import UserError
from relaxbench.problems.epochs import EpochSampler
from relaxbench.problems.losses import Batch
from relaxbench.problems.seeding import torch_seeded
from relaxbench.util.seeds import derive

TRIED = 8
"""Examples that are read with two seeds, to see whether reading them is random."""


def tensors_of(problem: str, split: str, data: Any) -> tuple[Tensor, Tensor]:
    """Return inputs and labels of a split; a Dataset is read once, with its random numbers fixed.

    Raises:
        UserError: for a split of another form.
    """
    if _is_dataset(data):
        if not len(data):
            raise UserError(f"problem {problem!r}: the Dataset of {split} is empty: expected examples")
        return read(problem, data, range(len(data)), 0)
    try:
        x, y = (_tensor(part) for part in data)
    except (TypeError, ValueError, RuntimeError):
        raise UserError(
            f"problem {problem!r}: {split} is {type(data).__name__}: expected (inputs, labels) as tensors or arrays, "
            "or a torch.utils.data.Dataset with a length"
        ) from None
    for part in (x, y):
        if not part.dim():
            raise UserError(f"problem {problem!r}: {split} holds one number: expected one row per example")
        if not ordinary(part):
            kinds = {"complex": part.is_complex(), "quantized": part.is_quantized, "nested": part.is_nested}
            kinds["meta"] = part.is_meta
            kind = next((name for name, given in kinds.items() if given), str(part.layout).removeprefix("torch."))
            raise UserError(
                f"problem {problem!r}: {split} holds a tensor of another kind ({kind}): expected dense tensors of real "
                "numbers, such as tensor.to_dense()"
            )
    return x, y


def ordinary(tensor: Tensor) -> bool:
    """Return whether a tensor is dense, holds real numbers, and has values at all."""
    return not (
        tensor.layout != torch.strided
        or tensor.is_nested
        or tensor.is_complex()
        or tensor.is_quantized
        or tensor.is_meta
    )


def draws(problem: str, data: Any) -> bool:
    """Return whether a split is a Dataset whose examples differ from one reading to the next."""
    if not _is_dataset(data):
        return False
    rows = range(min(TRIED, len(data)))
    (x, y), (other, label) = (read(problem, data, rows, seed) for seed in (1, 2))
    return not (torch.equal(x, other) and torch.equal(y, label))


def read(problem: str, data: Any, rows: Any, seed: int) -> tuple[Tensor, Tensor]:
    """Read examples of a Dataset; their random numbers, torch's, Python's and numpy's, are a function of the seed.

    Raises:
        UserError: for an example that is not a pair of tensors (or numbers) of one shape.
    """
    with _seeded(seed):
        items = [data[int(row)] for row in rows]
    try:
        xs, ys = zip(*((_tensor(x), _tensor(y)) for x, y in items), strict=True)
        return torch.stack(xs), torch.stack(ys)
    except (TypeError, ValueError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(
            f"problem {problem!r}: the Dataset gives examples that cannot be stacked ({reason}): expected pairs "
            "(input, label) of tensors or numbers, all of one shape"
        ) from error


class DatasetSampler(EpochSampler):
    """Mini-batches of a Dataset with random augmentation, which are read anew for every gradient.

    The random numbers of a mini-batch are a function of the member's seed and its number.

    Attributes:
        source: problem's name and the Dataset; set after construction.
    """

    source: tuple[str, Any]

    def batch(self, number: Tensor) -> Batch:
        batch, (name, data) = super().batch(number), self.source
        xs, ys = [], []
        for rows, seed, step in zip(self.rows(number), self.seeds[:, 0].tolist(), number[:, 0].tolist(), strict=True):
            x, y = read(name, data, rows.tolist(), derive(seed, "augment", step))
            xs.append(x)
            ys.append(y)
        device = number.device
        return {**batch, "x": torch.stack(xs).to(device), "y": torch.stack(ys).to(device)}


def _is_dataset(data: Any) -> bool:
    return isinstance(data, torch.utils.data.Dataset) and hasattr(data, "__len__")


def _tensor(value: Any) -> Tensor:
    """Convert arrays, numbers and tensors; numpy's default types become torch's."""
    if isinstance(value, Tensor):
        return value.detach() if value.requires_grad else value
    array = np.asarray(value)
    if array.dtype == np.float64:
        array = array.astype(np.float32)
    elif array.dtype.kind in "iu" and array.dtype != np.uint8:
        array = array.astype(np.int64)
    return torch.tensor(array)


@contextlib.contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Seed all generators in this block, and put them back afterwards."""
    numpy_state, python_state = np.random.get_state(), python.getstate()
    with torch_seeded(seed & 0xFFFFFFFF):
        python.seed(seed & 0xFFFFFFFF)
        np.random.seed(seed & 0xFFFFFFFF)
        try:
            yield
        finally:
            np.random.set_state(numpy_state)
            python.setstate(python_state)
