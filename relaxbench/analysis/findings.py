"""The findings of a study: its verdicts, headlines and caveats, computed once and shared by pages and terminal."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from relaxbench.analysis.caveats import cautions, missing
from relaxbench.analysis.frames import StudyFrames
from relaxbench.analysis.headline import headline
from relaxbench.analysis.verdicts import verdicts


@dataclass(frozen=True)
class Findings:
    """The findings of one study.

    Attributes:
        frames: the study.
        table: its verdict table (`relaxbench.analysis.verdicts.verdicts`).
        headlines: problem → the shortest true answer; empty where nothing is compared.
        missing: what an unfinished study lacks, one sentence each.
        cautions: warnings about the results, one sentence each.
    """

    frames: StudyFrames
    table: pd.DataFrame
    headlines: Mapping[str, str]
    missing: list[str]
    cautions: list[str]

    @classmethod
    def of(cls, frames: StudyFrames) -> Findings:
        """Compute the findings of a study."""
        table = verdicts(frames)
        titles = {method: str(frames.method(method)["title"]) for method in frames.methods}
        headlines = {
            problem: headline(table[table["problem"] == problem], titles, frames.baseline)
            for problem in frames.problems
        }
        return cls(frames, table, headlines, missing(frames), cautions(frames, table))

    def rows(self) -> list[dict[str, Any]]:
        """Return the verdict table as the rows that `relaxbench.analysis.sentences` puts into words."""
        return [{str(key): value for key, value in row.items()} for row in self.table.to_dict("records")]
