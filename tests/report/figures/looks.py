"""What tests of figures share: looks, texts, and trials that diverged."""

from __future__ import annotations

from typing import Any

import pandas as pd

from relaxbench.pages.theme import Look
from relaxbench.report import StudyFrames
from relaxbench.report.figures.search_space import Exploration, Scale

DIGITS = "digits-mlp"
TWO = Look({"sgd": "SGD", "hj": "HJ"}, {"sgd": "#010203", "hj": "#0072b2"}, "sgd")
"""The look of SGD, the baseline, and HJ."""


def look_of(frames: StudyFrames) -> Look:
    """The look of a study's methods."""
    return Look.of({label: frames.method(label) for label in frames.methods}, frames.baseline)


def texts(node: Any) -> list[str]:
    """All strings of a figure that plotly would read as markup."""
    if isinstance(node, dict):
        return [text for each in node.values() for text in texts(each)]
    if isinstance(node, (list, tuple)):
        return [text for each in node for text in texts(each)]
    return [node] if isinstance(node, str) else []


def diverged() -> Exploration:
    """Two trials of two hyperparameters that both diverged."""
    rows = {"trial_id": [1, 2], "block": 0, "number": [0, 1], "value": 10.0, "diverged": True, "winner": False}
    scales = [Scale.number("gamma_start", 1.0, 2.0), Scale.number("lr", 1.0, 2.0)]
    numbers = pd.DataFrame({"gamma_start": [1.0, 2.0], "lr": [1.0, 2.0]})
    return Exploration(scales, pd.DataFrame(rows), numbers)
