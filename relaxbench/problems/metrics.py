"""Metrics by name, which scikit-learn computes; all are such that smaller is better."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import isfinite
from typing import Any

import torch
from torch import Tensor

from relaxbench.errors import UserError, kind_of, unknown

Metric = Callable[[Any, Tensor], object]
"""A function of the outputs and labels of a whole split."""


@dataclass(frozen=True)
class NamedMetric:
    """A metric of a name.

    Attributes:
        title: as in reports.
        function: of (outputs, labels).
        worst: that of a useless model; None if there is no bound.
    """

    title: str
    function: Metric
    worst: float | None = 1.0


def _classes(outputs: Tensor, labels: Tensor) -> tuple[Any, Any]:
    """Return predicted and true classes ``[N]``; one logit per example is that of the second class of two."""
    outputs = outputs if outputs.dim() > labels.dim() and outputs.shape[-1] > 1 else outputs.reshape(labels.shape)
    predicted = outputs.argmax(-1) if outputs.dim() > labels.dim() else outputs > 0
    return predicted.flatten().long().cpu().numpy(), labels.flatten().long().cpu().numpy()


def _scores(outputs: Tensor, labels: Tensor) -> tuple[Any, Any]:
    """Return true classes ``[N]`` and their scores: ``[N]`` of the second of two, or probabilities ``[N, C]``."""
    truth = labels.flatten().long().cpu().numpy()
    if outputs.dim() == labels.dim() or outputs.shape[-1] == 1:
        return truth, outputs.flatten().double().cpu().numpy()
    flat = outputs.flatten(0, -2).double()
    scores = flat[:, 1] - flat[:, 0] if flat.shape[1] == 2 else flat.softmax(1)
    return truth, scores.cpu().numpy()


def _one_minus_auroc(outputs: Tensor, labels: Tensor) -> float:
    from sklearn.metrics import roc_auc_score

    truth, scores = _scores(outputs, labels)
    classes = {"multi_class": "ovr", "labels": range(scores.shape[1])} if scores.ndim == 2 else {}
    return 1.0 - float(roc_auc_score(truth, scores, **classes))


def _one_minus_average_precision(outputs: Tensor, labels: Tensor) -> float:
    from sklearn.metrics import average_precision_score

    return 1.0 - float(average_precision_score(*_scores(outputs, labels)))


def _one_minus_f1(outputs: Tensor, labels: Tensor) -> float:
    from sklearn.metrics import f1_score

    predicted, truth = _classes(outputs, labels)
    return 1.0 - float(f1_score(truth, predicted, average="macro", zero_division=0.0))


def _balanced_error(outputs: Tensor, labels: Tensor) -> float:
    from sklearn.metrics import recall_score

    predicted, truth = _classes(outputs, labels)
    return 1.0 - float(recall_score(truth, predicted, average="macro", labels=sorted({*truth.tolist()})))


def _error(outputs: Tensor, labels: Tensor) -> float:
    predicted, truth = _classes(outputs, labels)
    return float((predicted != truth).mean())


def _one_minus_r2(outputs: Tensor, labels: Tensor) -> float:
    from sklearn.metrics import r2_score

    return 1.0 - float(r2_score(*_quantities(outputs, labels)))


def _mean_absolute_error(outputs: Tensor, labels: Tensor) -> float:
    truth, predicted = _quantities(outputs, labels)
    return float(abs(truth - predicted).mean())


def _quantities(outputs: Tensor, labels: Tensor) -> tuple[Any, Any]:
    flat = (labels.double().reshape(len(labels), -1), outputs.double().reshape(len(outputs), -1))
    return flat[0].cpu().numpy(), flat[1].cpu().numpy()


def _perplexity(outputs: Tensor, labels: Tensor) -> float:
    mean = torch.nn.functional.cross_entropy(outputs.flatten(0, -2).double(), labels.flatten())
    return float(mean.exp())


def _finite(function: Metric) -> Metric:
    """Return the metric that is NaN where an output is, as in a diverged trial; scikit-learn refuses those."""
    return lambda outputs, labels: function(outputs, labels) if outputs.isfinite().all() else float("nan")


METRICS: Mapping[str, NamedMetric] = {
    "auroc": NamedMetric("1 − AUROC", _one_minus_auroc),
    "average-precision": NamedMetric("1 − average precision", _one_minus_average_precision),
    "f1": NamedMetric("1 − F1 (mean over classes)", _one_minus_f1),
    "accuracy": NamedMetric("share of wrong answers", _error),
    "balanced-accuracy": NamedMetric("error (mean over classes)", _balanced_error),
    "r2": NamedMetric("1 − R²", _one_minus_r2, None),
    "mean-absolute-error": NamedMetric("mean absolute error", _mean_absolute_error, None),
    "perplexity": NamedMetric("perplexity", _perplexity, None),
}
"""Metrics that have a name. Areas and means over classes are those of scikit-learn."""


def metric_of(problem: str, metric: object, worst: object) -> tuple[tuple[str, Metric], float] | None:
    """Return title, function and worst value of a metric.

    Args:
        problem: for messages.
        metric: a name of `METRICS`, or a title and a function of (outputs, labels).
        worst: as the user stated it; None for that of the name, or 1.

    Raises:
        UserError: for an unknown name, another type, and an unbounded metric without a worst value.
    """
    if metric is None:
        if worst is not None:
            raise UserError(
                f"problem {problem!r}: worst_metric = {worst!r} belongs to a metric of your own, and there is none: "
                "state `metric`, or leave worst_metric out: a diverged trial has an error of 100 %, or the loss `worst`"
            )
        return None
    stated = None if worst is None else _number(problem, worst)
    if isinstance(metric, str):
        if metric not in METRICS:
            raise unknown("metric", metric, METRICS, "or a title and a function of (outputs, labels)")
        named = METRICS[metric]
        function = _finite(named.function)
        bound = named.worst if stated is None else stated
        if bound is None:
            raise UserError(
                f"problem {problem!r}: metric {metric!r} has no bound: state worst_metric, that of a diverged trial"
            )
        return (named.title, function), bound
    if not isinstance(metric, tuple | list) or len(metric) != 2 or not isinstance(metric[0], str):
        raise UserError(f"problem {problem!r}: metric = {kind_of(metric)}: expected a name, or (title, function)")
    if not callable(metric[1]):
        raise UserError(f"problem {problem!r}: metric {metric[0]!r} is {kind_of(metric[1])}: expected a function")
    return (metric[0], metric[1]), 1.0 if stated is None else stated


def _number(problem: str, worst: object) -> float:
    if isinstance(worst, bool) or not isinstance(worst, int | float) or not isfinite(worst):
        raise UserError(f"problem {problem!r}: worst_metric = {kind_of(worst)}: expected a finite number")
    return float(worst)
