"""Two processes that train one model, with gloo on the CPU."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from relaxbench.optim.drop_in.classes import DROP_INS
from tests.processes import Forked

ROOT = Path(__file__).parents[3]


def test_two_processes_stay_equal_or_are_refused(tmp_path: Path) -> None:
    """One run of two processes answers for all classes, because starting them takes longer than training."""
    command = ["-m", "tests.optim.drop_in.two_ranks"]
    running = [Forked([*command, str(rank), str(tmp_path)], cwd=ROOT) for rank in (0, 1)]
    try:
        assert [process.wait(timeout=300) for process in running] == [0, 0]
    finally:
        for process in running:
            process.kill()
    first, second = (json.loads((tmp_path / f"{rank}.json").read_text()) for rank in (0, 1))
    for name in DROP_INS:
        for way in ("before=False", "before=True"):
            assert first[name][way] == second[name][way], (name, way)
            if name == "curveball":
                assert "CurveBall exchanges nothing between processes" in first[name][way]
            else:
                assert len(first[name][way]) == 37, (name, first[name][way])
    assert "fully_shard" in first["sgd"] and "flat" in first["sam"]
    for name in set(DROP_INS) - {"curveball"}:
        assert "DTensor" in first[name].pop("fully_shard", "DTensor")
        for kind in {"original", "flat"} & set(first[name]):
            if name in ("muon", "sgld", "sam", "asam", "lpf-sgd", "entropy-sgd", "heat"):
                assert "the model is sharded (FullyShardedDataParallel)" in first[name][kind], name
            else:
                assert first[name][kind] == pytest.approx(first[name]["alone"], abs=1e-4), name
