"""The compiled population beside the vectorized one."""

from __future__ import annotations

import pytest

from relaxbench.bench.compiled import measure
from relaxbench.problems.digits import digits_mlp
from relaxbench.training import compilation


def test_both_populations_are_measured_in_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the recording run by plain operations, which costs about as much as what was recorded."""
    monkeypatch.setattr(compilation, "_compile", lambda graph, arguments: lambda tensors: graph(*tensors))
    ((name, size, vectorized, compiled),) = measure(digits_mlp(), [("sgd", 2)], rounds=1)
    assert (name, size) == ("sgd", 2) and 0.1 < compiled / vectorized < 30
