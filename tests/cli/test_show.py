"""`show` and `report` read a finished study and leave it as it is."""

from __future__ import annotations

from pathlib import Path

import pytest

from relaxbench.optim.registry import RULES
from tests.cli.commands import printed

pytestmark = pytest.mark.usefixtures("folder")


def test_a_finished_study_can_be_read_by_report_and_show(
    capsys: pytest.CaptureFixture[str], storage: str, finished: Path
) -> None:
    before = (finished / "study.db").read_bytes()
    out = printed(capsys, "show", "small", "--storage", storage)
    assert all(name in out for name, rule in RULES.items() if not rule.compares_losses) and "bit for bit" in out
    assert out.endswith(
        f"see Warnings in the report.\n  report:     python -m relaxbench report small --storage {storage}\n"
    )
    out = printed(capsys, "report", "small", "--storage", storage, "--report", "r")
    assert list(Path("r").rglob("*.html")) and list(Path("r").rglob("*.csv"))
    assert (finished / "study.db").read_bytes() == before
