"""PyTorch's inductor and the C++ compiler that it calls: whether they are here, their cache, and what they say."""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path

import torch

COMPILERS = ("g++", "clang++", "c++")


class NoCompilerError(Exception):
    """Raised where nothing can be compiled on this machine; the message says why."""


def why_not_here(device: torch.device) -> str | None:
    """Return why no step can be compiled on this machine; None if nothing is known against it."""
    if device.type != "cpu":
        return f"the compiled path is for the CPU; on {device.type} a step is captured as a graph"
    _, reason = _found()
    return reason or None


def tried() -> tuple[str, Path, str]:
    """Try the C++ compiler on the smallest extension of Python; on macOS, as inductor calls it.

    Returns:
        the compiler with its version, or "" if there is none; the folder in which compiled steps are kept; what does
        not work, or "".
    """
    from torch._inductor.runtime.cache_dir_utils import default_cache_dir

    cache = Path(os.environ.get("TORCHINDUCTOR_CACHE_DIR") or default_cache_dir())
    there = next(folder for folder in (cache, *cache.absolute().parents) if folder.exists())
    if not (there.is_dir() and os.access(there, os.W_OK)):
        return COMPILERS[0], cache, f"the folder of compiled steps cannot be written: {cache}"
    compiler, reason = _found()
    if reason:
        return "", cache, reason
    try:
        version = subprocess.run([compiler, "--version"], capture_output=True, text=True, timeout=60).stdout
        said = _extension(compiler) if sys.platform != "darwin" else _kernel()
        return _first(version) or compiler, cache, said and f"{compiler} fails: {said}"
    except (OSError, subprocess.TimeoutExpired) as error:
        return compiler, cache, f"{compiler} fails: {_first(str(error))}"


def _extension(compiler: str) -> str:
    """Compile an extension with OpenMP, which takes less time than a kernel; say what fails."""
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder, "empty.cpp")
        source.write_text("#include <Python.h>\n#include <omp.h>\n")
        options = ["-shared", "-fPIC", "-fopenmp", f"-I{sysconfig.get_path('include')}", "-o", f"{folder}/empty.so"]
        made = subprocess.run([compiler, *options, str(source)], capture_output=True, text=True, timeout=60)
    return (_first(made.stderr) or "no reason given") if made.returncode else ""


def _kernel() -> str:
    """Have inductor compile a kernel; say what fails. Apple's compiler takes OpenMP by options that inductor knows."""
    try:
        with fresh_cache(), quiet():
            torch.compile(torch.square)(torch.ones(8))
    except Exception as error:  # inductor and the compiler raise many kinds
        return _first(str(error)) or type(error).__name__
    return ""


def _found() -> tuple[str, str]:
    """Return the compiler that inductor would call, and why there is none, or ""."""
    try:
        with quiet():
            from torch._inductor import cpp_builder

            compiler = cpp_builder.get_cpp_compiler()
    except OSError as error:  # inductor makes the folder of its cache when it is imported
        return "", f"the folder of compiled steps cannot be used ({error.strerror}): {error.filename}"
    except Exception:  # inductor has several errors for a missing compiler
        return "", f"no C++ compiler ({', '.join(COMPILERS)}) is found"
    if shutil.which(compiler) is None:
        return "", f"the C++ compiler {compiler!r} is not found"
    return str(compiler), ""


def _first(text: str) -> str:
    return next((line.strip() for line in text.splitlines() if line.strip()), "")


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
