"""One mini-batch of a model and a loss function as a curvature oracle."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.func import functional_call

from relaxbench.optim.drop_in.flat import Flat
from relaxbench.optim.forward_mode import ForwardMode, Outputs, remembering_forward_mode, uncompiled, unspared
from relaxbench.optim.linearize import Linearized

REMEDIES = {
    "MultiheadAttention": "run it under torch.nn.attention.sdpa_kernel(SDPBackend.MATH)",
    "TransformerEncoderLayer": "run it under torch.nn.attention.sdpa_kernel(SDPBackend.MATH)",
    "EmbeddingBag": "use nn.Embedding and a sum",
    "LSTM": "disable oneDNN with torch.backends.mkldnn.flags(enabled=False)",
}


class _Call(nn.Module):
    """A model behind the user's function, so that its parameters can be replaced during a call."""

    def __init__(self, model: nn.Module, model_fn: Callable[[], Tensor]) -> None:
        super().__init__()
        self.model, self.model_fn = model, model_fn

    def forward(self) -> Tensor:
        return self.model_fn()


@dataclass(frozen=True)
class _Differentiated:
    """A loss at outputs ``[1, B, C]``: the leaf ``[B, C]``, the loss ``[1, 1]``, and ∇L with its graph."""

    outputs: Tensor
    leaf: Tensor
    loss: Tensor
    slope: Tensor


class OneBatch:
    """One mini-batch: the user's two functions as a curvature oracle and its loss, for one member.

    Args:
        model: the model.
        names: of the parameters in `flat`, under ``model.``.
        flat: the parameters.
        tied: whether a parameter of the model has several names, which takes long to find out.
        model_fn: returns the outputs.
        loss_fn: maps outputs to their mean loss.
        forward: how values and tangents are computed. None: layers once per point, for all directions.
    """

    def __init__(
        self,
        model: nn.Module,
        names: list[str],
        flat: Flat,
        tied: bool,
        model_fn: Callable[[], Tensor],
        loss_fn: Callable[[Tensor], Tensor],
        forward: ForwardMode | None = None,
    ) -> None:
        self.call, self.model, self.loss_fn = _Call(model, model_fn), model, loss_fn
        self.names, self.flat, self.tied, self.given = names, flat, tied, forward
        self.random = torch.get_rng_state(), torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
        self.initial = [(buffer, buffer.detach().clone()) for buffer in model.buffers()]
        self.buffers: list[tuple[Tensor, Tensor]] | None = None
        self.draws = True  # whether the model draws random numbers: known after the first pass
        self._last: _Differentiated | None = None

    def linearize(self, points: Tensor, direction: Tensor | None, batch: Tensor) -> Linearized:
        """Linearize the loss; an error names the layer that has no forward-mode derivative."""
        self.forward = self.given or remembering_forward_mode()
        try:
            here = Linearized(self, self.outputs, points, direction, self.with_tangent)
        except NotImplementedError as error:
            name, layer = self._last_layer(points, direction)
            kind = type(layer).__name__
            where = f"layer {name!r}" if name else "the model"
            raise TypeError(
                f"{where} ({kind}) has no forward-mode derivative, which is needed here: "
                f"{REMEDIES.get(kind, 'replace it')} ({str(error).splitlines()[0]})"
            ) from error
        if not here.depends:
            raise ValueError(
                "what model_fn returns does not depend on the model's parameters: it must call the model that the "
                "optimizer was made for, without torch.no_grad() or detach()"
            )
        return here

    def _last_layer(self, points: Tensor, direction: Tensor | None) -> tuple[str, nn.Module]:
        """Fail once more, and return the name of the layer that is called last, and the layer."""
        layers: list[tuple[str, nn.Module]] = [("", self.model)]
        hooks = [
            module.register_forward_pre_hook(lambda _, __, name=name, module=module: layers.append((name, module)))
            for name, module in self.model.named_modules()
        ]
        try:
            with contextlib.suppress(NotImplementedError):
                Linearized(self, self.outputs, points, direction, self.with_tangent)
        finally:
            for hook in hooks:
                hook.remove()
        return layers[-1]

    def refuse_flat_losses(self, here: Linearized) -> None:
        """Raise on a loss that is linear in the outputs, which would silently change the method."""
        slope = torch.linspace(-1, 1, here.at.numel(), dtype=here.at.dtype, device=here.at.device).view_as(here.at)
        if not bool(self.curvature(here.at, slope).any()):
            raise ValueError(
                "loss_fn has no curvature in the outputs (an L1 loss, or NLLLoss after LogSoftmax?): let model_fn "
                "return logits and use cross_entropy, or predictions and a square"
            )

    def outputs(self, points: Tensor) -> Tensor:
        """Compute the outputs ``[1, B, C]`` at ``[1, P]``."""
        self._replay()
        with uncompiled():
            result = self._outputs(points)
        self._record()
        return result

    def with_tangent(self, _: Outputs, points: Tensor, direction: Tensor) -> tuple[Tensor, Tensor | None]:
        """Compute the outputs and their tangent along a direction."""
        self._replay()
        result = self.forward(self._outputs, points, direction)
        self._record()
        return result

    def _outputs(self, points: Tensor) -> Tensor:
        with unspared():
            split = torch.split(points.view(-1), self.flat.sizes)  # a row's derivative would be filled with zeros
            parts = zip(self.names, split, self.flat.shapes, self.flat.kinds, strict=True)
            values = {
                name: part.view(shape) if part.dtype == kind[0] else part.view(shape).to(kind[0])
                for name, part, shape, kind in parts
            }
        result = functional_call(self.call, values, (), tie_weights=self.tied)
        if not isinstance(result, Tensor):
            raise TypeError(f"model_fn returned a {type(result).__name__}: expected the outputs as one tensor")
        with unspared():
            return result[None]

    def _replay(self) -> None:
        """Let a pass draw the same random numbers as the first one."""
        if self.buffers is not None and self.draws:
            self.rewind()

    def _record(self) -> None:
        """Keep the buffers as they are after the first pass, and whether it drew random numbers."""
        if self.buffers is None:
            self.buffers = [(buffer, buffer.detach().clone()) for buffer, _ in self.initial]
            self.draws = bool(self.random[1]) or not torch.equal(torch.get_rng_state(), self.random[0])

    def rewind(self) -> None:
        """Put the random generators back to the start of the step."""
        torch.set_rng_state(self.random[0])
        if self.random[1]:
            torch.cuda.set_rng_state_all(self.random[1])

    def restore(self) -> None:
        """Put the buffers back to the start of the step."""
        for buffer, value in self.initial:
            buffer.copy_(value)

    def commit(self) -> None:
        """Put the buffers in the state after the first pass."""
        for buffer, value in self.buffers or []:
            buffer.copy_(value)

    def value(self, outputs: Tensor) -> Tensor:
        """Compute the loss, ``[1, 1]``; that of the outputs whose gradient was computed last is known."""
        if self._last is not None and self._last.outputs is outputs:
            return self._last.loss
        return self._mean(outputs[0])

    def gradient(self, outputs: Tensor) -> Tensor:
        """Compute ∇L."""
        return self._differentiated(outputs).slope.detach()[None]

    def curvature(self, outputs: Tensor, v: Tensor) -> Tensor:
        """Compute H_L v by reverse-mode differentiation of the gradient."""
        here = self._differentiated(outputs)
        if not here.slope.requires_grad:
            return torch.zeros_like(outputs)
        (product,) = torch.autograd.grad(here.slope, here.leaf, v[0], retain_graph=True, materialize_grads=True)
        return product[None]

    def _differentiated(self, outputs: Tensor) -> _Differentiated:
        """Differentiate the loss, or return what was differentiated last, if it was at these outputs."""
        if self._last is None or self._last.outputs is not outputs:
            with torch.enable_grad():
                leaf = outputs[0].detach().requires_grad_()
                loss = self._mean(leaf)
                (slope,) = torch.autograd.grad(loss, leaf, create_graph=True, materialize_grads=True)
            self._last = _Differentiated(outputs, leaf, loss.detach(), slope)
        return self._last

    def _mean(self, outputs: Tensor) -> Tensor:
        value = self.loss_fn(outputs)
        if not isinstance(value, Tensor):
            raise TypeError(f"loss_fn returned a {type(value).__name__}: expected the mean loss as a tensor")
        if value.numel() != 1:
            raise ValueError(
                f"loss_fn returned shape {tuple(value.shape)}: expected one number, the mean of the losses"
            )
        return value.view(1, 1)
