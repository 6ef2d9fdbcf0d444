"""Adapt a `torch.nn.Module` to a population: dropout, batch normalization and convolutions are replaced."""

from __future__ import annotations

import contextlib
import contextvars
from collections import Counter
from collections.abc import Callable, Iterator
from functools import cached_property

import torch
from torch import Tensor, nn

from relaxbench import random
from relaxbench.errors import UserError
from relaxbench.problems.chain import chain
from relaxbench.problems.seeding import torch_seeded
from relaxbench.problems.together import is_together, within

_draw: contextvars.ContextVar[_Draw | None] = contextvars.ContextVar("draw", default=None)
_collected: contextvars.ContextVar[Collected | None] = contextvars.ContextVar("collected", default=None)

Collected = dict["BatchNorm", list[tuple[Tensor, Tensor]]]
"""Means and variances ``[C]`` of the inputs of a layer, one pair per call."""


class _Draw:
    """The random key of one forward pass, and the number of masks that each layer has drawn in it."""

    def __init__(self, seed: Tensor, step: Tensor) -> None:
        self._seed, self._step = seed, step
        self.calls: Counter[int] = Counter()

    @cached_property
    def words(self) -> tuple[Tensor, Tensor]:
        """The key; most models have no dropout and never need it."""
        return random.key(self._seed, random.DROPOUT, self._step)


def drawing(seed: Tensor, step: Tensor) -> contextlib.AbstractContextManager[object]:
    """Make masks a function of seed and step (int64 scalars, also under vmap) within this block, one forward pass."""
    return within(_draw, _Draw(seed, step))


@contextlib.contextmanager
def apart() -> Iterator[None]:
    """Leave the masks and statistics of the forward pass around this block alone: one in it is another."""
    with within(_draw, None), within(_collected, None):
        yield


def collecting() -> contextlib.AbstractContextManager[Collected]:
    """Make batch normalization use the statistics of its inputs, and record them, in this block: one forward pass."""
    statistics: Collected = {}
    return within(_collected, statistics)


class Dropout(nn.Module):
    """Dropout whose mask is a function of (trial seed, step, layer), so that it can be drawn again.

    Outside relaxbench, where no seed is set, it draws from torch's generator like `nn.Dropout`.

    Args:
        p: probability with which an entry is set to zero.

    Raises:
        ValueError: unless 0 ≤ p < 1.
    """

    def __init__(self, p: float = 0.5) -> None:
        super().__init__()
        if not 0 <= p < 1:
            raise ValueError(f"dropout probability p = {p} must lie in [0, 1)")
        self.p = p
        self.layer = 0  # set by `adapt`: layers of one model draw different masks

    def forward(self, x: Tensor) -> Tensor:
        """Set entries of `x`, of any shape, to zero with probability p and divide the others by 1 − p."""
        if not self.training or self.p == 0 or _collected.get() is not None:
            return x
        draw = _draw.get()
        if draw is None:
            return nn.functional.dropout(x, self.p)
        place = self.layer + 1024 * draw.calls[self.layer]  # a layer that is called twice draws two masks
        draw.calls[self.layer] += 1
        keep = random.kept(random.branch(draw.words, place), x.numel(), 1 - self.p)
        return x * keep.view(x.shape).to(x.dtype).mul_(1 / (1 - self.p))

    def extra_repr(self) -> str:
        return f"p={self.p}"


class Conv2d(nn.Module):
    """A convolution that becomes one matrix product per member when several members are trained together.

    PyTorch merges the convolutions of a population into one grouped convolution, in which the order of summation
    changes with K. It does not in matrix products. A single member uses PyTorch's convolution.

    Args:
        original: the layer that is replaced; its parameters are used.

    Attributes:
        channels_last: whether the images of a single member have their channels last in memory from here on. Kernels
            of convolution, pooling and normalization are faster so: LeNet's gradient takes three quarters of the time.
    """

    channels_last = False

    def __init__(self, original: nn.Conv2d) -> None:
        super().__init__()
        self.weight, self.bias = original.weight, original.bias
        self.stride, self.padding, self.dilation = original.stride, original.padding, original.dilation

    def forward(self, x: Tensor) -> Tensor:
        """Convolve `x` of shape ``[B, C, H, W]``."""
        if not is_together():
            if self.channels_last:
                # With one channel, an image is contiguous in both layouts: its strides have to say which is meant.
                x = x[:, 0, ..., None].permute(0, 3, 1, 2) if x.shape[1] == 1 else x
                x = x.contiguous(memory_format=torch.channels_last)
            x = nn.functional.conv2d(x, self.weight, self.bias, self.stride, self.padding, self.dilation)
            return x.contiguous(memory_format=torch.channels_last) if self.channels_last else x
        count, size = x.shape[0], self.weight.shape[2:]
        assert not isinstance(self.padding, str)  # `adapt` leaves those alone
        patches = nn.functional.unfold(x, size, self.dilation, self.padding, self.stride)
        result = self.weight.flatten(1) @ patches.transpose(0, 1).flatten(1)
        if self.bias is not None:
            result = result + self.bias[:, None]
        sides = zip(x.shape[2:], size, self.stride, self.padding, self.dilation, strict=True)
        height, width = ((length + 2 * p - d * (k - 1) - 1) // s + 1 for length, k, s, p, d in sides)
        return result.view(-1, count, height, width).transpose(0, 1)


class BatchNorm(nn.Module):
    """Batch normalization without running averages: evaluation collects the statistics anew at the measured point.

    Running averages would belong to the points at which gradients were taken, not to the iterate that is measured. When
    several members are trained together, plain operations are used, so that the sums of a member do not depend on the
    other members.

    Args:
        original: the layer that is replaced; its parameters are used.
    """

    running_mean: Tensor
    running_var: Tensor

    def __init__(self, original: nn.modules.batchnorm._BatchNorm) -> None:
        super().__init__()
        self.eps: float = original.eps
        self.weight: nn.Parameter | None = original.weight
        self.bias: nn.Parameter | None = original.bias
        self.register_buffer("running_mean", torch.zeros(original.num_features))
        self.register_buffer("running_var", torch.ones(original.num_features))

    def forward(self, x: Tensor) -> Tensor:
        """Normalize `x` of shape ``[B, C, …]`` over all axes but the second."""
        statistics, shape = _collected.get(), (1, -1, *(1 for _ in x.shape[2:]))
        x = x.float() if x.dtype == torch.bfloat16 else x  # the sums are over thousands of numbers
        if statistics is None and not is_together():
            mean, variance = (None, None) if self.training else (self.running_mean, self.running_var)
            return nn.functional.batch_norm(x, mean, variance, self.weight, self.bias, self.training, eps=self.eps)
        if self.training or statistics is not None:
            others = [0, *range(2, x.dim())]
            mean = x.mean(others, keepdim=True)
            centred = x - mean
            variance = centred.square().mean(others, keepdim=True)
            if statistics is not None:
                count = x.numel() // x.shape[1]
                pair = mean.flatten(), variance.flatten() * (count / max(1, count - 1))
                statistics.setdefault(self, []).append(pair)
        else:
            centred, variance = x - self.running_mean.view(shape), self.running_var.view(shape)
        result = centred * torch.rsqrt(variance + self.eps)
        return _scaled(result, self.weight, self.bias)


class FrozenBatchNorm(nn.Module):
    """Batch normalization that keeps the running statistics that it came with, in training and in evaluation.

    Args:
        original: the layer that is replaced; its parameters and statistics are used.
    """

    running_mean: Tensor
    running_var: Tensor

    def __init__(self, original: nn.modules.batchnorm._BatchNorm) -> None:
        super().__init__()
        self.eps: float = original.eps
        self.weight: nn.Parameter | None = original.weight
        self.bias: nn.Parameter | None = original.bias
        self.register_buffer("running_mean", original.running_mean)
        self.register_buffer("running_var", original.running_var)

    def forward(self, x: Tensor) -> Tensor:
        """Normalize `x` of shape ``[B, C, …]`` by the statistics."""
        shape = (1, -1, *(1 for _ in x.shape[2:]))
        x = x.float() if x.dtype == torch.bfloat16 else x
        result = (x - self.running_mean.view(shape)) * torch.rsqrt(self.running_var + self.eps).view(shape)
        return _scaled(result, self.weight, self.bias)


def _scaled(x: Tensor, weight: Tensor | None, bias: Tensor | None) -> Tensor:
    """Scale and shift the channels of `x` ``[B, C, …]``, where the layer does."""
    shape = (1, -1, *(1 for _ in x.shape[2:]))
    return x if weight is None or bias is None else x * weight.view(shape) + bias.view(shape)


def is_frozen(norm: nn.Module) -> bool:
    """Whether a layer is one of batch normalization in evaluation mode, or with parameters of which none is trained."""
    if not isinstance(norm, nn.modules.batchnorm._BatchNorm):
        return False
    parameters = [p.requires_grad for p in norm.parameters()]
    return not norm.training or (bool(parameters) and not any(parameters))


REPLACED = (nn.Dropout, nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.Conv2d)
"""Types of layers that `adapt` may replace."""
HOOKED = ("_is_full_backward_hook",)
"""What belongs to the hooks of a layer, beside the dictionaries of these."""


def _batch_norm(norm: nn.modules.batchnorm._BatchNorm) -> BatchNorm | FrozenBatchNorm:
    return FrozenBatchNorm(norm) if is_frozen(norm) else BatchNorm(norm)


def adapt(model: nn.Module) -> nn.Module:
    """Replace dropout, batch normalization and convolutions of a model, in place, and return the model.

    Linear layers that follow each other are chained, which computes the same.

    Raises:
        UserError: for a layer that a population cannot train; the message names the layer and the remedy.
    """
    norms: dict[nn.Module, BatchNorm | FrozenBatchNorm] = {}
    for name, parent in list(model.named_modules()):
        for child_name, child in list(parent._modules.items()):  # named_children() lists a layer used twice only once
            path = f"{name}.{child_name}".lstrip(".")
            if "forward" in vars(child) and type(child) in REPLACED:
                raise UserError(
                    f"layer {path!r} ({type(child).__name__}) has a forward of its own, set from outside, which a "
                    "study would not call: make it a layer of a class of your own"
                )
            if type(child) is nn.Dropout:
                setattr(parent, child_name, Dropout(child.p))
            elif type(child) in (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d) and child.track_running_stats:
                setattr(parent, child_name, norms.setdefault(child, _batch_norm(child)))  # used twice, it stays one
            elif type(child) is nn.Conv2d and child.groups == 1 and not isinstance(child.padding, str):
                if child.padding_mode == "zeros" and not child._forward_pre_hooks:  # weight_norm is such a hook
                    setattr(parent, child_name, Conv2d(child))
            elif isinstance(child, nn.modules.dropout._DropoutNd) and child.p > 0:
                raise UserError(
                    f"layer {path!r} ({type(child).__name__}) draws its mask from a generator, which cannot be "
                    "replayed: use relaxbench.problems.Dropout instead"
                )
            # A replaced layer takes the mode. `train()` would also set the layers below, some of which may be frozen.
            now = getattr(parent, child_name)
            now.training = child.training
            vars(now).update({key: value for key, value in vars(child).items() if "_hooks" in key or key in HOOKED})
    chain(model)
    for layer, module in enumerate(m for m in model.modules() if isinstance(m, Dropout)):
        module.layer = layer
    for name, module in model.named_modules():
        if getattr(module, "track_running_stats", False) and getattr(module, "running_mean", None) is not None:
            raise UserError(
                f"layer {name!r} ({type(module).__name__}) keeps running statistics, which a population does not "
                "have: build it with track_running_stats=False, or use BatchNorm, GroupNorm or LayerNorm"
            )
    return model


def initial(build: Callable[[], object], seed: int) -> nn.Module:
    """Build a model, as its own code initializes it, with torch's generator seeded during the call.

    Raises:
        UserError: if the function returns something other than a module.
    """
    with torch_seeded((seed ^ seed >> 32) & 0xFFFFFFFF):  # torch's CPU generator uses 32 bits of a seed
        model = build()
    if not isinstance(model, nn.Module):
        raise UserError(f"the model function returned {type(model).__name__}; expected a torch.nn.Module")
    return model
