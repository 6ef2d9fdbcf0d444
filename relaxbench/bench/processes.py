"""Fresh processes, without the state of this one."""

from __future__ import annotations

import multiprocessing as mp
import multiprocessing.context
import sys

import torch

MODULES = ["relaxbench.bench.process_pool", "relaxbench.bench.memory"]


def fresh(device: torch.device) -> mp.context.ForkServerContext | mp.context.SpawnContext:
    """Choose how to start processes: fork a clean server with PyTorch imported, where that is safe.

    A forked process cannot use a GPU, so there a new interpreter is started.
    """
    if device.type == "cuda" or not sys.platform.startswith("linux"):
        return mp.get_context("spawn")
    context = mp.get_context("forkserver")
    context.set_forkserver_preload(MODULES)
    return context
