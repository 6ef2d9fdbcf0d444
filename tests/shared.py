"""What one process of a test run builds and the others take: pytest-xdist's workers share a folder."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from filelock import FileLock


def built_once(factory: pytest.TempPathFactory, name: str, build: Callable[[Path], object]) -> Path:
    """A folder that `build` has filled, in this process or another of the same run; nobody may change it."""
    if "PYTEST_XDIST_WORKER" not in os.environ:
        build(folder := factory.mktemp(name))
        return folder
    folder = factory.getbasetemp().parent / name
    with FileLock(f"{folder}.lock"):
        if not folder.exists():
            draft = factory.mktemp(name)
            build(draft)
            draft.rename(folder)
    return folder
