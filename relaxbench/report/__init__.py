"""The report of a study: one HTML page that opens offline, and its tables as files. No torch.

Start with `study_page.write_report`. `sections` chooses the figures of each problem, `figures` draws them;
`compare_page` and `index_page` write the pages of two studies and of a whole database.
"""

from relaxbench.analysis.frames import StudyFrames, load_study
from relaxbench.analysis.progress import progress
from relaxbench.analysis.sentences import control_sentence, seconds_sentence, sentence
from relaxbench.analysis.verdicts import verdicts
from relaxbench.report.study_page import write_report

__all__ = [
    "StudyFrames",
    "control_sentence",
    "load_study",
    "progress",
    "seconds_sentence",
    "sentence",
    "verdicts",
    "write_report",
]
