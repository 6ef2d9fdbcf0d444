"""The base class of problems that minimize the residuals of an equation: least squares in float64."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from relaxbench.errors import UserError
from relaxbench.problems.losses import Batch, loss
from relaxbench.problems.problem import Params, Problem
from relaxbench.problems.samplers import FreshPoints, WholeData, Words
from relaxbench.problems.science.points import split_key

KEYS = {"train": 10, "validation": 11, "test": 12}
"""Keys of the points of a split, see `points.split_key`. Those of its metric have `FURTHER` more."""
FURTHER = 10
RANGES = {"lr": (1e-3, 1.0), "inner_lr": (1e-3, 1.0), "damping": (1e-6, 10.0), "adam_lr": (1e-3, 5e-2)}
"""Ranges of hyperparameters for all methods, on losses that are scaled."""
VALUE_ALONE = 1 / 4
"""Cost of a value, in that of a value with its derivatives: measured ratios are 0.1 to 0.4."""
SMALLEST = 1e-16
"""Least metric: an error has a logarithm."""


class ResidualProblem(Problem):
    """min over w of Σ over terms t of (weight_t / scale) · mean over the points of r_t(w)².

    One example is one whole set of points, so that terms may have different numbers of points: `outputs` are the
    weighted residuals ``[1, R]``, whose sum of squares is the loss, and Gauss–Newton methods apply. Rounding ends
    training early in float32, so everything is float64.

    Three splits are apart from each other. The training points are fixed, or drawn anew for every gradient (`fresh`);
    then the split ``"train"`` is a fixed sample on which flatness is measured. The residual loss on the validation
    points, which uses no exact solution, selects settings. The error of the solution is the metric; it is measured on
    further points, which are others for the test.

    A subclass gives `layout`, `init`, `draw` and `terms`; and `further` with `error`, or its metric is the loss.

    Attributes:
        fresh: whether training points are drawn anew for every gradient.
        scale: divides the loss, so that common ranges of learning rates suit the problem; metrics do not depend on it.
        weights: of the terms; None for ones.
    """

    metric, unit, metric_scale = "relative L2 error", "", 1.0
    dtype = torch.float64
    kind = "equation"
    worst, worst_metric, margin = 1e6, 10.0, "25 %"
    fixed: Mapping[str, float] = {"weight_decay": 0.0, "decoupled_decay": 0.0}  # a decay would move the minimum
    decades = True
    fresh: bool = False
    scale: float = 1.0
    weights: Sequence[float] | None = None

    def __init__(self) -> None:
        self.loss = loss("least-squares")
        self.space = {**RANGES}
        self._splits: dict[tuple[str, torch.device], Batch] = {}

    def draw(self, words: Words, split: str) -> Batch:
        """Draw sets of points for keys ``[K, 1]``: float64 tensors ``[K, N, …]``.

        Args:
            words: keys.
            split: ``"train"``, ``"validation"`` or ``"test"``: they may have different numbers of points.
        """
        raise NotImplementedError

    def terms(self, params: Params, batch: Batch) -> Sequence[Tensor]:
        """Return one member's residuals ``[N]`` of every term, for the points of one set, without the first axis."""
        raise NotImplementedError

    def further(self, words: Words) -> Batch:
        """Draw what `error` needs of a held-out split, as `draw` does; its names are none of those of `draw`."""
        return {}

    def error(self, params: Params, batch: Batch) -> Tensor | None:
        """Return one member's metric, a scalar, on what `further` has drawn; None if the metric is the loss."""
        return None

    def refuse_unsound(self, batch: Batch) -> None:
        """Refuse points that a subclass cannot use.

        Raises:
            UserError: for such points.
        """

    def split(self, name: str, device: torch.device) -> Batch:
        if (name, device) not in self._splits:
            batch = self.draw(split_key(KEYS[name]), name)
            if "y" in batch:
                raise UserError(
                    f"problem {self.name!r} draws points named 'y', which least squares would take for a target: use "
                    "another name"
                )
            self.refuse_unsound(batch)
            own = {} if name == "train" else self.further(split_key(KEYS[name] + FURTHER))
            self._splits[name, device] = {key: value.to(device) for key, value in {**batch, **own}.items()}
        return self._splits[name, device]

    def examples(self, split: str) -> int:
        """Return the size of a split in training sets: what its measurement costs, in forward passes of a gradient.

        A point of `further` counts as `VALUE_ALONE`, because no derivatives are taken there.
        """
        cpu = torch.device("cpu")
        train, own = ({n: v.shape[1] for n, v in self.split(name, cpu).items()} for name in ("train", split))
        further = max((count for name, count in own.items() if name not in train), default=0)
        points = sum(own[name] for name in train) + VALUE_ALONE * further
        return math.ceil(points / sum(train.values()))

    def sampler(
        self, seeds: Sequence[int], first: Sequence[int], steps: int, device: torch.device
    ) -> WholeData | FreshPoints:
        if self.fresh:
            return FreshPoints(seeds, self._draw_training, device)
        return WholeData(self.split("train", device))

    def outputs(self, params: Params, batch: Batch, training: bool) -> Tensor:
        """Return the weighted residuals ``[1, R]`` of one member; they do not depend on `training`.

        Raises:
            UserError: if a term is complex, or is not one number per point.
        """
        terms = self.terms(params, {name: value[0] for name, value in batch.items()})
        for number, term in enumerate(terms):
            if term.is_complex():
                raise UserError(
                    f"problem {self.name!r}: residual {number} is complex, and a sum of squares needs real numbers: "
                    "return its real and its imaginary part as two terms"
                )
            if term.dim() != 1:
                raise UserError(
                    f"problem {self.name!r}: residual {number} has the shape {tuple(term.shape)}: expected one number "
                    "per point"
                )
        weights = self.weights or [1.0] * len(terms)
        parts = [math.sqrt(w / self.scale / len(t)) * t for w, t in zip(weights, terms, strict=True)]
        return torch.cat(parts)[None]

    def metric_at(self, params: Params, batch: Batch) -> Tensor | None:
        error = self.error(params, {name: value[0] for name, value in batch.items()})
        if error is None:
            return None
        worst = self.worst_metric
        return torch.nan_to_num(error, nan=worst, posinf=worst).clamp(SMALLEST, worst)

    def check(self) -> None:
        for name in KEYS:
            self.split(name, torch.device("cpu"))

    def _draw_training(self, words: Words) -> Batch:
        return {name: value[:, None] for name, value in self.draw(words, "train").items()}  # one example each
