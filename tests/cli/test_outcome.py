"""What a session says at its end: of how many trials the finished ones are, and up to which look."""

from __future__ import annotations

import pytest
import typer

from relaxbench.cli.outcome import finish
from relaxbench.study.coordination.progress import Progress, current_look
from relaxbench.study.execution.run import Summary

pytestmark = pytest.mark.usefixtures("folder")


@pytest.mark.parametrize(
    ("progress", "failed", "told"),
    [
        (
            Progress("p", "sgd", 2, 52, looks=3, blocks=10),
            0,
            "Stopped. 2 of 52 trials up to look 1 of 3 (10 blocks) are",
        ),
        (Progress("p", "sgd", 2, 52, looks=1, blocks=10), 0, "Stopped. 2 of 52 trials are done and kept."),
        (
            Progress("p", "sgd", 2, 52, look=4, looks=3, blocks=45),
            0,
            "2 of 52 trials beyond the last look (45 blocks)",
        ),
        (
            Progress("p", "sgd", 2, 52, looks=3, blocks=10),
            1,
            "2 of 52 trials up to look 1 of 3 (10 blocks) are done; 1",
        ),
    ],
)
def test_an_unfinished_session_says_what_its_trials_are_of(
    progress: Progress, failed: int, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    done, total = progress.done, progress.total
    summary = Summary(1, True, done, total, total - done, failed, not failed, 1.0, current_look([progress]))
    with pytest.raises(typer.Exit):
        finish(summary, "s", "sqlite:///other.db", quiet=False)
    out = capsys.readouterr().out
    assert told in out
    for hint in ("status s", "reap s --failed"):
        assert (f"python -m relaxbench {hint} --storage sqlite:///other.db\n" in out) == bool(failed)
