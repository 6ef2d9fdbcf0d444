"""The findings of a study: its results, headlines and caveats, computed once and shared by pages and terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from relaxbench.analysis.caveats import cautions, missing
from relaxbench.analysis.comparison import MethodResult
from relaxbench.analysis.frames import StudyFrames
from relaxbench.analysis.headline import headline
from relaxbench.analysis.verdicts import verdicts


@dataclass(frozen=True)
class Findings:
    """The findings of one study.

    Attributes:
        frames: the study.
        results: one per problem and method, with all comparisons (`relaxbench.analysis.verdicts.verdicts`).
        headlines: problem → the shortest true answer; empty where nothing is compared.
        missing: what an unfinished study lacks, one sentence each.
        cautions: warnings about the results, one sentence each.
    """

    frames: StudyFrames
    results: Sequence[MethodResult]
    headlines: Mapping[str, str]
    missing: Sequence[str]
    cautions: Sequence[str]

    @classmethod
    def of(cls, frames: StudyFrames) -> Findings:
        """Compute the findings of a study."""
        results = verdicts(frames)
        headlines = {
            problem: headline([result for result in results if result.problem == problem])
            for problem in frames.problems
        }
        return cls(frames, results, headlines, missing(frames), cautions(frames, results))

    def on(self, problem: str) -> list[MethodResult]:
        """Return the results on one problem, one per method."""
        return [result for result in self.results if result.problem == problem]
