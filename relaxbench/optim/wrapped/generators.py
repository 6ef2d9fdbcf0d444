"""The global generators of random numbers, from which an optimizer must not draw: trials would depend on each other."""

from __future__ import annotations

import random
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from relaxbench.errors import UserError

States = dict[str, object]


@contextmanager
def untouched(path: str, device: torch.device, all_of_them: bool = True) -> Iterator[None]:
    """Refuse draws from a global generator in this block.

    Args:
        path: of the optimizer that runs in it, for the message.
        device: of its parameters.
        all_of_them: whether Python's and numpy's are compared too, which takes 0.1 ms.

    Raises:
        UserError: at the end, naming the generator.
    """
    before = _states(device, all_of_them)
    yield
    after = _states(device, all_of_them)
    drawn = [name for name, state in before.items() if not _same(state, after.get(name))]
    if drawn:
        raise UserError(
            f"optimizer {path!r} draws from a global generator, {drawn[0]}, so that trials would depend on each other: "
            "give it an option without random numbers, or name another one"
        )


def _states(device: torch.device, all_of_them: bool) -> States:
    """Return the states of the generators of PyTorch, Python and, where it is imported, numpy."""
    found: States = {"PyTorch's": torch.get_rng_state()}
    if device.type == "cuda":
        found["PyTorch's of the GPU"] = torch.cuda.get_rng_state(device)
    if not all_of_them:
        return found
    found["Python's"] = random.getstate()
    numpy = sys.modules.get("numpy")  # the optimizers need none
    if numpy is not None:
        _, keys, *others = numpy.random.get_state()
        found["numpy's"] = (keys.tobytes(), *others)
    return found


def _same(one: object, other: object) -> bool:
    if isinstance(one, torch.Tensor) and isinstance(other, torch.Tensor):
        return torch.equal(one, other)
    return one == other
