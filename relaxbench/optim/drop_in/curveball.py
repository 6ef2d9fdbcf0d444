"""CurveBall as a PyTorch optimizer: `loss = optimizer.step(model_fn, loss_fn)`, for any model."""

from __future__ import annotations

import contextlib
import sys
import warnings
from collections.abc import Callable, Iterator
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_pre_hook

from relaxbench.optim.drop_in.base import RuleOptimizer
from relaxbench.optim.drop_in.compiled import runs_uncompiled
from relaxbench.optim.drop_in.one_batch import OneBatch
from relaxbench.optim.forward_mode import compiled_forward_mode, plain_attention
from relaxbench.optim.rule import Oracle
from relaxbench.optim.rules import curveball
from relaxbench.space import Value
from relaxbench.util.malloc import keep_blocks_up_to_32_mib


class CurvatureOptimizer(RuleOptimizer):
    """A rule that needs curvature as a PyTorch optimizer: `loss = optimizer.step(model_fn, loss_fn)`.

    Args:
        model: Model whose parameters are optimized, those that need a gradient.
        params: Some of its parameters, or groups of them with their own weight decays. Default: all parameters.
        total_steps: Calls of `step()` that training makes. The schedule of the step size runs over these; it is not
            needed if that is "constant".
        seed: Seed of the rule's noise, from 0 to 2⁶³ − 1.
        compile: Compile the model together with its tangents, with `torch.compile`. If False, a model that is
            already compiled runs uncompiled.
        hyper: Hyperparameters and options of the rule by name; the rest have their defaults.

    Raises:
        TypeError: For a missing `total_steps` if something is scheduled over it, a name that the rule does not have, a
            model that is not a module, a complex parameter, or a layer with sparse gradients.
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
        self._named = [(name, p) for name, p in model.named_parameters()]
        self._tied = len(list(model.named_parameters(remove_duplicate=False))) > len(self._named)
        known = {id(p) for _, p in self._named}
        foreign = [tuple(p.shape) for group in self.param_groups for p in group["params"] if id(p) not in known]
        if foreign:
            raise ValueError(f"params holds tensors of shapes {foreign} that are not parameters of the model")
        keep_blocks_up_to_32_mib()  # a step makes and frees a dozen vectors of parameters
        self._model, self._checked = model, False
        self._forward = compiled_forward_mode() if compile else None

    @runs_uncompiled
    @torch.no_grad()
    def step(  # type: ignore[override]
        self,
        model_fn: Callable[[], Tensor] | None = None,
        loss_fn: Callable[[Tensor], Tensor] | None = None,
        *,
        closure: Callable[[], Tensor] | None = None,
    ) -> float:
        """Take one step on one mini-batch. It neither reads nor writes the gradients of the parameters.

        The model runs several times, some of them with tangents. All runs of a step draw the same random numbers
        (dropout masks); its buffers (running statistics) change as in the first run alone.

        Args:
            model_fn: returns the outputs ``[B, C]`` of the model on the mini-batch: logits, or predictions.
            loss_fn: maps outputs to their mean loss; twice differentiable and convex.
            closure: another name of `model_fn`, under which PyTorch Lightning passes it on.

        Returns:
            the loss before the step.

        Raises:
            RuntimeError: in evaluation mode, or if other code has changed the parameters.
            ValueError: for a loss without curvature in the outputs, or for compile=True with a compiled model.
            TypeError: for a layer without a forward-mode derivative (the message names it), or without the functions.
        """
        model_fn = closure if model_fn is None else model_fn
        if not callable(model_fn) or not callable(loss_fn):
            raise TypeError(
                f"{type(self).__name__} takes step(model_fn, loss_fn): step(lambda: model(x), lambda outputs: "
                "cross_entropy(outputs, y)); it differentiates by itself, so backward() is not called"
            )
        self._ready()
        self._adopt()
        if not self._checked:
            self._try_out(model_fn, loss_fn)
        batch = OneBatch(self._model, self._names, self._flat, self._tied, model_fn, loss_fn, self._forward)
        try:
            oracle = cast(Oracle, batch)  # a rule that also requests gradients cannot be used with this class
            with plain_attention():  # once for all passes
                self._rule_state, loss = self.rule.step(self._rule_state, oracle, self._scheduled())
        except BaseException:
            batch.restore()
            raise
        batch.commit()
        self._queries += 1
        self._write_query()
        return loss.item()

    @property
    def _names(self) -> list[str]:
        names = {id(p): name for name, p in self._named}
        return [f"model.{names[id(p)]}" for p in self._flat.params]

    def _try_out(self, model_fn: Callable[[], Tensor], loss_fn: Callable[[Tensor], Tensor]) -> None:
        """Raise before the first step on misuse that would fail silently; undo every side effect."""
        batch = OneBatch(self._model, self._names, self._flat, self._tied, model_fn, loss_fn)
        try:
            with contextlib.nullcontext() if self._forward is None else _refuse_compiled():
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
    """Raise if a compiled model runs: it cannot be compiled again together with its tangents."""

    def refuse(module: nn.Module, _: object) -> None:
        dynamo = sys.modules.get("torch._dynamo")
        if dynamo is not None and isinstance(module, dynamo.OptimizedModule):
            raise ValueError(
                "compile=True, but model_fn calls a model that is compiled already: give the optimizer and model_fn "
                "the model from before torch.compile"
            )

    handle = register_module_forward_pre_hook(refuse)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Using `torch.compile", UserWarning)  # about this very hook
            yield
    finally:
        handle.remove()
