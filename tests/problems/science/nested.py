"""Derivatives in the inputs by nested automatic differentiation, as published code takes them."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


def derivatives(u: Callable[[Tensor], Tensor], x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return u ``[N]``, its gradient ``[N, d]`` and its Hessian ``[N, d, d]`` in the points x ``[N, d]``."""
    x = x.detach().clone().requires_grad_()
    value = u(x)
    value = (value[:, 0] if value.dim() == 2 else value) + 0 * x.square().sum(dim=1)  # a linear u has a graph, too
    (slope,) = torch.autograd.grad(value.sum(), x, create_graph=True)
    rows = [
        torch.autograd.grad(slope[:, i].sum(), x, create_graph=True, materialize_grads=True)[0]
        for i in range(x.shape[1])
    ]
    return value.detach(), slope.detach(), torch.stack(rows, dim=1).detach()
