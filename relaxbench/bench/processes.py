"""Fresh processes that know nothing of this one."""

from __future__ import annotations

import multiprocessing as mp
import multiprocessing.context
import sys

import torch

MODULES = ["relaxbench.bench.process_pool", "relaxbench.bench.memory"]


def fresh(device: torch.device) -> mp.context.ForkServerContext | mp.context.SpawnContext:
    """How processes are started: copies of one that has PyTorch imported and done nothing, where that is safe.

    Anew from the interpreter for a GPU, which no copy of a process can use.
    """
    if device.type == "cuda" or not sys.platform.startswith("linux"):
        return mp.get_context("spawn")
    context = mp.get_context("forkserver")
    context.set_forkserver_preload(MODULES)
    return context
