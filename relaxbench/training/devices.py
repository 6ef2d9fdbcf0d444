"""Devices by name, and a description of the machine."""

from __future__ import annotations

import platform
import re

import torch

from relaxbench.errors import UserError


def torch_device(name: str) -> torch.device:
    """Return the device of a name: ``"auto"``, ``"cpu"``, ``"cuda"`` or ``"cuda:1"``.

    ``"auto"`` is the first CUDA device, or the CPU of a machine without one.

    Raises:
        UserError: if the name is not that of a device, or if the machine has no such device.
    """
    if name == "auto":
        return torch.device("cuda:0" if torch.cuda.is_available() else "cpu")
    cuda = re.fullmatch(r"cuda(:(\d{1,9}))?", name)
    if cuda:  # torch itself takes cuda:256 for cuda:0
        index, count = int(cuda[2] or 0), torch.cuda.device_count() if torch.cuda.is_available() else 0
        if index >= count:
            usable = f"{count} CUDA device(s) here" if count else "no CUDA device is usable here"
            raise UserError(f"device {name!r} is not there ({usable}): use cpu, or see python -m relaxbench doctor")
        return torch.device("cuda", index)
    try:
        device = torch.device(name)
    except RuntimeError:
        raise UserError(f"unknown device {name!r}: expected auto, cpu, cuda or cuda:N") from None
    if device.type != "cpu":
        raise UserError(f"device {name!r} is not supported: expected auto, cpu, cuda or cuda:N")
    return device


def machine() -> dict[str, str | int | None]:
    """Describe the machine for a manifest: versions, processor, number of threads, GPU (None without one)."""
    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "platform": platform.platform(),
        "cpu": _cpu_name(),
        "threads": torch.get_num_threads(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
    }


def _cpu_name() -> str:
    try:
        with open("/proc/cpuinfo") as lines:
            return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()
