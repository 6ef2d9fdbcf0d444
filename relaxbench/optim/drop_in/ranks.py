"""Several processes that train one model: equal states under DistributedDataParallel, or a refusal."""

from __future__ import annotations

import gc
import sys
from collections.abc import Sequence
from typing import Any

import torch.distributed as dist
from torch import Tensor

from relaxbench.optim.rule import Rule, State


def several() -> bool:
    """Return whether this process trains together with others."""
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def refuse_shards(rule: Rule, params: Sequence[Tensor]) -> None:
    """Raise for the parameters of `fully_shard`, of which a process holds only a part.

    Raises:
        TypeError: if there is one.
    """
    if any(type(p).__name__ == "DTensor" for p in params):
        raise TypeError(
            f"the parameters are sharded (DTensor, fully_shard): {rule.title} as a drop-in class needs whole ones; use "
            "DistributedDataParallel"
        )


def share(rule: Rule, state: State, params: Sequence[Tensor]) -> None:
    """Give all processes of a DistributedDataParallel model the state of its first one.

    The wrapper makes the weights equal, but not what an optimizer knows: its seed, and the weights around which it
    has drawn the first point if it was made before the wrapper.

    Raises:
        TypeError: if the rule needs curvature, because no gradient is exchanged then; for a model in
            FullyShardedDataParallel if the rule computes norms of parameters or draws noise.
    """
    replicated, sharded = _wrappers(params)
    if (sharded or any(type(p).__name__ == "FlatParameter" for p in params)) and not rule.elementwise:
        raise TypeError(
            f"the model is sharded (FullyShardedDataParallel), and {rule.title} computes norms or draws noise over "
            "whole parameters: use DistributedDataParallel"
        )
    if replicated is None:
        return
    if rule.curvature:
        raise TypeError(
            f"the model is in DistributedDataParallel, but {rule.title} exchanges nothing between processes, which "
            "would part: train in one process"
        )
    source = dist.get_global_rank(replicated.process_group, 0)
    for name in sorted(state):
        value = state[name].contiguous()
        dist.broadcast(value, source, group=replicated.process_group)
        state[name] = value


def _wrappers(params: Sequence[Tensor]) -> tuple[Any, Any]:
    """Return the DistributedDataParallel and the FullyShardedDataParallel around these parameters, or None for each.

    PyTorch gives no way from a parameter to its wrapper, so all objects are searched, once per optimizer.
    """
    replicated = getattr(sys.modules.get("torch.nn.parallel"), "DistributedDataParallel", ())
    sharded = getattr(sys.modules.get("torch.distributed.fsdp"), "FullyShardedDataParallel", ())
    kinds, own = (replicated, sharded), {id(p) for p in params}
    things = [thing for thing in gc.get_objects() if type(thing) in kinds]
    around = [thing for thing in things if any(id(p) in own for p in thing.parameters())]
    found = [next((thing for thing in around if type(thing) is kind), None) for kind in kinds]
    return found[0], found[1]
