"""A model on labelled data, the most common problem."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any, TypedDict

import torch
from torch import Tensor, nn

from relaxbench.errors import UserError
from relaxbench.problems import arguments, labels, layers, metrics, splits, unsupported
from relaxbench.problems.adapted import AdaptedModel, Pretrained
from relaxbench.problems.custom_losses import OwnLoss, loss_of
from relaxbench.problems.epochs import EpochSampler, Orders
from relaxbench.problems.losses import Batch, Loss
from relaxbench.problems.placed import Placed
from relaxbench.problems.problem import Params, Problem, Sampler
from relaxbench.problems.splits import SPLITS, Split
from relaxbench.problems.streaming import DatasetSampler

Data = Mapping[str, tuple[Tensor, Tensor]]
"""Split → (inputs, labels)."""


class ProblemOptions(TypedDict, total=False):
    """Keyword arguments of `SupervisedProblem` that its subclasses pass on."""

    loss: str
    batch_size: int
    budget: int
    worst: float
    margin: float | str
    rounds: int | None
    most_rounds: int
    title: str
    caution: str
    published: str
    statistics_limit: int
    space: Mapping[str, tuple[float, float]] | None
    kind: str


class SupervisedProblem(Problem):
    """A model with training, validation and test data.

    Args:
        name: as in study files.
        model: a function without arguments that builds the model; its outputs are logits (or predictions). With a loss
            of your own they may be a dict, a tuple, a dataclass or a scalar, see `Structure`. A model whose ``forward``
            needs two arguments gets inputs and labels.
        data: a function without arguments that returns ``{"train": (x, y), "validation": (x, y), "test": (x, y)}``,
            with tensors or arrays, or a Dataset (or a DataLoader of one) of PyTorch in place of a pair.
        loss: ``"cross-entropy"`` (the metric is the error), ``"least-squares"`` (the mean square), ``"none"`` (the
            outputs are the loss), or a function of (outputs, labels), such as ``nn.BCEWithLogitsLoss(...)``. With
            ``nn.CrossEntropyLoss(...)`` the metric is the error on labels that are not ignored, else the loss.
        batch_size: examples per gradient.
        budget: default budget, in gradient equivalents per trial.
        worst: the loss of a diverged trial; larger than that of an untrained model.
        margin: the smallest difference of the metric that matters, in its unit (points of error), or ``"10 %"``.
        rounds: measurements per trial; None for as many as a quarter of the budget pays for, see `measurements`.
        most_rounds: those at most, where `rounds` is None.
        title: a name for pages, one line; by default `name`.
        source: where the data come from, one line.
        caution: what a reader of results must know, one line; see `Problem`.
        published: results of papers, one line; see `Problem`.
        statistics_limit: maximum number of training examples on which batch normalization is measured; fewer where the
            budget is short, see `measurements`.
        space: ranges for all methods on this problem, name → (low, high).
        kind: the kind of problem whose published settings are nearest, e.g. ``"cifar-10"``; see `Problem`.
        metric: another metric, smaller is better, computed on whole splits: a name of `metrics.METRICS`, such as
            ``"auroc"`` or ``"f1"``, or title and function of (outputs, labels).
        worst_metric: the metric of a diverged trial, for `metric`; None for 1.
        pretrained: weights that replace those of the model function, by name: a state dict, or a function without
            arguments that returns one. Parameters with ``requires_grad=False`` are not trained; see `AdaptedModel`.
        in_memory: False to read the examples of a Dataset whenever they are needed, see `datasets.Reader`.

    Raises:
        UserError: for a number that is not positive, and for an unknown loss. Model and data are checked when they are
            first used.
    """

    def __init__(
        self,
        name: str,
        model: Callable[[], nn.Module],
        data: Callable[[], Mapping[str, Any]],
        *,
        loss: str | Loss | Callable[..., Tensor] = "cross-entropy",
        metric: str | tuple[str, metrics.Metric] | None = None,
        worst_metric: float | None = None,
        batch_size: int = 64,
        budget: int = 1000,
        worst: float = 10.0,
        margin: float | str = 0.5,
        rounds: int | None = None,
        most_rounds: int = 20,
        title: str = "",
        source: str = "data of its own",
        caution: str = "",
        published: str = "",
        statistics_limit: int = 8192,
        space: Mapping[str, tuple[float, float]] | None = None,
        kind: str = "",
        pretrained: Pretrained | None = None,
        in_memory: bool = True,
    ) -> None:
        numbers: dict[str, object] = {
            "batch_size": batch_size,
            "budget": budget,
            "worst": worst,
            "margin": margin,
            "rounds": 1 if rounds is None else rounds,
            "most_rounds": most_rounds,
            "statistics_limit": statistics_limit,
        }
        texts = {"source": source, "caution": caution, "published": published, "kind": kind}
        arguments.check(name, title, data, space, numbers)
        scored = metrics.metric_of(name, metric, worst_metric)
        arguments.check_texts(name, {**texts, "metric": scored[0][0] or "\n"} if scored else texts)
        self.name, self.title, self.caution, self.published = name, title or name, caution, published
        self._statistics_limit = statistics_limit
        self.loss, self._score = loss_of(loss), scored[0] if scored else None
        self.batch_size, self.budget, self._stated_rounds, self.most_rounds = batch_size, budget, rounds, most_rounds
        self.worst, self.margin, self.space, self.kind = worst, margin, dict(space or {}), kind
        self.in_memory = arguments.flag(name, "in_memory", in_memory)
        self._build, self._pretrained, self._load, self._source = model, pretrained, data, source
        self._orders: dict[str, Orders] = {}
        if scored is not None:
            self.metric, self.unit, self.metric_scale, self.worst_metric = scored[0][0], "", 1.0, scored[1]
        elif not self._classifies:
            name_of_loss = "test mean square" if loss == "least-squares" else "test loss"
            self.metric, self.unit, self.metric_scale, self.worst_metric = name_of_loss, "", 1.0, worst

    @cached_property
    def adapted(self) -> AdaptedModel:
        """The model as a function of its trainable parameters."""
        return AdaptedModel(unsupported.checked(self._build), self._pretrained)

    @property
    def model(self) -> nn.Module:
        """The adapted module; its own parameters are never used."""
        return self.adapted.module

    @cached_property
    def splits(self) -> dict[str, Split]:
        """The splits, loaded and checked once.

        Raises:
            UserError: see `splits.load`.
        """
        return splits.load(self.name, self._load, self.batch_size, self.in_memory)

    @property
    def tensors(self) -> Data:
        """The splits that are in memory."""
        return {name: split.held for name, split in self.splits.items() if split.held is not None}

    @property
    def _ignored(self) -> int | None:
        """The label of examples without a label, or None."""
        return self.loss.ignored if isinstance(self.loss, OwnLoss) else None

    @property
    def _classifies(self) -> bool:
        return self.loss.name == "cross-entropy" or (isinstance(self.loss, OwnLoss) and self.loss.classifies)

    @property
    def data(self) -> str:  # type: ignore[override]
        """Source and sizes of the splits."""
        sizes = "/".join(f"{self.splits[s].count:,}" for s in SPLITS)
        return f"{self._source}, {sizes} for training/validation/test"

    @property
    def statistics_limit(self) -> int:  # type: ignore[override]
        """Largest number of training examples on which batch normalization is measured; 0 without such layers."""
        return min(self._statistics_limit, self.splits["train"].count) if self.norms else 0

    @property
    def train_examples(self) -> int:  # type: ignore[override]
        """Size of the training split."""
        return self.splits["train"].count

    @property
    def test_examples(self) -> int | None:  # type: ignore[override]
        """Size of the test split; None if its examples do not have one known label each."""
        split = self.splits["test"]
        labels = split.sample[1]
        unknown = self._ignored is not None and self._ignored in labels
        return None if self._classifies and (labels.dim() > 1 or unknown) else split.count

    def examples(self, split: str) -> int:
        return self.statistics_examples if split == "statistics" else self.splits[split].count

    def layout(self) -> list[tuple[str, torch.Size]]:
        return [*self.adapted.trainable.items()]

    def init(self, seed: int) -> Tensor:
        return self.adapted.start(seed)

    def unflatten(self, x: Tensor) -> Params:
        frozen = {name: value.expand((*x.shape[:-1], *value.shape)) for name, value in self.adapted.frozen(x).items()}
        return {**self.trainable(x), **frozen}

    def state_dict(self, params: Params) -> Params:
        return self.adapted.state_dict(params)

    def sampler(self, seeds: Sequence[int], first: Sequence[int], steps: int, device: torch.device) -> Sampler:
        orders, reader = self._orders.setdefault(str(device), {}), self.splits["train"].drawn
        if reader is not None:
            return DatasetSampler(reader, self.batch_size, seeds, first, steps, orders, device)
        return EpochSampler(self.split("train", device), self.batch_size, seeds, first, steps, orders)

    def outputs(self, params: Params, batch: Batch, training: bool) -> Tensor:
        self.adapted.train(training)
        with layers.drawing(batch["seed"], batch["step"]) if training else contextlib.nullcontext():
            result = self._call(params, batch["x"], batch.get("y"))
        if isinstance(self.loss, OwnLoss) and not self.loss.classifies:
            return self.loss.packed(result, len(batch["x"]))
        result = labels.outputs(self.name, self.loss.name, result, len(batch["x"]))
        return labels.classes_last(result, batch.get("y")) if self._classifies else result

    def check(self) -> None:
        if self._classifies:
            self._check_labels()
        self.splits["test"].read_once()

    def _check_labels(self) -> None:
        one = self.part("train", slice(0, 1), torch.device("cpu"))
        with torch.no_grad():
            shape = self.outputs(self.unflatten(self.init(0)), one, False).shape
        labels.check_shape(self.name, shape, one["y"].shape)
        for name, split in self.splits.items():
            labels.check_values(self.name, name, split.sample[1], shape[-1], self._ignored)
            if split.reader is not None:
                split.reader.classes = shape[-1], self._ignored

    def statistics(self, params: Params, batch: Batch) -> Params:
        self.adapted.train(False)
        with layers.collecting() as collected:
            self._call(params, batch["x"], batch.get("y"))
        return {
            f"{self.norms[layer]}.{name}": torch.stack(values).mean(dim=0)
            for layer, pairs in collected.items()
            for name, values in zip(("running_mean", "running_var"), zip(*pairs, strict=True), strict=True)
        }

    @cached_property
    def norms(self) -> dict[layers.BatchNorm, str]:
        """Layers of batch normalization with their names."""
        return {layer: name for name, layer in self.model.named_modules() if isinstance(layer, layers.BatchNorm)}

    def _call(self, params: Params, x: Tensor, y: Tensor | None) -> object:
        return self.adapted(params, x, y) if self.adapted.takes_labels and y is not None else self.adapted(params, x)

    @cached_property
    def _placed(self) -> Placed:
        return Placed(self.splits)

    def split(self, name: str, device: torch.device) -> Batch:
        return self._placed.whole(name, device, self.statistics_examples)

    def part(self, name: str, rows: slice | Tensor, device: torch.device) -> Batch:
        return super().part(name, rows, device) if self._placed.held(name) else self._placed.part(name, rows, device)

    def pieces(self, name: str, device: torch.device, size: int) -> Iterator[Batch]:
        if self._placed.held(name):
            return super().pieces(name, device, size)
        return self._placed.pieces(name, device, self.statistics_examples, size)

    def correct(self, outputs: Tensor, batch: Batch) -> Tensor | None:
        return outputs.argmax(-1) == batch["y"] if self._classifies and self._score is None else None

    def share_correct(self, correct: Tensor, batch: Batch) -> Tensor:
        known = batch["y"] != self._ignored if self._ignored is not None else torch.ones_like(batch["y"]).bool()
        return correct[:, known].float().mean(dim=1)

    def score(self, outputs: Tensor, batch: Batch) -> float | None:
        if self._score is None:
            return None
        name, function = self._score
        own = self.loss.structure.unpack(outputs) if isinstance(self.loss, OwnLoss) else outputs
        return labels.number(self.name, name, function(own, batch["y"]))

    def fingerprint(self) -> str:
        return splits.digest(self.splits)


class StoredProblem(SupervisedProblem):
    """A problem whose data are files, which may be missing."""

    def missing(self) -> str:
        try:
            self.splits  # noqa: B018
        except UserError as error:
            return str(error)
        return ""
