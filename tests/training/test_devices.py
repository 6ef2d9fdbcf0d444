"""Names of devices, and the description of the machine."""

from __future__ import annotations

import json

import pytest
import torch

from relaxbench.errors import UserError
from relaxbench.training.devices import machine, torch_device

CPU = torch.device("cpu")


def test_cpu_and_auto() -> None:
    assert torch_device("cpu") == CPU
    assert torch_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("gpu", "unknown device 'gpu': expected auto, cpu, cuda or cuda:N"),
        ("", "unknown device ''"),
        ("cuda:x", "unknown device"),
        ("cuda:-1", "unknown device"),
        ("cuda:99", "'cuda:99' is not there .*doctor"),
        ("cuda:256", "'cuda:256' is not there"),
        ("cuda:99999", "'cuda:99999' is not there"),
        (f"cuda:{'9' * 20}", "expected auto, cpu, cuda or cuda:N"),
        ("mps", "'mps' is not supported"),
        ("meta", "'meta' is not supported"),
    ],
)
def test_a_device_that_is_not_there_is_refused_in_one_line(name: str, message: str) -> None:
    with pytest.raises(UserError, match=message) as error:
        torch_device(name)
    assert "\n" not in str(error.value)


def test_a_device_number_never_means_another_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert torch_device("cuda") == torch.device("cuda", 0) and torch_device("cuda:1") == torch.device("cuda", 1)
    for name in ("cuda:2", "cuda:255", "cuda:256", "cuda:4294967296"):  # torch keeps eight bits
        with pytest.raises(UserError, match=f"device '{name}'"):
            torch_device(name)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_cuda_without_a_gpu_is_refused() -> None:
    with pytest.raises(UserError, match="no CUDA device is usable here"):
        torch_device("cuda")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_cuda_names_its_first_device() -> None:
    assert torch_device("cuda") == torch_device("cuda:0") == torch.device("cuda", 0)


def test_the_machine_is_described_in_plain_values() -> None:
    described = machine()
    assert json.loads(json.dumps(described)) == described
    assert described["torch"] == torch.__version__ and described["threads"] >= 1 and described["cpu"]
