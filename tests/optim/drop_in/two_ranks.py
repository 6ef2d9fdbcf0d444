"""One of two processes of `test_ranks`: trains every class, and writes what it found into a file."""

from __future__ import annotations

import gc
import json
import sys
import warnings
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FullyShardedDataParallel, fully_shard
from torch.nn.functional import cross_entropy
from torch.nn.parallel import DistributedDataParallel

from relaxbench.optim.drop_in.classes import DROP_INS

STEPS = 9


def net(seed: int) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 2))


def made(name: str, model: Any, **values: Any) -> Any:
    wide = DROP_INS[name].rule_class.wide
    short = {key: value for key, value in {"inner_steps": 4, "samples": 2, "radius": 0.5}.items() if key in wide}
    return DROP_INS[name](model if name == "curveball" else model.parameters(), total_steps=40, **short, **values)


def train(model: Any, optimizer: Any, rank: int) -> list[float]:
    """Return the losses; each process has its own mini-batches."""
    losses = []
    for step in range(STEPS):
        x = torch.randn(16, 4, generator=torch.Generator().manual_seed(2 * step + rank))
        y = (x[:, 0] > 0).long()

        def closure(x: Tensor = x, y: Tensor = y) -> float:
            optimizer.zero_grad()
            loss = cross_entropy(model(x), y)
            loss.backward()  # type: ignore[no-untyped-call]
            return loss.item()

        if optimizer.rule.curvature:
            losses.append(optimizer.step(lambda x=x: model(x), lambda out, y=y: cross_entropy(out, y)))
        else:
            losses.append(optimizer.step(closure))
    return losses


def deployed(model: nn.Module, optimizer: Any) -> list[float]:
    with optimizer.deployed():
        return nn.utils.parameters_to_vector(model.parameters()).tolist()


def replicated(name: str, rank: int, before: bool) -> Any:
    """The weights after training in DistributedDataParallel, with other weights and another seed per process."""
    model = net(seed=rank)
    if before:
        optimizer = made(name, model, seed=rank)
        wrapper = DistributedDataParallel(model)
    else:
        wrapper = DistributedDataParallel(model)
        optimizer = made(name, wrapper, seed=rank)
    try:
        train(wrapper, optimizer, rank)
    except TypeError as error:
        return str(error)
    return deployed(model, optimizer)


def sharded(name: str, kind: str) -> Any:
    """The losses of a sharded model with the same mini-batches in both processes."""
    model: Any = net(seed=0)
    try:
        if kind == "fully_shard":
            fully_shard(model, mesh=init_device_mesh("cpu", (2,)))
        else:
            model = FullyShardedDataParallel(model, device_id=torch.device("cpu"), use_orig_params=kind == "original")
        return train(model, made(name, model), 0)
    except TypeError as error:
        return str(error)


def main(rank: int, folder: Path) -> None:
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    gc.freeze()  # the search for wrappers then skips all that was imported
    found: dict[str, Any] = {name: {} for name in DROP_INS}
    for name in DROP_INS:  # before the group exists: one process
        model = net(seed=0)
        found[name]["alone"] = train(model, made(name, model), 0)
    dist.init_process_group("gloo", init_method=f"file://{folder / 'group'}", rank=rank, world_size=2)
    for name in DROP_INS:
        found[name] |= {f"before={before}": replicated(name, rank, before) for before in (False, True)}
        if name != "curveball":
            kinds = ("fully_shard", "original", "flat") if name in ("sgd", "sam") else ("original",)
            found[name] |= {kind: sharded(name, kind) for kind in kinds}
    dist.destroy_process_group()
    (folder / f"{rank}.json").write_text(json.dumps(found))


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]))
