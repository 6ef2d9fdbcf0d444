"""`plan`: gradients, and the smallest difference that the blocks detect."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from relaxbench.analysis.paired import detectable_effect
from tests.cli.commands import STUDY, nothing_written, printed

pytestmark = pytest.mark.usefixtures("folder")


def test_plan_counts_gradients_and_writes_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    Path("mine.toml").write_text(STUDY)
    with nothing_written():
        out = printed(capsys, "plan", "mine.toml", "--population", "8")
    count = 2 * (2 + 1) + 2 + 2  # a method
    for method in ("sgd", "heat"):
        assert re.search(rf"rosenbrock\s+{method}\s+{count}\s+{count * 40}\s", out)
    assert re.search(rf"total\s+{2 * count * 40}\s", out)
    assert "at least 6 blocks: with 2 the report describes" in " ".join(out.split())


def test_plan_says_what_the_blocks_can_detect(capsys: pytest.CaptureFixture[str]) -> None:
    Path("mine.toml").write_text(STUDY)
    for blocks in (1, 5, 6):
        arguments = ("plan", "mine.toml", "--population", "8", "--std", "2", "--blocks", str(blocks))
        out = " ".join(printed(capsys, *arguments).split())
        if blocks < 6:
            assert f"at least 6 blocks: with {blocks} the report describes, and claims nothing" in out
        else:
            effect = f"{2 * detectable_effect(6):.3g}"
            assert f"6 blocks detect (80 % power, 5 % level) a difference of {effect}" in out
