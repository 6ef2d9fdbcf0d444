"""From a study in the database to a verdict, sentences and one HTML page. Needs no torch."""

from relaxbench.report.frames import StudyFrames, load_study, progress
from relaxbench.report.page import write_report
from relaxbench.report.sentences import control_sentence, seconds_sentence, sentence
from relaxbench.report.verdicts import verdicts

__all__ = [
    "StudyFrames", "control_sentence", "load_study", "progress", "seconds_sentence", "sentence", "verdicts",
    "write_report",
]  # fmt: skip
