"""The base class of problems: parameters, outputs on a batch, a named loss, a metric, a budget."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Protocol

import torch
from torch import Tensor

from relaxbench.errors import UserError
from relaxbench.problems.losses import Batch, Loss
from relaxbench.problems.measurements import Measurements, Sizes, affordable, unadapted
from relaxbench.problems.solution import Solution

Params = dict[str, Tensor]
"""Parameters by name, of one member or with a first axis K."""


class Sampler(Protocol):
    """The mini-batches of a round. They are prepared once, then read without host synchronization."""

    def batch(self, number: Tensor) -> Batch:
        """Return the mini-batches with these numbers, int64 ``[K, 1]``; every tensor has a first axis K."""
        ...


class Problem:
    """Base class of all problems: a model with its data, or a function of a few variables.

    Attributes:
        name: as in study files.
        title: one line for lists and reports.
        loss: the named loss.
        metric: name of the quantity that is compared, for example ``"test error"``; smaller is better.
        unit: unit of the metric in reports, for example ``"%"``.
        metric_scale: factor from stored metrics to `unit`.
        budget: default budget, in gradient equivalents per trial.
        rounds: measurements per trial. Unless it is stated, as many as a quarter of the budget pays for, see
            `measurements`.
        most_rounds: those at most, where `rounds` is not stated.
        batch_size: examples per gradient.
        dtype: of parameters, states and losses: float64 where rounding to float32 would end training early.
        worst: the loss of a diverged trial, and the upper bound of all others.
        worst_metric: the metric of a diverged trial.
        margin: the smallest difference of the metric that matters in practice: in `unit`, or a ratio such as "10 %".
        tolerance: if not None, the metric is the number of gradients until the validation loss is at most this.
        train_examples: size of the training split, which converts gradients to epochs; None without epochs.
        test_examples: size of the test split if its examples are independent draws, else None.
        statistics_limit: largest size of the split ``"statistics"``, training examples on which evaluation collects
            what batch normalization needs; 0 without such layers.
        statistics_examples: its size, adapted to the budget as `rounds` is.
        data: one line about the data.
        published: a published result of SGD on this problem with its source, or "".
        decades: whether losses of runs span decades, so that reports average their logarithms.
        caution: a limitation that a reader of results must know, or "".
        fixed: hyperparameters that are not searched on this problem, with their value for all methods.
        space: ranges of this problem that replace the rules', for all methods: name → (low, high).
        in_memory: whether `split` is cheap, because all examples are in memory.
        kind: the kind of problem, a key of `optim.published.KINDS`, which picks the published settings of a rule; ""
            if none is near.
    """

    name: str
    title: str
    loss: Loss
    metric: str = "test error"
    unit: str = "%"
    metric_scale: float = 100.0
    budget: int
    most_rounds: int = 20
    batch_size: int = 1
    dtype: torch.dtype = torch.float32
    worst: float
    worst_metric: float = 1.0
    margin: float | str
    tolerance: float | None = None
    train_examples: int | None = None
    test_examples: int | None = None
    statistics_limit: int = 0
    data: str = "none"
    published: str = ""
    decades: bool = False
    caution: str = ""
    fixed: Mapping[str, float] = {}
    space: dict[str, tuple[float, float]]
    in_memory: bool = True
    kind: str = ""
    _stated_rounds: int | None = None
    _adapts: bool = True

    def __repr__(self) -> str:
        """Return its name: its data would fill screens."""
        return f"<problem {getattr(self, 'name', 'without a name')!r}>"

    @property
    def rounds(self) -> int:
        return self.measurements.rounds if self._stated_rounds is None else self._stated_rounds

    @rounds.setter
    def rounds(self, rounds: int) -> None:
        self._stated_rounds = rounds

    @property
    def statistics_examples(self) -> int:
        return self.measurements.statistics if self.statistics_limit else 0

    @property
    def measurements(self) -> Measurements:
        """What a run of the budget is measured on, and how often."""
        sizes = Sizes(self.examples("validation"), self.examples("test"), self.statistics_limit, self.batch_size)
        if not self._adapts:
            return unadapted(self.budget, sizes, self._stated_rounds or self.most_rounds)
        return affordable(self.budget, sizes, self.most_rounds, self._stated_rounds)

    def go_on_as_begun(self, rounds: object, statistics: object) -> None:
        """Keep the measurements with which a study began, if that was before they adapted to the budget.

        Args:
            rounds: stored with the study.
            statistics: stored number of examples for batch normalization.
        """
        if (rounds, statistics) == (self._stated_rounds or self.most_rounds, self.statistics_limit):
            self._adapts = False
            self.rounds = self._stated_rounds or self.most_rounds

    def examples(self, split: str) -> int:
        """Return the size of a split."""
        return len(next(iter(self.split(split, torch.device("cpu")).values())))

    def layout(self) -> list[tuple[str, torch.Size]]:
        """Return names and shapes of the parameters, in their order in a vector of P numbers."""
        raise NotImplementedError

    def init(self, seed: int) -> Tensor:
        """Return initial parameters ``[P]``, a function of the seed alone."""
        raise NotImplementedError

    def sampler(self, seeds: Sequence[int], first: Sequence[int], steps: int, device: torch.device) -> Sampler:
        """Prepare the mini-batches number ``first[k] … first[k] + steps − 1`` of every member k.

        Args:
            seeds: K seeds, one per member.
            first: K numbers.
            steps: mini-batches per member.
            device: where the mini-batches are needed.
        """
        raise NotImplementedError

    def outputs(self, params: Params, batch: Batch, training: bool) -> Tensor:
        """Return the outputs of one member on one batch, ``[B, …]``.

        The direct path is taken for a function that `torch.vmap` does not vectorize.
        """
        raise NotImplementedError

    def split(self, name: str, device: torch.device) -> Batch:
        """Return a whole split, which all members share.

        Args:
            name: ``"validation"``, ``"test"``, ``"statistics"`` if `statistics_examples` is not 0, or ``"train"``, on
                which flatness is measured: it cannot be measured without that split.
            device: where the split is needed.
        """
        raise NotImplementedError

    def part(self, name: str, rows: slice | Tensor, device: torch.device) -> Batch:
        """Return some examples of a split; a slice of those in memory is a view.

        Args:
            name: see `split`.
            rows: which.
            device: where they are needed.
        """
        where = rows.to(device) if isinstance(rows, Tensor) else rows
        return {n: value[where] if value.dim() else value for n, value in self.split(name, device).items()}

    def pieces(self, name: str, device: torch.device, size: int) -> Iterator[Batch]:
        """Yield a split in pieces of at most `size` examples, see `split`."""
        batch = self.split(name, device)
        count = len(next(iter(batch.values())))
        yield from ({n: value[i : i + size] for n, value in batch.items()} for i in range(0, count, size))

    def statistics(self, params: Params, batch: Batch) -> Params:
        """Return the means and variances in one member's model on a batch, which `outputs` needs in evaluation."""
        return {}

    def correct(self, outputs: Tensor, batch: Batch) -> Tensor | None:
        """Return which examples of a split are classified correctly; None without classes.

        It is bool ``[N]``, or ``[N, …]`` with several labels per example; then single answers are not stored.
        """
        return None

    def share_correct(self, correct: Tensor, batch: Batch) -> Tensor:
        """Return the share of right answers of every member, from those of `correct` ``[K, N, …]``."""
        return correct.float().flatten(1).mean(dim=1)

    def score(self, outputs: Tensor, batch: Batch) -> float | None:
        """Return the metric of one member's outputs on a split; None if it is the error or the loss."""
        return None

    def metric_at(self, params: Params, batch: Batch) -> Tensor | None:
        """Return the metric of one member on a split, a scalar, where the outputs do not tell it; else None."""
        return None

    def solution(self, params: Params) -> Solution | None:
        """Return one member's solution beside the exact one, on the CPU, for figures; None without such a thing."""
        return None

    def check(self) -> None:
        """Check all data once, before a study.

        Raises:
            UserError: for data on which training would fail later.
        """

    def missing(self) -> str:
        """Return which data are missing, with the remedy; "" if none are."""
        return ""

    def download(self) -> None:
        """Download the missing data.

        Raises:
            UserError: if that fails or is not possible.
        """
        raise UserError(
            f"problem {self.name!r} has nothing that could be downloaded: {self.missing() or 'all is here'}"
        )

    def convex_loss(self) -> Loss:
        """Return the loss, for methods that need its curvature.

        Raises:
            UserError: if it has no curvature in the outputs.
        """
        if not self.loss.convex:
            raise UserError(
                f"problem {self.name!r} has the loss {self.loss.name!r}, hence no curvature: leave CurveBall out, "
                "as --skip-unfit does, or "
                "write the problem with outputs and loss 'least-squares' or 'cross-entropy'"
            )
        return self.loss

    def fingerprint(self) -> str:
        """Return a digest of the data and their division into splits."""
        return "none"

    @property
    def size(self) -> int:
        """P, the number of parameters."""
        return sum(shape.numel() for _, shape in self.layout())

    def trainable(self, x: Tensor) -> Params:
        """Return views of vectors ``[K, P]`` (or ``[P]``) as named parameters."""
        names, shapes = zip(*self.layout(), strict=True)
        parts = x.split_with_sizes([shape.numel() for shape in shapes], dim=-1)
        return {n: p.view((*x.shape[:-1], *s)) for n, p, s in zip(names, parts, shapes, strict=True)}

    def unflatten(self, x: Tensor) -> Params:
        """Return all parameters of the model by name: those of `trainable`, and frozen ones."""
        return self.trainable(x)

    def state_dict(self, params: Params) -> Params:
        """Return what the model itself saves, with these parameters and `statistics` of one member."""
        return params
