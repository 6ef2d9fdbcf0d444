"""The findings of a study are computed once, whatever shows them."""

from __future__ import annotations

from pathlib import Path

import pytest

from relaxbench.analysis import findings as module
from relaxbench.analysis.comparison import MethodResult
from relaxbench.analysis.findings import Findings
from relaxbench.analysis.study_arms import StudyArms
from relaxbench.analysis.verdicts import verdicts
from relaxbench.cli.outcome import verdict_lines
from relaxbench.report import StudyFrames, write_report
from relaxbench.util.text import counted


def test_a_report_and_the_terminal_share_one_computation(
    digits: StudyFrames, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []

    def counting(frames: StudyFrames, arms: StudyArms) -> list[MethodResult]:
        calls.append(frames.name)
        return verdicts(frames, arms)

    monkeypatch.setattr(module, "verdicts", counting)
    findings = Findings.of(digits)
    lines = verdict_lines(findings)
    page = write_report(findings, tmp_path).read_text()
    assert calls == [digits.name]
    assert len(findings.results) == len(digits.methods)
    assert [str(line) for line in lines[len(findings.results) :]] == [
        f"{counted(len(findings.cautions), 'caution')}: see Warnings in the report."
    ]
    assert list(findings.headlines) == digits.problems
    assert "Hamilton–Jacobi" in page
