"""Named losses. A name, not a function, because a curvature method needs the loss's own second derivative."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor
from torch.nn import functional

from relaxbench.errors import unknown

Batch = dict[str, Tensor]
"""What a problem is asked about: for data ``{"x": [B, …], "y": [B]}``."""


@dataclass(frozen=True)
class Loss:
    """A loss of outputs on a batch.

    Attributes:
        name: ``"cross-entropy"``, ``"least-squares"``, or ``"none"`` where the outputs are the loss themselves.
        value: (outputs, batch) → scalar, the mean over the batch.
    """

    name: str
    value: Callable[[Tensor, Batch], Tensor]


def _least_squares(outputs: Tensor, batch: Batch) -> Tensor:
    residual = outputs - batch["y"] if "y" in batch else outputs
    squares = residual.square() * batch["weight"] if "weight" in batch else residual.square()
    return squares.sum(-1).mean()


LOSSES = {
    loss.name: loss
    for loss in (
        Loss("cross-entropy", lambda outputs, batch: functional.cross_entropy(outputs, batch["y"])),
        Loss("least-squares", _least_squares),
        Loss("none", lambda outputs, batch: outputs.mean()),
    )
}


def loss(name: str) -> Loss:
    """The loss of a name.

    Raises:
        UserError: if there is none.
    """
    if name not in LOSSES:
        raise unknown("loss", name, LOSSES)
    return LOSSES[name]
