"""Steps inside `torch.compile`."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import ParamSpec, TypeVar

import torch
from torch._compile import _disable_dynamo

P = ParamSpec("P")
R = TypeVar("R")


def runs_uncompiled(step: Callable[P, R]) -> Callable[P, R]:
    """Let a step run as it is within compiled code, whose constants would freeze its schedules.

    Only there: in a plain loop, models that the step's closure calls may be compiled.
    """
    apart = _disable_dynamo(step)

    @functools.wraps(step)
    def either(*args: P.args, **kwargs: P.kwargs) -> R:
        chosen: Callable[P, R] = apart if torch.compiler.is_compiling() else step
        return chosen(*args, **kwargs)

    return either
