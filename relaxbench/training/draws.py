"""Find where a model draws random numbers that cannot be replayed: the layer, and the line of a person's file."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from relaxbench.problems import Problem, SupervisedProblem

FOREIGN = tuple(str(Path(module).parent) for module in (torch.__file__, __file__))
"""Folders whose lines a person cannot change."""
LAYER = "use relaxbench.problems.Dropout as a layer instead"
LONGEST = 80
"""Characters of a line that are quoted."""


def where_drawn(problem: Problem, run: Callable[[], object]) -> str:
    """Run a model again, and say where it draws and what to change; in general words where that is not found."""
    names = (
        {module: name for name, module in problem.model.named_modules()}
        if isinstance(problem, SupervisedProblem)
        else {}
    )
    running: list[nn.Module] = []
    hooks = [
        hook
        for module in names
        for hook in (
            module.register_forward_pre_hook(lambda module, _: running.append(module)),
            module.register_forward_hook(lambda *_: running.__delitem__(-1)),
        )
    ]
    mode = _Watch(running)
    try:
        with mode:
            run()
    finally:
        for hook in hooks:
            hook.remove()
    layer, place = mode.layer, mode.place
    if layer is None:
        return f"{place}, which cannot be replayed: {LAYER} (and dropout arguments of 0 in other layers)"
    name, kind = names[layer], type(layer).__name__
    rate = getattr(layer, "dropout", 0.0)
    if isinstance(rate, float) and rate > 0:
        return (
            f" in layer {name!r} ({kind}){place}, which cannot be replayed: set its dropout = {rate:g} to 0 (as "
            f"model.{name}.dropout = 0.0), and put relaxbench.problems.Dropout({rate:g}) behind it"
        )
    own = f" in layer {name!r} ({kind})" if name else ""
    return f"{own}{place}, which cannot be replayed: {LAYER}, for a random factor or branch on torch.ones(1)"


class _Watch(TorchFunctionMode):
    """Notices the first function of torch that draws from its generator.

    Attributes:
        layer: the innermost layer that was running, or None.
        place: file and line, as a part of a sentence; "" if none of them is a person's.
    """

    def __init__(self, running: list[nn.Module]) -> None:
        super().__init__()
        self._running, self._found = running, False
        self.layer: nn.Module | None = None
        self.place = ""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if self._found:
            return func(*args, **(kwargs or {}))
        before = torch.get_rng_state()
        result = func(*args, **(kwargs or {}))
        if not torch.equal(before, torch.get_rng_state()):
            self._found = True
            self.layer = self._running[-1] if self._running else None
            own = [frame for frame in traceback.extract_stack() if not frame.filename.startswith((*FOREIGN, "<"))]
            line = own[-1] if own else None
            if line is not None and self._running:
                code = (line.line or "").strip()[:LONGEST]
                self.place = f" ({Path(line.filename).name}, line {line.lineno}: {code})"
        return result
