"""Memory: how much a gradient takes, which population sizes fit, and errors that report a lack of it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import psutil
import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from relaxbench.errors import UserError
from relaxbench.optim.registry import RULES
from relaxbench.optim.rule import Rule
from relaxbench.problems import Problem
from relaxbench.training.oracle import Oracle
from relaxbench.training.precision import Precision, dtype_for
from relaxbench.util.cores import cores

PHRASES = ("out of memory", "can't allocate memory", "not enough memory", "alloc_failed", "cannot allocate memory")
"""Parts of the messages with which PyTorch and its libraries report a lack of memory."""


def gradient_bytes(problem: Problem, device: torch.device, precision: Precision = "float32") -> int:
    """Measure the peak memory of one gradient of one member: activations, temporaries and the gradient, in bytes.

    The parameters are not included. On CUDA the allocator is asked, so that the workspaces of libraries count. On the
    CPU the results of PyTorch's operations count, but not the temporaries within an operation.
    """
    points = problem.init(0)[None].to(device, dtype_for(problem, precision))
    first = torch.zeros(1, 1, dtype=torch.int64, device=device)
    batch = problem.sampler([0], [0], 1, device).batch(first)
    oracle = Oracle(problem, "direct", precision)
    if device.type == "cuda":
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        oracle.gradient_on(points, batch)
        return int(torch.cuda.max_memory_allocated(device) - before)
    live = LiveBytes()
    with live:
        oracle.gradient_on(points, batch)
    return live.peak


def batch_bytes(problem: Problem, device: torch.device, precision: Precision = "float32") -> int:
    """Return the memory of the data of one member: its mini-batch, and its outputs on the largest held-out split."""
    first = torch.zeros(1, 1, dtype=torch.int64, device=device)
    batch = problem.sampler([0], [0], 1, device).batch(first)
    one = problem.part("validation", slice(0, 1), device)
    with torch.no_grad():
        point = problem.init(0).to(device, dtype_for(problem, precision))
        outputs = problem.outputs(problem.unflatten(point), one, False)
    held_out = max(problem.examples("validation"), problem.examples("test"))
    return sum(value.nbytes for value in batch.values()) + held_out * outputs.nbytes


def sizes_that_fit(
    problem: Problem,
    sizes: Iterable[int],
    device: torch.device,
    precision: Precision = "float32",
    rules: Iterable[Rule] = (),
) -> list[int]:
    """Return the population sizes whose states and activations take at most half of the free memory.

    On the CPU the memory is shared by as many processes of this one's threads as have room on its cores.

    Args:
        problem: what is trained.
        sizes: that are considered.
        device: where.
        precision: of the model's matrix products.
        rules: that are trained, besides the built-in ones: a wrapped optimizer may keep more than they do, and a rule
            that compares losses does.
    """
    shapes = [shape for _, shape in problem.layout()]
    known = [rule.copies for rule in RULES.values() if not rule.compares_losses]  # these keep far more than others
    replicas = 1
    for rule in rules:
        rule.bind(shapes)
        known.append(rule.copies)
        replicas = max(replicas, rule.replicas)
    if device.type == "cuda":
        free = torch.cuda.mem_get_info(device)[0]
    else:
        free = psutil.virtual_memory().available // max(1, cores() // torch.get_num_threads())
    copies = max(known) + 2  # temporaries of a rule
    member = copies * problem.size * dtype_for(problem, precision).itemsize
    member += replicas * gradient_bytes(problem, device, precision)  # replicas are members of a larger population
    member += batch_bytes(problem, device, precision)
    return [k for k in sizes if k * member <= free / 2]


def out_of_memory(error: BaseException) -> bool:
    """Return whether an error reports a lack of memory, of the device or of the machine."""
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    message = str(error).lower()
    return isinstance(error, RuntimeError) and any(phrase in message for phrase in PHRASES)


def half_the_slots(engine: dict[str, Any], problem: str) -> dict[str, Any]:
    """Return an engine, as a manifest stores it, with half the slots and a note that says why.

    Raises:
        UserError: if it has a single slot, or if its steps are compiled for so many.
    """
    size = engine["population"]
    if engine["path"] == "compiled":
        raise UserError(
            f"memory does not suffice for K = {size} on problem {problem!r}, for which its steps are compiled: free "
            "memory, or begin another study with a smaller population",
            "population",
        )
    if size == 1:
        raise does_not_fit(problem, engine["device"])
    return {**engine, "population": size // 2, "note": f"memory did not suffice for K = {size}"}


def does_not_fit(problem: str, device: torch.device | str) -> UserError:
    """Make the error for a problem of which not even one trial fits into memory."""
    return UserError(
        f"problem {problem!r} does not fit into the memory of {device} even with a single trial: take a smaller "
        "batch_size, or another device"
    )


class LiveBytes(TorchDispatchMode):
    """Bytes of all tensors that operations in this block have created and that are still alive.

    Attributes:
        peak: the maximum so far.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.peak = 0
        self._live: dict[int, tuple[Any, int]] = {}

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Spare the import of torch._dynamo, a second or two: nothing is compiled while memory is counted."""
        return False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        self._live = {place: entry for place, entry in self._live.items() if not entry[0].expired()}
        for value in tree_leaves(result):
            if isinstance(value, Tensor):
                storage = value.untyped_storage()
                if storage._cdata not in self._live:
                    self._live[storage._cdata] = StorageWeakRef(storage), storage.nbytes()  # type: ignore[no-untyped-call]
        self.peak = max(self.peak, sum(size for _, size in self._live.values()))
        return result
