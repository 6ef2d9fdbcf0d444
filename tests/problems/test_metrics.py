"""Metrics by name, against their definitions written out."""

from __future__ import annotations

import math
from itertools import product
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from relaxbench.errors import UserError
from relaxbench.problems.metrics import METRICS, metric_of
from tests.problems.test_own_data import classifier, numbers, of, train

Z, Y = numbers(60, 3), numbers(60, 4)[:, :3].argmax(1)


def value(name: str, outputs: Tensor, labels: Tensor) -> float:
    found = metric_of("own", name, 9.0)
    assert found is not None
    return float(found[0][1](outputs, labels))  # type: ignore[arg-type]


def area(scores: list[float], truth: list[bool]) -> float:
    """The share of pairs (wrong, right) in which the right one has the higher score; ties count half."""
    pairs = [(a, b) for (a, x), (b, y) in product(zip(scores, truth, strict=True), repeat=2) if not x and y]
    return sum((b > a) + 0.5 * (a == b) for a, b in pairs) / len(pairs)


@pytest.mark.parametrize("form", ["one logit", "a column", "two logits"])
def test_the_area_under_the_curve_of_two_classes_in_three_forms(form: str) -> None:
    score, truth = (Z[:, 0] * 4).round() / 4, Y > 0  # with ties
    outputs = {"one logit": score, "a column": score[:, None], "two logits": torch.stack([-score, score], 1)}[form]
    for labels in (truth.long(), truth.float()):
        assert value("auroc", outputs, labels) == pytest.approx(1 - area(score.tolist(), truth.tolist()), abs=1e-12)
        wrong = (score > 0) != truth
        assert value("accuracy", outputs, labels) == pytest.approx(wrong.float().mean().item(), abs=1e-6)


def test_metrics_of_three_classes_are_means_over_classes() -> None:
    p = Z.double().softmax(1)
    areas = [area(p[:, c].tolist(), (c == Y).tolist()) for c in range(3)]
    assert value("auroc", Z, Y) == pytest.approx(1 - sum(areas) / 3, abs=1e-9)
    predicted = Z.argmax(1)
    recalls, f1s = [], []
    for c in range(3):
        hits = ((predicted == c) & (c == Y)).sum().item()
        recalls.append(hits / (c == Y).sum().item())
        f1s.append(2 * hits / ((predicted == c).sum().item() + (c == Y).sum().item()))
    assert value("balanced-accuracy", Z, Y) == pytest.approx(1 - sum(recalls) / 3)
    assert value("f1", Z, Y) == pytest.approx(1 - sum(f1s) / 3)
    assert value("perplexity", Z, Y) == pytest.approx(math.exp(-p.log()[range(60), Y].mean().item()), rel=1e-6)


def test_metrics_of_quantities() -> None:
    y, z = Z[:, :1], Z[:, 1:2]
    rest = ((y - z) ** 2).sum() / ((y - y.mean()) ** 2).sum()
    assert value("r2", z, y) == pytest.approx(rest.item(), rel=1e-5)
    assert value("mean-absolute-error", z, y) == pytest.approx((y - z).abs().mean().item(), rel=1e-5)


def test_average_precision_is_the_mean_of_the_precision_at_each_hit() -> None:
    score, truth = Z[:, 0], Y > 0
    order = score.argsort(descending=True)
    hits = truth[order].double()
    precision = hits.cumsum(0) / torch.arange(1, 61)
    expected = 1 - (precision * hits).sum() / hits.sum()
    assert value("average-precision", score, truth.long()) == pytest.approx(expected.item(), abs=1e-9)


def test_a_diverged_model_has_no_metric() -> None:
    for name in METRICS:
        assert math.isnan(value(name, Z * float("nan"), Y))


@pytest.mark.parametrize("name", ["auroc", "f1", "balanced-accuracy"])
def test_a_trial_is_judged_by_the_metric_of_its_name(name: str) -> None:
    x = numbers(40, 4)
    y = x[:, :3].argmax(1)
    task = of(classifier, x, y, metric=name)
    outcome = train(task)
    out = x @ outcome.weights[:12].view(3, 4).T + outcome.weights[12:]
    assert outcome.measures["test_metric"] == pytest.approx(value(name, out, y), abs=1e-6)
    assert task.metric == METRICS[name].title and task.worst_metric == 1.0 and task.unit == ""


@pytest.mark.parametrize(
    ("metric", "worst", "said"),
    [
        ("auc", None, "unknown metric 'auc': did you mean 'auroc'"),
        ("r2", None, "metric 'r2' has no bound: state worst_metric"),
        (3, None, r"metric = 3: expected a name, or \(title, function\)"),
        (("AUROC",), None, "expected a name, or"),
        ("auroc", "high", "worst_metric = 'high': expected a finite number"),
        ("auroc", float("nan"), "worst_metric = nan: expected a finite number"),
        (("AUROC", 3), None, "metric 'AUROC' is 3: expected a function"),
    ],
)
def test_metrics_that_cannot_be_used_are_refused(metric: Any, worst: Any, said: str) -> None:
    with pytest.raises(UserError, match=said):
        of(lambda: nn.Linear(4, 3), Z, Y, metric=metric, worst_metric=worst)
