"""Any `torch.nn.Module` as a function of a vector, and the layers that need our randomness."""

from __future__ import annotations

import contextlib
import contextvars
from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor, nn

from relaxbench import random
from relaxbench.errors import UserError

_draw: contextvars.ContextVar[_Draw | None] = contextvars.ContextVar("draw", default=None)


class _Draw(NamedTuple):
    """What the masks of one forward pass are functions of, and how often each layer has drawn one in it."""

    seed: Tensor
    step: Tensor
    calls: Counter[int]


@contextlib.contextmanager
def drawing(seed: Tensor, step: Tensor) -> Iterator[None]:
    """Within this block, one forward pass, masks are a function of seed and step (int64 scalars, also under vmap)."""
    token = _draw.set(_Draw(seed, step, Counter()))
    try:
        yield
    finally:
        _draw.reset(token)


class Dropout(nn.Module):
    """Dropout whose mask is a function of (trial seed, step, layer), so that it can be drawn again.

    Outside relaxbench, where no seed is set, it draws from torch's generator like `nn.Dropout`.
    """

    def __init__(self, p: float = 0.5) -> None:
        super().__init__()
        if not 0 <= p < 1:
            raise ValueError(f"dropout probability p = {p} must lie in [0, 1)")
        self.p = p
        self.layer = 0  # set by `adapt`: layers of one model draw different masks

    def forward(self, x: Tensor) -> Tensor:
        """`x` of any shape, with a share p of its entries set to zero and the rest divided by 1 − p."""
        if not self.training or self.p == 0:
            return x
        draw = _draw.get()
        if draw is None:
            return nn.functional.dropout(x, self.p)
        place = self.layer + 1024 * draw.calls[self.layer]  # a layer that is called twice draws two masks
        draw.calls[self.layer] += 1
        words = random.key(draw.seed, random.DROPOUT + 256 * (1 + place), draw.step)
        index = torch.arange(x.numel(), device=x.device).view(x.shape)
        keep = random.uniform(words, index) >= self.p
        return torch.where(keep, x / (1 - self.p), torch.zeros_like(x))

    def extra_repr(self) -> str:
        return f"p={self.p}"


def adapt(model: nn.Module) -> nn.Module:
    """The model with its `nn.Dropout` layers replaced by ours; changed in place.

    Raises:
        UserError: for a layer that a population cannot hold, naming the layer and the remedy.
    """
    for name, parent in list(model.named_modules()):
        for child_name, child in list(parent._modules.items()):  # named_children() lists a layer used twice only once
            where = f"{name}.{child_name}".lstrip(".")
            if type(child) is nn.Dropout:
                setattr(parent, child_name, Dropout(child.p))
            elif isinstance(child, nn.modules.dropout._DropoutNd) and child.p > 0:
                raise UserError(
                    f"layer {where!r} ({type(child).__name__}) draws its mask from a generator, which cannot be "
                    "replayed: use relaxbench.problems.Dropout instead"
                )
    for layer, module in enumerate(m for m in model.modules() if isinstance(m, Dropout)):
        module.layer = layer
    for name, module in model.named_modules():
        if getattr(module, "track_running_stats", False) and getattr(module, "running_mean", None) is not None:
            raise UserError(
                f"layer {name!r} ({type(module).__name__}) keeps running statistics, which a population does not "
                "have: build it with track_running_stats=False, or use GroupNorm or LayerNorm"
            )
    return model


def initial(model_class: type[nn.Module] | object, seed: int) -> nn.Module:
    """A model as its own code initializes it, with torch's generator seeded for the time of the call."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed((seed ^ seed >> 32) & 0xFFFFFFFF)  # torch's CPU generator looks at 32 bits alone
        model = model_class()  # type: ignore[operator]
    if not isinstance(model, nn.Module):
        raise UserError(f"the model function returned {type(model).__name__}; expected a torch.nn.Module")
    return model
