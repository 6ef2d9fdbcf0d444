"""The findings of a study: its results, headlines and caveats, computed once and shared by pages and terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from relaxbench.analysis.caveats import cautions, missing
from relaxbench.analysis.comparison import MethodResult
from relaxbench.analysis.frames import StudyFrames
from relaxbench.analysis.headline import headline
from relaxbench.analysis.progress import progress
from relaxbench.analysis.study_arms import StudyArms
from relaxbench.analysis.verdicts import verdicts


@dataclass(frozen=True)
class Findings:
    """The findings of one study.

    Attributes:
        frames: the study.
        results: one per problem and method, with all comparisons (`relaxbench.analysis.verdicts.verdicts`).
        headlines: problem → the shortest true answer; empty where nothing is compared.
        progress: how much is done of each problem, method and phase (`relaxbench.analysis.progress.progress`).
        missing: what an unfinished study lacks, one sentence each.
        cautions: warnings about the results, one sentence each.
    """

    frames: StudyFrames
    results: Sequence[MethodResult]
    headlines: Mapping[str, str]
    progress: pd.DataFrame
    missing: Sequence[str]
    cautions: Sequence[str]

    @classmethod
    def of(cls, frames: StudyFrames) -> Findings:
        """Compute the findings of a study."""
        arms = StudyArms(frames)
        results, counts = verdicts(frames, arms), progress(frames, arms)
        headlines = {
            problem: headline([result for result in results if result.problem == problem])
            for problem in frames.problems
        }
        return cls(frames, results, headlines, counts, missing(frames, counts), cautions(frames, results))

    def on(self, problem: str) -> list[MethodResult]:
        """Return the results on one problem, one per method."""
        return [result for result in self.results if result.problem == problem]
