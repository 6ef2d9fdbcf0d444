"""A user's model as a function of its trainable parameters: frozen parts, buffers, pretrained weights, state dicts."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from relaxbench.errors import UserError
from relaxbench.problems import layers
from relaxbench.problems.problem import Params
from relaxbench.problems.together import is_together

Pretrained = Mapping[str, Tensor] | Callable[[], Mapping[str, Tensor]]
"""A state dict, or a function without arguments that returns one."""


class AdaptedModel:
    """A model whose trainable parameters are given from outside, one vector per trial.

    Frozen parameters (``requires_grad=False``) and buffers are constants, the same in all trials: those of the
    pretrained weights, else those that the model function makes with seed 0. A part that the model function leaves in
    evaluation mode, or that the model's own ``train()`` puts there, stays in evaluation mode. A model that is in
    evaluation mode as a whole is trained, because many loaders return pretrained models so.

    Args:
        build: the model function.
        pretrained: weights that replace those of the model function, by name; names that are missing keep theirs.
    """

    def __init__(self, build: Callable[[], object], pretrained: Pretrained | None = None) -> None:
        self.build, self._pretrained = build, pretrained
        self._constants: dict[tuple[str, torch.dtype], Params] = {}
        self._channels_last: bool | None = None  # undecided
        self._modes: tuple[bool, list[tuple[nn.Module, bool]]] | None = None  # as `train` has left them

    def original(self, seed: int) -> nn.Module:
        """Build the user's own model.

        Raises:
            UserError: if it is no module, or if the pretrained weights do not fit.
        """
        model = layers.initial(self.build, seed)
        if self.pretrained:
            _load(model, self.pretrained)
        return model

    @cached_property
    def pretrained(self) -> Mapping[str, Tensor]:
        """The pretrained weights by name, loaded once; empty without any."""
        weights: Any = self._pretrained() if callable(self._pretrained) else self._pretrained or {}
        if not (isinstance(weights, Mapping) and all(isinstance(value, Tensor) for value in weights.values())):
            raise UserError(
                f"pretrained is {type(weights).__name__}: expected a state dict (names and tensors), or a function "
                "that returns one"
            )
        return weights

    @property
    def module(self) -> nn.Module:
        """The model as a function of parameters; its own trainable parameters are never used."""
        return self._parts[0]

    @cached_property
    def _parts(self) -> tuple[nn.Module, list[nn.Module]]:
        """The adapted model, and its parts that are always in evaluation mode."""
        model = self.original(0)
        _refuse_hooks(model)
        for part in sleeping(model):
            part.training = False
        model = layers.adapt(model)  # replaced layers take the mode of the original
        return model, [part for part in model.modules() if not part.training]

    @cached_property
    def _places(self) -> dict[str, list[tuple[dict[str, Any], str]]]:
        """Where the layers keep each parameter and buffer; one that is tied has several places, and names.

        `torch.func.functional_call` does the same, and looks for the places in every call.
        """
        places: dict[int, list[tuple[dict[str, Any], str]]] = {}
        for part in self.module.modules():
            for tensors in (part._parameters, part._buffers):
                for key, tensor in tensors.items():
                    places.setdefault(id(tensor), []).append((tensors, key))
        named = (
            *self.module.named_parameters(remove_duplicate=False),
            *self.module.named_buffers(remove_duplicate=False),
        )
        return {name: places[id(tensor)] for name, tensor in named}

    @cached_property
    def trainable(self) -> dict[str, torch.Size]:
        """Names and shapes of the parameters that are trained; tied weights once.

        Raises:
            UserError: if there are none.
        """
        trainable = {name: p.shape for name, p in self.module.named_parameters() if p.requires_grad}
        if not trainable:
            raise UserError("no parameter of the model can be trained (requires_grad is False for all): unfreeze some")
        return trainable

    @property
    def starts_pretrained(self) -> bool:
        """Whether all trainable parameters are pretrained, so that all seeds give the same start."""
        return self.trainable.keys() <= self.pretrained.keys()

    def start(self, seed: int) -> Tensor:
        """Return the initial values of the trainable parameters, ``[P]``."""
        return torch.cat([p.detach().flatten() for p in self.original(seed).parameters() if p.requires_grad])

    def constants(self, device: torch.device, dtype: torch.dtype) -> Params:
        """Return frozen parameters and buffers on a device, floating-point ones in a type."""
        place = (str(device), dtype)
        if place not in self._constants:
            frozen = {name: p.detach() for name, p in self.module.named_parameters() if not p.requires_grad}
            values = {**frozen, **dict(self.module.named_buffers())}
            self._constants[place] = {
                name: value.to(device, dtype if value.is_floating_point() else None) for name, value in values.items()
            }
        return self._constants[place]

    def frozen(self, x: Tensor) -> Params:
        """Return the frozen parameters in type and on the device of `x`."""
        constants, buffers = self.constants(x.device, x.dtype), dict(self.module.named_buffers())
        return {name: value for name, value in constants.items() if name not in buffers}

    def train(self, training: bool) -> None:
        """Set the mode of all parts that are not always in evaluation mode."""
        if self._modes and self._modes[0] == training and all(part.training == mode for part, mode in self._modes[1]):
            return
        self.module.train(training)
        for part in self._parts[1]:
            part.training = False
        self._modes = training, [(part, part.training) for part in self.module.modules()]

    @cached_property
    def takes_labels(self) -> bool:
        """Whether the model's ``forward`` needs two arguments: inputs and labels, as models that compute their loss."""
        positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
        parameters = inspect.signature(self.module.forward).parameters.values()
        return sum(p.kind in positional and p.default is inspect.Parameter.empty for p in parameters) == 2

    def __call__(self, params: Params, *inputs: Tensor) -> object:
        """Call the model with these parameters (and statistics of batch normalization), on inputs (and labels)."""
        first = next(iter(params.values()))
        inputs = tuple(value.to(first.dtype) if value.is_floating_point() else value for value in inputs)
        if self._channels_last is None and not is_together():
            self._arrange(self._channels_may_be_last(inputs))
        places, replaced = self._places, list[tuple[dict[str, Any], str, Any]]()
        try:
            for name, value in {**self.constants(first.device, first.dtype), **params}.items():
                for tensors, key in places[name]:
                    replaced.append((tensors, key, tensors[key]))
                    tensors[key] = value
            return self.module(*inputs)
        finally:
            for tensors, key, own in reversed(replaced):
                tensors[key] = own

    def _channels_may_be_last(self, inputs: tuple[Tensor, ...]) -> bool:
        """Try whether the model's code allows the channels of images to be last in memory: ``view`` may not.

        A copy without values and hooks is called in both modes. It draws no random numbers, and keeps nothing here.
        """
        if not self._convolutions:
            return False
        try:
            tensors = (*self.module.parameters(), *self.module.buffers())
            memo: dict[int, Any] = {id(tensor): _without_values(tensor) for tensor in tensors}
            twin = copy.deepcopy(self.module, memo)
            parts = [*zip(twin.modules(), self.module.modules(), strict=True)]
            for part, _ in parts:
                part._forward_hooks.clear()
                part._forward_pre_hooks.clear()
                if isinstance(part, layers.Conv2d):
                    part.channels_last = True
            for training in (True, False):
                for part, own in parts:
                    part.training = training and own not in self._parts[1]
                with torch.no_grad(), layers.apart():  # two examples: one has no strides between examples
                    twin(*(torch.empty((2, *x.shape[1:]), dtype=x.dtype, device="meta") for x in inputs))
        except Exception:
            return False
        return True

    @cached_property
    def _convolutions(self) -> list[layers.Conv2d]:
        return [part for part in self.module.modules() if isinstance(part, layers.Conv2d)]

    def _arrange(self, last: bool | None) -> None:
        self._channels_last = last
        for layer in self._convolutions:
            layer.channels_last = bool(last)

    @contextmanager
    def channels_first(self) -> Iterator[None]:
        """Have the channels of images first in memory in this block, as PyTorch has by default.

        Kernels sum in another order then. Where two pixels of a pooling window are equal but for that, the gradient
        goes to the other one.
        """
        before = self._channels_last
        self._arrange(False)
        try:
            yield
        finally:
            self._arrange(before)

    def state_dict(self, params: Params) -> Params:
        """Return the state dict of the user's own model with these parameters and statistics.

        Args:
            params: by name, of one member; what is missing keeps the value of the model function or is pretrained.
        """
        model = self.original(0)
        first = {id(p): name for name, p in model.named_parameters()}  # tied weights once
        alias = {name: first[id(p)] for name, p in model.named_parameters(remove_duplicate=False)}
        state: Params = model.state_dict()
        for name, value in state.items():
            given = params.get(alias.get(name, name))
            state[name] = value.clone() if given is None else given.detach().to(value.device, value.dtype).clone()
        return state


def _without_values(tensor: Tensor) -> Tensor:
    """Return a parameter or buffer of the same shape that holds no numbers."""
    empty = tensor.detach().to("meta")
    return nn.Parameter(empty, tensor.requires_grad) if isinstance(tensor, nn.Parameter) else empty


def _refuse_hooks(model: nn.Module) -> None:
    """Refuse hooks on parameters: a trial's parameters are other tensors, on which they would not be called.

    Raises:
        UserError: naming the parameter.
    """
    for name, parameter in model.named_parameters():
        if parameter._backward_hooks or getattr(parameter, "_post_accumulate_grad_hooks", None):
            raise UserError(
                f"parameter {name!r} has a hook on its gradient, which a study would not call: do in forward what the "
                "hook does, and freeze with requires_grad_(False)"
            )


def sleeping(model: nn.Module) -> list[nn.Module]:
    """Return the parts of a model in training mode that are in evaluation mode, also after the model's ``train()``."""
    asleep = {part for part in model.modules() if not part.training} if model.training else set()
    model.train()
    return [part for part in model.modules() if not part.training or part in asleep]


def _load(model: nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Copy weights into a model of which they may be a part.

    Raises:
        UserError: for a name that the model does not have, and for another shape.
    """
    own = model.state_dict()
    for name, value in weights.items():
        if name not in own:
            known = ", ".join([*own][:3])
            raise UserError(f"pretrained weights have {name!r}, which the model has not: its first names are {known}")
        if value.shape != own[name].shape:
            shapes = f"{tuple(value.shape)}, and in the model {tuple(own[name].shape)}"
            raise UserError(f"pretrained weights have {name!r} of shape {shapes}: leave it out, or change the model")
    model.load_state_dict(dict(weights), strict=False)
