"""Studies with known test metrics, for tests of verdicts and sentences."""

from __future__ import annotations

import numpy as np

from relaxbench.analysis.comparison import Comparison, MethodResult, Opponent
from relaxbench.analysis.verdicts import verdicts
from relaxbench.report import StudyFrames, load_study
from tests.synthetic import Writer, manifest, memory, spec

Metrics = dict[str, list[float]]


def study(
    metrics: Metrics, losses: Metrics | None = None, problem: str = "digits-mlp", **changes: object
) -> StudyFrames:
    """A study of one look whose confirm runs have these test metrics (display units), one per block of one trial."""
    blocks = max(len(values) for values in metrics.values())
    usual = {
        "problems": [problem],
        "methods": list(metrics),
        "controls": [],
        "looks": [blocks],
        "trials": 1,
        "exploit": 0,
        "recommend": 0,
    }
    extra = changes.pop("extra_looks", [])
    asked = spec(**usual | changes)
    writer = Writer(memory(), asked, manifest(asked) | {"extra_looks": extra})
    scale = writer.about["problems"][problem]["metric_scale"]
    for method, values in metrics.items():
        for block, metric in enumerate(values):
            winner = writer.trial(problem, method, "explore", block, 0, 0.5)
            loss = (losses or {}).get(method, [0.5] * blocks)[block]
            measures = {"validation_loss": loss, "test_metric": metric / scale}
            diverged = metric == 100
            writer.trial(
                problem, method, "confirm", block, 0, loss, parent=winner, measures=measures, diverged=diverged
            )
    return load_study(writer.close())


def result(frames: StudyFrames, method: str) -> MethodResult:
    (found,) = (found for found in verdicts(frames) if found.method == method)
    return found


def comparison(frames: StudyFrames, method: str, opponent: Opponent = "baseline") -> Comparison:
    """The comparison of a method at equal gradients."""
    found = result(frames, method).against(opponent)
    assert found is not None
    return found


SGD = [4.0, 4.4, 3.7, 4.1, 4.6, 3.9, 4.2, 4.3, 3.8, 4.5]


def shifted(by: float, noise: float = 0.1) -> list[float]:
    return [value + by + noise * np.sin(7 * index) for index, value in enumerate(SGD)]
