"""Running statistics of batch normalization at the deployed weights."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm


@torch.no_grad()
def reestimate_batch_norm(model: nn.Module, batches: Iterable[Any], forward: Callable[[Any], Any] | None = None) -> int:
    """Set the running means and variances of batch normalization to those of given batches at the present weights.

    While a method with an inner loop trains, the running statistics follow the points of its gradients, not
    the deployed weights. So, before every evaluation, swap the deployed weights in (`optimizer.eval()`) and call this.
    Do the same for SGD, or the comparison is not fair (arXiv 1704.04932). It costs one forward pass, without dropout
    and gradients; every batch has the same weight in the means. All modules keep their mode.

    Args:
        model: a model with any number of `nn.BatchNorm…` layers; with none, nothing is run.
        batches: inputs of the model; of a tuple or list, its first entry.
        forward: runs the model on a batch; needed if the model is not called with one tensor.

    Returns:
        the number of batches that were used.

    Raises:
        ValueError: if the model has such layers and there is no batch.
        TypeError: if `model` is not a module.
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"model is a {type(model).__name__}: expected a torch.nn.Module")
    layers = [m for m in model.modules() if isinstance(m, _BatchNorm) and m.track_running_stats]
    if not layers:
        return 0
    modes = {module: module.training for module in model.modules()}
    momenta = {layer: layer.momentum for layer in layers}
    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    count = 0
    try:
        model.eval()
        for layer in layers:
            layer.train()
            layer.reset_running_stats()
            layer.momentum = None  # a plain mean over the batches
        for batch in batches:
            if forward is not None:
                forward(batch)
            else:
                inputs = batch[0] if isinstance(batch, (list, tuple)) else batch
                model(inputs.to(device))
            count += 1
    finally:
        for module, training in modes.items():
            module.training = training
        for layer, momentum in momenta.items():
            layer.momentum = momentum
    if count == 0:
        raise ValueError("batches is empty: expected at least one batch of inputs")
    return count
