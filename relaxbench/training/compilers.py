"""PyTorch's inductor and the C++ compiler that it calls: whether they are here, their cache, and what they say."""

from __future__ import annotations

import contextlib
import logging
import shutil
import warnings
from collections.abc import Iterator

import torch

COMPILERS = ("g++", "clang++", "c++")


class NoCompilerError(Exception):
    """Raised where nothing can be compiled on this machine; the message says why."""


def why_not_here(device: torch.device) -> str | None:
    """Return why no step can be compiled on this machine; None if nothing is known against it."""
    if device.type != "cpu":
        return f"the compiled path is for the CPU; on {device.type} a step is captured as a graph"
    try:
        with quiet():
            from torch._inductor import cpp_builder

            compiler = cpp_builder.get_cpp_compiler()
    except Exception:  # inductor has several errors for a missing compiler
        return f"no C++ compiler ({', '.join(COMPILERS)}) is found"
    if shutil.which(compiler) is None:
        return f"the C++ compiler {compiler!r} is not found"
    return None


@contextlib.contextmanager
def fresh_cache() -> Iterator[str]:
    """Compile into a new folder within this block; give the folder of the cache that is not used."""
    from torch._inductor.runtime.cache_dir_utils import cache_dir
    from torch._inductor.utils import fresh_cache as fresh

    try:
        folder = str(cache_dir())
    except OSError as error:
        folder = str(error.filename)
    with fresh(delete=False):
        yield folder


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep what PyTorch says of its own internals from people."""
    loggers = [logging.getLogger(name) for name in ("torch.utils.cpp_extension", "torch._inductor", "torch._dynamo")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
