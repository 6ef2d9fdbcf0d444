"""How much memory one gradient of one member takes beside its parameters."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from relaxbench.problems import Problem
from relaxbench.training.oracle import Oracle
from relaxbench.training.precision import Precision


def gradient_bytes(problem: Problem, device: torch.device, precision: Precision = "float32") -> int:
    """The most that is held at a time while a gradient is computed: activations, temporaries, and the gradient.

    On CUDA as the allocator says, with the workspaces of libraries; on the CPU what PyTorch's operations give, without
    what they hold inside.
    """
    points = problem.init(0)[None].to(device)
    first = torch.zeros(1, 1, dtype=torch.int64, device=device)
    batch = problem.sampler([0], [0], 1, device).batch(first)
    oracle = Oracle(problem, "direct", precision)
    if device.type == "cuda":
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        oracle.gradient_on(points, batch)
        return int(torch.cuda.max_memory_allocated(device) - before)
    held = _Held()
    with held:
        oracle.gradient_on(points, batch)
    return held.most


class _Held(TorchDispatchMode):
    """Bytes of all tensors that operations in this block have made and that are not gone."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.most = 0
        self._live: dict[int, tuple[Any, int]] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        self._live = {place: entry for place, entry in self._live.items() if not entry[0].expired()}
        for value in tree_leaves(result):
            if isinstance(value, Tensor):
                storage = value.untyped_storage()
                if storage._cdata not in self._live:
                    self._live[storage._cdata] = StorageWeakRef(storage), storage.nbytes()  # type: ignore[no-untyped-call]
        self.most = max(self.most, sum(size for _, size in self._live.values()))
        return result
