"""Chains of linear layers in layouts in which a population's products of small matrices are fast."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from relaxbench.problems.together import is_together

ELEMENTWISE = (
    *(nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.ELU, nn.SELU, nn.CELU, nn.GELU, nn.SiLU, nn.Mish, nn.Hardtanh, nn.Hardswish),
    *(nn.Tanh, nn.Sigmoid, nn.Softplus, nn.Softsign, nn.LogSigmoid, nn.Tanhshrink, nn.Identity),
)
"""Layers that compute every number from that number alone, in whatever order the numbers lie in memory."""


class Chain(nn.Sequential):
    """A sequence of layers that keeps activations transposed between linear layers, if members are trained together.

    Forward, W Xᵀ takes a third of the time of X Wᵀ where W has few rows; backward, the gradient Gᵀ X has the layout of
    W, while Xᵀ G has to be transposed. Both are the same numbers. So ``[B, I]`` goes through a run of linear and
    elementwise layers as ``[I, B]``. What leaves it is contiguous again, because a model may ask for a view of it.

    Attributes:
        runs: first and last linear layer of every run, by their places in the sequence.
    """

    runs: tuple[tuple[int, int], ...] = ()

    def forward(self, x: Any) -> Any:
        """Apply all layers."""
        if not self.runs or not is_together():
            return super().forward(x)  # type: ignore[no-untyped-call]
        layers, starts, place = list(self), dict(self.runs), 0
        while place < len(layers):
            if place in starts and isinstance(x, Tensor) and x.dim() == 2 and x.device.type == "cpu":
                end = starts[place] + 1
                x = _transposed(layers[place:end], x)
                place = end
            else:
                x = layers[place](x)
                place += 1
        return x


def chained(layers: nn.Sequential) -> tuple[tuple[int, int], ...]:
    """Return the runs of a sequence: linear layers with only elementwise ones between them, two linear ones at least.

    A layer with hooks ends a run, because a hook may ask for the layout that PyTorch gives.
    """
    runs, linear = list[tuple[int, int]](), list[int]()
    for place, layer in enumerate([*layers, None]):
        plain = layer is not None and not _hooked(layer)
        if plain and type(layer) is nn.Linear:
            linear.append(place)
        elif not plain or type(layer) not in ELEMENTWISE:
            runs += [(linear[0], linear[-1])] if len(linear) > 1 else []
            linear = []
    return tuple(runs)


def _transposed(layers: list[nn.Module], x: Tensor) -> Tensor:
    """Apply a run to ``[B, I]``."""
    for layer in layers:
        x = _linear(layer, x) if isinstance(layer, nn.Linear) else layer(x)
    return x.contiguous()


def _linear(layer: nn.Linear, x: Tensor) -> Tensor:
    bias: Tensor | None = layer.bias
    y = layer.weight @ x.mT
    return (y if bias is None else y + bias[:, None]).mT


def _hooked(layer: nn.Module) -> bool:
    return any(value for name, value in vars(layer).items() if "_hooks" in name)
