"""What every test shares: one thread a process under pytest-xdist, and the same hypothesis examples on every run."""

from __future__ import annotations

import os

from hypothesis import settings

if "PYTEST_XDIST_WORKER" in os.environ:  # before torch is imported: the workers share the cores
    os.environ.setdefault("OMP_NUM_THREADS", "1")

settings.register_profile("relaxbench", deadline=None, derandomize=True)
settings.load_profile("relaxbench")
