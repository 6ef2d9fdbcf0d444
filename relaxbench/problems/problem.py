"""What a problem is: parameters, outputs on a batch, a named loss, a metric, a budget."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import torch
from torch import Tensor

from relaxbench.errors import UserError
from relaxbench.problems.losses import Batch, Loss

Params = dict[str, Tensor]


class Sampler(Protocol):
    """The mini-batches of a round: prepared once, then taken without a wait for the device."""

    def batch(self, number: Tensor) -> Batch:
        """The mini-batches with these numbers, int64 ``[K, 1]``; every tensor has a first axis K."""
        ...


class Problem:
    """Base of all problems. One is an object: a model with its data, or a function of a few variables.

    Attributes:
        name: as in study files.
        title: one line for a list.
        loss: the named loss.
        metric: what the verdict is about, e.g. ``"test error"``; smaller is better.
        unit: of the metric as shown, e.g. ``"%"``.
        metric_scale: stored metrics times this are in `unit`.
        budget: default gradient equivalents a trial.
        rounds: measurements in a budget.
        batch_size: examples a gradient.
        worst: the loss that a diverged trial is given, and the cap on every other.
        worst_metric: the metric of a diverged trial.
        margin: differences of the metric (in `unit`) smaller than this do not matter to anyone.
        tolerance: if not None, the metric is the number of gradients until the validation loss is this small.
        train_examples: size of the training split: gradients become epochs by it. None where an epoch means nothing.
        test_examples: size of the test split, None without one.
        statistics_examples: size of the split ``"statistics"``, training examples on which evaluation collects what
            batch normalization needs; 0 without such layers.
        data: one line on the data.
        published: what a paper says of SGD on this problem, or "".
        caution: what a reader must know before believing a result, or "".
        fixed: hyperparameters that mean nothing on this problem, with the value that all methods use instead.
        space: ranges that hold on this problem instead of the shared ones, for all methods: name → (low, high).
    """

    name: str
    title: str
    loss: Loss
    metric: str = "test error"
    unit: str = "%"
    metric_scale: float = 100.0
    budget: int
    rounds: int = 20
    batch_size: int = 1
    worst: float
    worst_metric: float = 1.0
    margin: float
    tolerance: float | None = None
    train_examples: int | None = None
    test_examples: int | None = None
    statistics_examples: int = 0
    data: str = "none"
    published: str = ""
    caution: str = ""
    fixed: Mapping[str, float] = {}
    space: dict[str, tuple[float, float]]

    def layout(self) -> list[tuple[str, torch.Size]]:
        """Names and shapes of the parameters, in the order in which they lie in a vector of P numbers."""
        raise NotImplementedError

    def init(self, seed: int) -> Tensor:
        """Initial parameters ``[P]``, a function of the seed alone."""
        raise NotImplementedError

    def sampler(self, seeds: Sequence[int], first: Sequence[int], steps: int, device: torch.device) -> Sampler:
        """Mini-batches number ``first[k] … first[k] + steps − 1`` of every member."""
        raise NotImplementedError

    def outputs(self, params: Params, batch: Batch, training: bool) -> Tensor:
        """Outputs of one member on one batch. Must vectorize under `torch.vmap`, or the direct path is taken."""
        raise NotImplementedError

    def split(self, name: str, device: torch.device) -> Batch:
        """All of a split that members share: ``"validation"``, ``"test"``, and ``"statistics"`` where it is needed.

        Flatness is measured on ``"train"``; a problem without that split has none.
        """
        raise NotImplementedError

    def statistics(self, params: Params, batch: Batch) -> Params:
        """Means and variances inside of one member's model on a batch: what `outputs` wants beside the parameters."""
        return {}

    def correct(self, outputs: Tensor, batch: Batch) -> Tensor | None:
        """Which examples of a split are right, bool ``[N]``; None if that means nothing here."""
        return None

    def check(self) -> None:
        """Look at all the data, once, for what training would trip over later.

        Raises:
            UserError: naming it.
        """

    def missing(self) -> str:
        """What is needed and not here, with the remedy; "" if nothing is."""
        return ""

    def download(self) -> None:
        """Fetch what is missing.

        Raises:
            UserError: if that is not possible.
        """
        raise UserError(
            f"problem {self.name!r} has nothing that could be downloaded: {self.missing() or 'all is here'}"
        )

    def convex_loss(self) -> Loss:
        """The loss, for methods that need its curvature.

        Raises:
            UserError: if it has none.
        """
        if not self.loss.convex:
            raise UserError(
                f"problem {self.name!r} has the loss {self.loss.name!r}, hence no curvature: leave CurveBall out, or "
                "write the problem with outputs and loss 'least-squares' or 'cross-entropy'"
            )
        return self.loss

    def fingerprint(self) -> str:
        """A digest of the data and its split."""
        return "none"

    @property
    def size(self) -> int:
        """P, the number of parameters."""
        return sum(shape.numel() for _, shape in self.layout())

    def unflatten(self, x: Tensor) -> Params:
        """Views of vectors ``[K, P]`` (or ``[P]``) as named parameters."""
        names, shapes = zip(*self.layout(), strict=True)
        parts = x.split_with_sizes([shape.numel() for shape in shapes], dim=-1)
        return {n: p.view(*x.shape[:-1], *s) for n, p, s in zip(names, parts, shapes, strict=True)}
