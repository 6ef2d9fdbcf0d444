"""Page faults of a process that allocates and frees the same memory repeatedly; collections of garbage."""

from __future__ import annotations

import gc
import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from relaxbench.util.malloc import OWN, look_for_garbage_seldom

KEPT = """
from relaxbench.util.malloc import keep_freed_memory
print(keep_freed_memory())
"""

FAULTS = """
import ctypes
import resource

SIZE = 1 << 22
libc = ctypes.CDLL(None)
libc.malloc.argtypes, libc.malloc.restype = [ctypes.c_size_t], ctypes.c_void_p
libc.memset.argtypes, libc.free.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t], [ctypes.c_void_p]

def step():
    kept = [libc.malloc(SIZE) for _ in range(4)]
    for block in kept:
        libc.memset(block, 1, SIZE)
    for block in kept:
        libc.free(block)

for _ in range(10):  # the heap's layout settles in the first few
    step()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    step()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def run(code: str, **variables: str) -> list[str]:
    usual = {name: value for name, value in os.environ.items() if name not in OWN}  # whatever a person has set
    env = {**usual, "PYTHONPATH": str(Path(__file__).parents[2]), **variables}
    return subprocess.run(
        [sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True
    ).stdout.split()


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc has these settings")
def test_freed_memory_is_reused_without_page_faults() -> None:
    changed, faults = run(KEPT + FAULTS)
    assert changed == "True" and int(faults) < 4096  # 20 steps of 4096 pages each


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc has such a threshold")
@pytest.mark.parametrize("first", ["", "from relaxbench.util.malloc import keep_blocks_up_to_32_mib as keep\nkeep()\n"])
def test_blocks_are_reused_in_a_process_of_somebody_else(first: str) -> None:
    """Without it, the same steps fetch most of their pages anew."""
    (faults,) = map(int, run(first + FAULTS))
    assert (faults < 4096) == bool(first)


@pytest.mark.parametrize("name", ["MALLOC_TRIM_THRESHOLD_", "GLIBC_TUNABLES"])
def test_settings_of_glibc_in_the_environment_are_kept(name: str) -> None:
    assert run(KEPT, **{name: "" if name == "GLIBC_TUNABLES" else "100000"})[0] == "False"


def test_many_objects_that_stay_are_looked_through_seldom() -> None:
    before = gc.get_threshold()
    try:
        gc.set_threshold(700, 10, 10)
        look_for_garbage_seldom()
        gc.collect()
        runs = sum(generation["collections"] for generation in gc.get_stats())
        kept = [[number] for number in range(15_000)]
        assert sum(generation["collections"] for generation in gc.get_stats()) - runs <= 1 < len(kept)
    finally:
        gc.set_threshold(*before)
