"""Reports: from a study in the database to verdicts, sentences and one HTML page. No torch."""

from relaxbench.analysis.frames import StudyFrames, load_study, progress
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
