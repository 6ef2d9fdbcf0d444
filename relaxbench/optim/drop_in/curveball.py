"""CurveBall in a training loop: `loss = optimizer.step(model_fn, loss_fn)`, with the model's own layers."""

from __future__ import annotations

import contextlib
import sys
import warnings
from collections.abc import Callable, Iterator
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vjp
from torch.nn.modules.module import register_module_forward_pre_hook

from relaxbench.optim.drop_in.base import RuleOptimizer
from relaxbench.optim.drop_in.flat import Flat
from relaxbench.optim.forward_mode import ForwardMode, Outputs, compiled_forward_mode, forward_mode, uncompiled
from relaxbench.optim.hyper import Value
from relaxbench.optim.linearize import Linearized
from relaxbench.optim.rule import Oracle
from relaxbench.optim.rules import curveball

REMEDIES = {
    "MultiheadAttention": "run it under torch.nn.attention.sdpa_kernel(SDPBackend.MATH)",
    "TransformerEncoderLayer": "run it under torch.nn.attention.sdpa_kernel(SDPBackend.MATH)",
    "EmbeddingBag": "use nn.Embedding and a sum",
    "LSTM": "disable oneDNN with torch.backends.mkldnn.flags(enabled=False)",
}


class CurvatureOptimizer(RuleOptimizer):
    """A rule that needs curvature as a PyTorch optimizer: `loss = optimizer.step(model_fn, loss_fn)`.

    Args:
        model: Model whose parameters are optimized, those that need a gradient.
        params: Some of its parameters, or groups of them with their own weight decays. Default: all parameters.
        total_steps: Calls of `step()` that training makes. The schedule of the step size runs over these.
        seed: Seed of the rule's noise, from 0 to 2⁶³ − 1.
        compile: Compile the model together with its tangents, with `torch.compile`. If False, a model that is
            already compiled runs uncompiled.
        hyper: Hyperparameters and options of the rule by name; the rest have their defaults.

    Raises:
        TypeError: For a missing `total_steps`, a name that the rule does not have, a model that is not a module, a
            complex parameter, or a layer with sparse gradients.
        ValueError: For a value that is not allowed, a value that differs between groups and may not, or parameters
            that are not those of the model.
    """

    def __init__(
        self,
        model: nn.Module,
        params: Any = None,
        *,
        total_steps: int | None = None,
        seed: int = 0,
        compile: bool = False,
        **hyper: Value,
    ) -> None:
        if not isinstance(compile, bool):
            raise TypeError(f"compile = {compile!r}: expected True or False")
        if not isinstance(model, nn.Module):
            raise TypeError(
                f"model is a {type(model).__name__}: {self.rule_class.title} needs the torch.nn.Module itself"
            )
        for name, module in model.named_modules():
            if getattr(module, "sparse", False):
                raise TypeError(
                    f"layer {name!r} ({type(module).__name__}) has sparse gradients: build it with sparse=False"
                )
        chosen = model.parameters() if params is None else params
        super().__init__(chosen, total_steps=total_steps, seed=seed, **hyper)
        names = {id(p): name for name, p in model.named_parameters()}
        foreign = [tuple(p.shape) for p in self._flat.params if id(p) not in names]
        if foreign:
            raise ValueError(f"params holds tensors of shapes {foreign} that are not parameters of the model")
        self._names = [f"model.{names[id(p)]}" for p in self._flat.params]
        self._model, self._checked = model, False
        self._forward = compiled_forward_mode() if compile else forward_mode

    @torch.no_grad()
    def step(  # type: ignore[override]
        self, model_fn: Callable[[], Tensor] | None = None, loss_fn: Callable[[Tensor], Tensor] | None = None
    ) -> float:
        """One step on one mini-batch. Gradients of the parameters are neither read nor written.

        The model runs twice with tangents, and once more every fifth step. All runs of a step draw the same random
        numbers (dropout masks), and its buffers (running statistics) change as in the first one alone.

        Args:
            model_fn: () → outputs ``[B, C]`` of the model on the mini-batch: logits, or predictions.
            loss_fn: outputs → their mean loss, twice differentiable and convex.

        Returns:
            the loss before the step.

        Raises:
            RuntimeError: in evaluation mode.
            ValueError: for a loss without curvature in the outputs, and for compile=True if the model is compiled.
            TypeError: for a model with a layer that has no forward-mode derivative, naming it; without the functions.
        """
        if not callable(model_fn) or not callable(loss_fn):
            raise TypeError(
                f"{type(self).__name__} takes step(model_fn, loss_fn): step(lambda: model(x), lambda outputs: "
                "cross_entropy(outputs, y)); it differentiates by itself, so backward() is not called"
            )
        self._ready()
        if not self._checked:
            self._try_out(model_fn, loss_fn)
        batch = _OneBatch(self._model, self._names, self._flat, model_fn, loss_fn, self._forward)
        try:
            oracle = cast(Oracle, batch)  # a rule that also asks for gradients is not one for this class
            self._rule_state, loss = self.rule.step(self._rule_state, oracle, self._scheduled())
        except BaseException:
            batch.restore()
            raise
        batch.commit()
        self._queries += 1
        self._write_query()
        return loss.item()

    def _try_out(self, model_fn: Callable[[], Tensor], loss_fn: Callable[[Tensor], Tensor]) -> None:
        """Refuse, before the first step, what would fail or be wrong without a word; nothing of it stays behind."""
        batch = _OneBatch(self._model, self._names, self._flat, model_fn, loss_fn, forward_mode)
        try:
            with contextlib.nullcontext() if self._forward is forward_mode else _refuse_compiled():
                x = self.rule.iterate(self._rule_state)
                batch.refuse_flat_losses(batch.linearize(x, torch.zeros_like(x), self._rule_state["t"]))
        finally:
            batch.restore()
            batch.rewind()
        self._checked = True

    def _point(self) -> Tensor:
        return self.rule.iterate(self._rule_state)


class CurveBall(CurvatureOptimizer):
    """A Newton method that keeps one estimate of its step and improves it once per mini-batch."""

    rule_class = curveball.CurveBall


@contextlib.contextmanager
def _refuse_compiled() -> Iterator[None]:
    """What is compiled as a whole cannot be compiled again together with its tangents."""

    def refuse(module: nn.Module, _: object) -> None:
        dynamo = sys.modules.get("torch._dynamo")
        if dynamo is not None and isinstance(module, dynamo.OptimizedModule):
            raise ValueError(
                "compile=True, but model_fn calls a model that is compiled already: give the optimizer and model_fn "
                "the one from before torch.compile"
            )

    handle = register_module_forward_pre_hook(refuse)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Using `torch.compile", UserWarning)  # about this very hook
            yield
    finally:
        handle.remove()


class _Call(nn.Module):
    """A model, called as its user calls it: its parameters can then be exchanged for the time of a call."""

    def __init__(self, model: nn.Module, model_fn: Callable[[], Tensor]) -> None:
        super().__init__()
        self.model, self.model_fn = model, model_fn

    def forward(self) -> Tensor:
        return self.model_fn()


class _OneBatch:
    """A mini-batch behind two functions: a curvature oracle, and the loss that it needs, for one member."""

    def __init__(
        self,
        model: nn.Module,
        names: list[str],
        flat: Flat,
        model_fn: Callable[[], Tensor],
        loss_fn: Callable[[Tensor], Tensor],
        forward: ForwardMode,
    ) -> None:
        self.call, self.model, self.loss_fn = _Call(model, model_fn), model, loss_fn
        self.names, self.flat, self.forward = names, flat, forward
        self.random = torch.get_rng_state(), torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
        self.initial = [(buffer, buffer.detach().clone()) for buffer in model.buffers()]
        self.buffers: list[tuple[Tensor, Tensor]] | None = None

    def linearize(self, points: Tensor, direction: Tensor, batch: Tensor) -> Linearized:
        """The loss around the point; a layer that cannot be pushed through is named."""
        layers: list[tuple[str, nn.Module]] = []
        hooks = [
            module.register_forward_pre_hook(lambda _, __, name=name, module=module: layers.append((name, module)))
            for name, module in self.model.named_modules()
        ]
        try:
            here = Linearized(self, self.outputs, points, direction, self.with_tangent)
        except NotImplementedError as error:
            name, layer = layers[-1] if layers else ("", self.model)
            kind = type(layer).__name__
            where = f"layer {name!r}" if name else "the model"
            raise TypeError(
                f"{where} ({kind}) has no forward-mode derivative, which is needed here: "
                f"{REMEDIES.get(kind, 'replace it')} ({str(error).splitlines()[0]})"
            ) from error
        finally:
            for hook in hooks:
                hook.remove()
        if not here.depends:
            raise ValueError(
                "what model_fn returns does not depend on the model's parameters: it must call the model that the "
                "optimizer was made for, without torch.no_grad() or detach()"
            )
        return here

    def refuse_flat_losses(self, here: Linearized) -> None:
        """A loss that is linear in the outputs would silently turn the method into something else."""
        slope = torch.linspace(-1, 1, here.at.numel(), dtype=here.at.dtype, device=here.at.device).view_as(here.at)
        if not bool(self.curvature(here.at, slope).any()):
            raise ValueError(
                "loss_fn has no curvature in the outputs (an L1 loss, or NLLLoss after LogSoftmax?): let model_fn "
                "return logits and use cross_entropy, or predictions and a square"
            )

    def outputs(self, points: Tensor) -> Tensor:
        """``[1, B, C]`` at ``[1, P]``."""
        with self._replay(), uncompiled():
            return self._outputs(points)

    def with_tangent(self, _: Outputs, points: Tensor, direction: Tensor) -> tuple[Tensor, Tensor | None]:
        """The same, with the tangent of a direction."""
        with self._replay():
            return self.forward(self._outputs, points, direction)

    def _outputs(self, points: Tensor) -> Tensor:
        parts = zip(self.names, torch.split(points[0], self.flat.sizes), self.flat.shapes, self.flat.kinds, strict=True)
        values = {name: part.view(shape).to(kind[0]) for name, part, shape, kind in parts}
        result = functional_call(self.call, values, ())
        if not isinstance(result, Tensor):
            raise TypeError(f"model_fn returned a {type(result).__name__}: expected the outputs as one tensor")
        return result[None]

    @contextlib.contextmanager
    def _replay(self) -> Iterator[None]:
        """All passes draw the same random numbers; what the first one does to the buffers is remembered."""
        if self.buffers is not None:
            self.rewind()
        yield
        if self.buffers is None:
            self.buffers = [(buffer, buffer.detach().clone()) for buffer in self.model.buffers()]

    def rewind(self) -> None:
        """Draw from here on what was drawn before."""
        torch.set_rng_state(self.random[0])
        if self.random[1]:
            torch.cuda.set_rng_state_all(self.random[1])

    def restore(self) -> None:
        """Leave the buffers as they were before."""
        for buffer, value in self.initial:
            buffer.copy_(value)

    def commit(self) -> None:
        """Leave the buffers as the first call did."""
        for buffer, value in self.buffers or []:
            buffer.copy_(value)

    def value(self, outputs: Tensor) -> Tensor:
        """The loss, ``[1, 1]``."""
        value = self.loss_fn(outputs[0])
        if not isinstance(value, Tensor):
            raise TypeError(f"loss_fn returned a {type(value).__name__}: expected the mean loss as a tensor")
        if value.numel() != 1:
            raise ValueError(
                f"loss_fn returned shape {tuple(value.shape)}: expected one number, the mean of the losses"
            )
        return value.view(1, 1)

    def gradient(self, outputs: Tensor) -> Tensor:
        """∇L."""
        slope: Tensor = grad(self.loss_fn)(outputs[0])
        return slope[None]

    def curvature(self, outputs: Tensor, v: Tensor) -> Tensor:
        """H_L v, by differentiating the gradient backwards."""
        bent: Tensor = vjp(grad(self.loss_fn), outputs[0])[1](v[0])[0]
        return bent[None]
