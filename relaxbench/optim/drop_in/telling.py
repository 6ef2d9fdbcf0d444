"""Warnings that point to the line of the program that uses an optimizer."""

from __future__ import annotations

import sys
import warnings
from pathlib import Path

import torch

HERE = tuple(f"{Path(file).parent}/" for file in (Path(__file__).parents[1], str(torch.__file__)))
"""The folders of relaxbench and of torch: their frames lie between that line and the warning."""


def tell(message: str) -> None:
    """Warn, as from the nearest frame outside relaxbench and torch."""
    frame, level = sys._getframe(1), 2
    while frame.f_back is not None and frame.f_code.co_filename.startswith(HERE):
        frame, level = frame.f_back, level + 1
    warnings.warn(message, stacklevel=level)
